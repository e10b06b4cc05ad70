/* Models of one or several runs side by side: what their eval jobs measured, and head-to-head
 * results with 95 % Wilson intervals (a tie counts half). */
#include "server/api.h"

#include "base/jsonx.h"
#include "server/compare.h"
#include "server/listing.h"
#include "server/reply.h"
#include "server/server.h"
#include "server/view.h"

#include <math.h>
#include <string.h>

#define RUNS_MAX 10

void wilson(double successes, double n, double *low, double *high)
{
	const double z = 1.959963984540054;
	double p = n > 0 ? successes / n : 0, d = 1 + z * z / n, mid, half;

	if (n <= 0) {
		*low = 0;
		*high = 1;
		return;
	}
	mid = (p + z * z / (2 * n)) / d;
	half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / d;
	*low = fmax(0, mid - half);
	*high = fmin(1, mid + half);
}

struct compare_ctx {
	json_t *models, *pairs;
};

static void add_pair(json_t *pairs, const char *run, const char *name, const json_t *m)
{
	const char *opponent = jx_get_str(m, "h2h.opponent", NULL);
	double win = jx_get_f64(m, "h2h.win", 0), tie = jx_get_f64(m, "h2h.tie", 0);
	double loss = jx_get_f64(m, "h2h.loss", 0), n = win + tie + loss, low, high;

	if (!opponent || n <= 0)
		return;
	wilson(win + tie / 2, n, &low, &high);
	json_array_append_new(pairs, json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f}",
					       "run", run, "a", name, "b", opponent, "win", win,
					       "tie", tie, "loss", loss, "n", n, "rate",
					       (win + tie / 2) / n, "low", low, "high", high));
}

static void see_run(void *p, const json_t *run, const json_t *jobs)
{
	struct compare_ctx *c = p;
	const char *id = jx_get_str(run, "id", "");
	const json_t *spec = json_object_get(json_object_get(run, "record"), "spec");
	json_t *models = view_models(spec, jobs, id), *m;
	size_t i;

	json_array_foreach(models, i, m)
	{
		json_object_set_new(m, "run", json_string(id));
		json_object_set(m, "run_name", json_object_get(run, "name"));
		json_array_append(c->models, m);
		add_pair(c->pairs, id, jx_get_str(m, "name", ""), json_object_get(m, "metrics"));
	}
	json_decref(models);
}

/* run=a,b,c */
void api_compare(struct req *r)
{
	struct compare_ctx c = {json_array(), json_array()};
	const char *p = req_query(r, "run");
	struct err e = {0};
	enum rc rc = RC_OK;
	int n = 0;

	if (!p || !p[0]) {
		reply_problem(r, 400, "invalid", "expected run=ID or run=ID,ID");
		goto out;
	}
	while (!rc && *p && n++ < RUNS_MAX) {
		size_t len = strcspn(p, ",");
		const char *run = arena_strn(&r->arena, p, len);

		if (run[0])
			rc = listing_runs(r->srv, run, see_run, &c, &e);
		p += len + (p[len] == ',');
	}
	if (rc)
		reply_err(r, &e);
	else
		reply_json(r, 200, json_pack("{s:O, s:O}", "models", c.models, "pairs", c.pairs));
out:
	json_decref(c.models);
	json_decref(c.pairs);
}
