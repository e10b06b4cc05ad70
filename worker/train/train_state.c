/* Optimizer state on disk: optimizer.safetensors holds "m.<tensor>" and "v.<tensor>", state.json
 * the number of updates and whatever cursor the caller adds. Same state, same bytes. */
#include "worker/train/trainer.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/safetensors.h"
#include "worker/model/mirror.h"
#include "worker/train/trainer_inner.h"

#include <stdlib.h>
#include <string.h>

#define STATE_FORMAT 1
#define STATE_BYTES_MAX (16u << 20)
#define PATH_SIZE 4200

/* A slab of moments in the program's memory, to be given to moments_free(); NULL when there is no
 * room for a copy. */
static const float *moments_here(struct trainer *tr, float *slab)
{
	size_t bytes = tr->set.n * sizeof *slab;
	float *here = tr->k->host ? slab : tr->k->pin(tr->pool, bytes);

	if (here && here != slab) {
		tr->k->snap(tr->pool, here, slab, bytes);
		tr->k->snapped(tr->pool);
	}
	return here;
}

static void moments_free(struct trainer *tr, const float *here, const float *slab)
{
	if (here && here != slab)
		tr->k->unpin(tr->pool, (void *)(uintptr_t)here, tr->set.n * sizeof *here);
}

static enum rc save_moments(struct trainer *tr, const char *dir, struct err *e)
{
	size_t n = (size_t)tr->set.n_tensors;
	struct st_tensor *list = mem_array(2 * n, sizeof *list);
	char(*names)[MODEL_NAME_MAX + 4] = mem_array(2 * n, sizeof *names);
	const float *m = moments_here(tr, tr->adam_m), *v = moments_here(tr, tr->adam_v);
	char path[PATH_SIZE];
	enum rc rc = m && v ? mirror_fault(tr->k, tr->pool, e)
			    : err_set(e, RC_NOMEM, "no memory for a copy of the moments");

	if (rc != RC_OK)
		goto out;
	for (size_t i = 0; i < 2 * n; i++) {
		const struct tensor_ref *t = &tr->set.tensors[i % n];
		const float *slab = i < n ? m : v;

		str_fmt(names[i], sizeof names[i], "%c.%s", i < n ? 'm' : 'v', t->name);
		list[i] = (struct st_tensor){.name = names[i],
					     .dtype = ST_F32,
					     .ndim = t->cols ? 2 : 1,
					     .shape = {t->rows, t->cols},
					     .data = slab + t->offset,
					     .size_bytes = tensor_size(t) * sizeof(float)};
	}
	str_fmt(path, sizeof path, "%s/optimizer.safetensors", dir);
	rc = st_write(path, list, 2 * n, NULL, e);
out:
	moments_free(tr, m, tr->adam_m);
	moments_free(tr, v, tr->adam_v);
	free(list);
	free(names);
	return rc;
}

enum rc trainer_save_state(struct trainer *tr, const char *dir, const json_t *cursor,
			   struct err *e)
{
	struct buf text = BUF_INIT;
	char path[PATH_SIZE];
	json_t *o;
	enum rc rc = fs_mkdirs(dir, e);

	if (rc != RC_OK || (rc = save_moments(tr, dir, e)) != RC_OK)
		return rc;
	o = json_pack("{s:i, s:I}", "format", STATE_FORMAT, "adam_steps",
		      (json_int_t)tr->adam_steps);
	if (cursor)
		json_object_set_new(o, "cursor", json_deep_copy(cursor));
	jx_dump(o, &text);
	json_decref(o);
	str_fmt(path, sizeof path, "%s/state.json", dir);
	rc = fs_write_durable(path, text.data, text.len, e);
	buf_release(&text);
	return rc;
}

static enum rc load_moment(struct trainer *tr, const struct st *st, int i, char which, float *out,
			   struct err *e)
{
	const struct tensor_ref *ref = &tr->set.tensors[i];
	const struct st_tensor *t;
	char name[MODEL_NAME_MAX + 4];

	str_fmt(name, sizeof name, "%c.%s", which, ref->name);
	t = st_find(st, name);
	if (!t || t->dtype != ST_F32 || t->size_bytes != tensor_size(ref) * sizeof(float))
		return err_set(e, RC_CORRUPT, "tensor %s: expected F32 of %zu elements", name,
			       tensor_size(ref));
	tr->k->put(tr->pool, out + ref->offset, t->data, t->size_bytes);
	return RC_OK;
}

static enum rc load_moments(struct trainer *tr, const char *path, struct err *e)
{
	struct st *st = NULL;
	enum rc rc = st_open(path, &st, e);

	for (int i = 0; i < tr->set.n_tensors && rc == RC_OK; i++) {
		rc = load_moment(tr, st, i, 'm', tr->adam_m, e);
		if (rc == RC_OK)
			rc = load_moment(tr, st, i, 'v', tr->adam_v, e);
	}
	if (rc == RC_OK && st_count(st) != 2 * (size_t)tr->set.n_tensors)
		rc = err_set(e, RC_CORRUPT, "%zu tensors, expected %d", st_count(st),
			     2 * tr->set.n_tensors);
	if (st)
		st_close(st);
	return rc == RC_OK ? RC_OK : err_wrap(e, "%s", path);
}

enum rc trainer_load_state(struct trainer *tr, const char *dir, json_t **cursor, struct err *e)
{
	char path[PATH_SIZE];
	json_t *o = NULL;
	int64_t format = 0, steps = 0;
	enum rc rc;

	str_fmt(path, sizeof path, "%s/state.json", dir);
	rc = jx_load(path, STATE_BYTES_MAX, &o, e);
	if (rc != RC_OK)
		return rc;
	if ((rc = jx_i64(o, "format", STATE_FORMAT, STATE_FORMAT, &format, e)) != RC_OK ||
	    (rc = jx_i64(o, "adam_steps", 0, INT32_MAX, &steps, e)) != RC_OK) {
		err_wrap(e, "%s", path);
		goto out;
	}
	str_fmt(path, sizeof path, "%s/optimizer.safetensors", dir);
	if ((rc = load_moments(tr, path, e)) != RC_OK)
		goto out;
	tr->adam_steps = steps;
	if (cursor)
		*cursor = json_deep_copy(json_object_get(o, "cursor"));
out:
	json_decref(o);
	return rc;
}
