/* What checkpoints cost a training that goes on meanwhile.
 *
 *	PAWL_SAVING_S=10 make check-unit UNIT=test_saving_cost
 *
 * Supervised training of a random model (30 million weights, 360 MB of weights and moments) for so
 *many seconds a time, in turn without checkpoints and with them as often as a worker wants them
 *that is lost three times a minute. Prints which share of the time the steps stood still, which
 *they lost by being slower, and the tokens per second of both.
 */
#include "base/clk.h"
#include "base/jsonx.h"
#include "tests/talking_model.h"
#include "worker/stage.h"

#include <stdio.h>
#include <unistd.h>

#define DIM 1024
#define PAIRS 1
#define LOSS_S 20.0

static const struct said words[] = {{"\xc4\xa0"
				     "rivers",
				     1},
				    {"\xc4\xa0"
				     "birds",
				     1}};

static void put_base(const char *dir)
{
	struct model_config cfg = {.arch = "llama",
				   .vocab = FIRST_WORD + 2,
				   .dim = DIM,
				   .n_layers = 4,
				   .n_heads = DIM / 128,
				   .n_kv_heads = DIM / 128,
				   .head_dim = 128,
				   .ffn_dim = DIM,
				   .max_pos = 2048,
				   .rope_theta = 10000,
				   .rms_eps = 1e-5f,
				   .bos_id = 260,
				   .pad_id = -1,
				   .eos_ids = {261},
				   .n_eos = 1};
	char from[700], to[700];
	struct err e = {0};
	struct model *m;

	put_tokenizer(dir, words, 2);
	CHECK_RC(model_new(&cfg, &m, &e), RC_OK);
	model_init(m, 1);
	str_fmt(from, sizeof from, "%s/in/model", dir);
	CHECK_RC(model_save(m, from, &e), RC_OK);
	model_free(m);
	str_fmt(to, sizeof to, "%s/in/base", dir);
	CHECK_EQ(rename(from, to), 0);
}

static void put_job(const char *dir, int steps, int every, double loss_every_s)
{
	struct buf rows = BUF_INIT;
	char text[2048];
	struct err e;

	CHECK_RC(fs_mkdirs(dir, &e), RC_OK);
	put_base(dir);
	for (int i = 0; i < 64; i++)
		buf_printf(
			&rows,
			"{\"id\":\"%d\",\"prompt\":\"Why is it so, number %d?\",\"response\":\"It "
			"is so because %d times %d is %d.\"}\n",
			i, i, i, i, i * i);
	put_file(dir, "in/ift/data.jsonl", rows.data);
	buf_release(&rows);
	str_fmt(text, sizeof text,
		"{\"stage\":\"sft\",\"seed\":\"3\",\"loss_every_s\":%g,\"params\":{\"variant\":"
		"\"baseline\"},\"spec\":{\"template\":\"plain\",\"sft\":{\"lr\":1e-4,\"batch\":4,"
		"\"epochs\":100000,\"max_steps\":%d,\"save_every_steps\":%d}}}",
		loss_every_s, steps, every);
	put_file(dir, "job.json", text);
}

struct figures {
	double tokens_per_s, stall, slowdown, interval, write, bytes;
	int64_t n;
};

static struct figures run(const char *dir, int steps, int every, double loss_every_s)
{
	struct stage_ctx ctx;
	struct figures f;
	struct err e;

	put_job(dir, steps, every, loss_every_s);
	CHECK_RC(stage_ctx_open(&ctx, dir, -1, (int)sysconf(_SC_NPROCESSORS_ONLN), &e), RC_OK);
	CHECK_RC(stage_ctx_run(&ctx, &e), RC_OK);
	f.tokens_per_s = jx_get_f64(ctx.metrics, "speed.tokens_per_s", 0);
	f.stall = jx_get_f64(ctx.metrics, "checkpoint.stall_share", 0);
	f.slowdown = jx_get_f64(ctx.metrics, "checkpoint.slowdown_share", 0);
	f.interval = jx_get_f64(ctx.metrics, "checkpoint.interval_s", 0);
	f.write = jx_get_f64(ctx.metrics, "checkpoint.write_s", 0);
	f.bytes = jx_get_f64(ctx.metrics, "checkpoint.bytes", 0);
	f.n = jx_get_i64(ctx.metrics, "checkpoint.n", 0);
	stage_ctx_close(&ctx);
	CHECK_RC(fs_remove_tree(dir, &e), RC_OK);
	return f;
}

void test_saving_cost__steps_hardly_stand_still(void)
{
	const char *wanted = getenv("PAWL_SAVING_S");
	int64_t seconds = 0;
	char dir[600];

	if (!wanted || !str_to_i64(wanted, &seconds))
		SKIP("PAWL_SAVING_S=10 measures for a minute");
	str_fmt(dir, sizeof dir, "%s/job", test_tmpdir());
	double t = clk_mono_s();
	run(dir, 6, 1000000, 1);
	int steps = (int)((double)seconds * 6 / (clk_mono_s() - t)) + 8;
	double share = 0, slow = 0, ratio = 0;
	for (int i = 0; i < PAIRS; i++) {
		struct figures a = run(dir, steps, 1000000, 1), b = run(dir, steps, 0, LOSS_S);

		printf("# without %.0f tokens/s, with %.0f; %lld checkpoints of %.0f MB, every "
		       "%.1f s, "
		       "written in %.2f s, standing still %.2f %%, slower %.2f %%\n",
		       a.tokens_per_s, b.tokens_per_s, (long long)b.n, b.bytes / 1e6, b.interval,
		       b.write, 100 * b.stall, 100 * b.slowdown);
		share += b.stall / PAIRS;
		slow += b.slowdown / PAIRS;
		ratio += b.tokens_per_s / a.tokens_per_s / PAIRS;
	}
	printf("# standing still %.2f %%, slower by %.2f %%; steps at %.3f of the speed without\n",
	       100 * share, 100 * slow, ratio);
	CHECK(share < 0.1); /* Ten times what is aimed at: a loaded machine is no failure. */
}
