/* The planner: what it plans at each turn of a small run, as golden text, and properties over
 * random subsets of finished jobs. PAWL_GOLDEN=write renews the files in tests/golden/plan.
 */
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "queue/plan.h"
#include "queue/spec.h"
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

static struct err e;

#define DEMO                                                                                       \
	"{\"name\":\"demo\",\"base_model\":\"/m\",\"iterations\":2,"                               \
	"\"data\":{\"ift\":[\"/ift\"],\"eft\":[\"/eft\"],\"eval\":[\"/eval\"],\"prompts\":[\"/"    \
	"p\"],\"test\":[\"/t\"]},"                                                                 \
	"\"eft\":{\"mode\":\"given\"},\"prompts\":{\"generator\":\"file\",\"count\":40},"          \
	"\"generate\":{\"shard_size\":16},\"judge\":{\"samples\":2},"                              \
	"\"dpo\":{\"batch\":8,\"epochs\":2,\"shard_steps\":3,\"sft_replay\":0.5}}"

static json_t *spec_of(const char *text)
{
	struct spec_errors errs;
	json_t *in = json_loads(text, 0, NULL), *out;

	CHECK(in != NULL);
	CHECK_RC(spec_normalise(in, &out, &errs, &e), RC_OK);
	spec_errors_release(&errs);
	json_decref(in);
	return out;
}

static void finish(json_t *done, const char *job, const char *role, int rows)
{
	json_t *j = json_object_get(done, job);

	if (!j) {
		j = json_pack("{s:{}}", "outputs");
		json_object_set_new(done, job, j);
	}
	json_object_set_new(json_object_get(j, "outputs"), role,
			    json_pack("{s:s, s:i}", "digest", "d", "rows", rows));
}

static json_t *plan_of(const json_t *spec, const json_t *done)
{
	json_t *jobs;

	CHECK_RC(plan(spec, done, "r1", &jobs, &e), RC_OK);
	return jobs;
}

/* One line a job: id {params} <- role=job:output … */
static void print(const json_t *jobs, struct buf *out)
{
	json_t *job, *in;
	size_t i, k;

	json_array_foreach(jobs, i, job)
	{
		buf_printf(out, "%s ", jx_get_str(job, "id", ""));
		jx_dump(json_object_get(job, "params"), out);
		json_array_foreach(json_object_get(job, "inputs"), k, in)
			buf_printf(out, " %s=%s:%s", jx_get_str(in, "role", ""),
				   jx_get_str(in, "job", ""), jx_get_str(in, "output", ""));
		buf_putc(out, '\n');
	}
}

static void golden(const char *name, const json_t *spec, const json_t *done)
{
	json_t *jobs = plan_of(spec, done);
	struct buf got = BUF_INIT, want = BUF_INIT;
	char path[128];

	str_fmt(path, sizeof(path), "tests/golden/plan/%s.txt", name);
	print(jobs, &got);
	if (getenv("PAWL_GOLDEN"))
		CHECK_RC(fs_write_durable(path, got.data, got.len, &e), RC_OK);
	CHECK_RC(fs_read(path, 1 << 20, &want, &e), RC_OK);
	CHECK_STR(got.data, want.data);
	buf_release(&got);
	buf_release(&want);
	json_decref(jobs);
}

void test_plan__the_demo_at_each_turn(void)
{
	json_t *spec = spec_of(DEMO), *done = json_object();

	golden("1-start", spec, done);
	finish(done, "r1.0.import.0.0", "model", 0);
	finish(done, "r1.0.import.1.0", "ift", 3200);
	golden("1-start", spec, done); /* importing tells the planner nothing new */
	finish(done, "r1.1.prompts.0.0", "prompts", 40);
	golden("2-prompts", spec, done);
	finish(done, "r1.1.pair.0.0", "pairs", 29); /* 2 * 29 / 8 = 8 steps, 3 shards */
	golden("3-pair", spec, done);
	finish(done, "r1.2.prompts.0.0", "prompts", 40);
	finish(done, "r1.2.pair.0.0", "pairs", 30);
	golden("4-last", spec, done);
	json_decref(done);
	json_decref(spec);
}

void test_plan__self_instruct_with_a_built_judge(void)
{
	json_t *spec =
		spec_of("{\"base_model\":\"/m\",\"iterations\":1,\"dpo\":{\"reference\":\"m1\"},"
			"\"data\":{\"ift\":[\"/ift\"],\"eft\":[\"/eft\"]}}");
	json_t *done = json_object();

	finish(done, "r1.1.prompts.0.0", "prompts", 100);
	finish(done, "r1.1.pair.0.0", "pairs", 1);
	golden("5-built", spec, done);
	json_decref(done);
	json_decref(spec);
}

/* A verdict of the judge on a shard of preference training. */
static void judged(json_t *done, const char *job, int win, int loss)
{
	finish(done, job, "h2h", win + loss);
	json_object_set_new(
		json_object_get(json_object_get(json_object_get(done, job), "outputs"), "h2h"), "meta",
		json_pack("{s:i, s:i, s:i}", "win", win, "tie", 0, "loss", loss));
}

#define VARIANTS                                                                                   \
	"{\"base_model\":\"/m\",\"stages\":[\"sft\",\"spin\",\"self_reward\",\"external\","           \
	"\"positive\",\"sft\"],\"data\":{\"ift\":[\"/ift\"],\"prompts\":[\"/p\"],\"test\":[\"/t\"]},"  \
	"\"prompts\":{\"generator\":\"file\",\"count\":20},\"generate\":{\"shard_size\":64,"            \
	"\"past\":\"previous\"},\"judge\":{\"samples\":2},\"pair\":{\"consistency\":true},"             \
	"\"external\":{\"kind\":\"checkpoint\",\"checkpoint\":\"/judge\"},\"spin\":{\"max_rows\":40}," \
	"\"dpo\":{\"batch\":8,\"shard_steps\":2,\"early_stop\":true,\"reference\":\"path\","            \
	"\"reference_model\":\"/ref\"},\"eval\":{\"matrix\":true,\"head_to_head\":{\"judge\":\"model\"}}}"

static const char *last_model(const json_t *spec, const json_t *done, json_t **models)
{
	*models = plan_models(spec, done, "r1");
	return jx_get_str(json_array_get(*models, json_array_size(*models) - 1), "job", "");
}

void test_plan__every_kind_of_iteration(void)
{
	json_t *spec = spec_of(VARIANTS), *done = json_object(), *models;

	CHECK_EQ(jx_get_i64(spec, "iterations", 0), 5);
	finish(done, "r1.0.import.1.0", "ift", 90);
	finish(done, "r1.1.pair.0.0", "pairs", 30); /* 4 steps, 2 shards */
	judged(done, "r1.1.versus.0.0", 3, 2);
	judged(done, "r1.1.versus.1.0", 1, 4); /* worse: the first shard's model is kept */
	CHECK_STR(last_model(spec, done, &models), "r1.1.dpo.0.0");
	json_decref(models);
	finish(done, "r1.2.prompts.0.0", "prompts", 20);
	finish(done, "r1.2.pair.0.0", "pairs", 8);
	judged(done, "r1.2.versus.0.0", 0, 5); /* worse at once: the iteration changes nothing */
	CHECK_STR(last_model(spec, done, &models), "r1.1.dpo.0.0");
	json_decref(models);
	finish(done, "r1.3.prompts.0.0", "prompts", 20);
	finish(done, "r1.3.pair.0.0", "pairs", 8);
	judged(done, "r1.3.versus.0.0", 0, 0); /* nothing readable stops nothing */
	finish(done, "r1.4.prompts.0.0", "prompts", 20);
	CHECK_STR(last_model(spec, done, &models), "r1.5.sft.0.0");
	CHECK_EQ(json_array_size(models), 7);
	json_decref(models);
	golden("6-variants", spec, done);
	json_decref(done);
	json_decref(spec);
}

/* Everything that judges waits for the template that is searched for, but not what external judges do. */
void test_plan__a_better_judge_prompt_comes_before_all_judging(void)
{
	static const char text[] =
		"{\"base_model\":\"/m\",\"stages\":[\"self_reward\",\"external\"],\"data\":{\"ift\":[\"/"
		"ift\"],\"eft\":[\"/eft\"],\"prompts\":[\"/p\"]},\"prompts\":{\"generator\":\"file\","
		"\"count\":8},\"external\":{\"command\":[\"x\"]},\"judge\":{\"samples\":2},\"health\":{"
		"\"run\":true},\"protegi\":{\"run\":true,\"apply\":%s,\"writer\":{\"kind\":\"checkpoint\","
		"\"checkpoint\":\"/w\"}}}";
	json_t *done = json_object(), *spec;
	char given[1024];

	finish(done, "r1.0.import.1.0", "ift", 90);
	finish(done, "r1.1.prompts.0.0", "prompts", 8);
	finish(done, "r1.1.pair.0.0", "pairs", 8);
	finish(done, "r1.2.prompts.0.0", "prompts", 8);
	str_fmt(given, sizeof given, text, "true");
	spec = spec_of(given);
	golden("7-protegi", spec, done);
	json_decref(spec);
	str_fmt(given, sizeof given, text, "false");
	spec = spec_of(given);
	json_t *jobs = plan_of(spec, done), *job, *in;
	size_t i, k;
	json_array_foreach(jobs, i, job)
		json_array_foreach(json_object_get(job, "inputs"), k, in)
			CHECK(strcmp(jx_get_str(in, "role", ""), "template") != 0);
	json_decref(jobs);
	json_decref(spec);
	json_decref(done);
}

void test_plan__no_pairs_is_one_job_that_says_so(void)
{
	json_t *spec = spec_of(DEMO), *done = json_object(), *jobs, *job;
	int n = 0;
	size_t i;

	finish(done, "r1.1.prompts.0.0", "prompts", 5);
	finish(done, "r1.1.pair.0.0", "pairs", 0);
	jobs = plan_of(spec, done);
	json_array_foreach(jobs, i, job) if (!strcmp(jx_get_str(job, "stage", ""), "dpo"))
	{
		n++;
		CHECK_EQ(jx_get_i64(json_object_get(job, "params"), "total_steps", -1), 0);
	}
	CHECK_EQ(n, 1);
	json_decref(jobs);
	finish(done, "r1.1.prompts.0.0", "prompts", 0);
	CHECK_RC(plan(spec, done, "r1", &jobs, &e), RC_INVALID);
	json_decref(done);
	json_decref(spec);
}

void test_plan__steps_and_shards_cover_the_pairs(void)
{
	static const struct {
		int pairs, batch, epochs, shard, steps, shards;
	} cases[] = {{1, 16, 1, 200, 1, 1}, {16, 16, 1, 200, 1, 1},	{17, 16, 1, 1, 2, 2},
		     {17, 16, 2, 2, 3, 2},  {3200, 16, 1, 200, 200, 1}, {3201, 16, 1, 200, 201, 2}};
	json_t *spec = spec_of(DEMO), *jobs, *job, *p;
	size_t k;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		json_t *done = json_object(), *dpo = json_object_get(spec, "dpo");
		int64_t at = 0, shards = 0;
		json_object_set_new(dpo, "batch", json_integer(cases[i].batch));
		json_object_set_new(dpo, "epochs", json_integer(cases[i].epochs));
		json_object_set_new(dpo, "shard_steps", json_integer(cases[i].shard));
		finish(done, "r1.1.prompts.0.0", "prompts", 5);
		finish(done, "r1.1.pair.0.0", "pairs", cases[i].pairs);
		jobs = plan_of(spec, done);
		json_array_foreach(jobs, k, job)
		{
			p = json_object_get(job, "params");
			if (strcmp(jx_get_str(job, "stage", ""), "dpo") != 0)
				continue;
			shards++;
			CHECK_EQ(jx_get_i64(p, "step_from", -1), at);
			at = jx_get_i64(p, "step_to", -1);
			CHECK_EQ(jx_get_i64(p, "total_steps", -1), cases[i].steps);
		}
		CHECK_EQ(at, cases[i].steps);
		CHECK_EQ(shards, cases[i].shards);
		json_decref(jobs);
		json_decref(done);
	}
	json_decref(spec);
}

/* An adapter is trained beside the weights the iteration began with: every shard has those as its
 * model, and goes on from the state of the one before. */
void test_plan__shards_of_an_adapter_begin_with_the_same_weights(void)
{
	json_t *spec = spec_of(DEMO), *done = json_object(), *jobs, *job, *in;
	size_t k, i;
	int shards = 0, states = 0;

	json_object_set_new(json_object_get(spec, "dpo"), "lora_r", json_integer(8));
	finish(done, "r1.1.prompts.0.0", "prompts", 5);
	finish(done, "r1.1.pair.0.0", "pairs", 60);
	jobs = plan_of(spec, done);
	json_array_foreach(jobs, k, job)
	{
		if (strcmp(jx_get_str(job, "stage", ""), "dpo") != 0)
			continue;
		shards++;
		json_array_foreach(json_object_get(job, "inputs"), i, in)
		{
			const char *role = jx_get_str(in, "role", ""), *from = jx_get_str(in, "job", "");

			if (strcmp(role, "model") == 0)
				CHECK_STR(from, "r1.0.sft.1.0");
			states += strcmp(role, "state") == 0 && strstr(from, ".dpo.") != NULL;
		}
	}
	CHECK(shards > 1);
	CHECK_EQ(states, shards - 1);
	json_decref(jobs);
	json_decref(done);
	json_decref(spec);
}

/* Every parent was planned before its child, and every input has its parent. */
static void check_closed(const json_t *jobs)
{
	json_t *seen = json_object(), *job, *v;
	size_t i, k;

	json_array_foreach(jobs, i, job)
	{
		json_t *parents = json_object();
		json_array_foreach(json_object_get(job, "parents"), k, v)
		{
			CHECK(json_object_get(seen, json_string_value(v)) != NULL);
			json_object_set_new(parents, json_string_value(v), json_true());
		}
		json_array_foreach(json_object_get(job, "inputs"), k, v)
			CHECK(json_object_get(parents, jx_get_str(v, "job", "")) != NULL);
		CHECK(json_object_get(seen, jx_get_str(job, "id", "")) == NULL);
		json_object_set(seen, jx_get_str(job, "id", ""), job);
		json_decref(parents);
	}
	json_decref(seen);
}

static bool all_parents_done(const json_t *job, const json_t *done)
{
	json_t *v;
	size_t k;

	json_array_foreach(json_object_get(job, "parents"), k,
			   v) if (!json_object_get(done, json_string_value(v))) return false;
	return true;
}

/* Old jobs stay as they were: the old text is a subset of the new. */
static void check_grows(const json_t *before, const json_t *after)
{
	json_t *by_id = json_object(), *job;
	size_t i;

	json_array_foreach(after, i, job) json_object_set(by_id, jx_get_str(job, "id", ""), job);
	json_array_foreach(before, i, job)
		CHECK(json_equal(job, json_object_get(by_id, jx_get_str(job, "id", ""))));
	json_decref(by_id);
}

void test_plan__random_runs_grow_and_end(void)
{
	for (uint64_t seed = 0; seed < 40; seed++) {
		json_t *spec = spec_of(DEMO), *done = json_object(), *jobs = plan_of(spec, done),
		       *more, *job;
		struct rng r;
		size_t i, left = 1;

		rng_open(&r, seed, RNG_TEST, 0, 0, 0);
		if (seed & 1)
			json_object_set_new(json_object_get(spec, "prompts"), "generator",
					    json_string("current"));
		json_decref(jobs);
		jobs = plan_of(spec, done);
		while (left) {
			check_closed(jobs);
			left = 0;
			json_array_foreach(jobs, i, job)
			{
				const char *id = jx_get_str(job, "id", "");
				if (json_object_get(done, id) || !all_parents_done(job, done))
					continue;
				left++;
				if (rng_below(&r, 3))
					continue;
				finish(done, id, "prompts", 1 + (int)rng_below(&r, 60));
				finish(done, id, "pairs", (int)rng_below(&r, 60));
			}
			more = plan_of(spec, done);
			check_grows(jobs, more);
			json_decref(jobs);
			jobs = plan_of(spec, done);
			CHECK(json_equal(jobs, more));
			json_decref(more);
		}
		CHECK_EQ(json_object_size(done), json_array_size(jobs));
		CHECK(json_array_size(jobs) > 20);
		json_decref(jobs);
		json_decref(done);
		json_decref(spec);
	}
}

void test_plan__a_dry_run_counts_what_is_known_and_guesses_the_rest(void)
{
	json_t *spec = spec_of(DEMO), *done = json_object(), *jobs = plan_of(spec, done), *sum,
	       *models, *row;
	size_t i;
	int64_t generate = 0;

	sum = plan_summary(spec, jobs);
	json_array_foreach(sum, i, row) if (!strcmp(jx_get_str(row, "stage", ""), "generate"))
	{
		generate += jx_get_i64(row, "jobs", 0);
		CHECK(jx_get_bool(row, "estimate", false));
	}
	CHECK_EQ(generate, 6);
	finish(done, "r1.1.pair.0.0", "pairs", 29);
	models = plan_models(spec, done, "r1");
	CHECK_EQ(json_array_size(models), 3);
	CHECK_STR(jx_get_str(json_array_get(models, 2), "name", ""), "M2");
	CHECK_STR(jx_get_str(json_array_get(models, 2), "job", ""), "r1.1.dpo.2.0");
	json_decref(models);
	json_decref(sum);
	json_decref(jobs);
	json_decref(done);
	json_decref(spec);
}
