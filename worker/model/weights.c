#include "worker/model/weights.h"

#include "base/mem.h"
#include "worker/model/mirror.h"
#include "worker/model/model_source.h"

#include <stdlib.h>
#include <string.h>

#define PIECE_FLOATS ((size_t)1 << 20) /* read at a time: 4 MiB */
#define SHARES_MAX 64

static const char *const format_names[] = {
	[KERN_F32] = "f32", [KERN_BF16] = "bf16", [KERN_Q8] = "q8", [KERN_FP8] = "fp8"};

enum rc weights_format_parse(const char *name, enum kern_format *out, struct err *e)
{
	for (int f = KERN_F32; f <= KERN_FP8; f++)
		if (strcmp(name, format_names[f]) == 0) {
			*out = (enum kern_format)f;
			return RC_OK;
		}
	return err_set(e, RC_INVALID, "weights as \"%s\": expected f32, bf16, q8 or fp8", name);
}

const char *weights_format_name(enum kern_format f)
{
	return format_names[f];
}

enum rc weights_check(const struct model_config *c, const struct kern *k, enum kern_format f,
		      struct err *e)
{
	int hd = c->n_heads * c->head_dim;

	if (f == KERN_F32 && k->act != KERN_F32)
		return err_set(e, RC_UNSUPPORTED,
			       "weights as f32: %s computes in bf16; bf16 or q8 are possible, or "
			       "PAWL_KERNELS=cuda-f32",
			       k->name);
	if (f == KERN_FP8 && !k->has_format)
		return err_set(e, RC_UNSUPPORTED,
			       "weights as fp8: %s computes on the processor, which has no 8-bit "
			       "floats; q8 is possible",
			       k->name);
	if (f != KERN_Q8)
		return RC_OK;
	if (c->dim % KERN_Q8_BLOCK || hd % KERN_Q8_BLOCK || c->ffn_dim % KERN_Q8_BLOCK)
		return err_set(e, RC_UNSUPPORTED,
			       "weights as q8: widths %d, %d and %d must be multiples of %d; bf16 "
			       "has no such limit",
			       c->dim, hd, c->ffn_dim, KERN_Q8_BLOCK);
	return RC_OK;
}

/* --- layout ----------------------------------------------------------------------------------- */

struct placing {
	struct weights *w;
	size_t at;
};

static void *place(struct placing *p, size_t bytes)
{
	char *here = p->w->slab ? p->w->slab + p->at : NULL;

	p->at += (bytes + 63) / 64 * 64;
	return here;
}

static float *place_floats(struct placing *p, int n)
{
	return place(p, (size_t)n * sizeof(float));
}

static int qkv_rows(const struct model_config *c)
{
	return (c->n_heads + 2 * c->n_kv_heads) * c->head_dim;
}

/* Of the embedding, or of the output head. */
static size_t table_bytes(const struct weights *w, const struct model_config *c,
			  const struct kern *k)
{
	if (w->use == WEIGHTS_TRAIN)
		return (size_t)model_vocab_span(c).n * (size_t)c->dim * kern_act(k);
	return k->pack_size(w->format, model_vocab_span(c).n, c->dim);
}

/* Called twice: with no slab to count, then to place. Without layers only the sum counts. */
static size_t lay_out(struct weights *w, const struct model_config *c, const struct kern *k)
{
	struct placing p = {.w = w};
	enum kern_format f = w->format;
	int qkv = qkv_rows(c), hd = c->n_heads * c->head_dim;

	for (int l = 0; l < c->n_layers; l++) {
		struct packed_layer y = {
			.qkv = place(&p, k->pack_size(f, qkv, c->dim)),
			.o = place(&p, k->pack_size(f, c->dim, hd)),
			.w13 = place(&p, k->pack_size(f, 2 * c->ffn_dim, c->dim)),
			.w2 = place(&p, k->pack_size(f, c->dim, c->ffn_dim)),
			.norm_attn = place_floats(&p, c->dim),
			.norm_ffn = place_floats(&p, c->dim),
			.bias = c->qkv_bias ? place_floats(&p, qkv) : NULL,
		};
		if (w->layers)
			w->layers[l] = y;
	}
	w->norm_out = place_floats(&p, c->dim);
	w->head = place(&p, table_bytes(w, c, k));
	w->embed = c->tied ? w->head : place(&p, table_bytes(w, c, k));
	return p.at;
}

size_t weights_bytes(const struct model_config *cfg, const struct kern *k, enum kern_format f,
		     enum weights_use use)
{
	struct weights w = {.format = f, .use = use};

	return lay_out(&w, cfg, k);
}

/* --- reading ---------------------------------------------------------------------------------- */

struct feed {
	const struct model *m;
	const struct model_source *files;
	const struct kern *k;
	struct kern_pool *pool;
	size_t piece_floats;
	float *piece; /* owned; the program's: what was read from the files */
	float *stage; /* owned; the back end's; NULL where its memory is the program's */
	/* Files in the table's own format, where its memory is not the program's: they go there as they
	 * are. Both owned; NULL: not so. */
	void *raw;		  /* the back end's */
	struct kern_pool *threads; /* that look through the files */
};

/* Where the operations find n floats of the program. */
static const float *staged(const struct feed *feed, const float *p, size_t n)
{
	if (!feed->stage)
		return p;
	feed->k->put(feed->pool, feed->stage, p, n * sizeof *p);
	return feed->stage;
}

/* One piece of a tensor, read by all threads in equal shares. */
struct reading {
	const struct feed *feed;
	bool raw; /* looked through only */
	int tensor, shares;
	size_t first, n;
	struct err errs[SHARES_MAX];
};

static void read_share(void *ctx, int item, int thread)
{
	struct reading *r = ctx;
	size_t from = r->n * (size_t)item / (size_t)r->shares;
	size_t to = r->n * ((size_t)item + 1) / (size_t)r->shares;

	(void)thread;
	if (r->raw) {
		if (model_source_finite(r->feed->files, r->tensor, &r->feed->m->tensors[r->tensor],
					r->first + from, to - from, &r->errs[item]) == RC_OK)
			r->errs[item].code = RC_OK;
	} else if (model_source_part(r->feed->files, r->tensor, &r->feed->m->tensors[r->tensor],
			      r->first + from, to - from, r->feed->piece + from,
			      &r->errs[item]) == RC_OK)
		r->errs[item].code = RC_OK;
}

static enum rc read_piece(const struct feed *feed, int tensor, size_t first, size_t n, bool raw,
			  struct err *e)
{
	struct reading r = {.feed = feed, .raw = raw, .tensor = tensor, .first = first, .n = n};
	struct kern_pool *threads = feed->k->host ? feed->pool : feed->threads;

	r.shares = threads ? 2 * kern_pool_threads(threads) : 1;
	r.shares = r.shares > SHARES_MAX ? SHARES_MAX : r.shares;
	if (threads)
		kern_pool_run(threads, read_share, &r, r.shares);
	else
		read_share(&r, 0, 0);
	for (int i = 0; i < r.shares; i++)
		if (r.errs[i].code != RC_OK)
			return err_set(e, r.errs[i].code, "%s", r.errs[i].text);
	return RC_OK;
}

static int tensor_at(const struct model *m, size_t offset)
{
	int i = 0;

	while (m->tensors[i].offset != offset)
		i++;
	return i;
}

/* Where rows of a matrix go: packed, or as they are in the table's `act`. */
struct target {
	void *p;
	int n, k;
	bool plain;
};

static void store_rows(const struct feed *feed, enum kern_format f, const struct target *t,
		       const float *rows, int row, int n)
{
	size_t floats = (size_t)n * (size_t)t->k;
	const float *w = staged(feed, rows, floats);

	if (t->plain)
		feed->k->narrow(feed->pool, kern_at(feed->k, t->p, (size_t)row * (size_t)t->k), w,
				floats);
	else
		feed->k->pack(feed->pool, f, t->p, t->n, t->k, w, t->k, row, n);
}

/* The same of rows that lie in the files as the table keeps activations. */
static void store_raw(const struct feed *feed, enum kern_format f, const struct target *t,
		      const void *rows, int row, int n)
{
	size_t floats = (size_t)n * (size_t)t->k, bytes = floats * kern_act(feed->k);
	const struct kern *k = feed->k;

	if (t->plain) {
		k->put(feed->pool, kern_at(k, t->p, (size_t)row * (size_t)t->k), rows, bytes);
		return;
	}
	k->put(feed->pool, feed->raw, rows, bytes);
	k->widen(feed->pool, feed->stage, feed->raw, floats);
	k->pack(feed->pool, f, t->p, t->n, t->k, feed->stage, t->k, row, n);
}

static int rows_per_piece(const struct feed *feed, int k)
{
	int per = (int)(feed->piece_floats / (size_t)k);

	return per < 1 ? 1 : per;
}

/* From a model in memory: at once where the operations can read it, else piece by piece. */
static void copy_matrix(const struct feed *feed, enum kern_format f, const struct target *t,
			const float *from)
{
	int per = feed->stage ? rows_per_piece(feed, t->k) : t->n;

	for (int row = 0; row < t->n; row += per)
		store_rows(feed, f, t, from + (size_t)row * (size_t)t->k, row,
			   t->n - row < per ? t->n - row : per);
}

/* Tensors that lie side by side from `offset` on make up the rows of one matrix. */
static enum rc load_rows(const struct feed *feed, enum kern_format f, const struct target *t,
			 size_t offset, struct err *e)
{
	const struct model *m = feed->m;
	int row = 0, i, per = rows_per_piece(feed, t->k);
	size_t k = (size_t)t->k;

	if (!feed->files) {
		copy_matrix(feed, f, t, m->params + offset);
		return RC_OK;
	}
	for (i = tensor_at(m, offset); row < t->n; i++) {
		int rows = m->tensors[i].rows;

		for (int at = 0, take; at < rows; at += take) {
			const void *raw;
			enum rc rc;

			take = rows - at < per ? rows - at : per;
			raw = feed->raw ? model_source_raw(feed->files, i, &m->tensors[i],
							   (size_t)at * k)
					: NULL;
			rc = read_piece(feed, i, (size_t)at * k, (size_t)take * k, raw, e);
			if (rc != RC_OK)
				return rc;
			if (raw)
				store_raw(feed, f, t, raw, row + at, take);
			else
				store_rows(feed, f, t, feed->piece, row + at, take);
		}
		model_source_drop(feed->files, i);
		row += rows;
	}
	return RC_OK;
}

static enum rc load_matrix(const struct feed *feed, enum kern_format f, void *wp, size_t offset,
			   int n, int k, struct err *e)
{
	struct target t = {.p = wp, .n = n, .k = k};

	return load_rows(feed, f, &t, offset, e);
}

static enum rc load_floats(const struct feed *feed, float *out, size_t offset, int n, struct err *e)
{
	const struct model *m = feed->m;
	size_t done = 0;

	if (!feed->files) {
		feed->k->put(feed->pool, out, m->params + offset, (size_t)n * sizeof *out);
		return RC_OK;
	}
	for (int i = tensor_at(m, offset); done < (size_t)n; i++) {
		size_t size = tensor_size(&m->tensors[i]);
		enum rc rc = model_source_part(feed->files, i, &m->tensors[i], 0, size,
					       feed->piece, e);

		if (rc != RC_OK)
			return rc;
		feed->k->put(feed->pool, out + done, feed->piece, size * sizeof *out);
		done += size;
	}
	return RC_OK;
}

static enum rc load_layer(const struct feed *feed, const struct weights *w, int l, struct err *e)
{
	const struct model_config *c = &feed->m->cfg;
	const struct model_layer *y = &feed->m->layers[l];
	const struct packed_layer *p = &w->layers[l];
	int qkv = qkv_rows(c), hd = c->n_heads * c->head_dim;
	enum rc rc = load_matrix(feed, w->format, p->qkv, y->wq, qkv, c->dim, e);

	if (rc == RC_OK)
		rc = load_matrix(feed, w->format, p->o, y->wo, c->dim, hd, e);
	if (rc == RC_OK)
		rc = load_matrix(feed, w->format, p->w13, y->w1, 2 * c->ffn_dim, c->dim, e);
	if (rc == RC_OK)
		rc = load_matrix(feed, w->format, p->w2, y->w2, c->dim, c->ffn_dim, e);
	if (rc == RC_OK)
		rc = load_floats(feed, p->norm_attn, y->norm_attn, c->dim, e);
	if (rc == RC_OK)
		rc = load_floats(feed, p->norm_ffn, y->norm_ffn, c->dim, e);
	if (rc == RC_OK && c->qkv_bias)
		rc = load_floats(feed, p->bias, y->bq, qkv, e);
	return rc;
}

static enum rc load_all(const struct feed *feed, const struct weights *w, struct err *e)
{
	const struct model *m = feed->m;
	const struct model_config *c = &m->cfg;
	struct target t = {w->head, model_vocab_span(c).n, c->dim, w->use == WEIGHTS_TRAIN};
	enum rc rc = load_rows(feed, w->format, &t, m->head, e);

	t.p = w->embed;
	if (rc == RC_OK && !c->tied)
		rc = load_rows(feed, w->format, &t, m->embed, e);
	if (rc == RC_OK)
		rc = load_floats(feed, w->norm_out, m->norm_out, c->dim, e);
	for (int l = 0; l < c->n_layers && rc == RC_OK; l++)
		rc = load_layer(feed, w, l, e);
	return rc;
}

static size_t widest_row(const struct model_config *c)
{
	int hd = c->n_heads * c->head_dim, widest = c->dim > c->ffn_dim ? c->dim : c->ffn_dim;

	widest = hd > widest ? hd : widest;
	return (size_t)(qkv_rows(c) > widest ? qkv_rows(c) : widest);
}

static enum rc no_room(const struct weights *w, struct err *e)
{
	return err_set(e, RC_NOMEM, "weights as %s need %.1f MiB", weights_format_name(w->format),
		       (double)w->bytes / 1048576.0);
}

enum rc weights_make(struct weights *w, const struct model_config *cfg, const struct kern *k,
		     struct kern_pool *pool, enum kern_format f, enum weights_use use,
		     struct err *e)
{
	enum rc rc = weights_check(cfg, k, f, e);
	char why[160];

	if (rc == RC_OK && k->has_format && !k->has_format(pool, f, why, sizeof why))
		rc = err_set(e, RC_UNSUPPORTED, "weights as %s: %s", weights_format_name(f), why);
	*w = (struct weights){.format = f, .use = use, .kern = k, .pool = pool};
	if (rc != RC_OK)
		return rc;
	w->bytes = lay_out(w, cfg, k);
	w->slab = k->alloc(pool, w->bytes);
	if (!w->slab)
		return no_room(w, e);
	w->layers = mem_array((size_t)cfg->n_layers, sizeof *w->layers);
	lay_out(w, cfg, k);
	return RC_OK;
}

enum rc weights_load(struct weights *w, const struct model *m, const struct model_source *files,
		     const struct kern *k, struct kern_pool *pool, enum kern_format f,
		     enum weights_use use, struct err *e)
{
	struct feed feed = {.m = m, .files = files, .k = k, .pool = pool};
	size_t widest = widest_row(&m->cfg), stage_bytes, raw_bytes;
	enum rc rc = weights_make(w, &m->cfg, k, pool, f, use, e);

	if (rc != RC_OK)
		return rc;
	feed.piece_floats = PIECE_FLOATS > widest ? PIECE_FLOATS : widest;
	stage_bytes = feed.piece_floats * sizeof(float);
	raw_bytes = feed.piece_floats * kern_act(k);
	feed.stage = k->host ? NULL : k->alloc(pool, stage_bytes);
	if (files && !k->host && k->act == KERN_BF16) {
		feed.raw = k->alloc(pool, raw_bytes);
		feed.threads = kern_pool_new(0);
	}
	if (!k->host && (!feed.stage || (feed.threads && !feed.raw))) {
		rc = no_room(w, e);
		goto out;
	}
	if (files)
		feed.piece = mem_array(feed.piece_floats, sizeof(float));
	rc = load_all(&feed, w, e);
	if (rc == RC_OK)
		rc = mirror_fault(k, pool, e);
out:
	free(feed.piece);
	kern_pool_free(feed.threads);
	if (feed.raw)
		k->release(pool, feed.raw, raw_bytes);
	if (feed.stage)
		k->release(pool, feed.stage, stage_bytes);
	if (rc != RC_OK)
		weights_release(w);
	return rc;
}

enum rc weights_bring(struct weights *w, const struct model *m, const struct kern *k,
		      struct kern_pool *pool, enum kern_format f, enum weights_use use,
		      struct err *e)
{
	struct model_source files;
	enum rc rc;

	*w = (struct weights){0};
	if (m->params)
		return weights_load(w, m, NULL, k, pool, f, use, e);
	rc = model_source_open(m->dir, &files, e);
	if (rc != RC_OK)
		return rc;
	rc = weights_load(w, m, &files, k, pool, f, use, e);
	model_source_close(&files);
	return rc;
}

void weights_release(struct weights *w)
{
	if (w->slab)
		w->kern->release(w->pool, w->slab, w->bytes);
	free(w->layers);
	*w = (struct weights){0};
}
