#include "queue/plan.h"

#include "base/jsonx.h"
#include "base/str.h"
#include "queue/limits.h"
#include "queue/plan_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const json_t *plan_section(const struct planner *p, const char *name)
{
	return json_object_get(p->spec, name);
}

static bool given(const struct planner *p, const char *data)
{
	return json_array_size(json_object_get(plan_section(p, "data"), data)) > 0;
}

bool plan_is(const struct planner *p, const char *sec, const char *key, const char *want)
{
	return !strcmp(jx_get_str(plan_section(p, sec), key, ""), want);
}

static bool plan_is_at(const struct planner *p, const char *sec, const char *sub, const char *key,
		       const char *want)
{
	return !strcmp(jx_get_str(json_object_get(plan_section(p, sec), sub), key, ""), want);
}

/* --- ids and outputs --------------------------------------------------------------------------- */

static void job_id(const struct planner *p, int64_t iter, const char *stage, int64_t shard, int64_t pass,
		   char out[JOB_ID_MAX])
{
	str_fmt(out, JOB_ID_MAX, "%s.%lld.%s.%lld.%lld", p->run, (long long)iter, stage,
		(long long)shard, (long long)pass);
}

struct plan_source plan_from(const struct planner *p, int64_t iter, const char *stage, int64_t shard,
			    int64_t pass, const char *output)
{
	struct plan_source s = {.output = output};

	job_id(p, iter, stage, shard, pass, s.job);
	return s;
}

/* Rows of a finished output; -1 while it is not there. */
int64_t plan_rows(const struct planner *p, struct plan_source s)
{
	const json_t *outputs = json_object_get(json_object_get(p->done, s.job), "outputs");

	return jx_get_i64(json_object_get(outputs, s.output), "rows", -1);
}

/* --- making a job ------------------------------------------------------------------------------ */

void plan_input(json_t *inputs, const char *role, struct plan_source s)
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

/* Takes inputs and params. cost: about seconds on one worker; only fairness looks at it. */
void plan_add(struct planner *p, struct plan_where w, json_t *inputs, json_t *params, double cost)
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

/* Another model that the spec names. */
static struct plan_source import_model(struct planner *p, int64_t shard, const char *what)
{
	plan_add(p, (struct plan_where){0, "import", shard, 0}, json_array(),
		 json_pack("{s:s}", "what", what), 5);
	return plan_from(p, 0, "import", shard, 0, "model");
}

static bool wants_external(const struct planner *p)
{
	for (int64_t t = 1; t <= p->iterations; t++)
		if (plan_kind(p, t) == KIND_EXTERNAL)
			return true;
	return false;
}

/* Whether a better judge template is searched for. */
static bool improves(const struct planner *p)
{
	return jx_get_bool(plan_section(p, "protegi"), "run", false) && given(p, "eft");
}

static void plan_import(struct planner *p)
{
	p->base = import_model(p, 0, "model");
	import_model(p, 1, "data");
	if (plan_is(p, "judge", "kind", "checkpoint"))
		p->judge = import_model(p, 2, "judge");
	if (wants_external(p) && plan_is(p, "external", "kind", "checkpoint"))
		p->external = import_model(p, 3, "external");
	if (improves(p) && plan_is_at(p, "protegi", "writer", "kind", "checkpoint"))
		p->writer = import_model(p, 6, "writer");
	if (plan_is(p, "dpo", "reference", "path"))
		p->reference = import_model(p, 4, "reference");
	p->ift = plan_from(p, 0, "import", 1, 0, "ift");
	if (given(p, "bench")) {
		import_model(p, 5, "bench");
		p->bench = plan_from(p, 0, "import", 5, 0, "bench");
	}
	if (given(p, "prompts"))
		p->prompts = plan_from(p, 0, "import", 1, 0, "prompts");
	if (given(p, "test"))
		p->test = plan_from(p, 0, "import", 1, 0, "test");
	if (given(p, "eval"))
		p->eval = plan_from(p, 0, "import", 1, 0, "eval");
}

static void plan_sft(struct planner *p, int64_t shard, const char *variant)
{
	json_t *in = json_array();

	plan_input(in, "base", p->base);
	plan_input(in, "ift", p->ift);
	if (shard == 1)
		plan_input(in, "eft", p->eft);
	plan_add(p, (struct plan_where){0, "sft", shard, 0}, in,
	    json_pack("{s:s, s:s}", "variant", variant, "name", shard ? "M1" : "SFT"), 60);
}

static void plan_eft(struct planner *p)
{
	bool build = plan_is(p, "eft", "mode", "build");
	json_t *in = json_array();

	if (!given(p, "eft")) {
		json_decref(in);
		return;
	}
	plan_input(in, "eft", plan_from(p, 0, "import", 1, 0, "eft"));
	plan_input(in, "eval", p->eval);
	plan_input(in, "ift", p->ift); /* It must have none of these prompts. */
	if (build)
		plan_input(in, "model", plan_from(p, 0, "sft", 0, 0, "model"));
	plan_add(p, (struct plan_where){0, "eft", 0, 0}, in, json_pack("{s:b}", "build", (int)build), 30);
	p->eft = plan_from(p, 0, "eft", 0, 0, "eft");
	/* What was given, and what the stage held out of the ranked data. */
	p->eval = plan_from(p, 0, "eft", 0, 0, "eval");
}

/* With M1, on the ranked data that is not held out. What judges after it takes the template it found. */
static void plan_protegi(struct planner *p)
{
	bool writes = plan_is_at(p, "protegi", "writer", "kind", "model");
	json_t *in = json_array();

	if (!improves(p)) {
		json_decref(in);
		return;
	}
	if (p->judge_is_model)
		plan_input(in, "model", p->m1);
	else if (writes)
		plan_input(in, "writer", p->m1);
	plan_input(in, "model", p->judge);
	plan_input(in, "writer", p->writer);
	plan_input(in, "eft", plan_from(p, 0, "import", 1, 0, "eft"));
	plan_input(in, "eval", p->eval);
	plan_add(p, (struct plan_where){0, "protegi", 0, 0}, in, NULL, 120);
	if (jx_get_bool(plan_section(p, "protegi"), "apply", true))
		p->found = plan_from(p, 0, "protegi", 0, 0, "template");
}

/* This model against the answers that came with the test prompts. */
static void plan_against_references(struct planner *p, int64_t iter, int64_t shard,
				    struct plan_source model)
{
	json_t *in = json_array();

	plan_input(in, "ours", p->previous);
	plan_input(in, "test", p->test);
	if (plan_is_at(p, "eval", "head_to_head", "judge", "model"))
		plan_input(in, "model", model);
	plan_add(p, (struct plan_where){iter, "versus", shard, 2}, in,
		 json_pack("{s:s}", "name", "the reference answers"), 10);
}

static void plan_bench(struct planner *p, int64_t iter, int64_t shard, const char *name,
		       struct plan_source model)
{
	json_t *in = json_array();

	if (!p->bench.job[0]) {
		json_decref(in);
		return;
	}
	plan_input(in, "model", model);
	plan_input(in, "bench", p->bench);
	plan_add(p, (struct plan_where){iter, "bench", shard, 0}, in, json_pack("{s:s}", "name", name), 30);
}

static void plan_health(struct planner *p, int64_t iter, int64_t shard, const char *name,
			struct plan_source model)
{
	json_t *in = json_array();

	if (p->judge_is_model || plan_is_at(p, "eval", "head_to_head", "judge", "model"))
		plan_input(in, "model", model);
	plan_input(in, "judge", p->judge);
	plan_input(in, "template", p->found);
	plan_input(in, "eval", p->eval);
	plan_add(p, (struct plan_where){iter, "health", shard, 0}, in, json_pack("{s:s}", "name", name), 30);
}

/* This model against every earlier one; against the one before it the evaluation itself does that. */
static void plan_matrix(struct planner *p, int64_t iter, struct plan_source model)
{
	for (int i = 0; i < p->n_answers - 1; i++) {
		json_t *in = json_array();

		plan_input(in, "ours", p->previous);
		plan_input(in, "theirs", p->answers[i]);
		plan_input(in, "test", p->test);
		if (plan_is_at(p, "eval", "head_to_head", "judge", "model"))
			plan_input(in, "model", model);
		plan_add(p, (struct plan_where){iter, "versus", i, 1}, in,
			 json_pack("{s:s}", "name", p->names[i]), 10);
	}
}

void plan_eval(struct planner *p, int64_t iter, int64_t shard, const char *name,
		      struct plan_source model)
{
	json_t *in = json_array();

	plan_bench(p, iter, shard, name, model);
	if (!p->eval.job[0] && !p->test.job[0]) {
		json_decref(in);
		return;
	}
	plan_input(in, "model", model);
	plan_input(in, "eval", p->eval);
	plan_input(in, "test", p->test);
	plan_input(in, "prev", p->previous);
	plan_input(in, "template", p->found);
	plan_add(p, (struct plan_where){iter, "eval", shard, 0}, in, json_pack("{s:s}", "name", name), 30);
	if (p->eval.job[0] && jx_get_bool(plan_section(p, "health"), "run", false))
		plan_health(p, iter, shard, name, model);
	if (!p->test.job[0])
		return;
	p->previous = plan_from(p, iter, "eval", shard, 0, "generations");
	if (jx_get_bool(plan_section(p, "eval"), "reference_answers", false))
		plan_against_references(p, iter, shard, model);
	if (jx_get_bool(plan_section(p, "eval"), "matrix", false))
		plan_matrix(p, iter, model);
	if (p->n_answers < PLAN_MODELS_MAX) {
		p->answers[p->n_answers] = p->previous;
		str_copy(p->names[p->n_answers++], sizeof p->names[0], name);
	}
}

static void plan_start(struct planner *p)
{
	bool baseline = jx_get_bool(plan_section(p, "sft"), "baseline", true);

	plan_import(p);
	if (baseline)
		plan_sft(p, 0, "baseline");
	plan_eft(p);
	plan_sft(p, 1, "m1");
	if (baseline)
		p->before = plan_from(p, 0, "sft", 0, 0, "model");
	p->m1 = plan_from(p, 0, "sft", 1, 0, "model");
	plan_protegi(p);
	if (baseline)
		plan_eval(p, 0, 0, "SFT", plan_from(p, 0, "sft", 0, 0, "model"));
	plan_eval(p, 0, 1, "M1", p->m1);
}

static enum rc planner_open(struct planner *p, const json_t *spec, const json_t *done, const char *run,
			    struct err *e)
{
	*p = (struct planner){.spec = spec, .done = done, .run = run, .e = e};
	p->iterations = jx_get_i64(spec, "iterations", 0);
	p->shard_size = jx_get_i64(plan_section(p, "generate"), "shard_size", 0);
	p->samples = jx_get_i64(plan_section(p, "judge"), "samples", 0);
	p->judge_is_model = plan_is(p, "judge", "kind", "model");
	if (p->shard_size < 1 || p->samples < 1 || jx_get_i64(plan_section(p, "dpo"), "shard_steps", 0) < 1)
		return err_set(e, RC_INVALID, "the spec is not normalised: sizes are missing");
	if (strlen(run) >= RUN_ID_MAX)
		return err_set(e, RC_INVALID, "run id \"%.40s\" is too long", run);
	p->jobs = json_array();
	return RC_OK;
}

enum rc plan(const json_t *spec, const json_t *done, const char *run, json_t **jobs, struct err *e)
{
	struct planner p;
	struct plan_source model;
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
	prompts = jx_get_i64(plan_section(&p, "prompts"), "count", 0);
	samples = jx_get_i64(plan_section(&p, "judge"), "samples", 3);
	shards = (int64_t)ceil((double)prompts / jx_get_f64(plan_section(&p, "generate"), "shard_size", 256));
	steps = plan_steps(&p, prompts);
	p.iterations = jx_get_i64(spec, "iterations", 0);
	for (int64_t t = 1; t <= p.iterations; t++) {
		bool asks = plan_asks(plan_kind(&p, t)), sft = plan_kind(&p, t) == KIND_SFT;
		bool positive = plan_kind(&p, t) == KIND_POSITIVE;

		if (asks)
			count(list, t, "prompts", 1, true);
		if (!sft)
			count(list, t, "generate", shards, true);
		if (asks)
			count(list, t, "judge", shards * samples, true);
		if (!sft)
			count(list, t, "pair", 1, true);
		if (!sft && !positive) {
			count(list, t, "reference", 1, true);
			count(list, t, "dpo", plan_last_shard(&p, steps) + 1, true);
		} else {
			count(list, t, "sft", 1, true);
		}
		if (eval)
			count(list, t, "eval", 1, true);
	}
	return list;
}

static void model_row(json_t *list, const char *name, int64_t iter, struct plan_source s)
{
	json_array_append_new(list, json_pack("{s:s, s:I, s:s, s:s}", "name", name, "iter",
					      (json_int_t)iter, "job", s.job, "output", s.output));
}

json_t *plan_models(const json_t *spec, const json_t *done, const char *run)
{
	struct planner p = {.spec = spec, .done = done, .run = run};
	json_t *list = json_array();
	char name[16];

	if (jx_get_bool(plan_section(&p, "sft"), "baseline", true))
		model_row(list, "SFT", 0, plan_from(&p, 0, "sft", 0, 0, "model"));
	model_row(list, "M1", 0, plan_from(&p, 0, "sft", 1, 0, "model"));
	for (int64_t t = 1; t <= jx_get_i64(spec, "iterations", 0); t++) {
		struct plan_source end = plan_end(&p, t);

		if (!end.job[0])
			break;
		str_fmt(name, sizeof(name), "M%lld", (long long)t + 1);
		model_row(list, name, t, end);
	}
	return list;
}
