/* CUDA attention over the block cache, in the emulator: against double precision, and a row's bits do
 * not depend on the rows around it, on sharing of blocks, or on how a prompt is cut into chunks.
 */
#include "tests/cuda_util.h"

enum { SEQS = 4, SHARED_PAGES = 32, PAGES_MAX = 160, ROWS_MAX = 80 };

/* Sequences 0 to 2 begin with the same 512 keys. */
static const int lengths[SEQS] = {700, 530, 513, 90};

struct shape {
	int heads, kv_heads, d, window;
};

static const struct shape shapes[] = {
	{2, 1, 64, 0},	 {8, 2, 128, 0}, {4, 4, 32, 300}, {2, 1, 256, 0},
	{20, 1, 64, 70}, {2, 2, 50, 0},	 {3, 1, 96, 100},
};
#define N_SHAPES (sizeof shapes / sizeof shapes[0])

struct row {
	int seq, n;
};

struct cache {
	struct shape s;
	enum kern_format act, kv;
	int page[SEQS][PAGES_MAX], pages;
	float *k, *v; /* host: [pages][kv_heads][KERN_PAGE][d], as the device has them */
	void *dev_k, *dev_v;
	unsigned *counts;
};

static struct cache make_cache(struct shape s, enum kern_format act, enum kern_format kv, uint32_t seed)
{
	struct cache c = {.s = s, .act = act, .kv = kv};
	size_t slot = (size_t)(s.kv_heads * s.d), n;

	for (int q = 0; q < SEQS; q++)
		for (int i = 0; i * KERN_PAGE < lengths[q]; i++)
			c.page[q][i] = q > 0 && q < 3 && i < SHARED_PAGES ? c.page[0][i] : c.pages++;
	/* Pages lie in no order. */
	for (int q = 0; q < SEQS; q++)
		for (int i = 0; i * KERN_PAGE < lengths[q]; i++)
			c.page[q][i] = (c.page[q][i] * 37 + 11) % 151;
	c.pages = 151;
	n = (size_t)c.pages * KERN_PAGE * slot;
	c.k = numbers(n, seed);
	c.v = numbers(n, seed + 1);
	/* What was never stored is not a number. */
	for (int q = 0; q < SEQS; q++)
		for (int i = lengths[q] % KERN_PAGE; i && i < KERN_PAGE; i++)
			for (int h = 0; h < s.kv_heads; h++)
				for (int x = 0; x < s.d; x++) {
					size_t page = (size_t)c.page[q][lengths[q] / KERN_PAGE];
					size_t at = ((page * (size_t)s.kv_heads + (size_t)h) * KERN_PAGE +
						     (size_t)i) * (size_t)s.d + (size_t)x;

					c.k[at] = c.v[at] = NAN;
				}
	c.dev_k = dev_act(kv, c.k, n);
	c.dev_v = dev_act(kv, c.v, n);
	c.counts = dev_zeros(cu_attn_paged_counts(ROWS_MAX, s.heads));
	return c;
}

static void free_cache(struct cache *c)
{
	guarded_free(c->k);
	guarded_free(c->v);
	dev_free(c->dev_k);
	dev_free(c->dev_v);
	dev_free(c->counts);
}

/* The query of a row: a function of sequence and position. */
static void query_of(const struct cache *c, struct row r, float *q)
{
	uint32_t seed = (uint32_t)(r.seq * 10007 + r.n);

	for (int i = 0; i < c->s.heads * c->s.d; i++)
		q[i] = 2 * number(&seed);
}

/* out [rows][heads * d] as floats; the caller frees. */
static float *run(const struct cache *c, const struct row *rows, int n, int runs)
{
	int width = c->s.heads * c->s.d, ldq = width + 8;
	size_t all = (size_t)(n * width);
	float *q = numbers((size_t)(n * ldq), 1), *out;
	int32_t blocks[SEQS * PAGES_MAX], at[SEQS], first[ROWS_MAX], keys[ROWS_MAX];
	int total = 0, most = 0;

	for (int s = 0; s < SEQS; s++) {
		at[s] = total;
		for (int i = 0; i * KERN_PAGE < lengths[s]; i++)
			blocks[total++] = c->page[s][i];
	}
	for (int r = 0; r < n; r++) {
		query_of(c, rows[r], q + r * ldq);
		first[r] = at[rows[r].seq];
		keys[r] = rows[r].n;
		most = rows[r].n > most ? rows[r].n : most;
	}
	void *dq = dev_act(c->act, q, (size_t)(n * ldq)), *dout = dev_new(all * act_size(c->act));
	void *db = dev_put(blocks, (size_t)total * sizeof *blocks);
	void *df = dev_put(first, (size_t)n * sizeof *first);
	void *dk = dev_put(keys, (size_t)n * sizeof *keys);
	struct kern_paged a = {.kv = c->kv,
			       .rows = n,
			       .heads = c->s.heads,
			       .kv_heads = c->s.kv_heads,
			       .head_dim = c->s.d,
			       .window = c->s.window,
			       .scale = 1 / sqrtf((float)c->s.d),
			       .q = dq,
			       .ldq = ldq,
			       .k = c->dev_k,
			       .v = c->dev_v,
			       .blocks = db,
			       .first = df,
			       .n_keys = dk,
			       .most_keys = most,
			       .out = dout};
	void *scratch = dev_new(cu_attn_paged_scratch(c->act, &a, runs));

	cu_attn_paged(NULL, c->act, &a, runs, scratch, c->counts);
	out = dev_floats(c->act, dout, all);
	guarded_free(q);
	dev_free(dq);
	dev_free(dout);
	dev_free(db);
	dev_free(df);
	dev_free(dk);
	dev_free(scratch);
	return out;
}

/* One row by the definition. */
static void want_row(const struct cache *c, struct row r, double *out)
{
	const struct shape *s = &c->s;
	int from = s->window > 0 && r.n > s->window ? r.n - s->window : 0;
	float *q = numbers((size_t)(s->heads * s->d), 1);
	double *w = malloc((size_t)r.n * sizeof *w);

	CHECK(w);
	query_of(c, r, q);
	for (int h = 0; h < s->heads; h++) {
		size_t kv = (size_t)(h / (s->heads / s->kv_heads)), d = (size_t)s->d;
		double sum = 0, *o = out + (size_t)h * d;

		memset(o, 0, d * sizeof *o);
		for (int j = from; j < r.n; j++) {
			size_t page = (size_t)c->page[r.seq][j / KERN_PAGE];
			size_t row = (page * (size_t)s->kv_heads + kv) * KERN_PAGE;
			size_t at = (row + (size_t)(j % KERN_PAGE)) * d;
			double dot = 0;

			for (size_t x = 0; x < d; x++) {
				float mine = q[(size_t)h * d + x];

				dot += (double)(c->act == KERN_BF16 ? rounded_bf16(mine) : mine) *
				       (double)c->k[at + x];
			}
			sum += w[j] = exp(dot / sqrt((double)s->d));
		}
		for (int j = from; j < r.n; j++) {
			size_t page = (size_t)c->page[r.seq][j / KERN_PAGE];
			size_t row = (page * (size_t)s->kv_heads + kv) * KERN_PAGE;
			size_t at = (row + (size_t)(j % KERN_PAGE)) * d;

			for (size_t x = 0; x < d; x++)
				o[x] += w[j] / sum * (double)c->v[at + x];
		}
	}
	guarded_free(q);
	free(w);
}

/* Decoding and a chunk of a prompt in one batch; each row as above. */
static const struct row mixed[] = {{0, 700}, {1, 530}, {2, 513}, {3, 90}, {3, 41}, {0, 256}, {1, 257},
				   {0, 598}, {0, 599}, {0, 600}, {0, 601}, {2, 1}, {2, 2},   {2, 3}};
#define N_MIXED ((int)(sizeof mixed / sizeof mixed[0]))

static void against_double(enum kern_format act, enum kern_format kv, double bound)
{
	static const int runs[] = {0, 5, -1}; /* each row, ranges of rows, prefill */

	for (size_t i = 0; i < N_SHAPES; i += TEST_STRIDE(2)) {
		struct cache c = make_cache(shapes[i], act, kv, (uint32_t)i);
		size_t width = (size_t)(c.s.heads * c.s.d);
		double *want = malloc(width * N_MIXED * sizeof *want);

		CHECK(want);
		for (int r = 0; r < N_MIXED; r++)
			want_row(&c, mixed[r], want + width * (size_t)r);
		for (size_t j = 0; j < (act == KERN_BF16 && kv == KERN_BF16 ? 3 : 1); j++) {
			cuemu_order((unsigned)(i + j));
			float *got = run(&c, mixed, N_MIXED, runs[j]);

			printf("# shape %zu, runs %d: %.2g\n", i, runs[j],
			       error_of(got, want, width * N_MIXED));
			CHECK_ERROR(got, want, width * N_MIXED, bound);
			free(got);
		}
		free(want);
		free_cache(&c);
	}
}

void test_cuda_paged__f32_against_double(void)
{
	against_double(KERN_F32, KERN_F32, 2e-6);
}

void test_cuda_paged__bf16_against_double(void)
{
	against_double(KERN_BF16, KERN_BF16, 6e-3);
}

void test_cuda_paged__mixed_formats_against_double(void)
{
	against_double(KERN_F32, KERN_BF16, 2e-6);
	against_double(KERN_BF16, KERN_F32, 6e-3);
}

/* Rows of `some` have the bits they have alone. */
static void check_rows(const struct cache *c, const struct row *some, int n, int runs)
{
	int width = c->s.heads * c->s.d;
	float *got = run(c, some, n, runs);

	for (int r = 0; r < n; r++) {
		float *alone = run(c, some + r, 1, 0);

		check_same(got + r * width, alone, (size_t)width);
		free(alone);
	}
	free(got);
}

void test_cuda_paged__bits_of_a_row_do_not_depend_on_the_others(void)
{
	for (size_t i = 0; i < N_SHAPES; i += TEST_STRIDE(2)) {
		struct cache c = make_cache(shapes[i], KERN_BF16, KERN_BF16, 9);

		for (int runs = 0; runs < 6; runs += 5) {
			cuemu_order((unsigned)runs);
			check_rows(&c, mixed, N_MIXED, runs);
		}
		free_cache(&c);
	}
}

/* A prompt in one chunk that is not cut into parallel splits, in chunks that are, and row by row. */
void test_cuda_paged__bits_do_not_depend_on_chunks(void)
{
	for (size_t i = 0; i < N_SHAPES; i += TEST_STRIDE(2)) {
		struct cache c = make_cache(shapes[i], KERN_BF16, KERN_BF16, 11);
		int width = c.s.heads * c.s.d;
		struct row rows[ROWS_MAX];
		float *whole, *part;

		for (int r = 0; r < ROWS_MAX; r++)
			rows[r] = (struct row){0, 230 + r};
		/* All splits in one thread block: as a long prompt is. */
		whole = run(&c, rows, ROWS_MAX, -1);
		for (int from = 0, n; from < ROWS_MAX; from += n) {
			n = from < 40 ? 13 : 1 + from % 5;
			n = ROWS_MAX - from < n ? ROWS_MAX - from : n;
			part = run(&c, rows + from, n, 1 + from % 2);
			check_same(part, whole + from * width, (size_t)(n * width));
			free(part);
		}
		free(whole);
		free_cache(&c);
	}
}
