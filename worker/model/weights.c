#include "worker/model/weights.h"

#include "base/mem.h"
#include "worker/model/model_source.h"

#include <stdlib.h>
#include <string.h>

#define PIECE_FLOATS ((size_t)1 << 20) /* read at a time: 4 MiB */
#define SHARES_MAX 64

static const char *const format_names[] = {
	[KERN_F32] = "f32", [KERN_BF16] = "bf16", [KERN_Q8] = "q8"};

enum rc weights_format_parse(const char *name, enum kern_format *out, struct err *e)
{
	for (int f = KERN_F32; f <= KERN_Q8; f++)
		if (strcmp(name, format_names[f]) == 0) {
			*out = (enum kern_format)f;
			return RC_OK;
		}
	return err_set(e, RC_INVALID, "weights as \"%s\": expected f32, bf16 or q8", name);
}

const char *weights_format_name(enum kern_format f)
{
	return format_names[f];
}

enum rc weights_check(const struct model_config *c, enum kern_format f, struct err *e)
{
	int hd = c->n_heads * c->head_dim;

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
	w->head = place(&p, k->pack_size(f, c->vocab, c->dim));
	w->embed = c->tied ? w->head : place(&p, k->pack_size(f, c->vocab, c->dim));
	return p.at;
}

size_t weights_bytes(const struct model_config *cfg, const struct kern *k, enum kern_format f)
{
	struct weights w = {.format = f};

	return lay_out(&w, cfg, k);
}

/* --- reading ---------------------------------------------------------------------------------- */

struct feed {
	const struct model *m;
	const struct model_source *files;
	const struct kern *k;
	struct kern_pool *pool;
	float *piece; /* owned; with files */
};

/* One piece of a tensor, read by all threads in equal shares. */
struct reading {
	const struct feed *feed;
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
	if (model_source_read(r->feed->files, r->tensor, r->first + from, to - from,
			      r->feed->piece + from, &r->errs[item]) == RC_OK)
		r->errs[item].code = RC_OK;
}

static enum rc read_piece(const struct feed *feed, int tensor, size_t first, size_t n,
			  struct err *e)
{
	struct reading r = {.feed = feed, .tensor = tensor, .first = first, .n = n};

	r.shares = 2 * kern_pool_threads(feed->pool);
	r.shares = r.shares > SHARES_MAX ? SHARES_MAX : r.shares;
	kern_pool_run(feed->pool, read_share, &r, r.shares);
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

/* Tensors that lie side by side from `offset` on make up the rows of one packed matrix. */
static enum rc load_matrix(const struct feed *feed, enum kern_format f, void *wp, size_t offset,
			   int n, int k, struct err *e)
{
	const struct model *m = feed->m;
	int row = 0, i;

	if (!feed->files) {
		feed->k->pack(feed->pool, f, wp, n, k, m->params + offset, k, 0, n);
		return RC_OK;
	}
	for (i = tensor_at(m, offset); row < n; i++) {
		int rows = m->tensors[i].rows, per = (int)(PIECE_FLOATS / (size_t)k);

		per = per < 1 ? 1 : per;
		for (int at = 0, take; at < rows; at += take) {
			enum rc rc;

			take = rows - at < per ? rows - at : per;
			rc = read_piece(feed, i, (size_t)at * (size_t)k, (size_t)take * (size_t)k,
					e);
			if (rc != RC_OK)
				return rc;
			feed->k->pack(feed->pool, f, wp, n, k, feed->piece, k, row + at, take);
		}
		model_source_drop(feed->files, i);
		row += rows;
	}
	return RC_OK;
}

static enum rc load_floats(const struct feed *feed, float *out, size_t offset, int n, struct err *e)
{
	const struct model *m = feed->m;
	size_t done = 0;

	if (!feed->files) {
		memcpy(out, m->params + offset, (size_t)n * sizeof *out);
		return RC_OK;
	}
	for (int i = tensor_at(m, offset); done < (size_t)n; i++) {
		size_t size = tensor_size(&m->tensors[i]);
		enum rc rc = model_source_read(feed->files, i, 0, size, out + done, e);

		if (rc != RC_OK)
			return rc;
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
	enum rc rc = load_matrix(feed, w->format, w->head, m->head, c->vocab, c->dim, e);

	if (rc == RC_OK && !c->tied)
		rc = load_matrix(feed, w->format, w->embed, m->embed, c->vocab, c->dim, e);
	if (rc == RC_OK)
		rc = load_floats(feed, w->norm_out, m->norm_out, c->dim, e);
	for (int l = 0; l < c->n_layers && rc == RC_OK; l++)
		rc = load_layer(feed, w, l, e);
	return rc;
}

static int widest_row(const struct model_config *c)
{
	int hd = c->n_heads * c->head_dim, widest = c->dim > c->ffn_dim ? c->dim : c->ffn_dim;

	return hd > widest ? hd : widest;
}

enum rc weights_load(struct weights *w, const struct model *m, const struct model_source *files,
		     const struct kern *k, struct kern_pool *pool, enum kern_format f,
		     struct err *e)
{
	struct feed feed = {.m = m, .files = files, .k = k, .pool = pool};
	size_t widest = (size_t)widest_row(&m->cfg);
	enum rc rc = weights_check(&m->cfg, f, e);

	*w = (struct weights){.format = f};
	if (rc != RC_OK)
		return rc;
	w->bytes = lay_out(w, &m->cfg, k);
	w->slab = mem_try(w->bytes);
	if (!w->slab)
		return err_set(e, RC_NOMEM, "weights as %s need %.1f MiB", weights_format_name(f),
			       (double)w->bytes / 1048576.0);
	w->layers = mem_array((size_t)m->cfg.n_layers, sizeof *w->layers);
	lay_out(w, &m->cfg, k);
	if (files)
		feed.piece =
			mem_array(PIECE_FLOATS > widest ? PIECE_FLOATS : widest, sizeof(float));
	rc = load_all(&feed, w, e);
	free(feed.piece);
	if (rc != RC_OK)
		weights_release(w);
	return rc;
}

void weights_release(struct weights *w)
{
	mem_try_free(w->slab, w->bytes);
	free(w->layers);
	*w = (struct weights){0};
}
