/* Checkpoints: listed with their lineage, downloaded as tar with ranges; and the blobs that workers
 * read when they cannot reach the store themselves (api_upload.c is how they write). */
#include "server/api.h"

#include "base/jsonx.h"
#include "base/sha256.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/index.h"
#include "server/listing.h"
#include "server/range.h"
#include "server/reply.h"
#include "server/retention.h"
#include "server/server.h"
#include "server/view.h"
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

/* --- lists --------------------------------------------------------------------------------- */

struct ckpt_ctx {
	json_t *items;
	const char *digest; /* only this one; NULL all */
};

/* The model whose weights an output is ("M2"), else what the job did ("step 120", "base"). */
static void ckpt_name(const json_t *models, const json_t *job, const json_t *out, char name[64],
		      const json_t **metrics)
{
	const char *digest = jx_get_str(out, "digest", ""), *stage = jx_get_str(job, "stage", "");
	int64_t step = jx_get_i64(json_object_get(job, "params"), "step_to",
				  jx_get_i64(json_object_get(job, "progress"), "done", 0));
	const json_t *m;
	size_t i;

	*metrics = json_object_get(job, "metrics");
	if (strcmp(stage, "import") == 0)
		str_copy(name, 64, "base");
	else
		str_fmt(name, 64, "step %lld", (long long)step);
	json_array_foreach(models, i, m) if (strcmp(jx_get_str(m, "checkpoint", ""), digest) == 0)
	{
		str_copy(name, 64, jx_get_str(m, "name", ""));
		*metrics = json_object_get(m, "metrics");
	}
}

static void add_output(struct ckpt_ctx *c, const json_t *models, const json_t *job,
		       const json_t *out)
{
	const json_t *metrics;
	char name[64];

	if (!kind_is_weights(jx_get_str(out, "kind", "")) ||
	    (c->digest && strcmp(c->digest, jx_get_str(out, "digest", "")) != 0))
		return;
	ckpt_name(models, job, out, name, &metrics);
	json_array_append_new(c->items, listing_checkpoint(out, job, name, metrics));
}

/* The last checkpoint of a job that still trains. */
static void add_running(struct ckpt_ctx *c, const json_t *models, const json_t *job)
{
	const json_t *outs = json_object_get(json_object_get(job, "checkpoint"), "outputs"), *v;
	const char *role;

	if (strcmp(jx_get_str(job, "state", ""), "done") == 0)
		return;
	json_object_foreach((json_t *)(uintptr_t)outs, role, v)
	{
		const char *kind = strcmp(role, "model") == 0	? "checkpoint"
				   : strcmp(role, "state") == 0 ? "train_state"
								: "progress";
		json_t *out = json_is_object(v) ? json_copy((json_t *)(uintptr_t)v) : json_object();

		if (json_is_string(v))
			json_object_set(out, "digest", (json_t *)(uintptr_t)v);
		json_object_set_new(out, "role", json_string(role));
		if (!json_object_get(out, "kind"))
			json_object_set_new(out, "kind", json_string(kind));
		add_output(c, models, job, out);
		json_decref(out);
	}
}

static void see_run(void *p, const json_t *run, const json_t *jobs)
{
	struct ckpt_ctx *c = p;
	const json_t *spec = json_object_get(json_object_get(run, "record"), "spec"), *job, *out;
	json_t *models = view_models(spec, jobs, jx_get_str(run, "id", "")),
	       *done = view_done(jobs);
	size_t i, k;

	json_array_foreach(jobs, i, job)
	{
		json_t *full = json_copy((json_t *)(uintptr_t)job);

		json_object_set_new(full, "inputs",
				    view_inputs(json_object_get(job, "inputs"), done));
		json_array_foreach(json_object_get(job, "outputs"), k, out)
			add_output(c, models, full, out);
		add_running(c, models, full);
		json_decref(full);
	}
	json_decref(models);
	json_decref(done);
}

void api_ckpt_list(struct req *r)
{
	struct ckpt_ctx c = {NULL, NULL};
	struct err e = {0};
	int64_t limit, from;

	if (!req_query_i64(r, "limit", 1000, 1, 10000, &limit) ||
	    !req_query_i64(r, "cursor", 0, 0, INT32_MAX, &from))
		return;
	c.items = json_array();
	if (listing_runs(r->srv, req_query(r, "run"), see_run, &c, &e))
		reply_err(r, &e);
	else
		reply_page(r, c.items, from, limit);
	json_decref(c.items);
}

/* Whether its run has given it up: it goes when the garbage is next looked through. */
static json_t *with_fate(struct server *s, json_t *v)
{
	json_t *gone = retention_given_up(s, jx_get_str(v, "run", ""));

	json_put(v, "given_up", json_boolean(json_object_get(gone, jx_get_str(v, "digest", "")) != NULL));
	json_decref(gone);
	return v;
}

void api_ckpt_get(struct req *r)
{
	struct ckpt_ctx c = {.items = json_array(), .digest = r->args[0]};
	struct err e = {0};
	json_t *entry = NULL;
	enum rc rc = index_get(r->srv, r->args[0], &entry, &e);

	if (!rc && jx_get_str(entry, "run", NULL))
		rc = listing_runs(r->srv, jx_get_str(entry, "run", NULL), see_run, &c, &e);
	if (rc)
		reply_err(r, &e);
	else if (json_array_size(c.items))
		reply_json(r, 200, with_fate(r->srv, json_incref(json_array_get(c.items, 0))));
	else /* Known to the store alone. */
		reply_json(r, 200, listing_checkpoint(entry, entry, "", NULL));
	json_decref(entry);
	json_decref(c.items);
}

/* --- bytes --------------------------------------------------------------------------------- */

static void send_blob(struct req *r, const char *digest)
{
	char name[48];

	if (!sha256_hex_valid(digest)) {
		reply_problem(r, 404, "not-found", "no artifact \"%s\"", digest);
		return;
	}
	str_fmt(name, sizeof name, "pawl-%.12s.tar", digest);
	range_send(r, digest, name);
}

void api_ckpt_content(struct req *r)
{
	send_blob(r, r->args[0]);
}

void api_blob_get(struct req *r)
{
	send_blob(r, r->args[0]);
}
