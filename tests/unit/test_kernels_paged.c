/* Attention over a paged cache, every back end, F32 and BF16: against double precision, and bits
 * that do not depend on chunks, neighbours or threads.
 */
#include "tests/kern_util.h"

enum { KEYS_MAX = 1100, PAGES_MAX = (KEYS_MAX + KERN_PAGE - 1) / KERN_PAGE };

struct shape {
	int heads, kv_heads, dim, keys, window;
};

static const struct shape shapes[] = {
	{4, 4, 48, 150, 0},  {8, 2, 64, 130, 0},  {4, 2, 20, 150, 37}, {26, 1, 16, 70, 0},
	{3, 3, 128, 67, 66}, {6, 2, 80, 90, 5},	  {2, 1, 2, 33, 1},    {2, 2, 256, 40, 0},
	{8, 1, 32, 300, 64}, {2, 2, 64, 1100, 0}, {7, 7, 36, 35, 16},
};
#define N_SHAPES (sizeof shapes / sizeof shapes[0])

static float round_bf16(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof bits);
	bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
	memcpy(&x, &bits, sizeof x);
	return x;
}

/* One sequence: its queries, keys and values, and a cache of its own pages, handed out backwards.
 * What was never stored is not a number. */
struct seq {
	struct shape s;
	enum kern_format kv;
	int ld;
	float *qkv; /* [keys][ld] */
	float *kc, *vc;
	size_t size; /* floats of a cache */
	int32_t table[PAGES_MAX];
};

static struct seq make_seq(struct shape s, enum kern_format kv, uint32_t seed)
{
	struct seq q = {.s = s, .kv = kv, .ld = (s.heads + 2 * s.kv_heads) * s.dim};
	int pages = (s.keys + KERN_PAGE - 1) / KERN_PAGE;

	q.qkv = numbers((size_t)(s.keys * q.ld), seed);
	q.size = (size_t)pages * kern_kv_bytes(kv, s.kv_heads, s.dim) / sizeof(float);
	q.kc = guarded(q.size);
	q.vc = guarded(q.size);
	memset(q.kc, 0xff, q.size * sizeof(float));
	memset(q.vc, 0xff, q.size * sizeof(float));
	for (int i = 0; i < pages; i++)
		q.table[i] = pages - 1 - i;
	return q;
}

static void free_seq(struct seq *q)
{
	check_guard(q->kc, q->size);
	check_guard(q->vc, q->size);
	guarded_free(q->qkv);
	guarded_free(q->kc);
	guarded_free(q->vc);
}

/* Row i from the definition, of what the cache and the products make of the numbers. */
static void want_row(const struct seq *q, int i, double *out)
{
	struct shape s = q->s;
	int from = s.window > 0 && i + 1 > s.window ? i + 1 - s.window : 0;
	float scale = 1 / sqrtf((float)s.dim);
	bool bf16 = q->kv == KERN_BF16;

	for (int h = 0; h < s.heads; h++) {
		const float *x = q->qkv + i * q->ld + h * s.dim;
		int g = s.heads + h / (s.heads / s.kv_heads);
		double w[KEYS_MAX], sum = 0, *o = out + h * s.dim;

		memset(o, 0, (size_t)s.dim * sizeof *o);
		for (int j = from; j <= i; j++) {
			const float *k = q->qkv + j * q->ld + g * s.dim;

			w[j] = 0;
			for (int c = 0; c < s.dim; c++)
				w[j] += bf16 ? (double)round_bf16(x[c] * scale) * round_bf16(k[c])
					     : (double)(x[c] * scale) * k[c];
			w[j] = exp(w[j]);
			sum += w[j];
		}
		for (int j = from; j <= i; j++) {
			const float *v = q->qkv + j * q->ld + (g + s.kv_heads) * s.dim;

			for (int c = 0; c < s.dim; c++)
				o[c] += w[j] / sum * (double)(bf16 ? round_bf16(v[c]) : v[c]);
		}
	}
}

/* What a call asks for, and its lists. */
struct asked {
	struct kern_paged a;
	int32_t first[KEYS_MAX], pos[KEYS_MAX], n_keys[KEYS_MAX];
};

/* Rows [i, i + n) of the sequence are stored; the call that lets them attend. */
static void store_rows(const struct kern *k, struct kern_pool *pool, struct seq *q, int i, int n,
		       float *out, struct asked *to)
{
	struct shape s = q->s;
	const float *x = q->qkv + i * q->ld;

	for (int r = 0; r < n; r++) {
		to->first[r] = 0;
		to->pos[r] = i + r;
		to->n_keys[r] = i + r + 1;
	}
	to->a = (struct kern_paged){.kv = q->kv,
				    .rows = n,
				    .heads = s.heads,
				    .kv_heads = s.kv_heads,
				    .head_dim = s.dim,
				    .window = s.window,
				    .scale = 1 / sqrtf((float)s.dim),
				    .q = x,
				    .ldq = q->ld,
				    .k = q->kc,
				    .v = q->vc,
				    .blocks = q->table,
				    .first = to->first,
				    .n_keys = to->n_keys,
				    .most_keys = i + n,
				    .out = out + i * s.heads * s.dim};
	k->kv_store(pool, q->kv, q->kc, q->vc, x + s.heads * s.dim, q->ld,
		    x + (s.heads + s.kv_heads) * s.dim, q->ld, q->table, to->first, to->pos, n,
		    s.kv_heads, s.dim);
}

static void run_rows(const struct kern *k, struct kern_pool *pool, struct seq *q, int i, int n,
		     float *out)
{
	struct asked asked;

	store_rows(k, pool, q, i, n, out, &asked);
	k->attn_paged(pool, &asked.a);
}

static void run_chunks(const struct kern *k, struct kern_pool *pool, struct seq *q, int chunk,
		       float *out)
{
	for (int i = 0; i < q->s.keys; i += chunk)
		run_rows(k, pool, q, i, q->s.keys - i < chunk ? q->s.keys - i : chunk, out);
}

/* Largest distance from the definition over rows 0, 13, 26, ... and the last. */
static double distance(const struct seq *q, const float *out)
{
	double want[26 * 256], worst = 0;
	int width = q->s.heads * q->s.dim;

	for (int i = 0; i < q->s.keys;
	     i += i + 13 < q->s.keys || i == q->s.keys - 1 ? 13 : q->s.keys - 1 - i) {
		want_row(q, i, want);
		for (int c = 0; c < width; c++) {
			double d = fabs((double)out[i * width + c] - want[c]);

			worst = d > worst || d != d ? d : worst;
			if (d != d)
				return INFINITY;
		}
	}
	return worst;
}

/* Values are below 1 in size: 2^-8 is the bound of rounded weights. */
static void check_paged(const struct kern *k, struct shape s, enum kern_format kv)
{
	static const int chunks[] = {1, 7, 24, 64};
	struct kern_pool *pool = kern_pool_new(2), *one = kern_pool_new(1);
	size_t n = (size_t)(s.keys * s.heads * s.dim);
	float *out = guarded(n), *again = guarded(n);
	struct seq q = make_seq(s, kv, 5);

	run_chunks(k, pool, &q, s.keys, out);
	CHECK(distance(&q, out) < (kv == KERN_BF16 ? 1.0 / 256 : 3e-6));
	check_guard(out, n);
	for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
		struct seq fresh = make_seq(s, kv, 5);

		run_chunks(k, c % 2 ? one : pool, &fresh, chunks[c], again);
		check_same(out, again, n);
		free_seq(&fresh);
	}
	free_seq(&q);
	guarded_free(out);
	guarded_free(again);
	kern_pool_free(pool);
	kern_pool_free(one);
}

void test_kernels_paged__f32_in_any_chunks(void)
{
	EACH_BACKEND(k)
	for (size_t i = 0; i < N_SHAPES; i++)
		check_paged(k, shapes[i], KERN_F32);
}

void test_kernels_paged__bf16_in_any_chunks(void)
{
	EACH_BACKEND(k)
	for (size_t i = 0; i < N_SHAPES; i++)
		check_paged(k, shapes[i], KERN_BF16);
}

/* With the product behind it, or nothing at all: heads of 20, 36 and 2 are no blocks of int8. */
static void check_product(const struct kern *k, struct kern_pool *pool, enum kern_format f,
			  struct shape s, int counts[2])
{
	enum { N = 70 };
	int width = s.heads * s.dim;
	struct seq q = make_seq(s, f == KERN_F32 ? KERN_F32 : KERN_BF16, 5);
	float *w = numbers((size_t)(N * width), 6), *out = guarded((size_t)(s.keys * width));
	float *want = numbers((size_t)(s.keys * N), 7), *got = numbers((size_t)(s.keys * N), 7);
	struct slab wp = slab_packed(k, pool, f, w, width, N, width);
	struct asked asked;

	store_rows(k, pool, &q, 0, s.keys, out, &asked);
	k->attn_paged(pool, &asked.a);
	asked.a.out = NULL;
	for (int acc = 1; acc >= 0; acc--) {
		bool done = k->paged_packed(pool, &asked.a, f, got, N, wp.p, N, acc);

		if (done)
			k->gemm_packed(pool, f, want, N, out, width, wp.p, s.keys, N, width, acc);
		counts[done]++;
		check_same(want, got, (size_t)(s.keys * N));
		check_guard(got, (size_t)(s.keys * N));
	}
	free_seq(&q);
	slab_free(wp);
	guarded_free(w);
	guarded_free(out);
	guarded_free(want);
	guarded_free(got);
}

void test_kernels_paged__attention_and_product_in_one(void)
{
	struct kern_pool *pool = kern_pool_new(2);
	int counts[2] = {0, 0};

	EACH_BACKEND(k)
	for (int f = KERN_F32; f <= KERN_Q8; f++)
		for (size_t i = 0; i < N_SHAPES; i++) {
			if (f == KERN_Q8 && shapes[i].heads * shapes[i].dim % KERN_Q8_BLOCK != 0)
				continue;
			check_product(k, pool, (enum kern_format)f, shapes[i], counts);
		}
	CHECK(counts[true] > 0 && counts[false] > 0);
	kern_pool_free(pool);
}

/* The last rows of several sequences in one call, some of them in chunks, are what they are alone.
 */
static void check_batch(const struct kern *k, enum kern_format kv, int threads)
{
	enum {
		SEQS = 5,
		HEADS = 8,
		KV = 2,
		DIM = 48,
		W = HEADS * DIM,
		LD = (HEADS + 2 * KV) * DIM
	};
	static const int lens[SEQS] = {5, 130, 64, 65, 33}, rows[SEQS] = {1, 30, 1, 3, 1};
	struct kern_pool *pool = kern_pool_new(threads), *one = kern_pool_new(1);
	size_t block = kern_kv_bytes(kv, KV, DIM) / sizeof(float);
	float *kc = guarded(30 * block), *vc = guarded(30 * block), *q = guarded(36 * LD);
	float *out = guarded(36 * W), *alone[SEQS];
	int32_t n_keys[36], first[36], page[SEQS][PAGES_MAX], next = 0, n = 0, most = 0;

	for (int s = 0; s < SEQS; s++) {
		struct seq x =
			make_seq((struct shape){HEADS, KV, DIM, lens[s], 0}, kv, (uint32_t)s + 1);
		int pages = (lens[s] + KERN_PAGE - 1) / KERN_PAGE;

		alone[s] = guarded((size_t)(lens[s] * W));
		run_chunks(k, one, &x, lens[s], alone[s]);
		for (int p = 0; p < pages; p++, next++) {
			size_t bytes = block * sizeof(float), from = (size_t)x.table[p] * block;

			page[s][p] = next;
			memcpy(kc + (size_t)next * block, x.kc + from, bytes);
			memcpy(vc + (size_t)next * block, x.vc + from, bytes);
		}
		for (int r = lens[s] - rows[s]; r < lens[s]; r++, n++) {
			memcpy(q + n * LD, x.qkv + r * LD, LD * sizeof *q);
			first[n] = (int32_t)(page[s] - page[0]);
			most = r + 1 > most ? r + 1 : most;
			n_keys[n] = r + 1;
		}
		free_seq(&x);
	}
	struct kern_paged a = {.kv = kv,
			       .rows = n,
			       .heads = HEADS,
			       .kv_heads = KV,
			       .head_dim = DIM,
			       .scale = 1 / sqrtf((float)DIM),
			       .q = q,
			       .ldq = LD,
			       .k = kc,
			       .v = vc,
			       .blocks = page[0],
			       .first = first,
			       .n_keys = n_keys,
			       .most_keys = most,
			       .out = out};
	k->attn_paged(pool, &a);
	for (int s = 0, r = 0; s < SEQS; r += rows[s++]) {
		check_same(out + r * W, alone[s] + (lens[s] - rows[s]) * W, (size_t)(rows[s] * W));
		guarded_free(alone[s]);
	}
	guarded_free(kc);
	guarded_free(vc);
	guarded_free(q);
	guarded_free(out);
	kern_pool_free(pool);
	kern_pool_free(one);
}

void test_kernels_paged__rows_do_not_see_their_neighbours(void)
{
	EACH_BACKEND(k)
	for (int threads = 1; threads <= 3; threads++) {
		check_batch(k, KERN_F32, threads);
		check_batch(k, KERN_BF16, threads);
	}
}

/* Pages that slid out of the window may belong to others: their numbers are not read. */
void test_kernels_paged__pages_behind_the_window_are_not_touched(void)
{
	const struct shape s = {4, 2, 16, 200, 40};
	struct kern_pool *pool = kern_pool_new(1);
	size_t n = (size_t)(s.keys * s.heads * s.dim), row = (size_t)(s.heads * s.dim);

	EACH_BACKEND(k)
	for (int kv = KERN_F32; kv <= KERN_BF16; kv++) {
		float *out = guarded(n), *again = guarded(n);
		struct seq q = make_seq(s, (enum kern_format)kv, 9);

		run_chunks(k, pool, &q, 1, out);
		for (int p = 0; p < (s.keys - 1 - s.window) / KERN_PAGE; p++)
			q.table[p] = INT32_MAX / 2;
		run_rows(k, pool, &q, s.keys - 1, 1, again);
		check_same(out + n - row, again + n - row, row);
		free_seq(&q);
		guarded_free(out);
		guarded_free(again);
	}
	kern_pool_free(pool);
}

static float cached(const float *cache, size_t at)
{
	uint32_t bits = (uint32_t)((const unsigned char *)cache)[2 * at] << 16 |
			(uint32_t)((const unsigned char *)cache)[2 * at + 1] << 24;
	float x;

	memcpy(&x, &bits, sizeof x);
	return x;
}

void test_kernels_paged__bf16_cache_layout_and_rounding(void)
{
	enum { KV = 2, DIM = 20, KEYS = 40, LD = 2 * KV * DIM };
	struct kern_pool *pool = kern_pool_new(2);
	size_t size = 3 * kern_kv_bytes(KERN_BF16, KV, DIM) / sizeof(float);
	float *x = numbers((size_t)KEYS * LD, 3);
	static const int32_t table[] = {2, 0, 1};
	int32_t first[KEYS] = {0}, pos[KEYS];

	/* Ties: to the even neighbour, up and down. */
	x[0] = 1.00390625f;
	x[1] = 1.01171875f;
	for (int i = 0; i < KEYS; i++) {
		pos[i] = KEYS - 1 - i; /* any order */
	}
	EACH_BACKEND(k)
	{
		float *kc = guarded(size), *vc = guarded(size);

		k->kv_store(pool, KERN_BF16, kc, vc, x, LD, x + KV * DIM, LD, table, first, pos,
			    KEYS, KV, DIM);
		for (int i = 0; i < KEYS; i++)
			for (int h = 0; h < KV; h++)
				for (int c = 0; c < DIM; c++) {
					size_t slot = (size_t)(pos[i] % KERN_PAGE), col = (size_t)c;
					size_t head = (size_t)(table[pos[i] / KERN_PAGE] * KV + h);
					size_t at = head * DIM * KERN_PAGE;
					float kw = x[i * LD + h * DIM + c];
					float vw = x[i * LD + (KV + h) * DIM + c];

					kw = round_bf16(kw);
					vw = round_bf16(vw);
					CHECK(cached(kc, at + (col / 2 * KERN_PAGE + slot) * 2 +
								 col % 2) == kw);
					CHECK(cached(vc, at + (slot / 2 * DIM + col) * 2 +
								 slot % 2) == vw);
				}
		CHECK(cached(kc, (size_t)(table[2] * KV) * DIM * KERN_PAGE +
					 (size_t)(pos[0] % KERN_PAGE) * 2) == 1.0f);
		check_guard(kc, size);
		check_guard(vc, size);
		guarded_free(kc);
		guarded_free(vc);
	}
	guarded_free(x);
	kern_pool_free(pool);
}

/* Rows of a chunk that begins and ends inside pages, between rows of other sequences, leave the
 * cache as the same rows do one by one. */
void test_kernels_paged__a_chunk_is_stored_as_its_rows_are(void)
{
	enum { KV = 2, DIM = 40, LD = 2 * KV * DIM, BLOCKS = 9, MAX = 80 };
	static const struct {
		int first, pos, rows;
	} parts[] = {{0, 30, 1}, {3, 5, 50}, {2, 8, 1}, {7, 0, 20}};
	struct kern_pool *pool = kern_pool_new(2);
	float *x = numbers((size_t)MAX * LD, 7);
	static const int32_t blocks[BLOCKS] = {4, 1, 0, 8, 2, 6, 3, 7, 5};
	int32_t first[MAX], pos[MAX], n = 0;

	for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++)
		for (int i = 0; i < parts[p].rows; i++, n++) {
			first[n] = parts[p].first;
			pos[n] = parts[p].pos + i;
		}
	EACH_BACKEND(k)
	for (enum kern_format kv = KERN_F32; kv <= KERN_BF16; kv++) {
		size_t size = BLOCKS * kern_kv_bytes(kv, KV, DIM) / sizeof(float);
		float *kc[2] = {guarded(size), guarded(size)};
		float *vc[2] = {guarded(size), guarded(size)};

		k->kv_store(pool, kv, kc[0], vc[0], x, LD, x + KV * DIM, LD, blocks, first, pos, n,
			    KV, DIM);
		for (int i = 0; i < n; i++)
			k->kv_store(pool, kv, kc[1], vc[1], x + i * LD, LD, x + i * LD + KV * DIM,
				    LD, blocks, first + i, pos + i, 1, KV, DIM);
		check_same(kc[0], kc[1], size);
		check_same(vc[0], vc[1], size);
		for (int i = 0; i < 2; i++) {
			check_guard(kc[i], size);
			check_guard(vc[i], size);
			guarded_free(kc[i]);
			guarded_free(vc[i]);
		}
	}
	guarded_free(x);
	kern_pool_free(pool);
}
