#include "store/s3.h"

#include "base/fs.h"
#include "base/str.h"
#include "store/s3_creds.h"
#include "store/s3_xml.h"
#include "tests/s3_fixture.h"

#include "tests/test.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct s3 *client(void)
{
	char url[256];
	struct s3 *s;
	struct err e = {0};

	s3_fixture_start(url, sizeof(url));
	CHECK_RC(s3_open(url + strlen("s3://"), &s, &e), RC_OK);
	return s;
}

static const char *file(const char *name)
{
	static char path[PATH_MAX];

	str_fmt(path, sizeof(path), "%s/%s", test_tmpdir(), name);
	return path;
}

/* Bytes that differ everywhere, so that a piece at the wrong place is seen. */
static void fill(struct buf *b, size_t n)
{
	buf_clear(b);
	buf_reserve(b, n + 8);
	for (uint32_t i = 0; b->len < n; i++) {
		uint32_t v = i * 2654435761u;
		buf_append(b, &v, sizeof(v));
	}
	b->len = n;
	b->data[n] = 0;
}

static void expect(struct s3 *s, const char *key, const struct buf *want)
{
	struct buf got = BUF_INIT;
	struct err e = {0};

	CHECK_RC(s3_get_buf(s, key, 64 << 20, &got, &e), RC_OK);
	CHECK_EQ(got.len, want->len);
	CHECK(!memcmp(got.data, want->data, want->len));
	buf_release(&got);
}

void test_s3__objects_come_back(void)
{
	struct s3 *s = client();
	struct err e = {0};
	struct buf b = BUF_INIT;
	int64_t size = 0;
	const char *odd = "docs/a b+c=d&e/\xc3\xa4\xe2\x82\xac'(1)*~.json";

	CHECK_RC(s3_head(s, odd, &size, &e), RC_NOTFOUND);
	CHECK_RC(s3_get_buf(s, odd, 100, &b, &e), RC_NOTFOUND);
	CHECK(strstr(e.text, "NoSuchKey: told to & did"));
	CHECK_RC(s3_put(s, odd, "hello", 5, true, &e), RC_OK);
	CHECK_RC(s3_put(s, odd, "other", 5, true, &e), RC_CONFLICT);
	CHECK_RC(s3_head(s, odd, &size, &e), RC_OK);
	CHECK_EQ(size, 5);
	CHECK_RC(s3_get_buf(s, odd, 4, &b, &e), RC_INVALID);
	CHECK_RC(s3_get_buf(s, odd, 5, &b, &e), RC_OK);
	CHECK_STR(b.data, "hello");
	CHECK_RC(s3_put(s, odd, "", 0, false, &e), RC_OK);
	CHECK_RC(s3_get_buf(s, odd, 5, &b, &e), RC_OK);
	CHECK_EQ(b.len, 0);
	CHECK_RC(s3_delete(s, odd, &e), RC_OK);
	CHECK_RC(s3_delete(s, odd, &e), RC_OK);
	CHECK_RC(s3_head(s, odd, &size, &e), RC_NOTFOUND);
	CHECK_EQ(s3_fixture_refused(), 0);
	buf_release(&b);
	s3_close(s);
}

void test_s3__files_go_in_parts_and_come_in_ranges(void)
{
	struct s3 *s = client();
	struct err e = {0};
	struct buf b = BUF_INIT, got = BUF_INIT;
	char hex[SHA256_HEX_SIZE];
	const size_t sizes[] = {0, 1, 65536, 65537, 300001, 1048576};
	int64_t size;

	s3_set_part(s, 65536);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		fill(&b, sizes[i]);
		CHECK_RC(fs_write_durable(file("in"), b.data, b.len, &e), RC_OK);
		sha256_of(b.data, b.len, hex);
		CHECK_RC(s3_put_file(s, "blob", file("in"), (int64_t)b.len, hex, false, &e), RC_OK);
		CHECK_RC(s3_put_file(s, "blob", file("in"), (int64_t)b.len, hex, true, &e),
			 RC_CONFLICT);
		CHECK_RC(s3_head(s, "blob", &size, &e), RC_OK);
		CHECK_EQ(size, (int64_t)b.len);
		expect(s, "blob", &b);
		CHECK_RC(s3_get_file(s, "blob", size, file("out"), &e), RC_OK);
		CHECK_RC(fs_read(file("out"), 2 << 20, &got, &e), RC_OK);
		CHECK(got.len == b.len && (!b.len || !memcmp(got.data, b.data, b.len)));
		CHECK_EQ(s3_fixture_uploads(), 0);
	}
	/* The file is not what its digest says. */
	fill(&b, 1000);
	CHECK_RC(fs_write_durable(file("in"), b.data, b.len, &e), RC_OK);
	CHECK_RC(s3_put_file(s, "lie", file("in"), 1000, hex, false, &e), RC_DENIED);
	CHECK(strstr(e.text, "XAmzContentSHA256Mismatch"));
	CHECK_RC(s3_head(s, "lie", &size, &e), RC_NOTFOUND);
	buf_release(&b);
	buf_release(&got);
	s3_close(s);
}

void test_s3__tries_again_what_may_pass(void)
{
	struct s3 *s = client();
	struct err e = {0};
	struct buf b = BUF_INIT;
	const int statuses[] = {500, 502, 503, 504, 429};
	int before;

	fill(&b, 200000);
	for (int i = 0; i < 5; i++) {
		s3_fixture_fault("PUT", "thing", 3, S3_FAULT_STATUS, statuses[i], "SlowDown");
		CHECK_RC(s3_put(s, "thing", b.data, b.len, false, &e), RC_OK);
	}
	s3_fixture_fault("PUT", "thing", 1, S3_FAULT_STATUS, 400, "RequestTimeout");
	CHECK_RC(s3_put(s, "thing", b.data, b.len, false, &e), RC_OK);
	s3_fixture_fault("GET", "thing", 2, S3_FAULT_STATUS, 503, "SlowDown");
	expect(s, "thing", &b);
	before = s3_fixture_requests();
	s3_fixture_fault("GET", "thing", 100, S3_FAULT_STATUS, 503, "SlowDown");
	struct buf got = BUF_INIT;
	CHECK_RC(s3_get_buf(s, "thing", 1 << 20, &got, &e), RC_UNREACHABLE);
	CHECK_EQ(s3_fixture_requests() - before, 6);
	CHECK(strstr(e.text, "status 503, SlowDown: told to & did"));
	/* What will not pass is said at once. */
	before = s3_fixture_requests();
	s3_fixture_fault("GET", "thing", 1, S3_FAULT_STATUS, 403, "AccessDenied");
	CHECK_RC(s3_get_buf(s, "thing", 1 << 20, &got, &e), RC_DENIED);
	CHECK_EQ(s3_fixture_requests() - before, 1);
	buf_release(&got);
	buf_release(&b);
	s3_close(s);
}

void test_s3__broken_lines(void)
{
	struct s3 *s = client();
	struct err e = {0};
	struct buf b = BUF_INIT;

	fill(&b, 300000);
	s3_fixture_fault("PUT", "thing", 2, S3_FAULT_LOST_REPLY, 0, NULL);
	CHECK_RC(s3_put(s, "thing", b.data, b.len, false, &e), RC_OK);
	/* Each byte once, although the line breaks five times. */
	s3_fixture_fault("GET", "thing", 5, S3_FAULT_CUT, 12345, NULL);
	expect(s, "thing", &b);
	s3_fixture_fault("GET", "thing", 1, S3_FAULT_SILENT, 0, NULL);
	expect(s, "thing", &b);
	/* A service without ranges cannot be gone on with: no byte twice. */
	s3_fixture_fault("GET", "thing", 1, S3_FAULT_NO_RANGES, 0, NULL);
	CHECK_RC(s3_get_file(s, "thing", 300000, file("out"), &e), RC_UNSUPPORTED);
	CHECK(!fs_exists(file("out")));
	buf_release(&b);
	s3_close(s);
}

void test_s3__uploads_end_once(void)
{
	struct s3 *s = client();
	struct err e = {0};
	struct buf b = BUF_INIT;
	char hex[SHA256_HEX_SIZE];
	int64_t n = 500000, size;

	s3_set_part(s, 65536);
	fill(&b, (size_t)n);
	sha256_of(b.data, b.len, hex);
	CHECK_RC(fs_write_durable(file("in"), b.data, b.len, &e), RC_OK);
	/* The completion arrived, its answer did not. */
	s3_fixture_fault("POST", "uploadId", 1, S3_FAULT_LOST_REPLY, 0, NULL);
	CHECK_RC(s3_put_file(s, "a", file("in"), n, hex, false, &e), RC_OK);
	expect(s, "a", &b);
	/* 200 with an error inside. */
	s3_fixture_fault("POST", "uploadId", 1, S3_FAULT_ERROR_200, 0, "InternalError");
	CHECK_RC(s3_put_file(s, "b", file("in"), n, hex, true, &e), RC_OK);
	expect(s, "b", &b);
	/* S3 asks for a fresh upload. */
	s3_fixture_fault("POST", "uploadId", 1, S3_FAULT_STATUS, 409, "ConditionalRequestConflict");
	CHECK_RC(s3_put_file(s, "c", file("in"), n, hex, true, &e), RC_OK);
	expect(s, "c", &b);
	/* A part that never arrives: nothing is left behind. */
	s3_fixture_fault("PUT", "partNumber=3", 100, S3_FAULT_STATUS, 500, "InternalError");
	CHECK_RC(s3_put_file(s, "d", file("in"), n, hex, false, &e), RC_UNREACHABLE);
	CHECK_RC(s3_head(s, "d", &size, &e), RC_NOTFOUND);
	s3_fixture_fault("PUT", "partNumber=3", 2, S3_FAULT_LOST_REPLY, 0, NULL);
	CHECK_RC(s3_put_file(s, "d", file("in"), n, hex, false, &e), RC_OK);
	expect(s, "d", &b);
	s3_fixture_fault("POST", "uploads", 10, S3_FAULT_GARBLE, 16, NULL);
	CHECK_RC(s3_put_file(s, "e", file("in"), n, hex, false, &e), RC_CORRUPT);
	CHECK_EQ(s3_fixture_uploads(), 0);
	buf_release(&b);
	s3_close(s);
}

void test_s3__a_clock_that_is_off(void)
{
	struct s3 *s = client();
	struct err e = {0};
	const int64_t off[] = {5000, -7200, 40000000, 0};
	int before;

	for (int i = 0; i < 4; i++) {
		s3_fixture_clock(off[i]);
		CHECK_RC(s3_put(s, "x", "y", 1, false, &e), RC_OK);
		before = s3_fixture_requests();
		CHECK_RC(s3_put(s, "x", "y", 1, false, &e), RC_OK);
		CHECK_EQ(s3_fixture_requests() - before, 1); /* Known from now on. */
	}
	s3_close(s);
}

static enum rc note(void *ctx, const char *name, int64_t size, int64_t modified_ms, struct err *e)
{
	(void)e;
	buf_printf(ctx, "%s:%lld ", name, (long long)size);
	CHECK(!size || modified_ms == 1714558830000);
	return RC_OK;
}

void test_s3__lists_in_pages(void)
{
	struct s3 *s = client();
	struct err e = {0};
	struct buf b = BUF_INIT;
	const struct s3_lister l = {note, &b};
	const char *keys[] = {"f/a&<b", "f/b/1", "f/b/2", "f/c", "f/d/x/y", "g"};

	CHECK_RC(s3_list(s, "f/", false, &l, &e), RC_OK);
	CHECK_EQ(b.len, 0);
	for (int i = 0; i < 6; i++)
		CHECK_RC(s3_put(s, keys[i], "1234567", 7, false, &e), RC_OK);
	for (int page = 1; page < 8; page++) {
		s3_fixture_page(page);
		buf_clear(&b);
		CHECK_RC(s3_list(s, "f/", false, &l, &e), RC_OK);
		CHECK_STR(b.data, "a&<b:7 b/:0 c:7 d/:0 ");
		buf_clear(&b);
		CHECK_RC(s3_list(s, "", true, &l, &e), RC_OK);
		CHECK_STR(b.data, "f/a&<b:7 f/b/1:7 f/b/2:7 f/c:7 f/d/x/y:7 g:7 ");
	}
	s3_fixture_fault("GET", "list-type", 1, S3_FAULT_GARBLE, 16, NULL);
	CHECK_RC(s3_list(s, "", true, &l, &e), RC_CORRUPT);
	CHECK(strstr(e.text, "list of objects: byte 6: unknown entity"));
	buf_release(&b);
	s3_close(s);
}

void test_s3__urls(void)
{
	static const char *const bad[] = {"",
					  "ab",
					  "Bucket",
					  "buck_et",
					  "bucket?x=1",
					  "bucket?region",
					  "bucket?endpoint=ftp://h",
					  "bucket?endpoint=http://h/path",
					  "bucket?style=odd",
					  "bucket?tries=0",
					  "bucket?stall_s=x",
					  "bucket/\xff",
					  "bucket?region=abcdefghijklmnopqrstuvwxyz0123456789"
					  "abcdefghijklmnopqrstuvwxyz"};
	struct err e = {0};
	struct s3 *s;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_RC(s3_open(bad[i], &s, &e), RC_INVALID);
	CHECK_RC(s3_open("my.bucket/a//?endpoint=http%3A%2F%2Fh%3A9&style=host&&", &s, &e), RC_OK);
	s3_close(s);
}

void test_s3__credentials(void)
{
	struct err e = {0};
	struct s3_creds c;
	static const char text[] =
		"# mine\n[default]\naws_access_key_id = ID1\naws_secret_access_key=S1\n\n"
		"[profile other]\r\naws_access_key_id=ID2\r\naws_secret_access_key = "
		"a/b+c==\r\naws_session_token = T\r\n[half]\naws_access_key_id=X\n";
	static const char role[] =
		"{\"Code\":\"Success\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"B\","
		"\"Token\":\"C\",\"Expiration\":\"2030-01-02T03:04:05Z\"}";

	CHECK_RC(s3_creds_parse(text, sizeof(text) - 1, "default", &c, &e), RC_OK);
	CHECK(!strcmp(c.id, "ID1") && !strcmp(c.secret, "S1") && !*c.token);
	CHECK_RC(s3_creds_parse(text, sizeof(text) - 1, "other", &c, &e), RC_OK);
	CHECK(!strcmp(c.id, "ID2") && !strcmp(c.secret, "a/b+c==") && !strcmp(c.token, "T"));
	CHECK_RC(s3_creds_parse(text, sizeof(text) - 1, "half", &c, &e), RC_NOTFOUND);
	CHECK_RC(s3_creds_parse(text, sizeof(text) - 1, "none", &c, &e), RC_NOTFOUND);
	CHECK_RC(s3_creds_role(role, sizeof(role) - 1, &c, &e), RC_OK);
	CHECK(!strcmp(c.token, "C") && c.expires_ms == 1893553445000);
	CHECK_RC(s3_creds_role("{\"AccessKeyId\":\"A B\",\"SecretAccessKey\":\"B\"}", 44, &c, &e),
		 RC_INVALID);
	/* Environment, then file, then nothing. */
	setenv("HOME", test_tmpdir(), 1);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	unsetenv("AWS_ACCESS_KEY_ID");
	unsetenv("AWS_SECRET_ACCESS_KEY");
	unsetenv("AWS_SHARED_CREDENTIALS_FILE");
	CHECK_RC(s3_creds_find(&c, &e), RC_DENIED);
	CHECK_RC(fs_write_durable(file("creds"), text, sizeof(text) - 1, &e), RC_OK);
	setenv("AWS_SHARED_CREDENTIALS_FILE", file("creds"), 1);
	setenv("AWS_PROFILE", "other", 1);
	CHECK_RC(s3_creds_find(&c, &e), RC_OK);
	CHECK_STR(c.id, "ID2");
	setenv("AWS_ACCESS_KEY_ID", "ID3", 1);
	CHECK_RC(s3_creds_find(&c, &e), RC_INVALID);
	setenv("AWS_SECRET_ACCESS_KEY", "S3", 1);
	CHECK_RC(s3_creds_find(&c, &e), RC_OK);
	CHECK_STR(c.id, "ID3");
}

static enum rc write_down(void *ctx, const char *path, const char *text, struct err *e)
{
	(void)e;
	buf_printf(ctx, "%s=%s;", path, text);
	return RC_OK;
}

void test_s3__xml(void)
{
	static const char good[] =
		"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- <x> --><A xmlns:q=\"u>r'l\">\n <q:B "
		"c='&'>1&lt;&#x20ac;&#65;</q:B><C/><D><E> f </E></D></A>\n";
	static const char *const bad[] = {
		"",
		"x",
		"<a>",
		"<a></b>",
		"<a/><b/>",
		"<a>&bad;</a>",
		"<a>&#0;</a>",
		"<a>&#xd800;</a>",
		"<a>&amp</a>",
		"<!DOCTYPE a><a/>",
		"<a><![CDATA[x]]></a>",
		"<a",
		"<a b='",
		"</a>",
		"<a>x</a>y",
		"<>",
		"<a <b>",
		"<a><b><c><d><e><f><g><h><i><j><k><l><m><n><o><p><q></q></p></o></n></m></l></k>"
		"</j></i></h></g></f></e></d></c></b></a>"};
	struct buf b = BUF_INIT;
	const struct s3_xml_sink sink = {write_down, &b};
	struct err e = {0};
	char text[16];

	CHECK_RC(s3_xml_read(good, sizeof(good) - 1, "answer", &sink, &e), RC_OK);
	CHECK_STR(b.data, "A/B=1<\xe2\x82\xac"
			  "A;A/C=;A/D/E= f ;A/D=;A=;");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_RC(s3_xml_read(bad[i], strlen(bad[i]), "answer", &sink, &e), RC_CORRUPT);
	for (size_t n = 0; n < sizeof(good) - 3; n++) /* Every prefix but the last newline. */
		CHECK_RC(s3_xml_read(good, n, "answer", &sink, &e), RC_CORRUPT);
	CHECK(s3_xml_find(good, sizeof(good) - 1, "A/D/E", text, sizeof(text)));
	CHECK_STR(text, " f ");
	s3_xml_root("<?xml?><Error><Code>", 20, text, sizeof(text));
	CHECK_STR(text, "Error");
	buf_release(&b);
}
