/* What a run that is over keeps: the models that count, and nothing anybody needs is given up. */
#include "server/retention.h"

#include "base/jsonx.h"
#include "base/sha256.h"
#include "base/str.h"
#include "tests/test.h"

#include <string.h>

#define ITERATIONS 6

/* Digest of a name. */
static const char *d(const char *name)
{
	static char hex[8][SHA256_HEX_SIZE];
	static int next;

	next = (next + 1) % 8;
	sha256_of(name, strlen(name), hex[next]);
	return hex[next];
}

static void add(json_t *jobs, const char *id, const char *stage, int iter, int shard,
		const char *params, const char *name)
{
	char model[32], state[32], inner[32];

	str_fmt(model, sizeof model, "%s model", name);
	str_fmt(state, sizeof state, "%s state", name);
	str_fmt(inner, sizeof inner, "%s inner", name);
	json_array_append_new(
		jobs,
		json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:s, s:o, s:[{s:s, s:s, s:s, s:i}, "
			  "{s:s, s:s, s:s, s:i}], s:{s:{s:s}}}",
			  "id", id, "run", "rx", "stage", stage, "iter", iter, "shard", shard,
			  "pass", 0, "state", "done", "params", json_loads(params, 0, NULL),
			  "outputs", "role", "model", "kind", "checkpoint", "digest", d(model),
			  "size", 100, "role", "state", "kind", "train_state", "digest", d(state),
			  "size", 200, "checkpoint", "outputs", "state", d(inner)));
}

static void add_eval(json_t *jobs, int iter, double figure)
{
	char id[40], name[8];

	str_fmt(id, sizeof id, "rx.%d.eval.0.0", iter);
	str_fmt(name, sizeof name, "M%d", iter + 1);
	json_array_append_new(jobs, json_pack("{s:s, s:s, s:i, s:i, s:i, s:s, s:{s:s}, s:{s:f}, "
					      "s:[{s:s, s:s, s:s}]}",
					      "id", id, "stage", "eval", "iter", iter, "shard", 0,
					      "pass", 0, "state", "done", "params", "name", name,
					      "metrics", "rm.pairwise_accuracy", figure, "outputs",
					      "role", "rm", "kind", "dataset", "digest", d(name)));
}

/* As many as one DPO job takes. */
static void add_pairs(json_t *jobs, int iter)
{
	char id[40];

	str_fmt(id, sizeof id, "rx.%d.pair.0.0", iter);
	json_array_append_new(jobs,
			      json_pack("{s:s, s:s, s:i, s:i, s:i, s:s, s:[{s:s, s:s, s:s, "
					"s:{s:i}}]}",
					"id", id, "stage", "pair", "iter", iter, "shard", 0, "pass",
					0, "state", "done", "outputs", "role", "pairs", "kind",
					"dataset", "digest", d(id), "meta", "rows", 10));
}

/* base, M1 by sft, then one DPO job an iteration. */
static json_t *some_jobs(void)
{
	json_t *jobs = json_array();
	char id[40], name[16];

	add(jobs, "rx.0.import.0.0", "import", 0, 0, "{}", "base");
	add(jobs, "rx.0.sft.1.0", "sft", 0, 1, "{\"variant\":\"m1\"}", "M1");
	for (int i = 1; i <= ITERATIONS; i++) {
		add_pairs(jobs, i);
		str_fmt(id, sizeof id, "rx.%d.dpo.0.0", i);
		str_fmt(name, sizeof name, "M%d", i + 1);
		add(jobs, id, "dpo", i, 0, "{\"step_from\":0,\"step_to\":2,\"total_steps\":2}",
		    name);
		add_eval(jobs, i, i == 2 ? 0.9 : 0.5);
	}
	return jobs;
}

static json_t *a_run(const char *state)
{
	return json_pack("{s:s, s:s, s:s, s:{s:{s:i}}}", "id", "rx", "state", state, "final_digest",
			 d("M7 model"), "record", "spec", "iterations", ITERATIONS);
}

static bool gone(const json_t *list, const char *name)
{
	return json_object_get(list, d(name)) != NULL;
}

void test_retention__a_run_that_goes_on_keeps_all(void)
{
	struct retention p = {.last = 1, .best = ""};
	json_t *jobs = some_jobs(), *run = a_run("running"), *list = retention_pick(&p, run, jobs);

	CHECK_EQ(json_object_size(list), 0);
	json_decref(list);
	json_decref(run);
	run = a_run("done");
	p.last = 0;
	list = retention_pick(&p, run, jobs);
	CHECK_EQ(json_object_size(list), 0); /* Nothing is configured. */
	json_decref(list);
	json_decref(run);
	json_decref(jobs);
}

void test_retention__last_every_and_best_stay(void)
{
	static const struct {
		struct retention p;
		const char *stay; /* iterations of the models that stay, M1's being 0 */
	} cases[] = {{{.last = 1, .best = ""}, "6"},
		     {{.last = 3, .best = ""}, "456"},
		     {{.every = 3, .best = ""}, "036"},
		     {{.best = "rm.pairwise_accuracy"}, "26"},
		     {{.best = "no.such.figure"}, "6"},
		     {{.last = 2, .every = 4, .best = "rm.pairwise_accuracy"}, "02456"}};
	json_t *jobs = some_jobs(), *run = a_run("done");
	char name[32];

	for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
		json_t *list = retention_pick(&cases[k].p, run, jobs);

		for (int i = 0; i <= ITERATIONS; i++) {
			bool stays = strchr(cases[k].stay, '0' + i);

			str_fmt(name, sizeof name, "M%d model", i + 1);
			CHECK_EQ(gone(list, name), !stays);
			str_fmt(name, sizeof name, "M%d state", i + 1);
			CHECK(gone(list, name));
			str_fmt(name, sizeof name, "M%d inner", i + 1);
			CHECK(gone(list, name));
			str_fmt(name, sizeof name, "M%d", i + 1);
			CHECK(!gone(list, name)); /* Datasets stay. */
		}
		CHECK(!gone(list, "base model") && !gone(list, "base state"));
		json_decref(list);
	}
	json_decref(run);
	json_decref(jobs);
}

void test_retention__states_stay_if_wanted(void)
{
	struct retention p = {.last = 1, .states = true, .best = ""};
	json_t *jobs = some_jobs(), *run = a_run("cancelled"),
	       *list = retention_pick(&p, run, jobs);

	CHECK(gone(list, "M2 model") && !gone(list, "M2 state") && !gone(list, "M7 model"));
	json_decref(list);
	json_decref(run);
	json_decref(jobs);
}

static void give_volumes(json_t *jobs, size_t job, const char *one, const char *two)
{
	json_t *out = json_array_get(json_object_get(json_array_get(jobs, job), "outputs"), 0);

	json_object_set_new(out, "volumes",
			    json_pack("[{s:s, s:i}, {s:s, s:i}]", "digest", d(one), "size", 50, "digest",
				      d(two), "size", 49));
}

/* What several models have in common stays as long as one of them does. */
void test_retention__volumes_go_with_the_last_that_has_them(void)
{
	struct retention p = {.last = 2, .best = ""};
	json_t *jobs = some_jobs(), *run = a_run("done"), *job, *list;
	size_t i, models = 0, at[3] = {0};

	/* Of the last three models the first goes. */
	json_array_foreach(jobs, i, job)
	{
		const char *stage = jx_get_str(job, "stage", "");

		if (!strcmp(stage, "sft") || !strcmp(stage, "dpo"))
			at[models++ % 3] = i;
	}
	size_t gone_at = at[models % 3], stays_at = at[(models + 2) % 3];
	give_volumes(jobs, gone_at, "base layers", "layers before");
	give_volumes(jobs, stays_at, "base layers", "layers now");
	list = retention_pick(&p, run, jobs);
	CHECK(gone(list, "layers before"));
	CHECK(!gone(list, "base layers") && !gone(list, "layers now"));
	json_decref(list);
	/* Both gone: all of it. The inside of a job counts as well. */
	json_object_set_new(json_array_get(jobs, 0), "checkpoint",
			    json_pack("{s:{s:{s:s, s:[{s:s, s:i}]}}}", "outputs", "state", "digest",
				      d("M1 inner"), "volumes", "digest", d("inner volume"), "size", 5));
	list = retention_pick(&p, run, jobs);
	CHECK(gone(list, "inner volume") == gone(list, "M1 inner"));
	json_decref(list);
	json_decref(run);
	json_decref(jobs);
}
