/* Attention: packed sequences forward and backward (blocked online softmax, Dao 2022), and one row
 * at a time over a paged cache; compiled once per instruction set.
 *
 * Key blocks are anchored at the beginning of the sequence, masked scores count as exact zeros, so
 * a row's result does not depend on the block of queries it is computed with.
 */

#define BQ 48 /* queries per block: whole register tiles of every instruction set */
#define BK 64 /* keys per block */

struct span {
	int32_t seq, q0;
};

struct attn_job {
	const struct kern_attn *a;
	struct kern_pool *pool;
	struct span *spans;
};

/* Lists the query blocks of all sequences. */
static int attn_spans(struct attn_job *job)
{
	const struct kern_attn *a = job->a;
	size_t n_max = (size_t)(a->n_tokens / BQ + a->n_seqs);
	int n = 0;

	job->spans = kern_pool_scratch(job->pool, KERN_SCRATCH_LIST, n_max * sizeof *job->spans);
	for (int s = 0; s < a->n_seqs; s++)
		for (int q = 0; q < a->cu[s + 1] - a->cu[s]; q += BQ)
			job->spans[n++] = (struct span){s, q};
	return n;
}

static void pack_panels_turned(float *out, const float *w, int ldw, int n, int k)
{
	for (int j = 0; j < n; j += NR)
		pack_rows_as_columns(out + (size_t)j * k, w + (ptrdiff_t)j * ldw, ldw,
				     n - j < NR ? n - j : NR, k);
}

static void pack_panels(float *out, const float *w, int ldw, int n, int k)
{
	for (int j = 0; j < n; j += NR)
		pack_columns(out + (size_t)j * k, w + j, ldw, n - j < NR ? n - j : NR, k);
}

static int head_panels(int head_dim)
{
	return ceil_div(head_dim, NR) * NR;
}

/* Puts -inf where query `i` must not look at key kb + j; keys at and after `n` do not exist. */
INLINE void mask_row(float *s, int i, int kb, int n, int window)
{
	int from = window > 0 && i - window + 1 > kb ? i - window + 1 - kb : 0;
	int to = i - kb + 1 < n ? i - kb + 1 : n;

	for (int j = 0; j < from && j < BK; j++)
		s[j] = -INFINITY;
	for (int j = to < 0 ? 0 : to; j < BK; j++)
		s[j] = -INFINITY;
}

INLINE void scale_row(float *o, int n, float by)
{
	VEC s = v_set(by);

	for (int i = 0; i < n; i += 16) {
		int l = lanes_left(i, n);

		v_store_l(o + i, v_mul(v_load_l(o + i, l), s), l);
	}
}

/* One row of a block: scores become weights, the running maximum, sum and output move along. */
INLINE void online_row(float *s, float *o, int head_dim, float scale, float *max, float *sum)
{
	VEC v[BK / 16], m = v_set(-INFINITY), total = v_set(0);
	float old = *max, now;

	for (int c = 0; c < BK / 16; c++) {
		v[c] = v_mul(v_load(s + 16 * c), v_set(scale));
		m = v_max(m, v[c]);
	}
	now = v_largest(m);
	now = old > now ? old : now;
	if (now == -INFINITY) {
		memset(s, 0, BK * sizeof *s);
		return;
	}
	for (int c = 0; c < BK / 16; c++) {
		VEC e = v_exp(v_sub(v[c], v_set(now)));

		v_store(s + 16 * c, e);
		total = v_add(total, e);
	}
	float fade = old == now ? 1.0f : exp1(old - now);
	if (fade != 1.0f)
		scale_row(o, head_dim, fade);
	*sum = *sum * fade + v_sum(total);
	*max = now;
}

struct attn_scratch {
	float *kt, *vp;	  /* packed keys (turned) and values of a block */
	float *s, *o;	  /* scores [BQ][BK]; outputs [group][BQ][D] */
	float *max, *sum; /* [group][BQ] */
};

static struct attn_scratch attn_scratch_at(const struct attn_job *job, int group, int thread)
{
	int d = job->a->head_dim;
	size_t kt = (size_t)ceil_div(BK, NR) * NR * (size_t)d, vp = (size_t)BK * head_panels(d);
	size_t o = (size_t)group * BQ * (size_t)d, rows = (size_t)group * BQ;
	float *p = kern_pool_scratch(job->pool, thread,
				     (kt + vp + BQ * BK + o + 2 * rows) * sizeof *p);

	return (struct attn_scratch){.kt = p,
				     .vp = p + kt,
				     .s = p + kt + vp,
				     .o = p + kt + vp + BQ * BK,
				     .max = p + kt + vp + BQ * BK + o,
				     .sum = p + kt + vp + BQ * BK + o + rows};
}

static void attn_finish(const struct kern_attn *a, const struct attn_scratch *w, int first,
			int rows, int head, int slot)
{
	int d = a->head_dim;

	for (int i = 0; i < rows; i++) {
		const float *o = w->o + ((size_t)slot * BQ + i) * (size_t)d;
		float *out = a->out + ((size_t)(first + i) * a->heads + head) * (size_t)d;
		float inv = 1.0f / w->sum[slot * BQ + i];

		for (int c = 0; c < d; c++)
			out[c] = o[c] * inv;
		a->lse[(size_t)head * a->n_tokens + first + i] =
			w->max[slot * BQ + i] + logf(w->sum[slot * BQ + i]);
	}
}

static void attn_item(void *ctx, int item, int thread)
{
	const struct attn_job *job = ctx;
	const struct kern_attn *a = job->a;
	struct span span = job->spans[item / a->kv_heads];
	int g = item % a->kv_heads, group = a->heads / a->kv_heads, d = a->head_dim;
	int start = a->cu[span.seq], len = a->cu[span.seq + 1] - start, q0 = span.q0;
	int rows = len - q0 < BQ ? len - q0 : BQ;
	int kb = a->window > 0 && q0 - a->window + 1 > 0 ? (q0 - a->window + 1) / BK * BK : 0;
	struct attn_scratch w = attn_scratch_at(job, group, thread);

	memset(w.o, 0, (size_t)group * BQ * (size_t)d * sizeof *w.o);
	for (int i = 0; i < group * BQ; i++) {
		w.max[i] = -INFINITY;
		w.sum[i] = 0;
	}
	for (; kb < q0 + rows; kb += BK) {
		int n = q0 + rows - kb < BK ? q0 + rows - kb : BK;

		pack_panels_turned(w.kt, a->k + (ptrdiff_t)(start + kb) * a->ldk + g * d, a->ldk, n,
				   d);
		pack_panels(w.vp, a->v + (ptrdiff_t)(start + kb) * a->ldv + g * d, a->ldv, d, n);
		for (int h = 0; h < group; h++) {
			const float *q =
				a->q + (ptrdiff_t)(start + q0) * a->ldq + (g * group + h) * d;
			float *o = w.o + (size_t)h * BQ * (size_t)d;

			panel_gemm(w.s, BK, q, a->ldq, w.kt, (size_t)d * NR, rows, n, d, false);
			for (int i = 0; i < rows; i++) {
				mask_row(w.s + i * BK, q0 + i, kb, n, a->window);
				online_row(w.s + i * BK, o + (size_t)i * d, d, a->scale,
					   &w.max[h * BQ + i], &w.sum[h * BQ + i]);
			}
			panel_gemm(o, d, w.s, BK, w.vp, (size_t)n * NR, rows, d, n, true);
		}
	}
	for (int h = 0; h < group; h++)
		attn_finish(a, &w, start + q0, rows, g * group + h, h);
}

static void attn(struct kern_pool *pool, const struct kern_attn *a)
{
	struct attn_job job = {.a = a, .pool = pool};
	int n = attn_spans(&job);

	kern_pool_run(pool, attn_item, &job, n * a->kv_heads);
}

/* --- Backward: P = exp(s - lse), dS = P (dO V^T - rowsum(dO O)) scale ------------------------- */

struct back_scratch {
	float *kt, *vt, *kp; /* keys turned, values turned, keys */
	float *qp, *dop;     /* queries and output gradients of a block */
	float *p, *ds;	     /* [BQ][BK] */
	float *pt, *dst;     /* [BK][BQ] */
	float *dk, *dv;	     /* [BK][D] */
};

static struct back_scratch back_scratch_at(const struct attn_job *job, int thread)
{
	int d = job->a->head_dim;
	size_t turned = (size_t)ceil_div(BK, NR) * NR * (size_t)d,
	       panels = (size_t)BK * head_panels(d);
	size_t tile = BQ * BK, grad = (size_t)BK * (size_t)d;
	float *p = kern_pool_scratch(job->pool, thread,
				     (2 * turned + 3 * panels + 4 * tile + 2 * grad) * sizeof *p);
	struct back_scratch w;

	w.kt = p;
	w.vt = w.kt + turned;
	w.kp = w.vt + turned;
	w.qp = w.kp + panels;
	w.dop = w.qp + panels;
	w.p = w.dop + panels;
	w.ds = w.p + tile;
	w.pt = w.ds + tile;
	w.dst = w.pt + tile;
	w.dk = w.dst + tile;
	w.dv = w.dk + grad;
	return w;
}

/* Weights and score gradients of one block of queries, straight and turned. */
static void back_rows(const struct kern_attn *a, const struct back_scratch *w, int start, int q0,
		      int rows, int kb, int n, int head)
{
	int d = a->head_dim;

	for (int i = 0; i < rows; i++) {
		size_t at = ((size_t)(start + q0 + i) * a->heads + head) * (size_t)d;
		float delta = row_dot(a->dout + at, a->out + at, d);
		float lse = a->lse[(size_t)head * a->n_tokens + start + q0 + i];
		float *p = w->p + i * BK, *ds = w->ds + i * BK;

		mask_row(p, q0 + i, kb, n, a->window);
		for (int c = 0; c < BK; c += 16) {
			VEC s = v_sub(v_mul(v_load(p + c), v_set(a->scale)), v_set(lse));
			VEC e = v_exp(s);
			VEC dp = v_sub(v_load(ds + c), v_set(delta));

			v_store(p + c, e);
			v_store(ds + c, v_mul(v_mul(e, dp), v_set(a->scale)));
		}
		for (int j = 0; j < n; j++) {
			w->pt[j * BQ + i] = p[j];
			w->dst[j * BQ + i] = ds[j];
		}
	}
}

static void back_block(const struct kern_attn *a, const struct back_scratch *w, int start, int q0,
		       int rows, int kb, int n, int head)
{
	int d = a->head_dim, ldo = a->heads * d;
	const float *q = a->q + (ptrdiff_t)(start + q0) * a->ldq + head * d;
	const float *dout = a->dout + (ptrdiff_t)(start + q0) * ldo + head * d;
	float *dq = a->dq + (ptrdiff_t)(start + q0) * a->ldq + head * d;

	panel_gemm(w->p, BK, q, a->ldq, w->kt, (size_t)d * NR, rows, n, d, false);
	memset(w->ds, 0, BQ * BK * sizeof *w->ds);
	panel_gemm(w->ds, BK, dout, ldo, w->vt, (size_t)d * NR, rows, n, d, false);
	back_rows(a, w, start, q0, rows, kb, n, head);
	pack_panels(w->dop, dout, ldo, d, rows);
	pack_panels(w->qp, q, a->ldq, d, rows);
	panel_gemm(w->dv, d, w->pt, BQ, w->dop, (size_t)rows * NR, n, d, rows, true);
	panel_gemm(w->dk, d, w->dst, BQ, w->qp, (size_t)rows * NR, n, d, rows, true);
	panel_gemm(dq, a->ldq, w->ds, BK, w->kp, (size_t)n * NR, rows, d, n, true);
}

/* One sequence, one key/value head with its query heads. */
static void attn_back_item(void *ctx, int item, int thread)
{
	const struct attn_job *job = ctx;
	const struct kern_attn *a = job->a;
	int seq = item / a->kv_heads, g = item % a->kv_heads, d = a->head_dim;
	int start = a->cu[seq], len = a->cu[seq + 1] - start, group = a->heads / a->kv_heads;
	struct back_scratch w = back_scratch_at(job, thread);

	for (int i = 0; i < len; i++)
		memset(a->dq + (ptrdiff_t)(start + i) * a->ldq + g * group * d, 0,
		       (size_t)(group * d) * sizeof *a->dq);
	for (int kb = 0; kb < len; kb += BK) {
		int n = len - kb < BK ? len - kb : BK;
		int end = a->window > 0 && kb + n - 1 + a->window < len ? kb + n - 1 + a->window
									: len;
		ptrdiff_t k_at = (ptrdiff_t)(start + kb) * a->ldk + g * d;
		ptrdiff_t v_at = (ptrdiff_t)(start + kb) * a->ldv + g * d;

		pack_panels_turned(w.kt, a->k + k_at, a->ldk, n, d);
		pack_panels_turned(w.vt, a->v + v_at, a->ldv, n, d);
		pack_panels(w.kp, a->k + k_at, a->ldk, d, n);
		memset(w.dk, 0, (size_t)BK * (size_t)d * sizeof *w.dk);
		memset(w.dv, 0, (size_t)BK * (size_t)d * sizeof *w.dv);
		for (int h = g * group; h < (g + 1) * group; h++)
			for (int q0 = kb / BQ * BQ; q0 < end; q0 += BQ)
				back_block(a, &w, start, q0, len - q0 < BQ ? len - q0 : BQ, kb, n,
					   h);
		for (int i = 0; i < n; i++) {
			size_t bytes = (size_t)d * sizeof *w.dk;

			memcpy(a->dk + k_at + (ptrdiff_t)i * a->ldk, w.dk + (size_t)i * d, bytes);
			memcpy(a->dv + v_at + (ptrdiff_t)i * a->ldv, w.dv + (size_t)i * d, bytes);
		}
	}
}

static void attn_back(struct kern_pool *pool, const struct kern_attn *a)
{
	struct attn_job job = {.a = a, .pool = pool};

	kern_pool_run(pool, attn_back_item, &job, a->n_seqs * a->kv_heads);
}

/* --- Paged cache ------------------------------------------------------------------------------ */

struct paged_job {
	const struct kern_paged *a;
	struct kern_pool *pool;
	int heads_per_item;
};

/* Scores of one query against `nb` blocks of 16 keys; nb is constant at each call. */
INLINE void paged_scores(float *s, const float *q, const float *k, const int32_t *table,
			 size_t block, int nb, int d)
{
	VEC acc[4];

	for (int b = 0; b < nb; b++)
		acc[b] = v_set(0);
	for (int c = 0; c < d; c++) {
		VEC qc = v_set(q[c]);

		for (int b = 0; b < nb; b++)
			acc[b] = v_fma(qc, v_load(k + (size_t)table[b] * block + c * KERN_PAGE),
				       acc[b]);
	}
	for (int b = 0; b < nb; b++)
		v_store(s + b * KERN_PAGE, acc[b]);
}

/* out[c..c+16 nv) = sum_j p[j] V[j]. Few elements hide no latency, so 4 / nv chains share the keys
 * of each: key j goes to chain j mod (4 / nv), and they are joined in pairs. p is zero for the keys
 * that fill [from, to) up to whole fours. */
INLINE void paged_values(float *out, const float *p, const float *v, const int32_t *table,
			 size_t block, int from, int to, int d, int c, int nv)
{
	VEC acc[4];

	for (int i = 0; i < 4; i++)
		acc[i] = v_set(0);
	for (int j = from & ~3; j < to; j += 4) {
		const float *row =
			v + (size_t)table[j / KERN_PAGE] * block + (j % KERN_PAGE) * d + c;

		for (int l = 0; l < 4; l++)
			for (int i = 0; i < nv; i++) {
				VEC x = v_load_l(row + l * d + 16 * i, lanes_left(c + 16 * i, d));
				int at = (l * nv + i) % 4;
				acc[at] = v_fma(v_set(p[j + l]), x, acc[at]);
			}
	}
	for (int span = 2; span >= nv; span /= 2)
		for (int i = 0; i < span; i++)
			acc[i] = v_add(acc[i], acc[i + span]);
	for (int i = 0; i < nv; i++)
		v_store_l(out + c + 16 * i, acc[i], lanes_left(c + 16 * i, d));
}

static void paged_head(const struct kern_paged *a, float *s, int row, int head)
{
	int d = a->head_dim, n = a->n_keys[row], g = head / (a->heads / a->kv_heads);
	int from = a->window > 0 && n > a->window ? n - a->window : 0;
	int first = from / KERN_PAGE, blocks = ceil_div(n, KERN_PAGE), b = first, c = 0;
	size_t block = (size_t)a->kv_heads * (size_t)d * KERN_PAGE;
	const float *q = a->q + (ptrdiff_t)row * a->ldq + head * d;
	const float *k = a->k + (size_t)g * (size_t)d * KERN_PAGE;
	const float *v = a->v + (size_t)g * (size_t)d * KERN_PAGE;
	const int32_t *table = a->table[row];
	float *out = a->out + ((size_t)row * a->heads + head) * (size_t)d;

	for (; b + 4 <= blocks; b += 4)
		paged_scores(s + b * KERN_PAGE, q, k, table + b, block, 4, d);
	for (; b < blocks; b++)
		paged_scores(s + b * KERN_PAGE, q, k, table + b, block, 1, d);
	for (int j = first * KERN_PAGE; j < from; j++)
		s[j] = -INFINITY;
	for (int j = n; j < blocks * KERN_PAGE; j++)
		s[j] = -INFINITY;
	int width = (blocks - first) * KERN_PAGE;
	scale_row(s + first * KERN_PAGE, width, a->scale);
	float max = row_max(s + first * KERN_PAGE, width);
	float sum = row_exp_sum(s + first * KERN_PAGE, s + first * KERN_PAGE, width, max);

	for (int j = from & ~3; j < from; j++)
		s[j] = 0;
	for (int j = n; j % 4; j++)
		s[j] = 0;
	for (; c + 64 <= d; c += 64)
		paged_values(out, s, v, table, block, from, n, d, c, 4);
	for (; c + 32 <= d; c += 32)
		paged_values(out, s, v, table, block, from, n, d, c, 2);
	for (; c < d; c += 16)
		paged_values(out, s, v, table, block, from, n, d, c, 1);
	scale_row(out, d, 1.0f / sum);
}

static void paged_item(void *ctx, int item, int thread)
{
	const struct paged_job *job = ctx;
	const struct kern_paged *a = job->a;
	int per_row = a->heads / job->heads_per_item, row = item / per_row;
	int head = item % per_row * job->heads_per_item;
	size_t keys = (size_t)ceil_div(a->n_keys[row], KERN_PAGE) * KERN_PAGE;
	float *s = kern_pool_scratch(job->pool, thread, keys * sizeof *s);

	for (int h = head; h < head + job->heads_per_item; h++)
		paged_head(a, s, row, h);
}

static void attn_paged(struct kern_pool *pool, const struct kern_paged *a)
{
	struct paged_job job = {.a = a, .pool = pool, .heads_per_item = a->heads};

	if (a->rows < 4 * kern_pool_threads(pool))
		job.heads_per_item = a->heads / a->kv_heads;
	kern_pool_run(pool, paged_item, &job, a->rows * (a->heads / job.heads_per_item));
}

struct kv_rows {
	float *kc, *vc;
	const float *k, *v;
	const int32_t *const *table;
	const int32_t *pos;
	int ldk, ldv, heads, d;
};

static void kv_store_item(void *ctx, int row, int thread)
{
	const struct kv_rows *a = ctx;
	int slot = a->pos[row] % KERN_PAGE, page = a->table[row][a->pos[row] / KERN_PAGE];
	size_t block = (size_t)a->heads * (size_t)a->d * KERN_PAGE;

	(void)thread;
	for (int h = 0; h < a->heads; h++) {
		size_t at = (size_t)page * block + (size_t)h * (size_t)a->d * KERN_PAGE;
		const float *k = a->k + (ptrdiff_t)row * a->ldk + h * a->d;
		const float *v = a->v + (ptrdiff_t)row * a->ldv + h * a->d;

		for (int c = 0; c < a->d; c++)
			a->kc[at + (size_t)c * KERN_PAGE + (size_t)slot] = k[c];
		memcpy(a->vc + at + (size_t)slot * (size_t)a->d, v, (size_t)a->d * sizeof *v);
	}
}

static void kv_store(struct kern_pool *pool, float *kcache, float *vcache, const float *k, int ldk,
		     const float *v, int ldv, const int32_t *const *table, const int32_t *pos,
		     int rows, int kv_heads, int head_dim)
{
	struct kv_rows a = {.kc = kcache,
			    .vc = vcache,
			    .k = k,
			    .v = v,
			    .table = table,
			    .pos = pos,
			    .ldk = ldk,
			    .ldv = ldv,
			    .heads = kv_heads,
			    .d = head_dim};

	(void)pool; /* Copies of a few kilobytes: a barrier costs more. */
	for (int r = 0; r < rows; r++)
		kv_store_item(&a, r, 0);
}
