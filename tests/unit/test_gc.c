#include "store/gc.h"

#include "base/clk.h"
#include "base/fs.h"
#include "base/str.h"
#include "store/artifact.h"
#include "tests/s3_fixture.h"

#include "tests/test.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define HOUR 3600000ll

static int64_t ahead_ms;

static int64_t later(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 + ahead_ms;
}

static int64_t mono(void)
{
	return later();
}

/* Days old, unless told otherwise. */
static void blob(struct store *s, const char *text, char digest[SHA256_HEX_SIZE])
{
	struct err e = {0};
	char path[PATH_MAX];
	struct timespec t[2] = {{.tv_sec = time(NULL) - 10 * 24 * 3600},
				{.tv_sec = time(NULL) - 10 * 24 * 3600}};

	CHECK_RC(store_tmp(s, path, sizeof(path), &e), RC_OK);
	CHECK_RC(fs_write_durable(path, text, strlen(text), &e), RC_OK);
	CHECK_RC(store_take(s, path, digest, NULL, &e), RC_OK);
	if (!store_path(s, digest, path, sizeof(path), &e))
		CHECK(!utimensat(AT_FDCWD, path, t, 0));
}

static bool lies(struct store *s, const char *digest)
{
	struct err e = {0};
	char path[PATH_MAX];

	CHECK_RC(store_path(s, digest, path, sizeof(path), &e), RC_OK);
	return fs_exists(path);
}

static struct gc_report run(struct store *s, const json_t *used, bool dry)
{
	const struct gc_rules rules = {48 * HOUR, 24 * HOUR, 72 * HOUR, dry, NULL};
	struct gc_report r;
	struct err e = {0};

	CHECK_RC(gc_run(s, &rules, used, &r, &e), RC_OK);
	return r;
}

static void come_and_go(struct store *s, const json_t *used, const char *junk)
{
	struct err e = {0};
	struct gc_report r;
	int64_t size;

	/* Asked for, it is back, and must be found unused by two looks again. */
	CHECK_RC(store_has(s, junk, &size, &e), RC_OK);
	CHECK(lies(s, junk) && size == 4);
	r = run(s, used, false);
	CHECK(!r.trashed.n && lies(s, junk));
	gc_report_release(&r);
	ahead_ms += 48 * HOUR;
	for (int i = 0; i < 2; i++) {
		r = run(s, used, false);
		gc_report_release(&r);
		ahead_ms += 25 * HOUR;
	}
	CHECK(!lies(s, junk));
	/* In the trash for three days. */
	r = run(s, used, false);
	CHECK_EQ(r.dropped.n, 0);
	gc_report_release(&r);
	ahead_ms += 100 * 24 * HOUR;
	r = run(s, used, false);
	CHECK_EQ(r.dropped.n, 1);
	gc_report_release(&r);
	CHECK_RC(store_has(s, junk, &size, &e), RC_NOTFOUND);
}

void test_gc__what_nothing_names_goes_slowly(void)
{
	struct err e = {0};
	struct store *s;
	char named[SHA256_HEX_SIZE], queued[SHA256_HEX_SIZE], lined[SHA256_HEX_SIZE],
		junk[SHA256_HEX_SIZE], url[PATH_MAX], text[200];

	clk_replace(later, mono);
	str_fmt(url, sizeof(url), "%s/store", test_tmpdir());
	CHECK_RC(store_open(url, true, &s, &e), RC_OK);
	blob(s, "named", named);
	blob(s, "queued", queued);
	blob(s, "lined", lined);
	blob(s, "junk", junk);
	json_t *doc = json_pack("{s:[{s:s}]}", "outputs", "digest", named), *line = json_object(),
	       *used = json_pack("[{s:{s:s}}]", "checkpoint", "model", queued);
	str_fmt(text, sizeof(text), "see sha256:%s.", lined);
	json_object_set_new(line, "why", json_string(text));
	CHECK_RC(store_doc_put(s, "jobs/r1/r1.0.sft.0.0.7.json", doc, &e), RC_OK);
	CHECK_RC(store_doc_append(s, "runs/r1/decisions.jsonl", line, &e), RC_OK);

	/* A dry run says and does nothing. */
	struct gc_report r = run(s, used, true);
	CHECK(r.all.n == 4 && r.kept.n == 3 && r.marked.n == 1 && r.marked.bytes == 4);
	gc_report_release(&r);
	ahead_ms = 25 * HOUR;
	r = run(s, used, true);
	CHECK(r.marked.n == 1 && !r.trashed.n);
	gc_report_release(&r);
	/* The first look marks, a second a day later takes. */
	r = run(s, used, false);
	CHECK(r.marked.n == 1 && !r.trashed.n);
	gc_report_release(&r);
	ahead_ms += 23 * HOUR;
	r = run(s, used, false);
	CHECK(r.marked.n == 1 && !r.trashed.n && lies(s, junk));
	gc_report_release(&r);
	ahead_ms += 2 * HOUR;
	r = run(s, used, true);
	CHECK(r.trashed.n == 1 && lies(s, junk));
	gc_report_release(&r);
	r = run(s, used, false);
	CHECK(r.trashed.n == 1 && r.kept.n == 3 && !lies(s, junk));
	CHECK(lies(s, named) && lies(s, queued) && lies(s, lined));
	gc_report_release(&r);
	come_and_go(s, used, junk);
	CHECK(lies(s, named) && lies(s, queued) && lies(s, lined));
	json_decref(doc);
	json_decref(line);
	json_decref(used);
	store_close(s);
}

/* What cannot be read may name anything: then nothing goes. */
void test_gc__an_unreadable_document_stops_it(void)
{
	const struct gc_rules rules = {0, 0, 0, false, NULL};
	struct err e = {0};
	struct store *s;
	struct gc_report r;
	char digest[SHA256_HEX_SIZE], url[PATH_MAX], path[PATH_MAX];

	clk_replace(later, mono);
	str_fmt(url, sizeof(url), "%s/store", test_tmpdir());
	CHECK_RC(store_open(url, true, &s, &e), RC_OK);
	blob(s, "junk", digest);
	json_t *doc = json_object();
	CHECK_RC(store_doc_put(s, "runs/r1/record.json", doc, &e), RC_OK);
	str_fmt(path, sizeof(path), "%s/docs/runs/r1/record.json", url);
	CHECK_RC(fs_write_durable(path, "{\"torn", 6, &e), RC_OK);
	for (int i = 0; i < 3; i++) {
		CHECK_RC(gc_run(s, &rules, NULL, &r, &e), RC_CORRUPT);
		CHECK(lies(s, digest));
		ahead_ms += HOUR;
	}
	CHECK_RC(store_doc_put(s, "runs/r1/record.json", doc, &e), RC_OK);
	for (int i = 0; i < 2; i++, ahead_ms += HOUR) {
		CHECK_RC(gc_run(s, &rules, NULL, &r, &e), RC_OK);
		gc_report_release(&r);
	}
	CHECK(!lies(s, digest));
	json_decref(doc);
	store_close(s);
}

/* All is old here, as the service tells it: the looks wait for nothing, and the trash does or does not. */
#define EVER (1000 * 8766 * HOUR)

static struct gc_report sweep(struct store *s, int64_t trash_ms)
{
	const struct gc_rules rules = {0, 0, trash_ms, false, NULL};
	struct gc_report r;
	struct err e = {0};

	CHECK_RC(gc_run(s, &rules, NULL, &r, &e), RC_OK);
	return r;
}

void test_gc__a_bucket_is_swept_as_a_folder_is(void)
{
	struct err e = {0};
	struct store *s;
	struct gc_report r;
	char junk[SHA256_HEX_SIZE], named[SHA256_HEX_SIZE], url[512];
	int64_t size;

	s3_fixture_start(url, sizeof(url));
	CHECK_RC(store_open(url, true, &s, &e), RC_OK);
	blob(s, "junk", junk);
	blob(s, "named", named);
	json_t *doc = json_pack("{s:s}", "digest", named);
	CHECK_RC(store_doc_put(s, "jobs/r1/a.json", doc, &e), RC_OK);
	r = sweep(s, EVER);
	CHECK(r.all.n == 2 && r.kept.n == 1 && r.marked.n == 1);
	gc_report_release(&r);
	r = sweep(s, EVER);
	CHECK(r.trashed.n == 1);
	gc_report_release(&r);
	/* In the trash it is no blob, and none that is gone. */
	r = sweep(s, EVER);
	CHECK(r.all.n == 1 && !r.marked.n && !r.dropped.n);
	gc_report_release(&r);
	/* Asked for, it is back, and two looks are needed again. */
	CHECK_RC(store_has(s, junk, &size, &e), RC_OK);
	CHECK_EQ(size, 4);
	r = sweep(s, 0);
	CHECK(r.all.n == 2 && r.marked.n == 1 && !r.dropped.n);
	gc_report_release(&r);
	r = sweep(s, EVER);
	CHECK(r.trashed.n == 1);
	gc_report_release(&r);
	r = sweep(s, 0);
	CHECK(r.dropped.n == 1);
	gc_report_release(&r);
	CHECK_RC(store_has(s, junk, &size, &e), RC_NOTFOUND);
	CHECK_RC(store_has(s, named, &size, &e), RC_OK);
	json_decref(doc);
	store_close(s);
}

/* What a run gave up is named by its own results, and still goes; what another names as well stays. */
void test_gc__what_a_run_gave_up_goes(void)
{
	struct gc_rules rules = {0, 0, HOUR, true, NULL};
	struct err e = {0};
	struct store *s;
	struct gc_report r;
	char own[SHA256_HEX_SIZE], shared[SHA256_HEX_SIZE], kept[SHA256_HEX_SIZE], url[PATH_MAX];

	clk_replace(later, mono);
	str_fmt(url, sizeof(url), "%s/store", test_tmpdir());
	CHECK_RC(store_open(url, true, &s, &e), RC_OK);
	blob(s, "own", own);
	blob(s, "shared", shared);
	blob(s, "kept", kept);
	json_t *doc = json_pack("[s,s,s]", own, shared, kept), *record = json_pack("[s]", shared),
	       *gone = json_pack("{s:{s:{},s:{}}}", "r1", own, shared),
	       *used = json_pack("{s:[s,s],s:[]}", "r1", own, kept, "r2");
	CHECK_RC(store_doc_put(s, "jobs/r1/a.json", doc, &e), RC_OK);
	CHECK_RC(store_doc_put(s, "runs/r2/record.json", record, &e), RC_OK);
	CHECK_RC(store_doc_put(s, GC_GIVEN_UP "/r1.json", gone, &e), RC_OK);
	CHECK_RC(gc_run(s, &rules, used, &r, &e), RC_OK);
	CHECK(r.all.n == 3 && r.kept.n == 3);
	gc_report_release(&r);
	rules.given_up = gone;
	CHECK_RC(gc_run(s, &rules, used, &r, &e), RC_OK);
	CHECK(r.kept.n == 2 && r.marked.n == 1);
	CHECK_STR(json_string_value(json_object_get(json_array_get(r.items, 0), "digest")), own);
	gc_report_release(&r);
	json_decref(doc);
	json_decref(record);
	json_decref(gone);
	json_decref(used);
	store_close(s);
}

/* A record that names an artifact's volumes keeps them; nothing else does. */
void test_gc__volumes_live_by_the_record_that_names_them(void)
{
	struct err e = {0};
	struct artifact_writer *w;
	struct artifact_ref ref;
	struct gc_report r;
	struct store *s;
	char path[PATH_MAX];
	json_t *volumes;

	clk_replace(later, mono);
	str_fmt(path, sizeof(path), "%s/store", test_tmpdir());
	CHECK_RC(store_open(path, true, &s, &e), RC_OK);
	CHECK_RC(store_tmp(s, path, sizeof(path), &e), RC_OK);
	CHECK_RC(artifact_begin("dataset", path, &w, &e), RC_OK);
	artifact_volume_max(w, 1);
	CHECK_RC(artifact_add_mem(w, "a", "1", 1, &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "b", "2", 1, &e), RC_OK);
	CHECK_RC(artifact_publish(w, NULL, s, &ref, &e), RC_OK);
	CHECK_RC(store_path(s, ref.digest, path, sizeof(path), &e), RC_OK);
	CHECK_RC(artifact_volumes(path, &volumes, &e), RC_OK);
	CHECK_EQ(json_array_size(volumes), 2);
	json_t *doc = json_pack("{s:[{s:s, s:O}]}", "outputs", "digest", ref.digest, "volumes", volumes);
	CHECK_RC(store_doc_put(s, "jobs/r1/r1.0.sft.0.0.7.json", doc, &e), RC_OK);
	ahead_ms = 100 * HOUR;
	r = run(s, NULL, false);
	CHECK(r.all.n == 3 && r.kept.n == 3);
	gc_report_release(&r);
	json_object_del(json_array_get(json_object_get(doc, "outputs"), 0), "volumes");
	CHECK_RC(store_doc_put(s, "jobs/r1/r1.0.sft.0.0.7.json", doc, &e), RC_OK);
	for (int i = 0; i < 2; i++) {
		r = run(s, NULL, false);
		CHECK(r.kept.n == 1 && r.marked.n == (i ? 0 : 2) && r.trashed.n == (i ? 2 : 0));
		gc_report_release(&r);
		ahead_ms += 25 * HOUR;
	}
	/* Asked for, they come back out of the trash. */
	CHECK_RC(artifact_verify(s, ref.digest, &e), RC_OK);
	json_decref(doc);
	json_decref(volumes);
	store_close(s);
}
