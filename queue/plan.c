#include "queue/plan.h"

#include "base/jsonx.h"
#include "base/str.h"
#include "queue/limits.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Where an output comes from. */
struct source {
	char job[JOB_ID_MAX]; /* "" = there is none */
	const char *output;
};

struct planner {
	const json_t *spec, *done; /* borrowed */
	const char *run;
	json_t *jobs;              /* owned */
	struct err *e;
	/* What the spec says once and the plan asks often. */
	struct source base, ift, eft, eval, prompts, test, m1, previous, judge;
	int64_t iterations, shard_size, samples;
	bool judge_is_model;
};

static const json_t *section(const struct planner *p, const char *name)
{
	return json_object_get(p->spec, name);
}

static bool given(const struct planner *p, const char *data)
{
	return json_array_size(json_object_get(section(p, "data"), data)) > 0;
}

static bool spec_is(const struct planner *p, const char *sec, const char *key, const char *want)
{
	return !strcmp(jx_get_str(section(p, sec), key, ""), want);
}

/* --- ids and outputs --------------------------------------------------------------------------- */

static void job_id(const struct planner *p, int64_t iter, const char *stage, int64_t shard, int64_t pass,
		   char out[JOB_ID_MAX])
{
	str_fmt(out, JOB_ID_MAX, "%s.%lld.%s.%lld.%lld", p->run, (long long)iter, stage,
		(long long)shard, (long long)pass);
}

static struct source source(const struct planner *p, int64_t iter, const char *stage, int64_t shard,
			    int64_t pass, const char *output)
{
	struct source s = {.output = output};

	job_id(p, iter, stage, shard, pass, s.job);
	return s;
}

/* Rows of a finished output; -1 while it is not there. */
static int64_t rows_of(const struct planner *p, struct source s)
{
	const json_t *outputs = json_object_get(json_object_get(p->done, s.job), "outputs");

	return jx_get_i64(json_object_get(outputs, s.output), "rows", -1);
}

/* --- making a job ------------------------------------------------------------------------------ */

static void input(json_t *inputs, const char *role, struct source s)
{
	if (s.job[0])
		json_array_append_new(inputs, json_pack("{s:s, s:s, s:s}", "role", role, "job", s.job,
							"output", s.output));
}

/* Each job that makes an input, once, in order. */
static json_t *parents_of(const json_t *inputs)
{
	json_t *parents = json_array(), *seen = json_object(), *in;
	size_t i;

	json_array_foreach(inputs, i, in) {
		json_t *job = json_object_get(in, "job");
		if (json_object_get(seen, json_string_value(job)))
			continue;
		json_object_set_new(seen, json_string_value(job), json_true());
		json_array_append(parents, job);
	}
	json_decref(seen);
	return parents;
}

/* The kind of worker a stage asks for ("pools": ["dpo=h100"]); NULL for any. */
static const char *pool_of(const json_t *spec, const char *stage)
{
	size_t i, n = strlen(stage);
	json_t *p;

	json_array_foreach(json_object_get(spec, "pools"), i, p) {
		const char *text = json_string_value(p);

		if (text && !strncmp(text, stage, n) && text[n] == '=')
			return text + n + 1;
	}
	/* The engine that trains computes its reference, unless told otherwise. */
	return strcmp(stage, "reference") == 0 ? pool_of(spec, "dpo") : NULL;
}

struct where {
	int64_t iter;
	const char *stage;
	int64_t shard, pass;
};

/* Takes inputs and params. cost: about seconds on one worker; only fairness looks at it. */
static void add(struct planner *p, struct where w, json_t *inputs, json_t *params, double cost)
{
	json_t *parents = parents_of(inputs);
	char id[JOB_ID_MAX];

	job_id(p, w.iter, w.stage, w.shard, w.pass, id);
	json_array_append_new(
		p->jobs, json_pack("{s:s, s:s, s:I, s:I, s:I, s:o, s:I, s:o, s:o, s:f, s:b, s:s*, s:I, s:b}",
				   "id", id,
				   "stage", w.stage, "iter", (json_int_t)w.iter, "shard",
				   (json_int_t)w.shard, "pass", (json_int_t)w.pass, "parents", parents,
				   "need", (json_int_t)json_array_size(parents), "inputs", inputs,
				   "params", params ? params : json_object(), "cost_hint", cost,
				   "optional", 0, "pool", pool_of(p->spec, w.stage), "stall_ms",
				   (json_int_t)(1000 * jx_get_i64(p->spec, "stall_s", 0)), "stall_requeue",
				   jx_get_bool(p->spec, "stall_requeue", false)));
}

/* --- the stages before the first iteration ----------------------------------------------------- */

static void plan_import(struct planner *p)
{
	add(p, (struct where){0, "import", 0, 0}, json_array(), json_pack("{s:s}", "what", "model"), 5);
	add(p, (struct where){0, "import", 1, 0}, json_array(), json_pack("{s:s}", "what", "data"), 5);
	p->base = source(p, 0, "import", 0, 0, "model");
	if (spec_is(p, "judge", "kind", "checkpoint")) {
		add(p, (struct where){0, "import", 2, 0}, json_array(),
		    json_pack("{s:s}", "what", "judge"), 5);
		p->judge = source(p, 0, "import", 2, 0, "model");
	}
	p->ift = source(p, 0, "import", 1, 0, "ift");
	if (given(p, "prompts"))
		p->prompts = source(p, 0, "import", 1, 0, "prompts");
	if (given(p, "test"))
		p->test = source(p, 0, "import", 1, 0, "test");
	if (given(p, "eval"))
		p->eval = source(p, 0, "import", 1, 0, "eval");
}

static void plan_sft(struct planner *p, int64_t shard, const char *variant)
{
	json_t *in = json_array();

	input(in, "base", p->base);
	input(in, "ift", p->ift);
	if (shard == 1)
		input(in, "eft", p->eft);
	add(p, (struct where){0, "sft", shard, 0}, in,
	    json_pack("{s:s, s:s}", "variant", variant, "name", shard ? "M1" : "SFT"), 60);
}

static void plan_eft(struct planner *p)
{
	bool build = spec_is(p, "eft", "mode", "build");
	json_t *in = json_array();

	if (!given(p, "eft")) {
		json_decref(in);
		return;
	}
	input(in, "eft", source(p, 0, "import", 1, 0, "eft"));
	input(in, "eval", p->eval);
	if (build)
		input(in, "model", source(p, 0, "sft", 0, 0, "model"));
	add(p, (struct where){0, "eft", 0, 0}, in, json_pack("{s:b}", "build", (int)build), 30);
	p->eft = source(p, 0, "eft", 0, 0, "eft");
	/* What was given, and what the stage held out of the ranked data. */
	p->eval = source(p, 0, "eft", 0, 0, "eval");
}

static void plan_eval(struct planner *p, int64_t iter, int64_t shard, const char *name,
		      struct source model)
{
	json_t *in = json_array();

	if (!p->eval.job[0] && !p->test.job[0]) {
		json_decref(in);
		return;
	}
	input(in, "model", model);
	input(in, "eval", p->eval);
	input(in, "test", p->test);
	input(in, "prev", p->previous);
	add(p, (struct where){iter, "eval", shard, 0}, in, json_pack("{s:s}", "name", name), 30);
	if (p->test.job[0])
		p->previous = source(p, iter, "eval", shard, 0, "generations");
}

static void plan_start(struct planner *p)
{
	bool baseline = jx_get_bool(section(p, "sft"), "baseline", true);

	plan_import(p);
	if (baseline)
		plan_sft(p, 0, "baseline");
	plan_eft(p);
	plan_sft(p, 1, "m1");
	if (baseline)
		plan_eval(p, 0, 0, "SFT", source(p, 0, "sft", 0, 0, "model"));
	p->m1 = source(p, 0, "sft", 1, 0, "model");
	plan_eval(p, 0, 1, "M1", p->m1);
}

/* --- one iteration ----------------------------------------------------------------------------- */

static void plan_prompts(struct planner *p, int64_t t, struct source model)
{
	json_t *in = json_array();
	char role[32];

	if (spec_is(p, "prompts", "generator", "current"))
		input(in, "model", model);
	input(in, "ift", p->ift);
	input(in, "prompts", p->prompts);
	for (int64_t k = 1; k < t; k++) {
		str_fmt(role, sizeof(role), "earlier.%lld", (long long)k);
		input(in, role, source(p, k, "prompts", 0, 0, "prompts"));
	}
	add(p, (struct where){t, "prompts", 0, 0}, in, NULL, 30);
}

static double tokens_cost(int64_t rows, int64_t samples, const json_t *sec)
{
	return 1 + (double)(rows * samples * jx_get_i64(sec, "max_new_tokens", 256)) / 10000;
}

static void plan_judge(struct planner *p, int64_t t, int64_t s, int64_t rows, struct source model)
{
	double cost = tokens_cost(rows, jx_get_i64(section(p, "generate"), "n", 4), section(p, "judge"));

	for (int64_t k = 0; k < p->samples; k++) {
		json_t *in = json_array();
		if (p->judge_is_model)
			input(in, "model", model);
		input(in, "model", p->judge);
		input(in, "responses", source(p, t, "generate", s, 0, "responses"));
		add(p, (struct where){t, "judge", s, k}, in, json_pack("{s:I}", "pass", (json_int_t)k),
		    p->judge_is_model ? cost : 1);
	}
}

static void plan_generate(struct planner *p, int64_t t, int64_t rows, struct source model)
{
	int64_t n = jx_get_i64(section(p, "generate"), "n", 4);
	struct source prompts = source(p, t, "prompts", 0, 0, "prompts");

	for (int64_t s = 0, from = 0; from < rows; s++, from += p->shard_size) {
		int64_t to = from + p->shard_size < rows ? from + p->shard_size : rows;
		json_t *in = json_array();
		input(in, "model", model);
		input(in, "prompts", prompts);
		add(p, (struct where){t, "generate", s, 0}, in,
		    json_pack("{s:I, s:I}", "from", (json_int_t)from, "to", (json_int_t)to),
		    tokens_cost(to - from, n, section(p, "generate")));
		plan_judge(p, t, s, to - from, model);
	}
}

static void plan_pair(struct planner *p, int64_t t, int64_t shards)
{
	json_t *in = json_array();
	char role[64];

	for (int64_t s = 0; s < shards; s++) {
		str_fmt(role, sizeof(role), "responses.%lld", (long long)s);
		input(in, role, source(p, t, "generate", s, 0, "responses"));
		for (int64_t k = 0; k < p->samples; k++) {
			str_fmt(role, sizeof(role), "judgements.%lld.%lld", (long long)s, (long long)k);
			input(in, role, source(p, t, "judge", s, k, "judgements"));
		}
	}
	add(p, (struct where){t, "pair", 0, 0}, in, NULL, 2);
}

static int64_t dpo_steps(const struct planner *p, int64_t pairs)
{
	const json_t *dpo = section(p, "dpo");
	double epochs = jx_get_f64(dpo, "epochs", 1), batch = jx_get_f64(dpo, "batch", 16);
	double steps = ceil(epochs * (double)pairs / batch);

	return steps >= 1 ? (int64_t)steps : pairs > 0;
}

static struct source reference_model(const struct planner *p, struct source model)
{
	return spec_is(p, "dpo", "reference", "m1") ? p->m1 : model;
}

/* A job of its own, whose key has no beta, loss or learning rate in it: runs that differ in those
 * alone find its result. */
static void plan_reference(struct planner *p, int64_t t, int64_t pairs, struct source model)
{
	json_t *in = json_array();

	input(in, "ref", reference_model(p, model));
	input(in, "pairs", source(p, t, "pair", 0, 0, "pairs"));
	add(p, (struct where){t, "reference", 0, 0}, in, NULL, 1 + (double)pairs / 50);
}

static void plan_dpo(struct planner *p, int64_t t, int64_t steps, struct source model)
{
	const json_t *dpo = section(p, "dpo");
	int64_t size = jx_get_i64(dpo, "shard_steps", 200), k = 0, from = 0;
	bool replay = jx_get_f64(dpo, "sft_replay", 0) > 0, adapter = jx_get_i64(dpo, "lora_r", 0) > 0;
	struct source ref = reference_model(p, model);
	char name[16]; /* of the model the last shard makes */

	str_fmt(name, sizeof(name), "M%lld", (long long)t + 1);
	/* No pairs: one job that says so. */
	do {
		int64_t to = from + size < steps ? from + size : steps;
		json_t *in = json_array();
		/* An adapter is trained beside the weights the iteration began with. */
		input(in, "model", k && !adapter ? source(p, t, "dpo", k - 1, 0, "model") : model);
		if (k)
			input(in, "state", source(p, t, "dpo", k - 1, 0, "state"));
		if (steps > 0)
			input(in, "reflogps", source(p, t, "reference", 0, 0, "reflogps"));
		input(in, "ref", ref);
		input(in, "pairs", source(p, t, "pair", 0, 0, "pairs"));
		if (replay) {
			input(in, "ift", p->ift);
			input(in, "eft", p->eft);
		}
		add(p, (struct where){t, "dpo", k, 0}, in,
		    json_pack("{s:I, s:I, s:I, s:s*}", "step_from", (json_int_t)from, "step_to",
			      (json_int_t)to, "total_steps", (json_int_t)steps, "name",
			      to == steps ? name : NULL),
		    1 + (double)(to - from));
		from = to;
		k++;
	} while (from < steps);
}

/* Number of the last DPO shard. */
static int64_t dpo_last(const struct planner *p, int64_t steps)
{
	int64_t size = jx_get_i64(section(p, "dpo"), "shard_steps", 200);

	return steps > 0 ? (steps - 1) / size : 0;
}

/* Plans iteration t from `model`; true with the model it ends in when that is known already. */
static bool plan_iteration(struct planner *p, int64_t t, struct source *model, enum rc *rc)
{
	int64_t rows, pairs, steps, shards;
	char name[16];

	plan_prompts(p, t, *model);
	rows = rows_of(p, source(p, t, "prompts", 0, 0, "prompts"));
	if (rows < 0)
		return false;
	shards = (rows + p->shard_size - 1) / p->shard_size;
	if (shards == 0 || shards * (p->samples + 1) > PARENTS_MAX) {
		*rc = err_set(p->e, RC_INVALID,
			      "iteration %lld: %lld prompts in shards of %lld make %lld jobs, "
			      "expected 1 to %d", (long long)t, (long long)rows, (long long)p->shard_size,
			      (long long)(shards * (p->samples + 1)), PARENTS_MAX);
		return false;
	}
	plan_generate(p, t, rows, *model);
	plan_pair(p, t, shards);
	pairs = rows_of(p, source(p, t, "pair", 0, 0, "pairs"));
	if (pairs < 0)
		return false;
	steps = dpo_steps(p, pairs);
	if (steps > 0)
		plan_reference(p, t, pairs, *model);
	plan_dpo(p, t, steps, *model);
	*model = source(p, t, "dpo", dpo_last(p, steps), 0, "model");
	str_fmt(name, sizeof(name), "M%lld", (long long)t + 1);
	plan_eval(p, t, 0, name, *model);
	return true;
}

static enum rc planner_open(struct planner *p, const json_t *spec, const json_t *done, const char *run,
			    struct err *e)
{
	*p = (struct planner){.spec = spec, .done = done, .run = run, .e = e};
	p->iterations = jx_get_i64(spec, "iterations", 0);
	p->shard_size = jx_get_i64(section(p, "generate"), "shard_size", 0);
	p->samples = jx_get_i64(section(p, "judge"), "samples", 0);
	p->judge_is_model = spec_is(p, "judge", "kind", "model");
	if (p->shard_size < 1 || p->samples < 1 || jx_get_i64(section(p, "dpo"), "shard_steps", 0) < 1)
		return err_set(e, RC_INVALID, "the spec is not normalised: sizes are missing");
	if (strlen(run) >= RUN_ID_MAX)
		return err_set(e, RC_INVALID, "run id \"%.40s\" is too long", run);
	p->jobs = json_array();
	return RC_OK;
}

enum rc plan(const json_t *spec, const json_t *done, const char *run, json_t **jobs, struct err *e)
{
	struct planner p;
	struct source model;
	enum rc rc = planner_open(&p, spec, done, run, e);

	*jobs = NULL;
	if (rc)
		return rc;
	plan_start(&p);
	model = p.m1;
	for (int64_t t = 1; t <= p.iterations; t++)
		if (!plan_iteration(&p, t, &model, &rc))
			break;
	if (rc)
		json_decref(p.jobs);
	else
		*jobs = p.jobs;
	return rc;
}

/* --- for people -------------------------------------------------------------------------------- */

static void count(json_t *list, int64_t iter, const char *stage, int64_t n, bool estimate)
{
	size_t i;
	json_t *row;

	json_array_foreach(list, i, row)
		if (jx_get_i64(row, "iter", -1) == iter && !strcmp(jx_get_str(row, "stage", ""), stage)) {
			if (!estimate)
				json_object_set_new(row, "jobs",
						    json_integer(jx_get_i64(row, "jobs", 0) + n));
			return;
		}
	row = json_pack("{s:I, s:s, s:I}", "iter", (json_int_t)iter, "stage", stage, "jobs", (json_int_t)n);
	if (estimate)
		json_object_set_new(row, "estimate", json_true());
	json_array_append_new(list, row);
}

json_t *plan_summary(const json_t *spec, const json_t *jobs)
{
	struct planner p = {.spec = spec, .run = ""};
	json_t *list = json_array(), *job;
	int64_t prompts, shards, samples, steps;
	bool eval = given(&p, "test") || given(&p, "eval") || given(&p, "eft");
	size_t i;

	json_array_foreach(jobs, i, job)
		count(list, jx_get_i64(job, "iter", 0), jx_get_str(job, "stage", ""), 1, false);
	prompts = jx_get_i64(section(&p, "prompts"), "count", 0);
	samples = jx_get_i64(section(&p, "judge"), "samples", 3);
	shards = (int64_t)ceil((double)prompts / jx_get_f64(section(&p, "generate"), "shard_size", 256));
	steps = dpo_steps(&p, prompts);
	for (int64_t t = 1; t <= jx_get_i64(spec, "iterations", 0); t++) {
		count(list, t, "prompts", 1, true);
		count(list, t, "generate", shards, true);
		count(list, t, "judge", shards * samples, true);
		count(list, t, "pair", 1, true);
		count(list, t, "reference", 1, true);
		count(list, t, "dpo", dpo_last(&p, steps) + 1, true);
		if (eval)
			count(list, t, "eval", 1, true);
	}
	return list;
}

static void model_row(json_t *list, const char *name, int64_t iter, struct source s)
{
	json_array_append_new(list, json_pack("{s:s, s:I, s:s, s:s}", "name", name, "iter",
					      (json_int_t)iter, "job", s.job, "output", s.output));
}

json_t *plan_models(const json_t *spec, const json_t *done, const char *run)
{
	struct planner p = {.spec = spec, .done = done, .run = run};
	json_t *list = json_array();
	char name[16];

	if (jx_get_bool(section(&p, "sft"), "baseline", true))
		model_row(list, "SFT", 0, source(&p, 0, "sft", 0, 0, "model"));
	model_row(list, "M1", 0, source(&p, 0, "sft", 1, 0, "model"));
	for (int64_t t = 1; t <= jx_get_i64(spec, "iterations", 0); t++) {
		int64_t pairs = rows_of(&p, source(&p, t, "pair", 0, 0, "pairs"));
		if (pairs < 0)
			break;
		str_fmt(name, sizeof(name), "M%lld", (long long)t + 1);
		model_row(list, name, t,
			  source(&p, t, "dpo", dpo_last(&p, dpo_steps(&p, pairs)), 0, "model"));
	}
	return list;
}
