/* Attention over pages that several texts of a batch have in common: every row has the bits it has
 * alone, whoever shares its pages, in every order, for every back end, format, shape and window.
 */
#include "tests/kern_util.h"

enum { TEXTS = 40, KEYS_MAX = 420, PAGES_MAX = KEYS_MAX / KERN_PAGE + 1, ROWS_MAX = 40 * TEXTS };

struct shape {
	int heads, kv_heads, dim, window;
};

static const struct shape shapes[] = {
	{3, 3, 48, 0},	{8, 2, 64, 0},	{4, 2, 20, 0},	 {26, 1, 16, 0}, {2, 2, 128, 0},
	{4, 1, 32, 64}, {2, 2, 48, 37}, {3, 3, 16, 200}, {6, 2, 80, 5},
};
#define N_SHAPES (sizeof shapes / sizeof shapes[0])

/* Texts over one cache: each begins with some pages of an earlier one, or with none. */
struct forest {
	struct shape s;
	enum kern_format kv;
	int n_pages, n_texts, keys[TEXTS], rows[TEXTS];
	int32_t page[TEXTS][PAGES_MAX];
	float *kc, *vc;
	size_t size; /* floats of each */
};

static int below(uint32_t *seed, int n)
{
	*seed = *seed * 1664525u + 1013904223u;
	return (int)((*seed >> 8) % (uint32_t)n);
}

/* Stores pages [from, to) of text t: other numbers on every page. */
static void store_pages(const struct kern *k, struct kern_pool *pool, struct forest *f, int t,
			int from, int to)
{
	int n = (to - from) * KERN_PAGE, ld = 2 * f->s.kv_heads * f->s.dim;
	float *x = numbers((size_t)(n * ld), (uint32_t)(f->page[t][from] * 977 + 1));
	int32_t *pos = malloc((size_t)n * sizeof *pos), *first = calloc((size_t)n, sizeof *first);

	for (int i = 0; i < n; i++)
		pos[i] = from * KERN_PAGE + i;
	k->kv_store(pool, f->kv, f->kc, f->vc, x, ld, x + f->s.kv_heads * f->s.dim, ld, f->page[t],
		    first, pos, n, f->s.kv_heads, f->s.dim);
	guarded_free(x);
	free(pos);
	free(first);
}

/* Pages that slid out of the window of the text's first row are gone. */
static void forget_pages(struct forest *f, int t, uint32_t *seed)
{
	int first_row = f->keys[t] - f->rows[t] + 1;

	for (int p = 0; f->s.window > 0 && (p + 1) * KERN_PAGE <= first_row - f->s.window; p++)
		f->page[t][p] = INT32_MAX / 2 + below(seed, 2);
}

static struct forest make_forest(const struct kern *k, struct kern_pool *pool, struct shape s,
				 enum kern_format kv, uint32_t seed)
{
	struct forest f = {.s = s, .kv = kv, .n_texts = 2 + below(&seed, TEXTS - 1)};
	int common = 0;

	f.size = TEXTS * PAGES_MAX * kern_kv_bytes(kv, s.kv_heads, s.dim) / sizeof(float);
	f.kc = guarded(f.size);
	f.vc = guarded(f.size);
	memset(f.kc, 0xff, f.size * sizeof(float));
	memset(f.vc, 0xff, f.size * sizeof(float));
	for (int t = 0; t < f.n_texts; t++) {
		int pages, parent = below(&seed, 4) ? below(&seed, t + 1) : t, kept = common;

		f.keys[t] = 1 + below(&seed, KEYS_MAX);
		common = parent < t ? below(&seed, f.keys[parent] / KERN_PAGE + 1) : 0;
		if (t > 0 && below(&seed, 4)) { /* one more of a family */
			parent = t - 1;
			common = kept;
		}
		if (common > 0 &&
		    below(&seed, 2)) /* answers of a few tokens behind a long prompt */
			f.keys[t] = common * KERN_PAGE + below(&seed, 30);
		pages = (f.keys[t] + KERN_PAGE - 1) / KERN_PAGE;
		common = common > f.keys[t] / KERN_PAGE ? f.keys[t] / KERN_PAGE : common;
		f.rows[t] = below(&seed, 5) ? 1 : 1 + below(&seed, f.keys[t] < 40 ? f.keys[t] : 40);
		if (common > 0)
			memcpy(f.page[t], f.page[parent], (size_t)common * sizeof(int32_t));
		for (int p = common; p < pages; p++)
			f.page[t][p] = f.n_pages++;
		if (common < pages)
			store_pages(k, pool, &f, t, common, pages);
	}
	for (int t = 0; t < f.n_texts; t++)
		forget_pages(&f, t, &seed);
	return f;
}

/* Rows of a call: which text, how many keys. */
struct rows {
	int n;
	int32_t first[ROWS_MAX], n_keys[ROWS_MAX];
};

static void attend(const struct kern *k, struct kern_pool *pool, const struct forest *f,
		   const struct rows *r, int from, int n, const float *q, float *out)
{
	struct shape s = f->s;
	const struct kern_paged a = {.kv = f->kv,
				     .rows = n,
				     .heads = s.heads,
				     .kv_heads = s.kv_heads,
				     .head_dim = s.dim,
				     .window = s.window,
				     .scale = 1 / sqrtf((float)s.dim),
				     .q = q + from * s.heads * s.dim,
				     .ldq = s.heads * s.dim,
				     .k = f->kc,
				     .v = f->vc,
				     .blocks = f->page[0],
				     .first = r->first + from,
				     .n_keys = r->n_keys + from,
				     .most_keys = KEYS_MAX,
				     .out = out + from * s.heads * s.dim};

	k->attn_paged(pool, &a);
}

static int by_pages(const void *a, const void *b)
{
	const int32_t *x = *(const int32_t *const *)a, *y = *(const int32_t *const *)b;

	for (int i = 0; i < PAGES_MAX; i++)
		if (x[i] != y[i])
			return x[i] < y[i] ? -1 : 1;
	return 0;
}

/* In the order of their pages, which is how the scheduler hands them out, or in any. */
static void list_rows(const struct forest *f, struct rows *r, bool sorted, uint32_t seed)
{
	const int32_t *text[TEXTS];

	for (int t = 0; t < f->n_texts; t++)
		text[t] = f->page[t];
	for (int t = 0; t < f->n_texts; t++) {
		int other = below(&seed, f->n_texts);
		const int32_t *x = text[t];

		text[t] = text[other];
		text[other] = x;
	}
	if (sorted)
		qsort(text, (size_t)f->n_texts, sizeof text[0], by_pages);
	r->n = 0;
	for (int i = 0; i < f->n_texts; i++) {
		int32_t first = (int32_t)(text[i] - f->page[0]);
		int t = first / PAGES_MAX;

		for (int row = f->rows[t] - 1; row >= 0; row--, r->n++) {
			r->first[r->n] = first;
			r->n_keys[r->n] = f->keys[t] - row;
		}
	}
}

static void check_forest(const struct kern *k, struct kern_pool *pool, struct kern_pool *one,
			 const struct forest *f)
{
	size_t row = (size_t)(f->s.heads * f->s.dim);
	static struct rows r;

	for (int sorted = 0; sorted < 2; sorted++) {
		list_rows(f, &r, sorted, (uint32_t)f->n_pages);
		size_t n = (size_t)r.n * row;
		float *q = numbers(n, 77), *out = guarded(n), *alone = guarded(n);

		attend(k, pool, f, &r, 0, r.n, q, out);
		for (int i = 0; i < r.n; i++)
			attend(k, one, f, &r, i, 1, q, alone);
		check_same(out, alone, n);
		for (size_t i = 0; i < n; i++)
			CHECK(isfinite(out[i]));
		check_guard(out, n);
		guarded_free(q);
		guarded_free(out);
		guarded_free(alone);
	}
}

static void check_shape(const struct kern *k, struct shape s, enum kern_format kv)
{
	struct kern_pool *one = kern_pool_new(1);

	for (int n = 1; n <= 8; n++) {
		struct kern_pool *pool = kern_pool_new(1 + n % 3);
		struct forest f = make_forest(k, one, s, kv, (uint32_t)(n * 31 + s.dim));

		check_forest(k, pool, one, &f);
		check_guard(f.kc, f.size);
		check_guard(f.vc, f.size);
		guarded_free(f.kc);
		guarded_free(f.vc);
		kern_pool_free(pool);
	}
	kern_pool_free(one);
}

void test_kernels_shared__f32_rows_are_what_they_are_alone(void)
{
	EACH_BACKEND(k)
	for (size_t i = 0; i < N_SHAPES; i++)
		check_shape(k, shapes[i], KERN_F32);
}

void test_kernels_shared__bf16_rows_are_what_they_are_alone(void)
{
	EACH_BACKEND(k)
	for (size_t i = 0; i < N_SHAPES; i++)
		check_shape(k, shapes[i], KERN_BF16);
}
