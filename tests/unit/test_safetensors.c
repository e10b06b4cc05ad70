#include "store/safetensors.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/str.h"

#include "tests/test.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const char *tmp(const char *name)
{
	static char path[4][PATH_MAX];
	static unsigned turn;
	char *p = path[turn++ % 4];

	str_fmt(p, PATH_MAX, "%s/%s", test_tmpdir(), name);
	return p;
}

static void write_two(const char *path)
{
	struct err e;
	static const float a[6] = {1, 2, 3, 4, 5, 6};
	static const uint16_t b[2] = {0x3f80, 0x4000};
	struct st_tensor t[] = {
		{"w.b", ST_BF16, 1, {2}, b, 4},
		{"w.a", ST_F32, 2, {2, 3}, a, 24},
	};
	json_t *meta = json_pack("{s:s}", "format", "pt");

	CHECK_RC(st_write(path, t, 2, meta, &e), RC_OK);
	json_decref(meta);
}

void test_safetensors__round_trip_aligned_and_deterministic(void)
{
	struct err e;
	struct st *s;
	char x[SHA256_HEX_SIZE], y[SHA256_HEX_SIZE];

	write_two(tmp("a"));
	write_two(tmp("b"));
	CHECK_EQ(fs_sha256(tmp("a"), x, NULL, NULL), RC_OK);
	CHECK_EQ(fs_sha256(tmp("b"), y, NULL, NULL), RC_OK);
	CHECK_STR(x, y);
	CHECK_EQ(fs_size(tmp("a")), 4096 + 28);
	CHECK_RC(st_open(tmp("a"), &s, &e), RC_OK);
	CHECK_EQ(st_count(s), 2);
	CHECK_STR(st_at(s, 0)->name, "w.a");
	CHECK_STR(st_metadata(s, "format"), "pt");
	CHECK(!st_metadata(s, "nope") && !st_find(s, "w.c"));
	const struct st_tensor *t = st_find(s, "w.a");
	CHECK_EQ(t->ndim, 2);
	CHECK_EQ(t->shape[1], 3);
	CHECK_EQ(st_elements(t), 6);
	CHECK_NEAR(((const float *)t->data)[5], 6, 0);
	st_close(s);
}

/* A file from header text and a number of data bytes. */
static enum rc try(const char *header, size_t data, struct err *e)
{
	_Alignas(8) static char file[8192];
	struct st *s = NULL;
	size_t n = strlen(header);

	memset(file, 0, sizeof(file));
	while (n % 8) /* Spaces, as writers do, so that data is aligned. */
		file[8 + n++] = ' ';
	memcpy(file + 8, header, strlen(header));
	file[0] = (char)n;
	file[1] = (char)(n >> 8);
	enum rc rc = st_open_mem(file, 8 + n + data, "f", &s, e);
	st_close(s);
	return rc;
}

#define T(name, dtype, shape, a, b)                                                         \
	"\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" a "," b "]}"

void test_safetensors__every_lie_is_refused(void)
{
	struct err e;
	static const struct {
		const char *header;
		size_t data;
		const char *why;
	} bad[] = {
		{"{" T("a", "F32", "[2]", "0", "8") "," T("b", "F32", "[2]", "4", "12") "}", 12,
		 "overlaps"},
		{"{" T("a", "F32", "[2]", "0", "8") "," T("b", "F32", "[2]", "0", "8") "}", 8,
		 "overlaps"},
		{"{" T("a", "F32", "[2]", "0", "8") "," T("b", "F32", "[1]", "12", "16") "}", 16,
		 "hole"},
		{"{" T("a", "F32", "[2]", "4", "12") "}", 12, "hole"},
		{"{" T("a", "F32", "[2]", "0", "8") "}", 12, "4 bytes after the last tensor"},
		{"{" T("a", "F32", "[2]", "0", "8") "}", 4, "outside the data"},
		{"{" T("a", "F32", "[3]", "0", "8") "}", 8, "shape needs 12 bytes"},
		{"{" T("a", "F32", "[2]", "8", "0") "}", 8, "outside the data"},
		{"{" T("a", "F32", "[2]", "-8", "0") "}", 8, "outside the data"},
		{"{" T("a", "F32", "[-2]", "0", "8") "}", 8, "something else than sizes"},
		{"{" T("a", "F32", "[1.5]", "0", "8") "}", 8, "something else than sizes"},
		{"{" T("a", "F32", "[4611686018427387904,4611686018427387904]", "0", "8") "}", 8,
		 "too large"},
		{"{" T("a", "F32", "[1,1,1,1,1,1,1,1,2]", "0", "8") "}", 8, "at most 8"},
		{"{" T("a", "F99", "[2]", "0", "8") "}", 8, "unknown type \"F99\""},
		{"{" T("a", "F32", "[2]", "0", "9223372036854775807") "}", 8, "outside the data"},
		{"{" T("a", "F32", "[2]", "0", "8") "," T("a", "F32", "[2]", "0", "8") "}", 8,
		 "duplicate"},
		{"{" T("a", "U8", "[1]", "0", "1") "," T("b", "F32", "[1]", "1", "5") "}", 5,
		 "not aligned"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}}", 8,
		 "unknown field"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, "two numbers"},
		{"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "dtype"},
		{"{\"a\":[]}", 0, "not described by an object"},
		{"{\"__metadata__\":{\"a\":1}}", 0, "not a string"},
		{"{\"__metadata__\":[]}", 0, "not an object"},
		{"[]", 0, "does not begin with {"},
		{"{", 0, "f: line"},
		{"{} x", 0, "f: line"},
	};

	CHECK_RC(try("{}", 0, &e), RC_OK);
	CHECK_RC(try("{" T("a", "F32", "[]", "0", "4") "}", 4, &e), RC_OK);
	CHECK_RC(try("{" T("a", "F32", "[0]", "0", "0") "," T("b", "F32", "[1]", "0", "4") "}", 4,
		     &e),
		 RC_OK);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		enum rc rc = try(bad[i].header, bad[i].data, &e);
		if (rc != RC_CORRUPT || !strstr(e.text, bad[i].why))
			printf("# case %zu: %s\n", i, rc ? e.text : "accepted");
		CHECK_EQ(rc, RC_CORRUPT);
		CHECK(strstr(e.text, bad[i].why));
	}
}

void test_safetensors__header_length_is_bounded(void)
{
	struct err e;
	struct st *s;
	_Alignas(8) unsigned char file[64] = {0};
	static const uint64_t lens[] = {0, 57, 100000001, 1ull << 63, UINT64_MAX, UINT64_MAX - 7};

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		memcpy(file, &lens[i], 8);
		CHECK_RC(st_open_mem(file, sizeof(file), "f", &s, &e), RC_CORRUPT);
	}
	for (size_t n = 0; n < 8; n++)
		CHECK_RC(st_open_mem(file, n, "f", &s, &e), RC_CORRUPT);
	CHECK_RC(st_open(tmp("none"), &s, &e), RC_NOTFOUND);
	CHECK_RC(st_open(test_tmpdir(), &s, &e), RC_NOTFOUND);
	CHECK(strstr(e.text, "no model.safetensors"));
}

static void write_shards(const char *index)
{
	struct err e;
	static const float v[2] = {1, 2};
	struct st_tensor a = {"a", ST_F32, 1, {2}, v, 8}, b = {"b", ST_F32, 1, {2}, v, 8};

	CHECK_RC(st_write(tmp("m-1.safetensors"), &a, 1, NULL, &e), RC_OK);
	CHECK_RC(st_write(tmp("m-2.safetensors"), &b, 1, NULL, &e), RC_OK);
	CHECK_RC(fs_write_durable(tmp("model.safetensors.index.json"), index, strlen(index), &e),
		 RC_OK);
}

void test_safetensors__shards_follow_their_index(void)
{
	struct err e;
	struct st *s;
	static const struct {
		const char *index, *why;
	} bad[] = {
		{"{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-1.safetensors\"}}", "not in"},
		{"{\"weight_map\":{\"a\":\"m-2.safetensors\",\"b\":\"m-1.safetensors\"}}",
		 "another file"},
		{"{\"weight_map\":{\"a\":\"m-1.safetensors\",\"c\":\"m-2.safetensors\"}}",
		 "not in the index"},
		{"{\"weight_map\":{\"a\":\"../m-1.safetensors\"}}", "plain file name"},
		{"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "plain file name"},
		{"{\"weight_map\":{\"a\":\"m-9.safetensors\"}}", "m-9"},
		{"{\"weight_map\":[]}", "weight_map"},
		{"{}", "weight_map"},
	};

	write_shards("{\"metadata\":{\"total_size\":16},\"weight_map\":{\"a\":\"m-1.safetensors\","
		     "\"b\":\"m-2.safetensors\"}}");
	CHECK_RC(st_open(test_tmpdir(), &s, &e), RC_OK);
	CHECK_EQ(st_count(s), 2);
	CHECK_NEAR(((const float *)st_find(s, "b")->data)[1], 2, 0);
	st_close(s);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		write_shards(bad[i].index);
		enum rc rc = st_open(test_tmpdir(), &s, &e);
		CHECK(rc);
		if (!strstr(e.text, bad[i].why))
			printf("# case %zu: %s\n", i, e.text);
		CHECK(strstr(e.text, bad[i].why));
	}
}

void test_safetensors__write_checks_shape_and_disk(void)
{
	struct err e;
	static const float v[2] = {1, 2};
	struct st_tensor t = {"a", ST_F32, 1, {3}, v, 8};

	CHECK_RC(st_write(tmp("x"), &t, 1, NULL, &e), RC_INVALID);
	t.shape[0] = 2;
	CHECK_RC(st_write(tmp("nodir/x"), &t, 1, NULL, &e), RC_NOTFOUND);
	struct rlimit r = {4100, 4100};
	signal(SIGXFSZ, SIG_IGN);
	CHECK(!setrlimit(RLIMIT_FSIZE, &r));
	CHECK_RC(st_write(tmp("x"), &t, 1, NULL, &e), RC_FULL);
	CHECK(!fs_exists(tmp("x")));
}

/* --- sets of files ------------------------------------------------------------------------------ */

#define SET 5

static float set_data[SET][1000];
static struct st_tensor set_list[SET];

/* Of 400, 800, 4000, 800 and 800 bytes. */
static void make_set(void)
{
	static const int64_t sizes[SET] = {100, 200, 1000, 200, 200};
	static char names[SET][4];

	for (int i = 0; i < SET; i++) {
		str_fmt(names[i], sizeof names[i], "t%d", i);
		set_list[i] = (struct st_tensor){names[i], ST_F32, 1, {sizes[i]}, set_data[i],
						 (size_t)sizes[i] * sizeof(float)};
		for (int k = 0; k < sizes[i]; k++)
			set_data[i][k] = (float)(1000 * i + k);
	}
}

static int write_set(size_t max, const struct st_feed *feed)
{
	const struct st_set set = {test_tmpdir(), "x", max, NULL, feed};
	struct err e;
	int n = 0;

	CHECK_RC(st_write_set(&set, set_list, SET, &n, &e), RC_OK);
	return n;
}

static void check_set(size_t files)
{
	struct err e;
	struct st *s;

	CHECK_RC(st_open_set(test_tmpdir(), "x", &s, &e), RC_OK);
	CHECK_EQ(st_files(s), files);
	CHECK_EQ(st_count(s), SET);
	for (int i = 0; i < SET; i++) {
		const struct st_tensor *t = st_find(s, set_list[i].name);

		CHECK(t && t->size_bytes == set_list[i].size_bytes);
		CHECK(!memcmp(t->data, set_data[i], t->size_bytes));
	}
	st_close(s);
}

static void same_file(const char *a, const char *b)
{
	struct buf x = BUF_INIT, y = BUF_INIT;
	struct err e;

	CHECK_RC(fs_read(a, 1 << 20, &x, &e), RC_OK);
	CHECK_RC(fs_read(b, 1 << 20, &y, &e), RC_OK);
	CHECK(x.len == y.len && !memcmp(x.data, y.data, x.len));
	buf_release(&x);
	buf_release(&y);
}

void test_safetensors__what_fits_into_one_file_is_one(void)
{
	struct err e;

	make_set();
	CHECK_EQ(write_set(6800, NULL), 1);
	check_set(1);
	CHECK_RC(st_write(tmp("plain"), set_list, SET, NULL, &e), RC_OK);
	same_file(tmp("plain"), tmp("x.safetensors"));
	CHECK(!fs_exists(tmp("x" ST_INDEX)));
}

void test_safetensors__large_sets_are_several_files(void)
{
	static const char index[] = "{\n  \"metadata\": {\n    \"total_size\": 6800\n  },\n"
				    "  \"weight_map\": {\n"
				    "    \"t0\": \"x-00001-of-00003.safetensors\",\n"
				    "    \"t1\": \"x-00001-of-00003.safetensors\",\n"
				    "    \"t2\": \"x-00002-of-00003.safetensors\",\n"
				    "    \"t3\": \"x-00003-of-00003.safetensors\",\n"
				    "    \"t4\": \"x-00003-of-00003.safetensors\"\n  }\n}\n";
	struct buf text = BUF_INIT;
	struct err e;

	make_set();
	CHECK_EQ(write_set(1600, NULL), 3); /* t2 is larger, and alone. */
	check_set(3);
	CHECK_RC(fs_read(tmp("x" ST_INDEX), 4096, &text, &e), RC_OK);
	CHECK_STR(text.data, index);
	buf_release(&text);
	CHECK_EQ(write_set(1, NULL), SET);
	check_set(SET);
	/* Over an earlier set: none of its words are read again. */
	CHECK_EQ(write_set(SIZE_MAX, NULL), 1);
	check_set(1);
	CHECK_EQ(write_set(1200, NULL), 4);
	check_set(4);
}

static enum rc feed_set(void *ctx, size_t i, size_t at, void *out, size_t len, struct err *e)
{
	size_t *next = ctx;

	CHECK(i == *next || i == *next + 1); /* In order, by the place in the whole list. */
	*next = i;
	if (set_data[i][0] < 0)
		return err_set(e, RC_IO, "no more");
	memcpy(out, (const char *)set_data[i] + at, len);
	return RC_OK;
}

void test_safetensors__a_fed_set_is_the_same(void)
{
	size_t next = 0;
	const struct st_feed feed = {feed_set, &next};
	const struct st_set set = {test_tmpdir(), "x", 1600, NULL, &feed};
	struct st *s;
	struct err e;

	make_set();
	CHECK_EQ(write_set(1600, NULL), 3);
	CHECK(!rename(tmp("x-00003-of-00003.safetensors"), tmp("third")));
	CHECK_EQ(write_set(1600, &feed), 3);
	same_file(tmp("x-00003-of-00003.safetensors"), tmp("third"));
	/* It ends in the third file: nothing of it is left. */
	set_data[3][0] = -1;
	next = 0;
	CHECK_RC(st_write_set(&set, set_list, SET, NULL, &e), RC_IO);
	CHECK_STR(e.text, "no more");
	CHECK(!fs_exists(tmp("x-00001-of-00003.safetensors")) && !fs_exists(tmp("x" ST_INDEX)));
	CHECK_RC(st_open_set(test_tmpdir(), "x", &s, &e), RC_NOTFOUND);
	CHECK(strstr(e.text, "no x.safetensors"));
}

void test_safetensors__a_file_of_a_set_that_is_torn_or_gone_is_named(void)
{
	struct st *s;
	struct err e;

	make_set();
	CHECK_EQ(write_set(1600, NULL), 3);
	CHECK(!truncate(tmp("x-00002-of-00003.safetensors"), 5000));
	CHECK_RC(st_open_set(test_tmpdir(), "x", &s, &e), RC_CORRUPT);
	CHECK(strstr(e.text, "x-00002-of-00003.safetensors"));
	CHECK(!unlink(tmp("x-00002-of-00003.safetensors")));
	CHECK_RC(st_open_set(test_tmpdir(), "x", &s, &e), RC_NOTFOUND);
	CHECK(strstr(e.text, "x-00002-of-00003.safetensors"));
}
