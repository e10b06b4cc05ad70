/* The output head over many chunks of a vocabulary and many blocks of rows: log-probabilities and
 * gradients against double precision, and the same bits on every way to them. */
#include "tests/kern_util.h"

enum { ROWS = 99, WIDTH = 18, VOCAB = 22003 }; /* over 8 MiB of logits, nothing a round number */

struct head {
	float *h, *w, *g, *dw0; /* owned */
	int32_t target[ROWS];
	double *logp, *entropy, *logit, *dh, *dw; /* owned; dw without dw0 */
};

static void *zeros(size_t n, size_t size)
{
	void *p = aligned_alloc(64, (n * size + 63) / 64 * 64);

	CHECK(p);
	memset(p, 0, n * size);
	return p;
}

static float *scaled(size_t n, uint32_t seed, float by)
{
	float *p = numbers(n, seed);

	for (size_t i = 0; i < n; i++)
		p[i] *= by;
	return p;
}

static void exact_row(struct head *c, int r, double *x)
{
	double max = -INFINITY, sum = 0;
	int mine = c->target[r];

	for (int v = 0; v < VOCAB; v++) {
		x[v] = 0;
		for (int i = 0; i < WIDTH; i++)
			x[v] += (double)c->h[r * WIDTH + i] * (double)c->w[v * WIDTH + i];
		max = x[v] > max ? x[v] : max;
	}
	for (int v = 0; v < VOCAB; v++)
		sum += exp(x[v] - max);
	c->logp[r] = x[mine] - max - log(sum);
	c->entropy[r] = log(sum);
	c->logit[r] = 0;
	for (int v = 0; v < VOCAB; v++) {
		c->entropy[r] -= exp(x[v] - max) / sum * (x[v] - max);
		c->logit[r] += x[v] / VOCAB;
	}
	for (int v = 0; v < VOCAB; v++) {
		double slope = (double)c->g[r] * ((v == mine) - exp(x[v] - max) / sum);

		for (int i = 0; i < WIDTH; i++) {
			c->dh[r * WIDTH + i] += slope * (double)c->w[v * WIDTH + i];
			c->dw[v * WIDTH + i] += slope * (double)c->h[r * WIDTH + i];
		}
	}
}

/* Logits of up to +-40: most of a row's chunks vanish beside the largest. */
static struct head head_new(void)
{
	struct head c = {.h = scaled(ROWS * WIDTH, 1, 4), .w = scaled(VOCAB * WIDTH, 2, 2)};
	double *x = zeros(VOCAB, sizeof *x);

	c.g = numbers(ROWS, 3);
	c.dw0 = numbers(VOCAB * WIDTH, 4);
	c.logp = zeros(ROWS, sizeof *c.logp);
	c.entropy = zeros(ROWS, sizeof *c.entropy);
	c.logit = zeros(ROWS, sizeof *c.logit);
	c.dh = zeros(ROWS * WIDTH, sizeof *c.dh);
	c.dw = zeros(VOCAB * WIDTH, sizeof *c.dw);
	for (int r = 0; r < ROWS; r++) {
		c.target[r] = r * 7919 % VOCAB;
		exact_row(&c, r, x);
	}
	free(x);
	return c;
}

static void head_free(struct head *c)
{
	guarded_free(c->h);
	guarded_free(c->w);
	guarded_free(c->g);
	guarded_free(c->dw0);
	free(c->logp);
	free(c->entropy);
	free(c->logit);
	free(c->dh);
	free(c->dw);
}

/* What one call gives. */
struct result {
	float *logp, *entropy, *logit, *dh, *dw;
	uint8_t hit[ROWS];
};

static struct result result_new(const struct head *c)
{
	return (struct result){.logp = guarded(ROWS),
			       .entropy = guarded(ROWS),
			       .logit = guarded(ROWS),
			       .dh = guarded(ROWS * WIDTH),
			       .dw = copy_of(c->dw0, VOCAB * WIDTH)};
}

static void result_free(struct result *r)
{
	check_guard(r->logp, ROWS);
	check_guard(r->entropy, ROWS);
	check_guard(r->logit, ROWS);
	check_guard(r->dh, ROWS * WIDTH);
	check_guard(r->dw, VOCAB * WIDTH);
	guarded_free(r->logp);
	guarded_free(r->entropy);
	guarded_free(r->logit);
	guarded_free(r->dh);
	guarded_free(r->dw);
}

static struct kern_logprob args(struct head *c, struct result *r, enum kern_format f)
{
	return (struct kern_logprob){.format = f,
				     .rows = ROWS,
				     .width = WIDTH,
				     .vocab = VOCAB,
				     .h = c->h,
				     .w = c->w,
				     .target = c->target,
				     .logp = r->logp,
				     .hit = r->hit,
				     .entropy = r->entropy,
				     .logit = r->logit,
				     .g = c->g,
				     .dh = r->dh,
				     .dw = r->dw};
}

/* Room lent: forward alone, then backward alone. */
static void run_kept(const struct kern *k, struct kern_pool *pool, struct head *c, struct result *r,
		     enum kern_format f)
{
	struct kern_logprob a = args(c, r, f);
	float *probs = zeros((size_t)ROWS * VOCAB, sizeof *probs), *sum = guarded(2 * ROWS);

	a.probs = probs;
	a.sum = sum;
	a.g = NULL;
	k->logprob(pool, &a);
	a.g = c->g;
	a.kept = true;
	a.logp = NULL;
	a.hit = NULL;
	a.entropy = a.logit = NULL;
	k->logprob(pool, &a);
	check_guard(sum, 2 * ROWS);
	guarded_free(sum);
	free(probs);
}

static void check_same_result(const struct result *a, const struct result *b)
{
	check_same(a->logp, b->logp, ROWS);
	check_same(a->entropy, b->entropy, ROWS);
	check_same(a->logit, b->logit, ROWS);
	check_same(a->dh, b->dh, ROWS * WIDTH);
	check_same(a->dw, b->dw, VOCAB * WIDTH);
	CHECK(memcmp(a->hit, b->hit, ROWS) == 0);
}

/* The gradient of the weight that was added to dw0. */
static void check_dw(const struct head *c, const float *dw, double tol)
{
	for (size_t i = 0; i < VOCAB * WIDTH; i++) {
		double got = (double)dw[i] - (double)c->dw0[i];

		if (!(fabs(got - c->dw[i]) <= tol * (1 + fabs(c->dw[i]))))
			printf("# element %zu: got %.9g, expected %.9g\n", i, got, c->dw[i]);
		CHECK(fabs(got - c->dw[i]) <= tol * (1 + fabs(c->dw[i])));
	}
}

/* A few rows, among them one that stood in a later block, have the bits they had among all. */
static void check_rows_alone(const struct kern *k, struct kern_pool *pool, struct head *c,
			     const struct result *all, enum kern_format f)
{
	struct result r = result_new(c);
	struct kern_logprob a = args(c, &r, f);

	a.rows = 4;
	a.h = c->h + 94 * WIDTH;
	a.target = c->target + 94;
	a.g = c->g + 94;
	a.entropy = a.logit = NULL; /* and whether they are wanted changes no bit */
	k->logprob(pool, &a);
	check_same(r.logp, all->logp + 94, 4);
	check_same(r.dh, all->dh + 94 * WIDTH, 4 * WIDTH);
	result_free(&r);
}

static void check_head(const struct kern *k, struct head *c, enum kern_format f, double tol)
{
	struct kern_pool *one = kern_pool_new(1), *three = kern_pool_new(3);
	struct result r = result_new(c), kept = result_new(c);
	struct kern_logprob a = args(c, &r, f);

	k->logprob(three, &a);
	check_close(r.logp, c->logp, ROWS, tol);
	check_close(r.entropy, c->entropy, ROWS, tol);
	check_close(r.logit, c->logit, ROWS, tol);
	check_close(r.dh, c->dh, ROWS * WIDTH, tol);
	check_dw(c, r.dw, tol);
	run_kept(k, one, c, &kept, f);
	check_same_result(&r, &kept);
	check_rows_alone(k, three, c, &r, f);
	result_free(&r);
	result_free(&kept);
	kern_pool_free(one);
	kern_pool_free(three);
}

void test_kernels_head__floats(void)
{
	struct head c = head_new();

	EACH_BACKEND(k)
	check_head(k, &c, KERN_F32, 3e-5);
	head_free(&c);
}

/* Both factors are rounded to eight bits, so the tolerance is wide; the bits are what counts. */
void test_kernels_head__bfloat16(void)
{
	struct head c = head_new();

	EACH_BACKEND(k)
	check_head(k, &c, KERN_BF16, 0.2);
	head_free(&c);
}

/* The hit is where the target has the largest logit of the whole vocabulary. */
void test_kernels_head__hits(void)
{
	struct head c = head_new();
	struct kern_pool *pool = kern_pool_new(2);
	const struct kern *k = kern_cpu();
	struct result r = result_new(&c);
	struct kern_logprob a = args(&c, &r, KERN_F32);
	int hits = 0;

	a.g = NULL;
	for (int row = 0; row < ROWS; row++) {
		double best = -INFINITY;

		for (int v = 0; v < VOCAB; v++) {
			double x = 0;

			for (int i = 0; i < WIDTH; i++)
				x += (double)c.h[row * WIDTH + i] * (double)c.w[v * WIDTH + i];
			if (x > best && row % 2 == 0)
				c.target[row] = v;
			best = x > best ? x : best;
		}
	}
	k->logprob(pool, &a);
	for (int row = 0; row < ROWS; row++)
		hits += r.hit[row] == (row % 2 == 0);
	CHECK_EQ(hits, ROWS);
	result_free(&r);
	head_free(&c);
	kern_pool_free(pool);
}
