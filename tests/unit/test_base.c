/* Errors, text, buffers, arenas, clock, logs, JSON. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/clk.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/jsonl.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#include "tests/test.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

void test_base__errors_wrap_and_cut(void)
{
	struct err e;
	char big[3000];

	errno = ENOSPC;
	CHECK_EQ(err_set(&e, err_from_errno(errno), "write %s: %m", "x"), RC_FULL);
	CHECK_STR(e.text, "write x: No space left on device");
	CHECK_EQ(err_wrap(&e, "job %d", 17), RC_FULL);
	CHECK_STR(e.text, "job 17: write x: No space left on device");
	CHECK_EQ(err_set(&e, RC_IO, "again: %s", e.text), RC_IO);
	CHECK_STR(e.text, "again: job 17: write x: No space left on device");
	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	err_set(&e, RC_IO, "%s", big);
	CHECK_EQ(strlen(e.text), ERR_TEXT_MAX - 1);
	CHECK(str_ends(e.text, "..."));
	err_wrap(&e, "%s", big);
	CHECK(strlen(e.text) < ERR_TEXT_MAX);
	CHECK_EQ(err_set(NULL, RC_STALE, "x"), RC_STALE);
	CHECK_STR(rc_text(RC_STALE), "stale token");
}

void test_base__numbers_are_strict(void)
{
	int64_t i = 5;
	uint64_t u = 5;
	double d = 5;
	static const char *const bad[] = {"", " 1", "1 ", "0x10", "+1", "1.0", "-", "1e3",
					  "9223372036854775808", "--1"};

	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++)
		CHECK(!str_to_i64(bad[k], &i));
	CHECK_EQ(i, 5);
	CHECK(str_to_i64("-9223372036854775808", &i) && i == INT64_MIN);
	CHECK(!str_to_u64("-1", &u) && str_to_u64("18446744073709551615", &u) && u == UINT64_MAX);
	CHECK(!str_to_f64("inf", &d) && !str_to_f64("nan", &d) && !str_to_f64("1e999", &d));
	CHECK(!str_to_f64("0x1p3", &d) && str_to_f64("-1.5e-3", &d));
	CHECK_NEAR(d, -0.0015, 1e-18);
}

void test_base__utf8_is_strict(void)
{
	static const char *const bad[] = {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80",
					  "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
					  "\xe2\x82", "\xff"};
	char out[4];
	uint32_t cp;

	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++)
		CHECK(!utf8_valid(bad[k], strlen(bad[k])));
	for (uint32_t c = 1; c <= 0x10ffff; c += c < 0x3000 ? 1 : 97) {
		if (c >= 0xd800 && c <= 0xdfff)
			continue;
		int n = utf8_encode(c, out);
		CHECK_EQ(utf8_decode(out, (size_t)n, &cp), n);
		CHECK_EQ(cp, c);
		CHECK_EQ(utf8_decode(out, (size_t)n - 1, &cp), 0);
	}
	char *s = utf8_scrub("a\xff\xc3\xa9\xe2\x82", 6);
	CHECK_STR(s, "a\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd");
	free(s);
}

void test_base__buffers_grow_and_stay_terminated(void)
{
	struct buf b = BUF_INIT;

	for (int i = 0; i < 1000; i++)
		buf_printf(&b, "%d,", i);
	CHECK_EQ(b.len, 3890);
	CHECK_EQ(b.data[b.len], 0);
	buf_clear(&b);
	CHECK_STR(b.data, "");
	buf_append(&b, "a\0b", 3);
	CHECK_EQ(b.len, 3);
	char *p = buf_detach(&b);
	CHECK(!memcmp(p, "a\0b", 4));
	free(p);
	p = buf_detach(&b);
	CHECK_STR(p, "");
	free(p);
}

void test_base__arena_keeps_alignment_and_zeroes(void)
{
	struct arena a;

	arena_init(&a);
	for (int round = 0; round < 3; round++) {
		for (size_t n = 0; n < 3000; n += 7) {
			unsigned char *p = arena_take(&a, n);
			CHECK_EQ((uintptr_t)p % 16, 0);
			for (size_t i = 0; i < n; i++)
				CHECK_EQ(p[i], 0);
			memset(p, 0xaa, n);
		}
		CHECK_STR(arena_printf(&a, "%s-%d", "x", 3), "x-3");
		CHECK_STR(arena_strn(&a, "abcdef", 3), "abc");
		arena_reset(&a);
	}
	arena_release(&a);
}

static int64_t fixed(void)
{
	return 1795228560123;
}

void test_base__time_text(void)
{
	char t[CLK_TEXT_MAX];

	clk_text(0, t);
	CHECK_STR(t, "1970-01-01T00:00:00.000Z");
	clk_text(-1, t);
	CHECK_STR(t, "1969-12-31T23:59:59.999Z");
	clk_replace(fixed, fixed);
	clk_text(clk_now_ms(), t);
	CHECK_STR(t, "2026-11-21T02:36:00.123Z");
	CHECK_NEAR(clk_mono_s(), 1795228560.123, 1e-3);
	clk_replace(NULL, NULL);
	CHECK(clk_now_ms() != fixed());
	clk_text(INT64_MAX, t);
	CHECK(strlen(t) == 24);
}

/* A moment of one clock given to a condition of another would be long past, or half a century away. */
void test_base__waits_end_by_a_clock_that_never_steps(void)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t never;
	int64_t begun = clk_mono_ms();
	struct timespec until = clk_after(30);

	clk_cond_init(&never);
	pthread_mutex_lock(&lock);
	while (pthread_cond_timedwait(&never, &lock, &until) != ETIMEDOUT)
		;
	pthread_mutex_unlock(&lock);
	CHECK(clk_mono_ms() - begun >= 29);
	until = clk_after(-5);
	CHECK(until.tv_nsec >= 0 && until.tv_nsec < 1000000000);
	pthread_cond_destroy(&never);
}

static char *logged(int json)
{
	int p[2], keep = dup(2);
	static char text[8192];

	CHECK(!pipe(p));
	dup2(p[1], 2);
	log_init("test", LOG_INFO, json);
	log_debug("mod", "hidden", "x=%d", 1);
	log_info("mod", "seen", "a=%d path=%s why=\"%s\" note=two words", 1, "x y=z\n2026 forged",
		 "q\"uo\\te");
	dup2(keep, 2);
	close(p[1]);
	ssize_t n = read(p[0], text, sizeof(text) - 1);
	CHECK(n > 0);
	text[n] = 0;
	return text;
}

void test_base__log_lines_cannot_be_forged(void)
{
	char *t = logged(0);
	CHECK(strstr(t, " info mod seen a=1 path=\"x y=z\\n2026 forged\" why=\"q\\\"uo\\\\te\" "
			"note=\"two words\"\n"));
	CHECK_EQ(strchr(t, '\n') - t, (long)strlen(t) - 1);
	CHECK(!strstr(t, "hidden"));
}

void test_base__log_json_parses(void)
{
	struct err e;
	json_t *v;
	char *t = logged(1);

	CHECK_RC(jx_parse(t, strlen(t), "line", &v, &e), RC_OK);
	CHECK_STR(jx_get_str(v, "event", ""), "seen");
	CHECK_STR(jx_get_str(v, "path", ""), "x y=z\n2026 forged");
	CHECK_STR(jx_get_str(v, "why", ""), "q\"uo\\te");
	json_decref(v);
}

static enum rc parse(const char *s, struct err *e)
{
	json_t *v;
	enum rc rc = jx_parse(s, strlen(s), "in", &v, e);

	json_decref(v);
	return rc;
}

void test_base__json_refuses_what_is_unsafe(void)
{
	struct err e;
	char deep[200];

	CHECK_RC(parse("{\"a\":1,\"a\":2}", &e), RC_INVALID);
	CHECK(strstr(e.text, "in: line 1"));
	CHECK_RC(parse("{} x", &e), RC_INVALID);
	CHECK_RC(parse("{}\n{}", &e), RC_INVALID);
	CHECK_RC(parse("", &e), RC_INVALID);
	CHECK_RC(parse("{\"a\":\"\xff\"}", &e), RC_INVALID);
	CHECK_RC(parse("[NaN]", &e), RC_INVALID);
	CHECK_RC(parse("[\"[[[[\\\"[[[\"]", &e), RC_OK);
	memset(deep, '[', 64);
	memset(deep + 64, ']', 64);
	deep[128] = 0;
	CHECK_RC(parse(deep, &e), RC_OK);
	memset(deep, '[', 65);
	memset(deep + 65, ']', 65);
	deep[130] = 0;
	CHECK_RC(parse(deep, &e), RC_INVALID);
	CHECK(strstr(e.text, "deeper than 64"));
}

void test_base__json_text_is_canonical(void)
{
	json_t *v = json_pack("{s:i,s:[f,b,n],s:s}", "b", 1, "a", 0.1, 1, "c", "\xc3\xa9\n");
	char *t = jx_text(v);

	CHECK_STR(t, "{\"a\":[0.10000000000000001,true,null],\"b\":1,\"c\":\"\xc3\xa9\\n\"}");
	free(t);
	json_decref(v);
}

void test_base__json_readers_name_the_field(void)
{
	struct err e;
	json_t *v = json_pack("{s:s,s:i,s:n,s:f}", "s", "x", "i", 7, "z", "f", 1.5);
	const char *s = NULL;
	int64_t i = 3;
	double d = 0;
	bool b = true;
	static const char *const known[] = {"s", "i", "z", NULL};

	CHECK_RC(jx_str(v, "s", &s, &e), RC_OK);
	CHECK_RC(jx_i64(v, "i", 0, 6, &i, &e), RC_INVALID);
	CHECK_STR(e.text, "field \"i\": expected an integer from 0 to 6, found 7");
	CHECK_RC(jx_i64(v, "nope", 0, 6, &i, &e), RC_INVALID);
	CHECK_STR(e.text, "field \"nope\" is missing");
	CHECK_RC(jx_i64(v, "f", 0, 6, &i, &e), RC_INVALID);
	CHECK_RC(jx_opt_i64(v, "z", 0, 6, &i, &e), RC_OK);
	CHECK_EQ(i, 3);
	CHECK_RC(jx_f64(v, "i", 0, 10, &d, &e), RC_OK);
	CHECK_NEAR(d, 7, 0);
	CHECK_RC(jx_opt_bool(v, "s", &b, &e), RC_INVALID);
	CHECK_RC(jx_opt_bool(v, "absent", &b, &e), RC_OK);
	CHECK_RC(jx_only(v, known, &e), RC_INVALID);
	CHECK_STR(e.text, "unknown field \"f\"");
	CHECK_EQ(jx_get_i64(v, "s", 9), 9);
	json_decref(v);
	v = json_array();
	CHECK_RC(jx_str(v, "s", &s, &e), RC_INVALID);
	json_decref(v);
}

static const char *tmp(const char *name)
{
	static char path[PATH_MAX];

	str_fmt(path, sizeof(path), "%s/%s", test_tmpdir(), name);
	return path;
}

static void read_three(const char *path)
{
	struct err e;
	struct jsonl *r;
	json_t *v;

	CHECK_RC(jsonl_open(path, &r, &e), RC_OK);
	CHECK_RC(jsonl_next(r, &v, &e), RC_OK);
	CHECK_EQ(jx_get_i64(v, "a", 0), 1);
	json_decref(v);
	CHECK_RC(jsonl_next(r, &v, &e), RC_OK);
	CHECK_EQ(jx_get_i64(v, "a", 0), 2);
	CHECK_EQ(jsonl_line(r), 3);
	json_decref(v);
	CHECK_RC(jsonl_next(r, &v, &e), RC_INVALID);
	CHECK(strstr(e.text, ":4: "));
	jsonl_close(r);
}

void test_base__jsonl_plain_and_gzip(void)
{
	static const char text[] = "{\"a\":1}\n\n{\"a\":2}\r\n{oops}";
	const char *path = tmp("x.jsonl");

	CHECK_EQ(fs_write_durable(path, text, sizeof(text) - 1, NULL), RC_OK);
	read_three(path);
	gzFile g = gzopen(path, "wb");
	gzwrite(g, text, sizeof(text) - 1);
	gzclose(g);
	read_three(path);
}

void test_base__jsonl_torn_gzip_is_refused(void)
{
	struct err e;
	struct jsonl *r;
	json_t *v;
	const char *path = tmp("x.jsonl.gz");
	gzFile g = gzopen(path, "wb");

	for (int i = 0; i < 2000; i++)
		gzprintf(g, "{\"a\":%d}\n", i * 7919 % 1000);
	gzclose(g);
	CHECK(!truncate(path, fs_size(path) / 2));
	CHECK_RC(jsonl_open(path, &r, &e), RC_OK);
	enum rc rc;
	while (!(rc = jsonl_next(r, &v, &e)) && v)
		json_decref(v);
	CHECK_EQ(rc, RC_CORRUPT);
	jsonl_close(r);
}

void test_base__memory_blocks(void)
{
	CHECK(!mem_try((size_t)-1));
	for (size_t size = 1; size < ((size_t)8 << 20); size *= 5) {
		unsigned char *p = mem_try(size);
		CHECK(p && (uintptr_t)p % 64 == 0 && !p[0] && !p[size - 1]);
		mem_try_free(p, size);
	}
	char *s = mem_printf("%d-%s", 3, "x");
	CHECK_STR(s, "3-x");
	free(s);
}
