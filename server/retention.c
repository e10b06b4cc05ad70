#include "server/retention.h"

#include "base/clk.h"
#include "base/conf.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "queue/queue.h"
#include "queue/states.h"
#include "server/hold.h"
#include "server/server.h"
#include "server/view.h"
#include "server/volumes.h"
#include "store/gc.h"
#include "store/store.h"

#include <math.h>
#include <string.h>

struct retention retention_of(const struct server *s)
{
	return (struct retention){.last = conf_i64(s->conf, "server.keep_last"),
				  .every = conf_i64(s->conf, "server.keep_every"),
				  .best = conf_str(s->conf, "server.keep_best"),
				  .states = conf_bool(s->conf, "server.keep_states")};
}

bool retention_on(const struct retention *p)
{
	return p->last > 0 || p->every > 0 || p->best[0];
}

/* Index of the model with the highest figure; -1 when none has it. */
static int best_of(const json_t *models, const char *name)
{
	double most = -INFINITY;
	const json_t *m;
	int best = -1;
	size_t i;

	json_array_foreach(models, i, m)
	{
		double v = jx_get_f64(json_object_get(m, "metrics"), name, -INFINITY);

		if (v > most) {
			most = v;
			best = (int)i;
		}
	}
	return best;
}

/* Digests of the models that stay, as keys. */
static json_t *kept_models(const struct retention *p, const json_t *run, const json_t *models)
{
	int n = (int)json_array_size(models), best = p->best[0] ? best_of(models, p->best) : -1;
	json_t *kept = json_object();
	const json_t *m;
	size_t i;

	json_array_foreach(models, i, m)
	{
		int64_t iter = jx_get_i64(m, "iter", 0);
		int left = n - 1 - (int)i;

		if (left == 0 || left < p->last || (int)i == best ||
		    (p->every > 0 && iter % p->every == 0))
			json_object_set_new(kept, jx_get_str(m, "checkpoint", ""), json_true());
	}
	json_object_set_new(kept, jx_get_str(run, "final_digest", ""), json_true());
	return kept;
}

static bool goes(const struct retention *p, const json_t *kept, const json_t *out)
{
	const char *kind = jx_get_str(out, "kind", "");

	if (json_object_get(kept, jx_get_str(out, "digest", "")))
		return false;
	return !strcmp(kind, "checkpoint") || (!strcmp(kind, "train_state") && !p->states);
}

/* The last checkpoint inside a job that is done. */
static void add_inner(const json_t *job, const json_t *kept, json_t *gone)
{
	const json_t *v;
	const char *role;

	json_object_foreach(json_object_get(json_object_get(job, "checkpoint"), "outputs"), role, v)
	{
		const char *digest =
			json_is_string(v) ? json_string_value(v) : jx_get_str(v, "digest", "");

		if (sha256_hex_valid(digest) && !json_object_get(kept, digest) &&
		    !json_object_get(gone, digest))
			json_object_set_new(gone, digest,
					    json_pack("{s:O?, s:s, s:s}", "job",
						      json_object_get(job, "id"), "role", role,
						      "kind", "progress"));
	}
}

/* Volumes go with the outputs that go, unless one of the run that stays has them as well. */
static void add_volumes(const json_t *jobs, json_t *gone)
{
	json_t *held = json_object(), *going = json_object(), *job, *out, *v;
	const char *role, *digest;
	size_t i, k;

	json_array_foreach(jobs, i, job)
	{
		json_t *note = json_pack("{s:O?, s:s}", "job", json_object_get(job, "id"), "kind",
					 "volume");

		json_array_foreach(json_object_get(job, "outputs"), k, out) volumes_add(
			out,
			json_object_get(gone, jx_get_str(out, "digest", "")) ? going : held, note);
		json_object_foreach(json_object_get(json_object_get(job, "checkpoint"), "outputs"),
				    role, out)
			volumes_add(out,
				    json_object_get(gone, jx_get_str(out, "digest", "")) ? going
											 : held,
				    note);
		json_decref(note);
	}
	json_object_foreach(going, digest, v) if (!json_object_get(held, digest))
		json_object_set(gone, digest, v);
	json_decref(held);
	json_decref(going);
}

json_t *retention_pick(const struct retention *p, const json_t *run, const json_t *jobs)
{
	const char *id = jx_get_str(run, "id", "");
	const json_t *spec = json_object_get(json_object_get(run, "record"), "spec"), *job, *out;
	json_t *gone = json_object(), *models, *kept;
	enum run_state state;
	size_t i, k;

	if (!retention_on(p) || !spec || !run_state_of(jx_get_str(run, "state", ""), &state) ||
	    !run_state_terminal(state))
		return gone;
	models = view_models(spec, jobs, id);
	kept = kept_models(p, run, models);
	json_array_foreach(jobs, i, job)
	{
		bool import = !strcmp(jx_get_str(job, "stage", ""), "import");

		if (import || strcmp(jx_get_str(job, "state", ""), "done"))
			continue;
		json_array_foreach(json_object_get(job, "outputs"), k, out) if (goes(p, kept, out))
			json_object_set_new(gone, jx_get_str(out, "digest", ""),
					    json_pack("{s:O?, s:O?, s:O?, s:O?}", "job",
						      json_object_get(job, "id"), "role",
						      json_object_get(out, "role"), "kind",
						      json_object_get(out, "kind"), "size",
						      json_object_get(out, "size")));
		add_inner(job, kept, gone);
	}
	add_volumes(jobs, gone);
	json_decref(models);
	json_decref(kept);
	return gone;
}

static void path_of(const char *run, char out[96])
{
	str_fmt(out, 96, GC_GIVEN_UP "/%.60s.json", run);
}

/* {"digests","asked"}, both there. */
static json_t *document(struct server *s, const char *run)
{
	static const char *const parts[] = {"digests", "asked"};
	char path[96];
	json_t *doc = NULL;

	path_of(run, path);
	if (store_doc_get(s->store, path, &doc, NULL) != RC_OK)
		doc = json_object();
	for (int i = 0; i < 2; i++)
		if (!json_is_object(json_object_get(doc, parts[i])))
			json_object_set_new(doc, parts[i], json_object());
	return doc;
}

json_t *retention_given_up(struct server *s, const char *run)
{
	json_t *doc = document(s, run), *all = json_copy(json_object_get(doc, "digests"));

	json_object_update(all, json_object_get(doc, "asked"));
	json_decref(doc);
	return all;
}

json_t *retention_asked(struct server *s, const char *run)
{
	json_t *doc = document(s, run), *asked = json_incref(json_object_get(doc, "asked"));

	json_decref(doc);
	return asked;
}

/* Replaces, or adds to, one part of the document. */
static enum rc change(struct server *s, const char *run, const char *part, json_t *digests, bool add,
		      struct err *e)
{
	struct hold h;
	json_t *doc, *before;
	char path[96];
	enum rc rc = hold_take(s, "given-up", run, &h, e);

	if (rc)
		return rc;
	doc = document(s, run);
	before = json_copy(json_object_get(doc, part));
	if (add)
		json_object_update(json_object_get(doc, part), digests);
	else
		json_object_set(doc, part, digests);
	if (!json_equal(before, json_object_get(doc, part))) {
		path_of(run, path);
		json_object_set_new(doc, "run", json_string(run));
		rc = store_doc_put(s->store, path, doc, e);
	}
	hold_drop(&h);
	json_decref(before);
	json_decref(doc);
	return rc;
}

enum rc retention_note(struct server *s, const char *run, json_t *digests, struct err *e)
{
	return change(s, run, "digests", digests, false, e);
}

enum rc retention_ask(struct server *s, const char *run, const json_t *jobs, const json_t *output,
		      const char *who, struct err *e)
{
	json_t *gone = json_object(), *v, *copy;
	const char *digest;
	enum rc rc;

	json_object_set_new(gone, jx_get_str(output, "digest", ""),
			    json_pack("{s:O?, s:O?, s:O?}", "role", json_object_get(output, "role"), "kind",
				      json_object_get(output, "kind"), "size",
				      json_object_get(output, "size")));
	add_volumes(jobs, gone);
	json_object_foreach(gone, digest, v)
	{
		copy = json_copy(v);
		json_object_set_new(copy, "by", json_string(who));
		json_object_set_new(copy, "at_ms", json_integer(clk_now_ms()));
		json_object_set_new(gone, digest, copy);
	}
	rc = change(s, run, "asked", gone, true, e);
	json_decref(gone);
	return rc;
}
