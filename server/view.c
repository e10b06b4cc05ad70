#include "server/view.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "queue/plan.h"
#include "server/reply.h"

#include <stdio.h>
#include <stdint.h>
#include <string.h>

/* Copies the named members; absent ones become null. */
static void copy_members(json_t *to, const json_t *from, const char *const *names)
{
	for (; *names; names++) {
		json_t *v = json_object_get(from, *names);

		json_object_set_new(to, *names, v ? json_incref(v) : json_null());
	}
}

static json_t *time_of(const json_t *obj, const char *key)
{
	return json_time(jx_get_i64(obj, key, 0));
}

json_t *view_done(const json_t *jobs)
{
	json_t *done = json_object();
	const json_t *job, *out;
	size_t i, k;

	json_array_foreach(jobs, i, job)
	{
		json_t *outputs;

		if (strcmp(jx_get_str(job, "state", ""), "done") != 0)
			continue;
		outputs = json_object();
		json_array_foreach(json_object_get(job, "outputs"), k, out)
		{
			json_t *copy = json_copy((json_t *)(uintptr_t)out);
			json_t *rows = json_object_get(json_object_get(out, "meta"), "rows");

			if (rows)
				json_object_set(copy, "rows", rows);
			json_object_set_new(outputs, jx_get_str(out, "role", ""), copy);
		}
		json_object_set_new(done, jx_get_str(job, "id", ""),
				    json_pack("{s:o}", "outputs", outputs));
	}
	return done;
}

json_t *view_inputs(const json_t *inputs, const json_t *done)
{
	json_t *list = json_array();
	const json_t *in;
	size_t i;

	json_array_foreach(inputs, i, in)
	{
		json_t *copy = json_copy((json_t *)(uintptr_t)in);
		const json_t *parent = json_object_get(done, jx_get_str(in, "job", ""));
		const json_t *out =
			json_object_get(json_object_get(parent, "outputs"),
					jx_get_str(in, "output", jx_get_str(in, "role", "")));

		if (out) {
			json_object_set(copy, "digest", json_object_get(out, "digest"));
			json_object_set(copy, "kind", json_object_get(out, "kind"));
			json_object_set(copy, "size", json_object_get(out, "size"));
			if (json_object_get(out, "meta"))
				json_object_set(copy, "meta", json_object_get(out, "meta"));
		}
		json_array_append_new(list, copy);
	}
	return list;
}

/* --- stages -------------------------------------------------------------------------------- */

struct tally {
	json_t *counts;
	int64_t n, done_units, total_units, tokens;
	double seconds;
	double token_seconds; /* of the jobs whose tokens are counted */
	const char *unit; /* borrowed from a job */
};

static void tally_speed(struct tally *t, const json_t *metrics)
{
	int64_t tokens = jx_get_i64(metrics, "tokens", 0);

	t->tokens += tokens;
	if (tokens > 0)
		t->token_seconds += jx_get_f64(metrics, "seconds", 0);
}

static void tally_add(struct tally *t, const json_t *job)
{
	const char *state = jx_get_str(job, "state", "blocked");
	const json_t *p = json_object_get(job, "progress");
	int64_t started = jx_get_i64(job, "started_ms", 0), ended = jx_get_i64(job, "ended_ms", 0);
	bool done = strcmp(state, "done") == 0, running = strcmp(state, "running") == 0;
	int64_t total = jx_get_i64(p, "total", 0), at = jx_get_i64(p, "done", 0);

	json_object_set_new(t->counts, state, json_integer(jx_get_i64(t->counts, state, 0) + 1));
	t->n++;
	t->total_units += total;
	t->done_units += done ? total : at;
	if (p && !t->unit)
		t->unit = jx_get_str(p, "unit", NULL);
	if (done)
		tally_speed(t, json_object_get(job, "metrics"));
	if (done)
		t->seconds += jx_get_f64(json_object_get(job, "info"), "seconds",
					 started && ended ? (double)(ended - started) / 1000 : 0);
	else if (running && started)
		t->seconds += (double)(clk_now_ms() - started) / 1000;
}

/* One word for a stage; the first state of this order that any of its jobs is in. */
static const char *stage_state(const struct tally *t)
{
	static const char *const order[] = {"failed",	 "running", "ready", "delayed",
					    "cancelled", "blocked", "done",  "skipped"};

	if (t->n && jx_get_i64(t->counts, "blocked", 0) && jx_get_i64(t->counts, "done", 0))
		return "running"; /* Between two jobs of one stage. */
	for (size_t i = 0; i < sizeof order / sizeof *order; i++)
		if (jx_get_i64(t->counts, order[i], 0) > 0)
			return order[i];
	return "blocked";
}

static json_t *stage_json(const json_t *planned, const json_t *jobs)
{
	int64_t iter = jx_get_i64(planned, "iter", 0);
	const char *stage = jx_get_str(planned, "stage", "");
	struct tally t = {.counts = json_object()};
	const json_t *job;
	size_t i;

	json_array_foreach(jobs, i, job) if (jx_get_i64(job, "iter", -1) == iter &&
					     strcmp(jx_get_str(job, "stage", ""), stage) == 0)
		tally_add(&t, job);
	return json_pack(
		"{s:I, s:s, s:s, s:o, s:I, s:b, s:I, s:I, s:s?, s:f, s:I, s:f}", "iter", (json_int_t)iter,
		"stage", stage, "state", stage_state(&t), "counts", t.counts, "planned",
		(json_int_t)(t.n ? t.n : jx_get_i64(planned, "jobs", 0)), "estimate",
		jx_get_bool(planned, "estimate", false), "done_units", (json_int_t)t.done_units,
		"total_units", (json_int_t)t.total_units, "unit", t.unit, "seconds", t.seconds,
		"tokens", (json_int_t)t.tokens, "tokens_per_s",
		t.token_seconds > 0 ? (double)t.tokens / t.token_seconds : 0.0);
}

json_t *view_stages(const json_t *spec, const json_t *jobs)
{
	json_t *summary = plan_summary(spec, jobs), *list = json_array(), *s;
	size_t i;

	json_array_foreach(summary, i, s) json_array_append_new(list, stage_json(s, jobs));
	json_decref(summary);
	return list;
}

/* --- models -------------------------------------------------------------------------------- */

/* Figures of a job whose names begin so; those that are there already stay. */
static void take_figures(json_t *into, const json_t *job, const char *prefix)
{
	json_t *metrics = json_object_get(job, "metrics"), *v;
	const char *key;

	json_object_foreach(metrics, key, v)
		if (strncmp(key, prefix, strlen(prefix)) == 0 && !json_object_get(into, key))
			json_object_set(into, key, v);
}

/* All that was measured of a model: by its evaluation, the examination of its judge, the benchmarks, and of
 * what it answered and judged in the iteration that began with it. */
static json_t *model_metrics(const json_t *jobs, const char *name, int64_t iter)
{
	static const char *const from[][2] = {{"eval", ""}, {"health", "health."}, {"bench", "bench."}};
	json_t *all = json_object();
	const json_t *job;
	size_t i;

	json_array_foreach(jobs, i, job)
		for (size_t k = 0; k < sizeof from / sizeof *from; k++)
			if (strcmp(jx_get_str(job, "stage", ""), from[k][0]) == 0 &&
			    strcmp(jx_get_str(json_object_get(job, "params"), "name", ""), name) == 0)
				take_figures(all, job, from[k][1]);
	json_array_foreach(jobs, i, job)
		if (strcmp(jx_get_str(job, "stage", ""), "pair") == 0 &&
		    jx_get_i64(job, "iter", 0) == iter + 1 && strcmp(name, "SFT") != 0)
			take_figures(all, job, "pair.");
	return all;
}

json_t *view_models(const json_t *spec, const json_t *jobs, const char *run)
{
	json_t *done = view_done(jobs), *models = plan_models(spec, done, run),
	       *list = json_array(), *m;
	size_t i;

	json_array_foreach(models, i, m)
	{
		const char *job = jx_get_str(m, "job", ""), *name = jx_get_str(m, "name", "");
		const json_t *outs = json_object_get(json_object_get(done, job), "outputs");
		const char *digest = jx_get_str(json_object_get(outs, jx_get_str(m, "output", "")),
						"digest", NULL);

		if (digest)
			json_array_append_new(list, json_pack("{s:s, s:I, s:s, s:s, s:o}", "name",
							      name, "iter",
							      (json_int_t)jx_get_i64(m, "iter", 0),
							      "job", job, "checkpoint", digest,
							      "metrics",
							      model_metrics(jobs, name,
									    jx_get_i64(m, "iter", 0))));
	}
	json_decref(models);
	json_decref(done);
	return list;
}

/* --- records ------------------------------------------------------------------------------- */

/* When one of its jobs began, kept something or ended last; beats do not count. */
static int64_t last_change_ms(const json_t *run, const json_t *jobs)
{
	static const char *const times[] = {"started_ms", "checkpoint_ms", "ended_ms"};
	int64_t last = jx_get_i64(run, "created_ms", 0), t = jx_get_i64(run, "ended_ms", 0);
	const json_t *job;
	size_t i;

	last = t > last ? t : last;
	json_array_foreach(jobs, i, job)
	for (size_t k = 0; k < sizeof times / sizeof *times; k++) {
		t = jx_get_i64(job, times[k], 0);
		last = t > last ? t : last;
	}
	return last;
}

json_t *view_run(const json_t *run, const json_t *jobs, bool single)
{
	static const char *const names[] = {"id",	    "name",	  "state",    "final_digest",
					    "error",	    "owner",	  "class",    "weight",
					    "max_running",  "useful_s",	  "lost_s",   "useful_cost",
					    "lost_cost",    "torn_off",	  "notes",    "tags",
					    "starred",	    "revision",	  NULL};
	const json_t *record = json_object_get(run, "record"),
		     *spec = json_object_get(record, "spec");
	json_t *out = json_object();

	copy_members(out, run, names);
	json_put(out, "created_at", time_of(run, "created_ms"));
	json_put(out, "updated_at", json_time(last_change_ms(run, jobs)));
	json_put(out, "ended_at", time_of(run, "ended_ms"));
	json_put(out, "iterations", json_integer(jx_get_i64(spec, "iterations", 0)));
	json_put(out, "seed", json_integer(jx_get_i64(spec, "seed", 0)));
	json_put(out, "submitted_by", json_string(jx_get_str(record, "by", "")));
	json_put(out, "counts", json_incref(json_object_get(run, "counts")));
	json_put(out, "progress",
		 json_pack("{s:I, s:I}", "jobs_done",
			   (json_int_t)jx_get_i64(json_object_get(run, "counts"), "done", 0),
			   "jobs_total", (json_int_t)jx_get_i64(run, "total", 0)));
	json_put(out, "stages", spec ? view_stages(spec, jobs) : json_array());
	json_put(out, "models",
		 spec ? view_models(spec, jobs, jx_get_str(run, "id", "")) : json_array());
	if (single && spec)
		json_object_set(out, "spec", (json_t *)(uintptr_t)spec);
	return out;
}

json_t *view_job(const json_t *job, const json_t *done)
{
	static const char *const names[] = {
		"id",	    "run",	    "iter",	   "stage",   "shard",	    "pass",
		"state",    "losses",	    "preemptions", "worker",  "progress",   "wait_reason",
		"error",    "outputs",	    "params",	   "metrics", "checkpoint", "parents",
		"log_size", "max_attempts", "optional",	   "pool",    "priority",   "generation",
		"stuck",    NULL};
	json_t *out = json_object();

	copy_members(out, job, names);
	if (json_object_get(job, "tag"))
		json_put(out, "revision", json_incref(json_object_get(job, "tag")));
	json_put(out, "attempts", json_integer(jx_get_i64(job, "starts", 0)));
	json_put(out, "failures", json_integer(jx_get_i64(job, "attempts", 0)));
	json_put(out, "created_at", time_of(job, "created_ms"));
	json_put(out, "started_at", time_of(job, "started_ms"));
	json_put(out, "ended_at", time_of(job, "ended_ms"));
	json_put(out, "last_beat_at", time_of(job, "last_beat_ms"));
	json_put(out, "info", json_incref(json_object_get(job, "info")));
	json_put(out, "inputs", view_inputs(json_object_get(job, "inputs"), done));
	return out;
}

json_t *view_waiting(const json_t *w)
{
	static const char *const names[] = {"reason", "position", "queue_length", "runs_ahead", NULL};
	json_t *out = json_object(), *list = json_array();
	const json_t *h;
	size_t i;

	copy_members(out, w, names);
	json_put(out, "since_at", time_of(w, "since_ms"));
	json_array_foreach(json_object_get(w, "history"), i, h)
		json_array_append_new(list, json_pack("{s:s, s:o, s:o}", "reason",
						      jx_get_str(h, "reason", ""), "from_at",
						      time_of(h, "from_ms"), "to_at", time_of(h, "to_ms")));
	json_put(out, "history", list);
	return out;
}

static json_t *view_marks(const json_t *marks)
{
	json_t *list = json_array();
	const json_t *m;
	size_t i;

	json_array_foreach(marks, i, m)
		json_array_append_new(list, json_pack("{s:o, s:s, s:I}", "at", time_of(m, "at_ms"), "kind",
						      jx_get_str(m, "kind", ""), "done",
						      (json_int_t)jx_get_i64(m, "done", 0)));
	return list;
}

json_t *view_attempt(const json_t *a, const json_t *job, int64_t log_size)
{
	static const char *const names[] = {"n",	   "worker", "end", "from_progress",
					    "to_progress", "useful_ms", "lost_ms", NULL};
	static const char *const job_names[] = {"iter", "stage", "shard", "pass", NULL};
	const json_t *reason = json_object_get(a, "reason");
	json_t *out = json_object();

	copy_members(out, a, names);
	json_put(out, "job", json_incref(json_object_get(job, "id")));
	copy_members(out, job, job_names);
	json_put(out, "started_at", time_of(a, "started_ms"));
	json_put(out, "ended_at", time_of(a, "ended_ms"));
	json_put(out, "reason",
		 json_is_object(reason) ? json_string(jx_get_str(reason, "message", ""))
					: json_incref((json_t *)(uintptr_t)reason));
	json_put(out, "exit_code", json_incref(json_object_get(reason, "exit_code")));
	json_put(out, "signal", json_incref(json_object_get(reason, "signal")));
	json_put(out, "log_size", json_integer(log_size));
	json_put(out, "marks", view_marks(json_object_get(a, "marks")));
	return out;
}

json_t *view_worker(const json_t *w)
{
	static const char *const names[] = {"id",	 "name",	"state", "job",
					    "jobs_done", "preemptions", "gpus",	 "unhealthy", NULL};
	static const char *const info_names[] = {
		"engine",	"code",	  "host",	    "pid",    "threads",
		"memory_bytes", "labels", "price_per_hour", "stages", "pools", NULL};
	json_t *out = json_object();

	copy_members(out, w, names);
	copy_members(out, json_object_get(w, "info"), info_names);
	json_put(out, "last_beat_at", time_of(w, "last_beat_ms"));
	json_put(out, "started_at", time_of(w, "started_ms"));
	return out;
}
