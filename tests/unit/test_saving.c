/* Checkpoints made beside the training: they change no byte, each is one state of the training, and
 * their cost is told.
 */
#include "base/jsonx.h"
#include "store/artifact.h"
#include "store/volume.h"
#include "tests/talking_model.h"
#include "worker/stage.h"
#include "worker/stages/saving.h"

#include <stdio.h>
#include <unistd.h>

static const struct said words[] = {{"\xc4\xa0"
				     "rivers",
				     1},
				    {"\xc4\xa0"
				     "birds",
				     1}};
static struct err e;

#define STEPS 12

static void put_job(const char *dir, int every, const char *more)
{
	char text[2048], from[600], to[600];

	put_model(dir, words, 2, 64, 2);
	str_fmt(from, sizeof from, "%s/in/model", dir);
	str_fmt(to, sizeof to, "%s/in/base", dir);
	CHECK_EQ(rename(from, to), 0);
	put_file(dir, "in/ift/data.jsonl",
		 "{\"id\":\"a\",\"prompt\":\"Why?\",\"response\":\"So.\"}\n"
		 "{\"id\":\"b\",\"prompt\":\"How?\",\"response\":\"Thus and so.\"}\n"
		 "{\"id\":\"c\",\"prompt\":\"When?\",\"response\":\"Then.\"}\n");
	str_fmt(text, sizeof text,
		"{\"stage\":\"sft\",\"seed\":\"3\",\"params\":{\"variant\":\"baseline\"},\"spec\":{"
		"\"template\":\"plain\",\"sft\":{\"lr\":1e-2,\"batch\":2,\"epochs\":99,\"max_"
		"steps\":%d,"
		"\"save_every_steps\":%d%s}}}",
		STEPS, every, more);
	put_file(dir, "job.json", text);
}

static const char *digest_of(const struct stage_ctx *ctx, const char *role)
{
	const json_t *o;
	size_t i;

	json_array_foreach(ctx->outputs, i, o) if (strcmp(jx_get_str(o, "role", ""), role) ==
						   0) return jx_get_str(o, "digest", "");
	return "";
}

static void run(const char *dir, bool no_copies, struct stage_ctx *ctx)
{
	CHECK_RC(stage_ctx_open(ctx, dir, -1, 1, &e), RC_OK);
	ctx->no_copies = no_copies;
	CHECK_RC(stage_ctx_run(ctx, &e), RC_OK);
}

static void folder(char *out, size_t size, const char *name)
{
	str_fmt(out, size, "%s/%s", test_tmpdir(), name);
	CHECK_RC(fs_mkdirs(out, &e), RC_OK);
}

/* Unpacks the checkpoint that is left as what the next attempt goes on from. */
static void resume(const char *dir, int n, bool take_out)
{
	char path[700], to[700];
	json_t *ckpt, *out;
	size_t i;

	str_fmt(path, sizeof path, "%s/ckpt/%d/ckpt.json", dir, n);
	CHECK_RC(jx_load(path, 1 << 20, &ckpt, &e), RC_OK);
	json_array_foreach(json_object_get(ckpt, "outputs"), i, out)
	{
		str_fmt(to, sizeof to, "%s/resume/%s", dir, jx_get_str(out, "role", ""));
		CHECK_RC(artifact_unpack_file(jx_get_str(out, "path", ""),
					      jx_get_str(out, "digest", ""), to, &e),
			 RC_OK);
	}
	char *text = jx_text(json_object_get(ckpt, "progress"));
	put_file(dir, "resume.json", text);
	free(text);
	json_decref(ckpt);
	str_fmt(path, sizeof path, "%s/out", dir);
	if (take_out)
		CHECK_RC(fs_remove_tree(path, &e), RC_OK);
}

/* Checkpoints at every step or at none; with copies, without, of an adapter: the same outputs. And
 * whoever goes on from the last one that was sealed ends with them, too. */
static void compare(const char *more)
{
	static const int every[] = {1000000, 1, 1, 0};
	char first[2][SHA256_HEX_SIZE], dir[600], name[16];
	struct stage_ctx ctx;

	for (int k = 0; k < 4; k++) {
		str_fmt(name, sizeof name, "job%d", k);
		folder(dir, sizeof dir, name);
		put_job(dir, every[k], more);
		run(dir, k == 2, &ctx);
		if (k == 0) {
			str_copy(first[0], sizeof first[0], digest_of(&ctx, "model"));
			str_copy(first[1], sizeof first[1], digest_of(&ctx, "state"));
		}
		CHECK_STR(digest_of(&ctx, "model"), first[0]);
		CHECK_STR(digest_of(&ctx, "state"), first[1]);
		int64_t n = jx_get_i64(ctx.metrics, "checkpoint.n", -1);
		if (every[k] == 1) {
			CHECK(n >= 1 && n < STEPS);
			CHECK(jx_get_i64(ctx.metrics, "checkpoint.bytes", 0) > 10000);
			CHECK(jx_get_f64(ctx.metrics, "checkpoint.write_s", 0) > 0);
			CHECK(jx_get_f64(ctx.metrics, "checkpoint.stall_share", 0) > 0);
			resume(dir, ctx.n_ckpt, true);
			stage_ctx_close(&ctx);
			run(dir, false, &ctx);
			CHECK(jx_get_i64(ctx.metrics, "train.steps", 0) == STEPS);
			CHECK_STR(digest_of(&ctx, "model"), first[0]);
			CHECK_STR(digest_of(&ctx, "state"), first[1]);
		} else if (every[k] > 1) {
			CHECK_EQ(n, 0);
		}
		stage_ctx_close(&ctx);
	}
}

void test_saving__changes_no_byte(void)
{
	compare("");
}

/* A large model's: weights and moments in several files and volumes. */
void test_saving__changes_no_byte_of_several_files(void)
{
	volume_bytes_set(50000);
	compare("");
}

static size_t files_of(const char *dir, const char *begins)
{
	char **names;
	size_t n, sum = 0;

	CHECK_RC(fs_list(dir, &names, &n, &e), RC_OK);
	for (size_t i = 0; i < n; i++)
		sum += str_starts(names[i], begins);
	fs_list_free(names);
	return sum;
}

/* What a stopped job left, spoiled by `how`, is refused by the name of its file. */
static void check_spoiled(const char *dir, const char *file, int (*how)(const char *path))
{
	char path[800];
	struct stage_ctx ctx;

	str_fmt(path, sizeof path, "%s/resume/%s", dir, file);
	CHECK(fs_exists(path));
	CHECK_EQ(how(path), 0);
	CHECK_RC(stage_ctx_open(&ctx, dir, -1, 1, &e), RC_OK);
	CHECK(stage_ctx_run(&ctx, &e) != RC_OK);
	CHECK(strstr(e.text, strchr(file, '/') + 1));
	stage_ctx_close(&ctx);
}

static int cut(const char *path)
{
	return truncate(path, 6000);
}

/* Stopped after every single step, each attempt from what the one before left: as if undisturbed. */
void test_saving__resumed_at_every_step_from_several_files(void)
{
	char dir[600], path[700], model[SHA256_HEX_SIZE], state[SHA256_HEX_SIZE];
	struct stage_ctx ctx;
	enum rc rc;
	int attempts = 0;

	volume_bytes_set(50000);
	folder(dir, sizeof dir, "whole");
	put_job(dir, 1000000, "");
	run(dir, false, &ctx);
	str_copy(model, sizeof model, digest_of(&ctx, "model"));
	str_copy(state, sizeof state, digest_of(&ctx, "state"));
	stage_ctx_close(&ctx);
	folder(dir, sizeof dir, "stopped");
	put_job(dir, 1000000, "");
	for (;; attempts++) {
		CHECK_RC(stage_ctx_open(&ctx, dir, -1, 1, &e), RC_OK);
		atomic_store(&ctx.stop, STAGE_PREEMPTED);
		rc = stage_ctx_run(&ctx, &e);
		if (rc != RC_CANCELLED)
			break;
		str_fmt(path, sizeof path, "%s/resume", dir);
		CHECK_RC(fs_remove_tree(path, &e), RC_OK);
		resume(dir, ctx.n_ckpt, false);
		stage_ctx_close(&ctx);
	}
	CHECK_RC(rc, RC_OK);
	CHECK_EQ(attempts, STEPS - 1);
	CHECK_STR(digest_of(&ctx, "model"), model);
	CHECK_STR(digest_of(&ctx, "state"), state);
	stage_ctx_close(&ctx);
	str_fmt(path, sizeof path, "%s/resume/model", dir);
	size_t weights = files_of(path, "model-");
	str_fmt(path, sizeof path, "%s/resume/state", dir);
	size_t moments = files_of(path, "optimizer-");
	CHECK(weights > 2 && moments > 4);
	str_fmt(path, sizeof path, "state/optimizer-00002-of-%05zu.safetensors", moments);
	check_spoiled(dir, path, cut);
	check_spoiled(dir, path, unlink);
	str_fmt(path, sizeof path, "model/model-%05zu-of-%05zu.safetensors", weights, weights);
	check_spoiled(dir, path, cut);
	check_spoiled(dir, path, unlink);
}

void test_saving__changes_no_byte_of_an_adapter(void)
{
	compare(",\"lora_r\":4,\"lora_alpha\":8");
}

/* Told to stop: the state of this very step is sealed, and nothing is in flight any more. */
void test_saving__stops_with_the_last_step(void)
{
	char dir[600], path[700];
	struct stage_ctx ctx;
	json_t *ckpt;

	folder(dir, sizeof dir, "job");
	put_job(dir, 1, "");
	CHECK_RC(stage_ctx_open(&ctx, dir, -1, 1, &e), RC_OK);
	atomic_store(&ctx.stop, STAGE_PREEMPTED);
	CHECK_RC(stage_ctx_run(&ctx, &e), RC_CANCELLED);
	str_fmt(path, sizeof path, "%s/ckpt/%d/ckpt.json", dir, ctx.n_ckpt);
	CHECK_RC(jx_load(path, 1 << 20, &ckpt, &e), RC_OK);
	CHECK_EQ(jx_get_i64(json_object_get(ckpt, "progress"), "step", 0), 1);
	json_decref(ckpt);
	stage_ctx_close(&ctx);
	str_fmt(path, sizeof path, "%s/work/ckpt-state", dir);
	CHECK(!fs_exists(path));
}

/* What cannot be written fails the job, with the reason, also from beside the steps. */
void test_saving__says_what_could_not_be_written(void)
{
	char dir[600];
	struct stage_ctx ctx;

	folder(dir, sizeof dir, "job");
	put_job(dir, 1, "");
	CHECK_RC(stage_ctx_open(&ctx, dir, -1, 1, &e), RC_OK);
	put_file(dir, "ckpt/1/in/the/way", "");
	str_fmt(dir + strlen(dir), 16, "/ckpt");
	CHECK_RC(fs_remove_tree(dir, &e), RC_OK);
	CHECK_RC(fs_write_durable(dir, "x", 1, &e), RC_OK); /* A file where the folder should be. */
	CHECK(stage_ctx_run(&ctx, &e) != RC_OK);
	CHECK(strstr(e.text, "checkpoint 1"));
	stage_ctx_close(&ctx);
}

void test_saving__interval(void)
{
	/* Young: sqrt(2 * 3600 * 2) = 120. */
	CHECK_NEAR(saving_interval(2, 0.1, 1, 3600), 120, 1e-9);
	/* Standing still for at most half a hundredth of the time. */
	CHECK_NEAR(saving_interval(2, 3, 1, 3600), 600, 1e-9);
	/* Not sooner than the one before is written, nor than five seconds; not later than half an
	 * hour. */
	CHECK_NEAR(saving_interval(2, 0, 400, 3600), 400, 1e-9);
	CHECK_NEAR(saving_interval(0, 0, 0, 3600), 5, 1e-9);
	CHECK_NEAR(saving_interval(100, 0, 0, 1e9), 1800, 1e-9);
	/* Losses twice as often, checkpoints 1.41 times as often. */
	CHECK_NEAR(saving_interval(2, 0, 0, 3600) / saving_interval(2, 0, 0, 1800), 1.41421356,
		   1e-6);
}
