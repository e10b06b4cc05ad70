/* Row-wise operations of every back end against double precision, gradients against central
 * differences of a double-precision copy of the operation.
 */
#include "base/rng.h"
#include "tests/kern_util.h"

#define STEP 1e-5

/* dL/dx for L = sum(f(x) dy), by central differences at every element. */
struct probe {
	double *x; /* the varied input */
	size_t n;
	double (*loss)(void *ctx);
	void *ctx;
};

static void check_gradient(const struct probe *p, const float *got, const float *base, double tol)
{
	for (size_t i = 0; i < p->n; i++) {
		double keep = p->x[i], up, down, want;

		p->x[i] = keep + STEP;
		up = p->loss(p->ctx);
		p->x[i] = keep - STEP;
		down = p->loss(p->ctx);
		p->x[i] = keep;
		want = (up - down) / (2 * STEP);
		CHECK_NEAR((double)got[i] - (base ? (double)base[i] : 0), want,
			   tol * (1 + fabs(want)));
	}
}

static double *widened(const float *x, size_t n)
{
	double *d = malloc(n * sizeof *d);

	for (size_t i = 0; i < n; i++)
		d[i] = (double)x[i];
	return d;
}

void test_kernels_ops__exp_is_accurate_and_flushes(void)
{
	struct kern_pool *pool = kern_pool_new(1);
	float x[64], y[64];

	EACH_BACKEND(k)
	{
		for (int r = -800; r < 800; r++) {
			for (int i = 0; i < 64; i++)
				x[i] = (float)r * 0.109f + (float)i * 0.0013f;
			k->vexp(pool, y, x, 61);
			for (int i = 0; i < 61; i++) {
				double want = exp((double)x[i]);

				CHECK_NEAR((double)y[i], want, 2e-7 * want);
			}
		}
		x[0] = -INFINITY;
		x[1] = -200;
		x[2] = NAN;
		x[3] = 0;
		k->vexp(pool, y, x, 4);
		CHECK(y[0] == 0 && y[1] == 0 && isnan(y[2]) && y[3] == 1);
	}
	kern_pool_free(pool);
}

enum { ROWS = 9, WIDTH = 50 };

struct norm {
	double *x, *w, *y;
	float *dy;
};

static double norm_loss(void *ctx)
{
	struct norm *c = ctx;
	double loss = 0;

	for (int r = 0; r < ROWS; r++) {
		double ss = 0;

		for (int i = 0; i < WIDTH; i++)
			ss += c->x[r * WIDTH + i] * c->x[r * WIDTH + i];
		for (int i = 0; i < WIDTH; i++) {
			double y = c->x[r * WIDTH + i] / sqrt(ss / WIDTH + 1e-5) * c->w[i];

			c->y[r * WIDTH + i] = y;
			loss += y * (double)c->dy[r * WIDTH + i];
		}
	}
	return loss;
}

void test_kernels_ops__rmsnorm_and_gradient(void)
{
	enum { N = ROWS * WIDTH };
	struct kern_pool *pool = kern_pool_new(2);
	float *x = numbers(N, 1), *w = numbers(WIDTH, 2), *dy = numbers(N, 3);
	struct norm c = {widened(x, N), widened(w, WIDTH), calloc(N, sizeof(double)), dy};

	EACH_BACKEND(k)
	{
		float *y = guarded(N), *rinv = guarded(ROWS), *dx0 = numbers(N, 4),
		      *dw0 = numbers(WIDTH, 5);
		float *dx = copy_of(dx0, N), *dw = copy_of(dw0, WIDTH);

		k->rmsnorm(pool, y, rinv, x, w, ROWS, WIDTH, 1e-5f);
		norm_loss(&c);
		check_close(y, c.y, N, 1e-6);
		k->rmsnorm_back(pool, dx, dw, dy, x, w, rinv, ROWS, WIDTH);
		check_gradient(&(struct probe){c.x, N, norm_loss, &c}, dx, dx0, 3e-5);
		check_gradient(&(struct probe){c.w, WIDTH, norm_loss, &c}, dw, dw0, 3e-5);
		check_guard(y, N);
		check_guard(dx, N);
		check_guard(dw, WIDTH);
		check_guard(rinv, ROWS);
	}
	kern_pool_free(pool);
}

void test_kernels_ops__rope_turns_and_turns_back(void)
{
	enum { HEADS = 3, DIM = 10, HALF = DIM / 2, LD = HEADS * DIM + 4 };
	struct kern_pool *pool = kern_pool_new(2);
	float *x = numbers(ROWS * LD, 1), cosines[20 * HALF], sines[20 * HALF];
	int32_t pos[ROWS];

	for (int i = 0; i < 20 * HALF; i++) {
		cosines[i] = cosf((float)i);
		sines[i] = sinf((float)i);
	}
	for (int r = 0; r < ROWS; r++)
		pos[r] = (r * 7) % 20;
	EACH_BACKEND(k)
	{
		float *y = copy_of(x, ROWS * LD);

		k->rope(pool, y, LD, ROWS, HEADS, DIM, pos, cosines, sines, false);
		for (int r = 0; r < ROWS; r++)
			for (int h = 0; h < HEADS; h++)
				for (int i = 0; i < HALF; i++) {
					float a = x[r * LD + h * DIM + i],
					      b = x[r * LD + h * DIM + i + HALF];
					float c = cosines[pos[r] * HALF + i],
					      s = sines[pos[r] * HALF + i];

					CHECK_NEAR(y[r * LD + h * DIM + i], a * c - b * s, 1e-6);
					CHECK_NEAR(y[r * LD + h * DIM + i + HALF], b * c + a * s,
						   1e-6);
				}
		k->rope(pool, y, LD, ROWS, HEADS, DIM, pos, cosines, sines, true);
		for (int i = 0; i < ROWS * LD; i++)
			CHECK_NEAR(y[i], x[i], 1e-6);
		check_guard(y, ROWS * LD);
	}
	kern_pool_free(pool);
}

struct glu {
	double *g, *u;
	float *dy;
};

static double glu_loss(void *ctx)
{
	struct glu *c = ctx;
	double loss = 0;

	for (int i = 0; i < ROWS * WIDTH; i++)
		loss += c->g[i] / (1 + exp(-c->g[i])) * c->u[i] * (double)c->dy[i];
	return loss;
}

void test_kernels_ops__swiglu_and_gradient(void)
{
	enum { N = ROWS * WIDTH, LD = 2 * WIDTH };
	struct kern_pool *pool = kern_pool_new(2);
	float *g = numbers(N, 1), *u = numbers(N, 2), *dy = numbers(N, 3),
	      *both = numbers(ROWS * LD, 9);

	for (int i = 0; i < N; i++)
		g[i] *= 6;
	for (int r = 0; r < ROWS; r++)
		for (int i = 0; i < WIDTH; i++) {
			both[r * LD + i] = g[r * WIDTH + i];
			both[r * LD + WIDTH + i] = u[r * WIDTH + i];
		}
	struct glu c = {widened(g, N), widened(u, N), dy};
	EACH_BACKEND(k)
	{
		float *y = guarded(N), *d = copy_of(both, ROWS * LD), *dg = guarded(N),
		      *du = guarded(N);

		k->swiglu(pool, y, both, both + WIDTH, LD, ROWS, WIDTH);
		for (int i = 0; i < N; i++)
			CHECK_NEAR(y[i], c.g[i] / (1 + exp(-c.g[i])) * c.u[i], 2e-6);
		k->swiglu_back(pool, d, d + WIDTH, dy, d, d + WIDTH, LD, ROWS,
			       WIDTH); /* in place */
		for (int r = 0; r < ROWS; r++) {
			memcpy(dg + r * WIDTH, d + r * LD, WIDTH * sizeof *d);
			memcpy(du + r * WIDTH, d + r * LD + WIDTH, WIDTH * sizeof *d);
		}
		check_gradient(&(struct probe){c.g, N, glu_loss, &c}, dg, NULL, 3e-5);
		check_gradient(&(struct probe){c.u, N, glu_loss, &c}, du, NULL, 3e-5);
		check_guard(y, N);
		check_guard(d, ROWS * LD);
	}
	kern_pool_free(pool);
}

void test_kernels_ops__embedding_and_bias_add_rows_in_order(void)
{
	enum { VOCAB = 4 };
	static const int32_t ids[ROWS] = {0, 3, 3, 1, 0, 2, 3, 3, 1};
	struct kern_pool *pool = kern_pool_new(2);
	float *w = numbers(VOCAB * WIDTH, 1), *dy = numbers(ROWS * WIDTH, 2);

	EACH_BACKEND(k)
	{
		float *y = guarded(ROWS * WIDTH), *dw = numbers(VOCAB * WIDTH, 3),
		      *db = numbers(WIDTH, 4);
		float *want = copy_of(dw, VOCAB * WIDTH), *want_b = copy_of(db, WIDTH);

		k->embed(pool, y, w, ids, ROWS, WIDTH);
		k->embed_back(pool, dw, dy, ids, ROWS, WIDTH);
		k->bias_back(pool, db, dy, WIDTH, ROWS, WIDTH);
		for (int r = 0; r < ROWS; r++) {
			check_same(y + r * WIDTH, w + ids[r] * WIDTH, WIDTH);
			for (int i = 0; i < WIDTH; i++) {
				want[ids[r] * WIDTH + i] += dy[r * WIDTH + i];
				want_b[i] += dy[r * WIDTH + i];
			}
		}
		check_same(dw, want, VOCAB * WIDTH);
		check_same(db, want_b, WIDTH);
		k->bias(pool, y, WIDTH, w, ROWS, WIDTH);
		CHECK(y[3 * WIDTH + 7] == w[ids[3] * WIDTH + 7] + w[7]);
		check_guard(y, ROWS * WIDTH);
		check_guard(dw, VOCAB * WIDTH);
	}
	kern_pool_free(pool);
}

struct head {
	double *h, *w;
	const int32_t *target;
	const float *g;
	double logp[ROWS];
	int vocab;
};

static double head_loss(void *ctx)
{
	struct head *c = ctx;
	double loss = 0;

	for (int r = 0; r < ROWS; r++) {
		double sum = 0, mine = 0;

		for (int v = 0; v < c->vocab; v++) {
			double x = 0;

			for (int i = 0; i < WIDTH; i++)
				x += c->h[r * WIDTH + i] * c->w[v * WIDTH + i];
			sum += exp(x);
			mine = v == c->target[r] ? x : mine;
		}
		c->logp[r] = mine - log(sum);
		loss += c->logp[r] * (double)c->g[r];
	}
	return loss;
}

/* In two calls with the softmax kept between them: the bits of one call. */
static void check_kept_softmax(const struct kern *k, struct kern_pool *pool, struct kern_logprob a,
			       const float *dw0)
{
	size_t vocab = (size_t)a.vocab;
	float *probs = guarded(ROWS * vocab), *sum = guarded(2 * ROWS), *logp = guarded(ROWS);
	float *dh = guarded(ROWS * WIDTH), *dw = copy_of(dw0, vocab * WIDTH);
	struct kern_logprob b = a;

	b.probs = probs;
	b.sum = sum;
	b.logp = logp;
	b.dh = dh;
	b.dw = dw;
	b.g = NULL;
	k->logprob(pool, &b);
	check_same(logp, a.logp, ROWS);
	check_same(dw, dw0, vocab * WIDTH);
	b.g = a.g;
	b.kept = true;
	b.logp = NULL;
	b.hit = NULL;
	k->logprob(pool, &b);
	check_same(dh, a.dh, ROWS * WIDTH);
	check_same(dw, a.dw, vocab * WIDTH);
	check_guard(probs, ROWS * vocab);
	check_guard(sum, 2 * ROWS);
	check_guard(dh, ROWS * WIDTH);
}

void test_kernels_ops__logprob_and_gradient(void)
{
	enum { VOCAB = 37 };
	static const int32_t target[ROWS] = {0, 36, 5, 5, 17, 1, 2, 30, 36};
	struct kern_pool *pool = kern_pool_new(2);
	float *h = numbers(ROWS * WIDTH, 1), *w = numbers(VOCAB * WIDTH, 2), *g = numbers(ROWS, 3);
	struct head c = {
		widened(h, ROWS * WIDTH), widened(w, VOCAB * WIDTH), target, g, {0}, VOCAB};

	head_loss(&c);
	EACH_BACKEND(k)
	{
		float *logp = guarded(ROWS), *dh = guarded(ROWS * WIDTH),
		      *dw0 = numbers(VOCAB * WIDTH, 4);
		float *dw = copy_of(dw0, VOCAB * WIDTH);
		uint8_t hit[ROWS];
		struct kern_logprob a = {.rows = ROWS,
					 .width = WIDTH,
					 .vocab = VOCAB,
					 .h = h,
					 .w = w,
					 .target = target,
					 .logp = logp,
					 .hit = hit};

		k->logprob(pool, &a);
		check_close(logp, c.logp, ROWS, 2e-6);
		float *first = copy_of(logp, ROWS);
		a.g = g;
		a.dh = dh;
		a.dw = dw;
		k->logprob(pool, &a);
		check_same(first, logp, ROWS);
		check_gradient(&(struct probe){c.h, ROWS * WIDTH, head_loss, &c}, dh, NULL, 3e-5);
		check_gradient(&(struct probe){c.w, VOCAB * WIDTH, head_loss, &c}, dw, dw0, 3e-5);
		check_guard(logp, ROWS);
		check_guard(dh, ROWS * WIDTH);
		check_guard(dw, VOCAB * WIDTH);
		check_kept_softmax(k, pool, a, dw0);
	}
	kern_pool_free(pool);
}

void test_kernels_ops__logprob_marks_hits(void)
{
	static const float h[2] = {1, -1}, w[3] = {0, 2, 1};
	static const int32_t target[2] = {1, 0};
	struct kern_pool *pool = kern_pool_new(1);

	EACH_BACKEND(k)
	{
		float logp[2];
		uint8_t hit[2];

		k->logprob(pool, &(struct kern_logprob){.rows = 2,
							.width = 1,
							.vocab = 3,
							.h = h,
							.w = w,
							.target = target,
							.logp = logp,
							.hit = hit});
		CHECK(hit[0] == 1 && hit[1] == 1);
		CHECK_NEAR((double)logp[0], -log(exp(-2) + 1 + exp(-1)), 1e-6);
	}
	kern_pool_free(pool);
}

void test_kernels_ops__adamw_is_the_published_update(void)
{
	enum { N = 1003 };
	struct kern_pool *pool = kern_pool_new(2);
	float *p0 = numbers(N, 1), *g = numbers(N, 2);

	EACH_BACKEND(k)
	{
		float *p = copy_of(p0, N), *m = guarded(N), *v = guarded(N);
		double dp[N], dm[N] = {0}, dv[N] = {0};

		memset(m, 0, N * sizeof *m);
		memset(v, 0, N * sizeof *v);
		for (int i = 0; i < N; i++)
			dp[i] = (double)p0[i];
		for (int t = 1; t <= 3; t++) {
			struct kern_adamw a = {.n = N,
					       .p = p,
					       .m = m,
					       .v = v,
					       .g = g,
					       .grad_scale = 0.5f,
					       .lr = 1e-2f,
					       .beta1 = 0.9f,
					       .beta2 = 0.95f,
					       .eps = 1e-8f,
					       .decay = 0.1f,
					       .bias1 = (float)(1 - pow(0.9, t)),
					       .bias2 = (float)(1 - pow(0.95, t))};

			k->adamw(pool, &a, 1);
			for (int i = 0; i < N; i++) {
				double gi = 0.5 * (double)g[i];

				dm[i] = 0.9 * dm[i] + 0.1 * gi;
				dv[i] = 0.95 * dv[i] + 0.05 * gi * gi;
				dp[i] = dp[i] * (1 - 1e-2 * 0.1) -
					1e-2 * (dm[i] / (1 - pow(0.9, t))) /
						(sqrt(dv[i] / (1 - pow(0.95, t))) + 1e-8);
			}
		}
		check_close(p, dp, N, 2e-6);
		check_guard(p, N);
		check_guard(m, N);
		check_guard(v, N);
	}
	kern_pool_free(pool);
}

void test_kernels_ops__sums_do_not_depend_on_threads(void)
{
	enum { N = 50003 };
	float *x = numbers(N, 1);
	double want = 0;

	for (int i = 0; i < N; i++)
		want += (double)x[i] * (double)x[i];
	EACH_BACKEND(k)
	{
		double first = 0;

		for (int threads = 1; threads <= 4; threads *= 2) {
			struct kern_pool *pool = kern_pool_new(threads);
			double s = k->sumsq(pool, x, N);

			CHECK_NEAR(s, want, 1e-9 * want);
			CHECK(threads == 1 || s == first);
			first = s;
			kern_pool_free(pool);
		}
	}
}

void test_kernels_ops__dropout_is_a_function_of_its_key(void)
{
	enum { N = 40001 };
	const uint32_t key[2] = {7, 9}, stream[2] = {3, 0}, other[2] = {4, 0};
	float *ones = guarded(N);

	for (int i = 0; i < N; i++)
		ones[i] = 1;
	EACH_BACKEND(k)
	{
		struct kern_pool *pool = kern_pool_new(3), *one = kern_pool_new(1);
		float *x = copy_of(ones, N), *y = copy_of(ones, N), *z = copy_of(ones, N);
		int kept = 0, differ = 0;

		k->dropout(pool, x, N, 0.1f, key, stream);
		k->dropout(one, y, N, 0.1f, key, stream);
		k->dropout(one, z, N, 0.1f, key, other);
		check_same(x, y, N);
		for (int i = 0; i < N; i++) {
			kept += x[i] != 0;
			differ += x[i] != z[i];
			CHECK(x[i] == 0 || fabsf(x[i] - 1 / 0.9f) < 1e-6f);
		}
		CHECK_NEAR((double)kept / N, 0.9, 0.01);
		CHECK(differ > N / 10);
		check_guard(x, N);
		kern_pool_free(pool);
		kern_pool_free(one);
	}
}

void test_kernels_ops__row_lse(void)
{
	enum { LD = WIDTH + 3 };
	struct kern_pool *pool = kern_pool_new(2);
	float *x = numbers(ROWS * LD, 1);

	EACH_BACKEND(k)
	{
		float max[ROWS], lse[ROWS];

		k->row_lse(pool, max, lse, x, LD, ROWS, WIDTH);
		for (int r = 0; r < ROWS; r++) {
			double sum = 0;
			float largest = -2;

			for (int i = 0; i < WIDTH; i++) {
				sum += exp((double)x[r * LD + i]);
				largest = fmaxf(largest, x[r * LD + i]);
			}
			CHECK(max[r] == largest);
			CHECK_NEAR((double)lse[r], log(sum), 1e-6);
		}
	}
	kern_pool_free(pool);
}

/* The masks are the words of Philox as base/rng.c makes them. */
void test_kernels_ops__dropout_draws_philox_words(void)
{
	enum { N = 333 };
	const uint32_t key[2] = {0xdeadbeef, 17}, stream[2] = {5, 6};
	float *ones = guarded(N);

	for (int i = 0; i < N; i++)
		ones[i] = 1;
	EACH_BACKEND(k)
	{
		struct kern_pool *pool = kern_pool_new(1);
		float *x = copy_of(ones, N);

		k->dropout(pool, x, N, 0.25f, key, stream);
		for (int i = 0; i < N; i++) {
			uint32_t ctr[4] = {(uint32_t)i / 4, 0, stream[0], stream[1]}, out[4];

			rng_philox(key, ctr, out);
			CHECK((x[i] == 0) == (out[i % 4] < 1u << 30));
		}
		kern_pool_free(pool);
	}
}

/* Rows out of a table and their gradients back into it: two rows want row 4, nobody row 2. */
void test_kernels_ops__gather_and_spread(void)
{
	enum { TABLE = 6, N = 5, W = 19 };
	static const int32_t row[N] = {4, 0, 4, 5, 1};
	static const int32_t from[2 * TABLE] = {1, -1, 4, -1, -1, -1, -1, -1, 0, 2, 3, -1};
	struct kern_pool *pool = kern_pool_new(2);
	float *x = numbers(TABLE * W, 3), *dy = numbers(N * W, 4);

	EACH_BACKEND(k)
	{
		float *y = guarded(N * W), *dx = guarded(TABLE * W);

		k->gather(pool, y, x, row, N, W);
		for (int i = 0; i < N; i++)
			check_same(y + i * W, x + row[i] * W, W);
		k->spread(pool, dx, dy, from, TABLE, W);
		for (int t = 0; t < TABLE; t++)
			for (int c = 0; c < W; c++) {
				float want = 0;

				for (int i = 0; i < N; i++)
					want += row[i] == t ? dy[i * W + c] : 0;
				CHECK(dx[t * W + c] == want);
			}
		check_guard(y, N * W);
		check_guard(dx, TABLE * W);
		guarded_free(y);
		guarded_free(dx);
	}
	guarded_free(x);
	guarded_free(dy);
	kern_pool_free(pool);
}
