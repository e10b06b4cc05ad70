/* Stage context: rows, checkpoints, resume, artifacts. */
#include "tests/test.h"

#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/artifact.h"
#include "worker/stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>


static struct err e;

static void put(const char *dir, const char *name, const char *text)
{
	char path[1024];

	str_fmt(path, sizeof path, "%s/%s", dir, name);
	CHECK_RC(fs_write_durable(path, text, strlen(text), &e), RC_OK);
}

/* A fresh job folder under the test's. */
static const char *job_dir(const char *name, const char *run)
{
	static char dirs[8][512];
	static int n;
	char text[256];
	char *dir = dirs[n++ % 8];

	str_fmt(dir, sizeof dirs[0], "%s/%s", test_tmpdir(), name);
	CHECK_RC(fs_mkdirs(dir, &e), RC_OK);
	str_fmt(text, sizeof text,
		"{\"id\":\"%s.1.generate.0.0\",\"run\":\"%s\",\"stage\":\"generate\",\"iter\":1,"
		"\"seed\":\"7\",\"spec\":{}}",
		run, run);
	put(dir, "job.json", text);
	return dir;
}

static void add(struct stage_rows *rows, int from, int to)
{
	for (int i = from; i < to; i++) {
		json_t *row = json_pack("{s:i}", "i", i);

		CHECK_RC(stage_rows_add(rows, row, &e), RC_OK);
		json_decref(row);
	}
}

static const char *digest_of(const struct stage_ctx *ctx)
{
	return jx_get_str(json_array_get(ctx->outputs, 0), "digest", "");
}

/* Unpacks checkpoint n of `from` as the resume folder of `to`, as the agent does. */
static void carry_over(const char *from, int n, const char *to)
{
	char path[1024], dest[1024];
	json_t *ckpt, *out;
	size_t i;

	str_fmt(path, sizeof path, "%s/ckpt/%d/ckpt.json", from, n);
	CHECK_RC(jx_load(path, 1 << 20, &ckpt, &e), RC_OK);
	json_array_foreach(json_object_get(ckpt, "outputs"), i, out) {
		str_fmt(dest, sizeof dest, "%s/resume/%s", to, jx_get_str(out, "role", ""));
		CHECK_RC(artifact_unpack_file(jx_get_str(out, "path", ""), jx_get_str(out, "digest", ""),
					      dest, &e),
			 RC_OK);
	}
	char *text = jx_text(json_object_get(ckpt, "progress"));
	put(to, "resume.json", text);
	free(text);
	json_decref(ckpt);
}

void test_stage__rows_resume_to_the_same_bytes(void)
{
	struct stage_ctx a, b;
	struct stage_rows rows;
	const char *da = job_dir("a", "r1"), *db = job_dir("b", "r1");
	char digest[SHA256_HEX_SIZE];

	CHECK_RC(stage_ctx_open(&a, da, -1, 1, &e), RC_OK);
	CHECK_RC(stage_rows_open(&a, "responses", &rows, &e), RC_OK);
	add(&rows, 0, 3);
	atomic_store(&a.want_checkpoint, true);
	CHECK_RC(stage_rows_mark(&rows, json_pack("{s:i}", "sum", 3), &e), RC_OK);
	add(&rows, 3, 5);
	CHECK_RC(stage_rows_mark(&rows, NULL, &e), RC_OK);
	CHECK_RC(stage_rows_finish(&rows, NULL, &e), RC_OK);
	stage_rows_release(&rows);
	str_copy(digest, sizeof digest, digest_of(&a));

	carry_over(da, 1, db);
	CHECK_RC(stage_ctx_open(&b, db, -1, 1, &e), RC_OK);
	CHECK_RC(stage_rows_open(&b, "responses", &rows, &e), RC_OK);
	CHECK_EQ(rows.n, 3);
	CHECK_EQ(jx_get_i64(rows.state, "sum", 0), 3);
	add(&rows, 3, 5);
	CHECK_RC(stage_rows_mark(&rows, NULL, &e), RC_OK);
	CHECK_RC(stage_rows_finish(&rows, NULL, &e), RC_OK);
	stage_rows_release(&rows);
	CHECK_STR(digest_of(&b), digest);
	CHECK_EQ(jx_get_i64(json_object_get(json_array_get(b.outputs, 0), "meta"), "rows", 0), 5);
	stage_ctx_close(&a);
	stage_ctx_close(&b);
}

void test_stage__stop_checkpoints_then_ends(void)
{
	struct stage_ctx a;
	struct stage_rows rows;

	CHECK_RC(stage_ctx_open(&a, job_dir("a", "r1"), -1, 1, &e), RC_OK);
	CHECK_RC(stage_rows_open(&a, "responses", &rows, &e), RC_OK);
	add(&rows, 0, 2);
	atomic_store(&a.stop, STAGE_PREEMPTED);
	CHECK(!stage_must_abort(&a));
	CHECK_RC(stage_rows_mark(&rows, NULL, &e), RC_CANCELLED);
	CHECK_EQ(a.n_ckpt, 1);
	atomic_store(&a.deadline_ms, clk_mono_ms() - 1); /* No time left: only the published one counts. */
	CHECK(stage_must_abort(&a));
	add(&rows, 2, 3);
	CHECK_RC(stage_rows_mark(&rows, NULL, &e), RC_CANCELLED);
	CHECK_EQ(a.n_ckpt, 1);
	stage_rows_release(&rows);
	stage_ctx_close(&a);
}

void test_stage__cancel_makes_no_checkpoint(void)
{
	struct stage_ctx a;
	struct stage_rows rows;

	CHECK_RC(stage_ctx_open(&a, job_dir("a", "r1"), -1, 1, &e), RC_OK);
	CHECK_RC(stage_rows_open(&a, "responses", &rows, &e), RC_OK);
	atomic_store(&a.stop, STAGE_CANCEL);
	CHECK(stage_must_abort(&a));
	CHECK_RC(stage_rows_mark(&rows, NULL, &e), RC_CANCELLED);
	CHECK_EQ(a.n_ckpt, 0);
	stage_rows_release(&rows);
	stage_ctx_close(&a);
}

void test_stage__roles_sort_by_number(void)
{
	static const char *const made[] = {"judgements.10.0", "judgements.2.1", "judgements.2.0",
					   "responses.2"};
	struct stage_ctx a;
	const char *dir = job_dir("a", "r1");
	char path[1024];
	char **roles;
	size_t n;

	for (size_t i = 0; i < 4; i++) {
		str_fmt(path, sizeof path, "%s/in/%s", dir, made[i]);
		CHECK_RC(fs_mkdirs(path, &e), RC_OK);
	}
	CHECK_RC(stage_ctx_open(&a, dir, -1, 1, &e), RC_OK);
	CHECK_RC(stage_in_roles(&a, "judgements.", &roles, &n, &e), RC_OK);
	CHECK_EQ(n, 3);
	CHECK_STR(roles[0], "judgements.2.0");
	CHECK_STR(roles[2], "judgements.10.0");
	CHECK(stage_in(&a, "responses.2") != NULL);
	CHECK(stage_in(&a, "model") == NULL);
	fs_list_free(roles);
	stage_ctx_close(&a);
}

void test_stage__refuses_a_job_without_stage(void)
{
	struct stage_ctx a;
	const char *dir = job_dir("a", "r1");

	put(dir, "job.json", "{\"spec\":{}}");
	CHECK_RC(stage_ctx_open(&a, dir, -1, 1, &e), RC_INVALID);
	CHECK(strstr(e.text, "stage") != NULL);
	put(dir, "job.json", "{\"spec\":{},\"stage\":\"cook\"}");
	CHECK_RC(stage_ctx_open(&a, dir, -1, 1, &e), RC_OK);
	CHECK_RC(stage_ctx_run(&a, &e), RC_UNSUPPORTED);
	stage_ctx_close(&a);
}

void test_stage__artifacts_do_not_name_the_run(void)
{
	const char *runs[2] = {"r1", "r2"};
	char digests[2][SHA256_HEX_SIZE];

	for (int k = 0; k < 2; k++) {
		struct stage_ctx a;
		struct stage_rows rows;

		CHECK_RC(stage_ctx_open(&a, job_dir(runs[k], runs[k]), -1, 1 + k, &e), RC_OK);
		CHECK_RC(stage_rows_open(&a, "responses", &rows, &e), RC_OK);
		add(&rows, 0, 4);
		CHECK_RC(stage_rows_finish(&rows, NULL, &e), RC_OK);
		str_copy(digests[k], sizeof digests[k], digest_of(&a));
		stage_rows_release(&rows);
		stage_ctx_close(&a);
	}
	CHECK_STR(digests[0], digests[1]);
}

static void put_old(const char *path, const char *text, int age_s)
{
	struct timespec t[2] = {{.tv_sec = time(NULL) - age_s}, {.tv_sec = time(NULL) - age_s}};

	CHECK_RC(fs_write_durable(path, text, strlen(text), &e), RC_OK);
	CHECK_EQ(utimensat(AT_FDCWD, path, t, 0), 0);
}

static ino_t packed(const char *dir, int n, const char *role)
{
	char path[PATH_MAX];
	struct stat st;

	str_fmt(path, sizeof path, "%s/ckpt/%d/%s.tar", dir, n, role);
	CHECK_EQ(stat(path, &st), 0);
	CHECK_RC(artifact_verify_file(path, NULL, &e), RC_OK);
	return st.st_ino;
}

/* A part that did not change is the archive it was, also when the agent has taken that one away; one
 * that did is packed anew. */
void test_stage__unchanged_parts_are_not_packed_again(void)
{
	struct stage_ctx ctx;
	const char *dir = job_dir("a", "r1");
	char frozen[PATH_MAX], moving[PATH_MAX], path[PATH_MAX];
	struct stage_part parts[2] = {{"frozen", "progress", frozen}, {"moving", "progress", moving}};
	ino_t first[2];

	CHECK_RC(stage_ctx_open(&ctx, dir, -1, 1, &e), RC_OK);
	ctx.by_hand = false; /* Keeps the checkpoint before. */
	str_fmt(frozen, sizeof frozen, "%s/work/f", dir);
	str_fmt(moving, sizeof moving, "%s/work/m", dir);
	CHECK_RC(fs_mkdirs(frozen, &e), RC_OK);
	CHECK_RC(fs_mkdirs(moving, &e), RC_OK);
	str_fmt(path, sizeof path, "%s/data", frozen);
	put_old(path, "stays", 100);
	str_fmt(path, sizeof path, "%s/data", moving);
	put_old(path, "one", 100);
	CHECK_RC(stage_checkpoint(&ctx, parts, 2, NULL, &e), RC_OK);
	first[0] = packed(dir, 1, "frozen");
	first[1] = packed(dir, 1, "moving");
	str_fmt(path, sizeof path, "%s/ckpt/1", dir);
	CHECK_RC(fs_remove_tree(path, &e), RC_OK);
	str_fmt(path, sizeof path, "%s/data", moving);
	put_old(path, "two", 50);
	CHECK_RC(stage_checkpoint(&ctx, parts, 2, NULL, &e), RC_OK);
	CHECK(packed(dir, 2, "frozen") == first[0]);
	CHECK(packed(dir, 2, "moving") != first[1]);
	/* Written to a moment ago, it may have changed since within one tick of the clock. */
	str_fmt(path, sizeof path, "%s/data", frozen);
	put_old(path, "stays", 0);
	CHECK_RC(stage_checkpoint(&ctx, parts, 2, NULL, &e), RC_OK);
	CHECK(packed(dir, 3, "frozen") != first[0]);
	stage_ctx_close(&ctx);
}

#define GROUP ((size_t)9 << 20)

static void put_group(const char *dir, const char *name, char fill)
{
	char path[PATH_MAX], *data = mem_new(GROUP);

	memset(data, fill, GROUP);
	str_fmt(path, sizeof path, "%s/%s", dir, name);
	CHECK_RC(fs_write_durable(path, data, GROUP, &e), RC_OK);
	free(data);
}

static ino_t group(const char *dir, int n, const char *name)
{
	char path[PATH_MAX];
	struct artifact *a;
	struct stat st;

	str_fmt(path, sizeof path, "%s/ckpt/%d/state.tar", dir, n);
	CHECK_RC(artifact_open_file(path, NULL, &a, &e), RC_OK);
	const struct artifact_member *m = artifact_find(a, name);
	CHECK(m && stat(m->file, &st) == 0);
	artifact_close(a);
	return st.st_ino;
}

/* Files of a part that a trainer writes anew each time: those with the same bytes are not packed again,
 * also when the agent has taken the checkpoint before away. */
void test_stage__groups_that_did_not_change_are_referenced(void)
{
	struct stage_ctx ctx;
	const char *dir = job_dir("a", "r1");
	char state[PATH_MAX], path[PATH_MAX], kept[PATH_MAX];
	struct stage_part part = {"state", "train_state", state};
	ino_t frozen = 0, moving = 0;

	CHECK_RC(stage_ctx_open(&ctx, dir, -1, 1, &e), RC_OK);
	ctx.by_hand = false;
	str_fmt(state, sizeof state, "%s/work/state", dir);
	str_fmt(kept, sizeof kept, "%s/work/packed-state.tar", dir);
	for (int n = 1; n <= 3; n++) {
		CHECK_RC(fs_remove_tree(state, &e), RC_OK);
		CHECK_RC(fs_mkdirs(state, &e), RC_OK);
		put_group(state, "frozen.safetensors", 'f');
		put_group(state, "moving.safetensors", (char)('0' + n));
		str_fmt(path, sizeof path, "%s/state.json", state);
		put_old(path, n == 1 ? "{}" : "{ }", 0);
		CHECK_RC(stage_checkpoint(&ctx, &part, 1, NULL, &e), RC_OK);
		if (n == 1) {
			frozen = group(dir, n, "frozen.safetensors");
		} else {
			CHECK(group(dir, n, "frozen.safetensors") == frozen);
			CHECK(group(dir, n, "moving.safetensors") != moving);
		}
		/* Kept until the next is written; later its inode may be another's. */
		moving = group(dir, n, "moving.safetensors");
		str_fmt(path, sizeof path, "%s/ckpt/%d", dir, n);
		CHECK_RC(fs_remove_tree(path, &e), RC_OK);
	}
	CHECK(fs_exists(kept));
	/* Once all of it changes, nothing is kept to compare with. */
	put_group(state, "frozen.safetensors", 'g');
	put_group(state, "moving.safetensors", 'm');
	CHECK_RC(stage_checkpoint(&ctx, &part, 1, NULL, &e), RC_OK);
	CHECK(group(dir, 4, "frozen.safetensors") != frozen);
	CHECK(!fs_exists(kept));
	str_fmt(path, sizeof path, "%s.v001", kept);
	CHECK(!fs_exists(path));
	stage_ctx_close(&ctx);
}
