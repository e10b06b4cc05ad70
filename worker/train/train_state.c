/* Optimizer state on disk: optimizer.safetensors, or several files of a large one with their index,
 * holds "m.<tensor>" and "v.<tensor>"; state.json the number of updates and whatever cursor the caller
 * adds. Same state, same bytes. Ranks that divide batches leave optimizer-00001-of-0000N.safetensors and
 * no index instead: of each as many, its coll_part() of the slab in parts, as "m" and "v"; state.json
 * says how many ranks ("shards") and, where there are several of one, "parts". */
#include "worker/train/trainer.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/safetensors.h"
#include "store/volume.h"
#include "worker/model/shard.h"
#include "worker/train/trainer_inner.h"

#include <stdlib.h>
#include <string.h>

#define STATE_FORMAT 1
#define STATE_BYTES_MAX (16u << 20)
#define PATH_SIZE 4200
#define STEM "optimizer"
#define PARTS_MAX 4096

static size_t own_bytes(const struct trainer *tr)
{
	return (tr->own.to - tr->own.from) * sizeof(float);
}

/* A slab of moments in the program's memory, to be given to moments_free(); NULL when there is no
 * room for a copy. */
static const float *moments_here(struct trainer *tr, float *slab)
{
	float *here = tr->k->host ? slab : tr->k->pin(tr->pool, own_bytes(tr));

	if (here && here != slab) {
		tr->k->snap(tr->pool, here, slab, own_bytes(tr));
		tr->k->snapped(tr->pool);
	}
	return here;
}

static void moments_free(struct trainer *tr, const float *here, const float *slab)
{
	if (here && here != slab)
		tr->k->unpin(tr->pool, (void *)(uintptr_t)here, own_bytes(tr));
}

/* What the file holds; `names` is the caller's room for 2 n of them. A slab that is NULL is fed later. */
static struct st_tensor *state_list(const struct tensor_ref *refs, size_t n, const float *const slabs[2],
				    char (*names)[MODEL_NAME_MAX + 4])
{
	struct st_tensor *list = mem_array(2 * n, sizeof *list);

	for (size_t i = 0; i < 2 * n; i++) {
		const struct tensor_ref *t = &refs[i % n];
		const float *slab = slabs[i / n];

		str_fmt(names[i], sizeof names[i], "%c.%s", i < n ? 'm' : 'v', t->name);
		list[i] = (struct st_tensor){.name = names[i],
					     .dtype = ST_F32,
					     .ndim = t->cols ? 2 : 1,
					     .shape = {t->rows, t->cols},
					     .data = slab ? slab + t->offset : NULL,
					     .size_bytes = tensor_size(t) * sizeof(float)};
	}
	return list;
}

/* A set of files of moments in `dir`. */
static struct st_set state_set(const char *dir)
{
	return (struct st_set){.dir = dir, .stem = STEM, .file_max = volume_tensor_bytes()};
}

enum rc trainer_write_tensors(const char *dir, const struct tensor_ref *refs, size_t n,
			      const float *m, const float *v, struct err *e)
{
	char(*names)[MODEL_NAME_MAX + 4] = mem_array(2 * n, sizeof *names);
	struct st_tensor *list = state_list(refs, n, (const float *const[2]){m, v}, names);
	const struct st_set set = state_set(dir);
	enum rc rc = st_write_set(&set, list, 2 * n, NULL, e);

	free(list);
	free(names);
	return rc;
}

/* --- of ranks that divide batches ------------------------------------------------------------- */

/* Where part p of all parts of all ranks lies in the slab of n. */
static struct coll_span part_span(size_t n, int ranks, int parts, int p)
{
	struct coll_span rank = coll_part(n, p / parts, ranks);
	struct coll_span in = coll_part(rank.to - rank.from, p % parts, parts);

	return (struct coll_span){rank.from + in.from, rank.from + in.to};
}

/* So many that both moments of one fit into a volume: what the first rank finds, for it says so. */
static int parts_of_rank(const struct trainer *tr)
{
	size_t bytes = 2 * own_bytes(tr), max = volume_tensor_bytes();
	int64_t n = (int64_t)((bytes + max - 1) / max);

	n = n < 1 ? 1 : n > PARTS_MAX ? PARTS_MAX : n;
	(void)coll_tell(tr->o.data, &n, sizeof n, 0);
	return (int)n;
}

static enum rc write_part(const struct trainer *tr, const char *dir, const float *m, const float *v,
			  int parts, int p, struct err *e)
{
	struct coll_span s = part_span(tr->set.n, coll_ranks(tr->o.data), parts, p);
	struct st_tensor list[2] = {{.name = "m", .data = m + (s.from - tr->own.from)},
				    {.name = "v", .data = v + (s.from - tr->own.from)}};
	char path[PATH_SIZE];

	for (int i = 0; i < 2; i++) {
		list[i].dtype = ST_F32;
		list[i].ndim = 1;
		list[i].shape[0] = (int64_t)(s.to - s.from);
		list[i].size_bytes = (s.to - s.from) * sizeof(float);
	}
	st_file_path(path, sizeof path, dir, STEM, p, parts * coll_ranks(tr->o.data));
	return st_write(path, list, 2, NULL, e);
}

/* The moments that this rank keeps. */
static enum rc write_parts(const struct trainer *tr, const char *dir, const float *m, const float *v,
			   int parts, struct err *e)
{
	enum rc rc = RC_OK;

	for (int i = 0; i < parts && rc == RC_OK; i++)
		rc = write_part(tr, dir, m, v, parts, coll_rank(tr->o.data) * parts + i, e);
	return rc;
}

/* --- of ranks that hold a model together ------------------------------------------------------ */

/* The parts of `tensor` ranks meet in the file, which rank 0 writes. */
static enum rc write_joined(struct trainer *tr, const char *dir, const float *m, const float *v,
			    struct err *e)
{
	struct model_config cfg = shard_whole(&tr->m->cfg);
	const float *const slabs[2] = {m, v}, *const none[2] = {NULL, NULL};
	size_t n = (size_t)tr->set.n_tensors;
	char(*names)[MODEL_NAME_MAX + 4] = mem_array(2 * n, sizeof *names);
	struct st_tensor *list = NULL;
	struct model *whole = NULL;
	struct lora *lora = NULL;
	const struct st_set set = state_set(dir);
	enum rc rc = tr->o.lora ? lora_new(&cfg, &tr->o.lora->s, 0, &lora, e)
				: model_plan(&cfg, &whole, e);

	if (rc == RC_OK) {
		list = state_list(lora ? lora->tensors : whole->tensors, n, none, names);
		rc = shard_write(tr->o.tensor, tr->set.tensors, tr->set.n_tensors, slabs, 2, &set,
				 list, e);
	}
	free(list);
	free(names);
	lora_free(lora);
	model_free(whole);
	return rc;
}

/* --- saving ----------------------------------------------------------------------------------- */

static enum rc save_moments(struct trainer *tr, const char *dir, int parts, struct err *e)
{
	const float *m = moments_here(tr, tr->adam_m), *v = moments_here(tr, tr->adam_v);
	enum rc rc = m && v ? trainer_fault(tr, e)
			    : err_set(e, RC_NOMEM, "no memory for a copy of the moments");

	if (rc == RC_OK)
		rc = tr->o.tensor ? write_joined(tr, dir, m, v, e)
		     : tr->o.data ? write_parts(tr, dir, m, v, parts, e)
				  : trainer_write_tensors(dir, tr->set.tensors,
							  (size_t)tr->set.n_tensors, m, v, e);
	moments_free(tr, m, tr->adam_m);
	moments_free(tr, v, tr->adam_v);
	return rc;
}

enum rc trainer_write_count(const char *dir, int64_t adam_steps, int shards, int parts,
			    const json_t *cursor, struct err *e)
{
	struct buf text = BUF_INIT;
	char path[PATH_SIZE];
	json_t *o = json_pack("{s:i, s:I}", "format", STATE_FORMAT, "adam_steps",
			      (json_int_t)adam_steps);

	if (shards > 0)
		json_object_set_new(o, "shards", json_integer(shards));
	if (parts > 1)
		json_object_set_new(o, "parts", json_integer(parts));
	if (cursor)
		json_object_set_new(o, "cursor", json_deep_copy(cursor));
	jx_dump(o, &text);
	json_decref(o);
	str_fmt(path, sizeof path, "%s/state.json", dir);
	enum rc rc = fs_write_durable(path, text.data, text.len, e);
	buf_release(&text);
	return rc;
}

enum rc trainer_save_state(struct trainer *tr, const char *dir, const json_t *cursor, struct err *e)
{
	int parts = tr->o.data ? parts_of_rank(tr) : 1;
	enum rc rc = fs_mkdirs(dir, e);

	if (rc != RC_OK || (rc = save_moments(tr, dir, parts, e)) != RC_OK)
		return rc;
	/* Says that all parts are there, so it comes when they are: a rank that ended before it reached
	 * the barrier has not left its own. */
	coll_barrier(tr->o.data);
	rc = trainer_fault(tr, e);
	if (rc != RC_OK || coll_rank(tr->o.data) > 0 || coll_rank(tr->o.tensor) > 0)
		return rc;
	return trainer_write_count(dir, tr->adam_steps, tr->o.data ? coll_ranks(tr->o.data) : 0, parts,
				   cursor, e);
}

/* --- loading ---------------------------------------------------------------------------------- */

/* Elements [from, to) of a slab of moments, as far as they are this rank's. */
static void put_moments(struct trainer *tr, float *slab, size_t from, size_t to, const float *x)
{
	size_t begin = from > tr->own.from ? from : tr->own.from;
	size_t end = to < tr->own.to ? to : tr->own.to;

	if (begin < end)
		tr->k->put(tr->pool, slab + (begin - tr->own.from), x + (begin - from),
			   (end - begin) * sizeof *x);
}

static enum rc load_moment(struct trainer *tr, const struct st *st, int i, char which, float *out,
			   struct err *e)
{
	const struct tensor_ref *ref = &tr->set.tensors[i];
	size_t cols = ref->cols ? (size_t)ref->cols : 1, n = tensor_size(ref);
	size_t all = (size_t)ref->all_rows * (ref->cols ? (size_t)ref->all_cols : 1);
	const struct st_tensor *t;
	char name[MODEL_NAME_MAX + 4];

	str_fmt(name, sizeof name, "%c.%s", which, ref->name);
	t = st_find(st, name);
	if (!t || t->dtype != ST_F32 || t->size_bytes != all * sizeof(float))
		return err_set(e, RC_CORRUPT, "tensor %s: expected F32 of %zu elements", name, all);
	if (ref->cols == ref->all_cols)
		cols = n; /* Its rows lie side by side in the whole as well. */
	for (size_t at = 0; at < n; at += cols)
		put_moments(tr, out, ref->offset + at, ref->offset + at + cols,
			    (const float *)t->data + tensor_whole_at(ref, at));
	return RC_OK;
}

static enum rc load_tensors(struct trainer *tr, const char *dir, struct err *e)
{
	struct st *st = NULL;
	enum rc rc = st_open_set(dir, STEM, &st, e);

	for (int i = 0; i < tr->set.n_tensors && rc == RC_OK; i++) {
		rc = load_moment(tr, st, i, 'm', tr->adam_m, e);
		if (rc == RC_OK)
			rc = load_moment(tr, st, i, 'v', tr->adam_v, e);
	}
	if (rc == RC_OK && st_count(st) != 2 * (size_t)tr->set.n_tensors)
		rc = err_set(e, RC_CORRUPT, "%zu tensors, expected %d", st_count(st),
			     2 * tr->set.n_tensors);
	st_close(st);
	return rc == RC_OK ? RC_OK : err_wrap(e, "%s/" STEM, dir);
}

static enum rc load_part(struct trainer *tr, const char *path, struct coll_span span, struct err *e)
{
	size_t bytes = (span.to - span.from) * sizeof(float);
	const struct st_tensor *m, *v;
	struct st *st = NULL;
	enum rc rc = st_open(path, &st, e);

	if (rc != RC_OK)
		return rc;
	m = st_find(st, "m");
	v = st_find(st, "v");
	if (!m || !v || m->dtype != ST_F32 || v->dtype != ST_F32 || m->size_bytes != bytes ||
	    v->size_bytes != bytes) {
		rc = err_set(e, RC_CORRUPT, "%s: expected m and v of %zu bytes", path, bytes);
	} else {
		put_moments(tr, tr->adam_m, span.from, span.to, m->data);
		put_moments(tr, tr->adam_v, span.from, span.to, v->data);
	}
	st_close(st);
	return rc;
}

static enum rc load_moments(struct trainer *tr, const char *dir, int ranks, int parts, struct err *e)
{
	char path[PATH_SIZE];
	enum rc rc = RC_OK;

	if (ranks == 0)
		return load_tensors(tr, dir, e);
	if (tr->o.tensor)
		return err_set(e, RC_UNSUPPORTED,
			       "%s: ranks that hold a model together cannot read the state of %d "
			       "that divided their batches",
			       dir, ranks);
	for (int i = 0; i < ranks * parts && rc == RC_OK; i++) {
		st_file_path(path, sizeof path, dir, STEM, i, ranks * parts);
		rc = load_part(tr, path, part_span(tr->set.n, ranks, parts, i), e);
	}
	return rc;
}

enum rc trainer_load_state(struct trainer *tr, const char *dir, json_t **cursor, struct err *e)
{
	char path[PATH_SIZE];
	json_t *o = NULL;
	int64_t format = 0, steps = 0, shards = 0, parts = 1;
	enum rc rc;

	str_fmt(path, sizeof path, "%s/state.json", dir);
	rc = jx_load(path, STATE_BYTES_MAX, &o, e);
	if (rc != RC_OK)
		return rc;
	if ((rc = jx_i64(o, "format", STATE_FORMAT, STATE_FORMAT, &format, e)) != RC_OK ||
	    (rc = jx_i64(o, "adam_steps", 0, INT32_MAX, &steps, e)) != RC_OK ||
	    (rc = jx_opt_i64(o, "shards", 1, COLL_RANKS_MAX, &shards, e)) != RC_OK ||
	    (rc = jx_opt_i64(o, "parts", 1, PARTS_MAX, &parts, e)) != RC_OK) {
		err_wrap(e, "%s", path);
		goto out;
	}
	if ((rc = load_moments(tr, dir, (int)shards, (int)parts, e)) != RC_OK)
		goto out;
	tr->adam_steps = steps;
	if (cursor)
		*cursor = json_deep_copy(json_object_get(o, "cursor"));
out:
	json_decref(o);
	return rc;
}
