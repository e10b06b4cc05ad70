#include "worker/model/shard.h"

#include "base/mem.h"
#include "base/str.h"
#include "store/volume.h"
#include "worker/model/model_source.h"

#include <stdlib.h>
#include <string.h>

#define PIECE_FLOATS ((size_t)1 << 18) /* joined at a time */

static enum rc refuse(const char *what, int have, int n, struct err *e)
{
	return err_set(e, RC_UNSUPPORTED,
		       "%d ranks cannot share a model with %s: %d is not a multiple "
		       "of %d",
		       n, what, have, n);
}

enum rc shard_config(const struct model_config *whole, int rank, int n, struct model_config *part,
		     struct err *e)
{
	*part = *whole;
	if (n <= 1)
		return RC_OK;
	if (n > COLL_RANKS_MAX || n > whole->vocab)
		return err_set(e, RC_UNSUPPORTED, "%d ranks: expected up to %d", n, COLL_RANKS_MAX);
	if (whole->n_kv_heads % n != 0)
		return refuse("so many key/value heads", whole->n_kv_heads, n, e);
	if (whole->n_heads % n != 0)
		return refuse("so many heads", whole->n_heads, n, e);
	if (whole->ffn_dim % n != 0)
		return refuse("a feed-forward part of such a width", whole->ffn_dim, n, e);
	part->n_heads /= n;
	part->n_kv_heads /= n;
	part->ffn_dim /= n;
	part->rank = rank;
	part->n_ranks = n;
	return RC_OK;
}

struct model_config shard_whole(const struct model_config *part)
{
	struct model_config c = *part;
	int n = c.n_ranks > 1 ? c.n_ranks : 1;

	c.n_heads *= n;
	c.n_kv_heads *= n;
	c.ffn_dim *= n;
	c.rank = c.n_ranks = 0;
	return c;
}

bool shard_is_cut(const struct tensor_ref *t)
{
	return t->rows != t->all_rows || t->cols != t->all_cols;
}

void shard_cut(const struct tensor_ref *parts, int n, float *part, const struct tensor_ref *wholes,
	       const float *whole)
{
	for (int i = 0; i < n; i++) {
		const struct tensor_ref *t = &parts[i];
		size_t cols = t->cols ? (size_t)t->cols : 1;

		for (size_t r = 0; r < (size_t)t->rows; r++)
			memcpy(part + t->offset + r * cols,
			       whole + wholes[i].offset + tensor_whole_at(t, r * cols),
			       cols * sizeof *part);
	}
}

/* What [at, at + n) of the whole tensor has of this part; the rest of `out` stays. */
static void put_overlap(const struct tensor_ref *t, const float *part, size_t at, size_t n,
			float *out)
{
	size_t cols = t->cols ? (size_t)t->cols : 1, all = t->cols ? (size_t)t->all_cols : 1;
	size_t first = at / all, last = (at + n - 1) / all, top = (size_t)t->first_row;

	for (size_t row = first > top ? first : top; row <= last && row < top + (size_t)t->rows;
	     row++) {
		size_t begin = row * all + (size_t)t->first_col, end = begin + cols;
		size_t from = begin > at ? begin : at, to = end < at + n ? end : at + n;

		if (from < to)
			memcpy(out + (from - at),
			       part + t->offset + (row - top) * cols + (from - begin),
			       (to - from) * sizeof *out);
	}
}

/* `n` elements of the whole tensor, at most PIECE_FLOATS: bits of one rank and zeros of the others are added
 * as whole numbers, so nothing is rounded. */
static bool join_piece(struct coll *coll, const struct tensor_ref *t, const float *part, size_t at,
		       size_t n, int64_t *words)
{
	memset(words, 0, (n + 1) / 2 * sizeof *words);
	put_overlap(t, part, at, n, (float *)(void *)words);
	return coll_agree_i64(coll, words, (n + 1) / 2, COLL_SUM);
}

static size_t whole_size(const struct tensor_ref *t)
{
	return (size_t)t->all_rows * (t->cols ? (size_t)t->all_cols : 1);
}

static size_t piece_at(size_t size, size_t at)
{
	return size - at < PIECE_FLOATS ? size - at : PIECE_FLOATS;
}

static bool join_tensor(struct coll *coll, const struct tensor_ref *t, const float *part,
			float *whole, int64_t *words)
{
	size_t size = whole_size(t);

	for (size_t at = 0, n; at < size; at += n) {
		n = piece_at(size, at);
		if (!join_piece(coll, t, part, at, n, words))
			return false;
		if (whole)
			memcpy(whole + at, words, n * sizeof *whole);
	}
	return true;
}

enum rc shard_join(struct coll *coll, const struct tensor_ref *parts, int n, const float *part,
		   const struct tensor_ref *wholes, float *whole, struct err *e)
{
	int64_t *words = mem_array(PIECE_FLOATS / 2, sizeof *words);
	bool ok = true;

	for (int i = 0; i < n && ok; i++) {
		float *to = whole ? whole + wholes[i].offset : NULL;

		if (shard_is_cut(&parts[i]))
			ok = join_tensor(coll, &parts[i], part, to, words);
		else if (to)
			memcpy(to, part + parts[i].offset, tensor_size(&parts[i]) * sizeof *to);
	}
	free(words);
	return shard_fault(coll, e);
}

/* --- files of the whole ----------------------------------------------------------------------- */

struct shard_feed {
	struct coll *coll;
	const struct tensor_ref *parts;
	int n;
	const float *const *slabs;
	int64_t *words; /* owned */
};

_Static_assert(PIECE_FLOATS * sizeof(float) == ST_PIECE, "ranks join what the writer asks for");

/* All ranks come here for the same pieces in the same order. */
static enum rc feed_piece(void *ctx, size_t i, size_t at, void *out, size_t len, struct err *e)
{
	struct shard_feed *f = ctx;
	const struct tensor_ref *t = &f->parts[i % (size_t)f->n];
	const float *part = f->slabs[i / (size_t)f->n];

	if (!shard_is_cut(t)) {
		memcpy(out, (const char *)(part + t->offset) + at, len);
		return RC_OK;
	}
	if (!join_piece(f->coll, t, part, at / sizeof(float), len / sizeof(float), f->words))
		return shard_fault(f->coll, e);
	memcpy(out, f->words, len);
	return RC_OK;
}

static enum rc feed_others(struct shard_feed *f, int n_slabs, struct err *e)
{
	float *piece = mem_array(PIECE_FLOATS, sizeof *piece);
	enum rc rc = RC_OK;

	for (int i = 0; i < f->n * n_slabs && rc == RC_OK; i++) {
		size_t size = whole_size(&f->parts[i % f->n]);

		for (size_t at = 0, n; at < size && rc == RC_OK; at += n) {
			n = piece_at(size, at);
			rc = feed_piece(f, (size_t)i, at * sizeof *piece, piece, n * sizeof *piece,
					e);
		}
	}
	free(piece);
	return rc;
}

enum rc shard_write(struct coll *coll, const struct tensor_ref *parts, int n,
		    const float *const *slabs, int n_slabs, const struct st_set *set,
		    const struct st_tensor *list, struct err *e)
{
	struct shard_feed f = {coll, parts, n, slabs,
			       mem_array(PIECE_FLOATS / 2, sizeof *f.words)};
	const struct st_feed feed = {feed_piece, &f};
	struct st_set fed = *set;
	enum rc rc;

	fed.feed = &feed;
	if (coll_rank(coll) == 0)
		rc = st_write_set(&fed, list, (size_t)n * (size_t)n_slabs, NULL, e);
	else
		rc = feed_others(&f, n_slabs, e);
	if (rc != RC_OK)
		coll_abort(coll, e->text); /* The others wait for the next piece. */
	free(f.words);
	return rc;
}

enum rc shard_model(const struct model *whole, int rank, int n, struct model **out, struct err *e)
{
	struct model_config part;
	enum rc rc = shard_config(&whole->cfg, rank, n, &part, e);

	if (rc != RC_OK || (rc = model_new(&part, out, e)) != RC_OK)
		return rc;
	str_copy((*out)->dir, sizeof(*out)->dir, whole->dir);
	shard_cut((*out)->tensors, (*out)->n_tensors, (*out)->params, whole->tensors,
		  whole->params);
	return RC_OK;
}

static enum rc save_weights(struct coll *coll, const struct model *part, const struct model *whole,
			    const char *dir, struct err *e)
{
	const float *const slab = part->params;
	struct st_tensor *list = model_file_list(whole);
	json_t *meta = json_pack("{s:s}", "format", "pt");
	const struct st_set set = {dir, "model", volume_tensor_bytes(), meta, NULL};
	enum rc rc = shard_write(coll, part->tensors, part->n_tensors, &slab, 1, &set, list, e);

	json_decref(meta);
	free(list);
	return rc;
}

enum rc shard_save(struct coll *coll, const struct model *part, const char *dir, struct err *e)
{
	struct model_config cfg = shard_whole(&part->cfg);
	struct model *whole = NULL;
	enum rc rc;

	if (coll_ranks(coll) == 1)
		return model_save(part, dir, e);
	rc = model_plan(&cfg, &whole, e);
	if (rc == RC_OK && coll_rank(coll) == 0) {
		str_copy(whole->dir, sizeof whole->dir, part->dir);
		rc = model_save_frame(whole, dir, e);
	}
	if (rc == RC_OK)
		rc = save_weights(coll, part, whole, dir, e);
	else
		coll_abort(coll, e->text);
	model_free(whole);
	return rc;
}

/* The whole adapter at rank 0; the others get its layout. Freed by the caller, whatever comes back. */
static enum rc join_lora(struct coll *coll, const struct lora *part, const struct model_config *cfg,
			 struct lora **whole, struct err *e)
{
	struct model_config all = shard_whole(cfg);
	enum rc rc = lora_new(&all, &part->s, 0, whole, e);

	if (rc != RC_OK)
		return rc;
	return shard_join(coll, part->tensors, part->n_tensors, part->params, (*whole)->tensors,
			  coll_rank(coll) == 0 ? (*whole)->params : NULL, e);
}

enum rc shard_save_lora(struct coll *coll, const struct lora *part, const struct model_config *cfg,
			const char *dir, const char *base, struct err *e)
{
	struct lora *whole = NULL;
	enum rc rc = join_lora(coll, part, cfg, &whole, e);

	if (rc == RC_OK && coll_rank(coll) == 0)
		rc = lora_save(whole, dir, base, e);
	lora_free(whole);
	return rc;
}

enum rc shard_merge_save(struct coll *coll, const struct lora *part, const struct model_config *cfg,
			 const char *from, const char *dir, const struct kern *k,
			 struct kern_pool *pool, struct err *e)
{
	struct lora *whole = NULL;
	enum rc rc = join_lora(coll, part, cfg, &whole, e);

	if (rc == RC_OK && coll_rank(coll) == 0)
		rc = lora_merge_save(whole, from, dir, k, pool, e);
	lora_free(whole);
	return rc;
}

enum rc shard_fault(struct coll *coll, struct err *e)
{
	const char *why = coll_fault(coll);

	return why ? err_set(e, RC_UNREACHABLE, "%s", why) : RC_OK;
}
