#include "tests/gpu/parity.h"

#include "tests/ref64.h"
#include "tests/twin.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUT_MAX ((size_t)4 << 20)

/* One operation on one table: inputs are made from seeds, outputs are appended to `out`. */
struct task {
	const struct gpu *g;
	enum kern_format format; /* of products and packed weights */
	int m, n, k;
	float *out;
	size_t n_out;
	void *held[32];
	int n_held;
};

static void *hold(struct task *t, void *p)
{
	t->held[t->n_held++] = p;
	return p;
}

static float rounded(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof bits);
	bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
	memcpy(&x, &bits, sizeof x);
	return x;
}

/* Floats that are bfloat16, at least 2^-6 of scale. */
static float *values(size_t n, float scale, uint32_t seed)
{
	float *x = malloc(n * sizeof *x);

	for (size_t i = 0; x && i < n; i++) {
		seed = seed * 1664525u + 1013904223u;
		float v = (float)(seed >> 8) / 8388608.0f - 1.0f;
		x[i] = rounded(scale * (fabsf(v) < 0.015625f ? 0.015625f : v));
	}
	if (!x)
		exit(1);
	return x;
}

static float *floats(struct task *t, size_t n, float scale, uint32_t seed)
{
	float *x = values(n, scale, seed), *there = hold(t, gpu_room(t->g, n * sizeof *x));

	t->g->k->put(t->g->pool, there, x, n * sizeof *x);
	free(x);
	return there;
}

static void *acts(struct task *t, size_t n, float scale, uint32_t seed)
{
	void *there = hold(t, gpu_room(t->g, n * kern_act(t->g->k)));

	t->g->k->narrow(t->g->pool, there, floats(t, n, scale, seed), n);
	return there;
}

static void *poison(struct task *t, size_t n)
{
	return hold(t, gpu_poison(t->g, n));
}

static float *poison_floats(struct task *t, size_t n)
{
	float *there = hold(t, gpu_room(t->g, n * sizeof *there)), *nan = malloc(n * sizeof *nan);

	if (!nan)
		exit(1);
	memset(nan, 0xff, n * sizeof *nan);
	t->g->k->put(t->g->pool, there, nan, n * sizeof *nan);
	free(nan);
	return there;
}

static int32_t *ints(struct task *t, const int32_t *x, size_t n)
{
	int32_t *there = hold(t, gpu_room(t->g, n * sizeof *x));

	t->g->k->put(t->g->pool, there, x, n * sizeof *x);
	return there;
}

/* A third of ids come twice. */
static int32_t *ids(struct task *t, int n, int below)
{
	int32_t x[512];

	for (int i = 0; i < n; i++)
		x[i] = (int32_t)((i % 3 == 2 ? i - 2 : i) * 7919 % below);
	return ints(t, x, (size_t)n);
}

static void take(struct task *t, const void *act, size_t n)
{
	gpu_read(t->g, t->out + t->n_out, act, n);
	t->n_out += n;
}

static void take_floats(struct task *t, const float *x, size_t n)
{
	t->g->k->get(t->g->pool, t->out + t->n_out, x, n * sizeof *x);
	t->n_out += n;
}

#define SIZES                                                                                      \
	const struct kern *k = t->g->k;                                                            \
	struct kern_pool *p = t->g->pool;                                                          \
	size_t m = (size_t)t->m, n = (size_t)t->n, c = (size_t)t->k

/* --- products --------------------------------------------------------------------------------- */

static void do_gemm_nt(struct task *t)
{
	SIZES;
	void *y = poison(t, m * n), *z = acts(t, m * n, 1, 9), *a = acts(t, m * c, 1, 1);
	void *w = acts(t, n * c, 1, 2);

	k->gemm_nt(p, t->format, y, t->n, a, t->k, w, t->k, t->m, t->n, t->k, false);
	k->gemm_nt(p, t->format, z, t->n, a, t->k, w, t->k, t->m, t->n, t->k, true);
	take(t, y, m * n);
	take(t, z, m * n);
}

static void do_gemm_nn(struct task *t)
{
	SIZES;
	void *y = poison(t, m * c), *a = acts(t, m * n, 1, 1), *w = acts(t, n * c, 1, 2);

	k->gemm_nn(p, t->format, y, t->k, a, t->n, w, t->k, t->m, t->n, t->k, false);
	take(t, y, m * c);
}

static void do_gemm_tn(struct task *t)
{
	SIZES;
	float *y = poison_floats(t, n * c), *z = floats(t, n * c, 1, 9);
	void *b = acts(t, m * n, 1, 1), *a = acts(t, m * c, 1, 2);

	k->gemm_tn(p, t->format, y, t->k, b, t->n, a, t->k, t->m, t->n, t->k, false);
	k->gemm_tn(p, t->format, z, t->k, b, t->n, a, t->k, t->m, t->n, t->k, true);
	take_floats(t, y, n * c);
	take_floats(t, z, n * c);
}

/* A table without FP8 multiplies floats by what weights in FP8 stand for. */
static enum kern_format kept_as(const struct task *t)
{
	return t->format == KERN_FP8 && !t->g->k->has_format ? KERN_F32 : t->format;
}

static float *weight_floats(struct task *t)
{
	size_t n = (size_t)t->n * (size_t)t->k;
	float *x = values(n, 1, 2), *there = hold(t, gpu_room(t->g, n * sizeof *x));
	double *wide = malloc(n * sizeof *wide);

	if (!wide)
		exit(1);
	for (size_t i = 0; i < n; i++)
		wide[i] = (double)x[i];
	if (kept_as(t) != t->format)
		ref64_round_rows(t->format, wide, wide, t->n, t->k);
	for (size_t i = 0; i < n; i++)
		x[i] = (float)wide[i];
	t->g->k->put(t->g->pool, there, x, n * sizeof *x);
	free(wide);
	free(x);
	return there;
}

static void *packed(struct task *t)
{
	SIZES;
	enum kern_format f = kept_as(t);
	void *wp = hold(t, gpu_room(t->g, k->pack_size(f, t->n, t->k)));
	float *w = weight_floats(t);

	(void)m;
	k->pack(p, f, wp, t->n, t->k, w, t->k, 0, t->n / 2);
	k->pack(p, f, wp, t->n, t->k, w + n / 2 * c, t->k, t->n / 2, t->n - t->n / 2);
	return wp;
}

static void do_packed(struct task *t)
{
	SIZES;
	void *y = poison(t, m * n), *a = acts(t, m * c, 1, 1), *wp = packed(t);
	float *logits = poison_floats(t, m * n);

	k->gemm_packed(p, kept_as(t), y, t->n, a, t->k, wp, t->m, t->n, t->k, false);
	k->logits(p, kept_as(t), logits, t->n, a, t->k, wp, t->m, t->n, t->k);
	take(t, y, m * n);
	take_floats(t, logits, m * n);
}

static void do_packed_back(struct task *t)
{
	SIZES;
	void *y = poison(t, m * c), *a = acts(t, m * n, 1, 1), *wp = packed(t);
	void *rows = poison(t, m * c);

	k->gemm_packed_back(p, kept_as(t), y, t->k, a, t->n, wp, t->m, t->n, t->k, false);
	k->embed_packed(p, kept_as(t), rows, wp, t->n, t->k, ids(t, t->m, t->n), t->m);
	take(t, y, m * c);
	take(t, rows, m * c);
}

/* --- rows ------------------------------------------------------------------------------------- */

static void do_rmsnorm(struct task *t)
{
	SIZES;
	void *x = acts(t, m * c, 1, 1), *y = poison(t, m * c), *dx = acts(t, m * c, 1, 4);
	float *w = floats(t, c, 1, 2), *r = poison_floats(t, m), *dw = floats(t, c, 1, 5);

	(void)n;
	k->rmsnorm(p, y, r, x, w, t->m, t->k, 1e-5f);
	k->rmsnorm_back(p, dx, dw, acts(t, m * c, 1, 3), x, w, r, t->m, t->k);
	take(t, y, m * c);
	take_floats(t, r, m);
	take(t, dx, m * c);
	take_floats(t, dw, c);
}

static void do_rope(struct task *t)
{
	SIZES;
	int heads = 3, d = t->k, ld = heads * d + 8;
	void *x = acts(t, m * (size_t)ld, 1, 1);
	float *cosines = floats(t, 64 * c / 2, 1, 2), *sines = floats(t, 64 * c / 2, 1, 3);

	(void)n;
	k->rope(p, x, ld, t->m, heads, d, ids(t, t->m, 64), cosines, sines, false);
	take(t, x, m * (size_t)ld);
	k->rope(p, x, ld, t->m, heads, d, ids(t, t->m, 64), cosines, sines, true);
	take(t, x, m * (size_t)ld);
}

static void do_swiglu(struct task *t)
{
	SIZES;
	char *gu = acts(t, 2 * m * c, 3, 1);
	void *y = poison(t, m * c), *up = kern_at(k, gu, c), *dy = acts(t, m * c, 1, 2);

	(void)n;
	k->swiglu(p, y, gu, up, 2 * t->k, t->m, t->k);
	take(t, y, m * c);
	k->swiglu_back(p, gu, up, dy, gu, up, 2 * t->k, t->m, t->k);
	take(t, gu, 2 * m * c);
}

static void do_embed(struct task *t)
{
	SIZES;
	void *w = acts(t, n * c, 1, 1), *y = poison(t, m * c), *dy = acts(t, m * c, 1, 2);
	void *spread = poison(t, m * c);
	float *dw = floats(t, n * c, 1, 3);
	int32_t from[1024];

	for (int i = 0; i < 2 * t->m; i++)
		from[i] = i % 4 == 3 ? -1 : (i * 31) % t->m;
	k->embed(p, y, w, ids(t, t->m, t->n), t->m, t->k);
	k->embed_back(p, dw, dy, ids(t, t->m, t->n), t->m, t->k);
	k->spread(p, spread, dy, ints(t, from, 2 * m), t->m, t->k);
	take(t, y, m * c);
	take_floats(t, dw, n * c);
	take(t, spread, m * c);
	k->gather(p, y, w, ids(t, t->m, t->n), t->m, t->k);
	take(t, y, m * c);
}

static void do_elements(struct task *t)
{
	SIZES;
	static const uint32_t key[2] = {5, 6}, stream[2] = {7, 8};
	void *x = acts(t, m * c, 1, 1);
	float *db = floats(t, c, 1, 4);

	(void)n;
	k->add(p, x, acts(t, m * c, 1, 2), m * c);
	take(t, x, m * c);
	k->scale(p, x, m * c, 0.625f);
	take(t, x, m * c);
	k->bias(p, x, t->k, floats(t, c, 1, 3), t->m, t->k);
	take(t, x, m * c);
	k->bias_back(p, db, x, t->k, t->m, t->k);
	take_floats(t, db, c);
	k->dropout(p, x, m * c, 0.25f, key, stream);
	take(t, x, m * c);
}

static void do_step(struct task *t)
{
	SIZES;
	size_t all = m * c;
	float *w = floats(t, all, 1, 1), *g = floats(t, all, 1, 2), *mm = floats(t, all, 0.1f, 3);
	float *v = floats(t, all, 0.1f, 4), *sq = v;
	void *work = poison(t, all);
	struct kern_adamw a = {.n = all, .p = w, .m = mm, .v = v, .g = g, .working = work,
			       .grad_scale = 0.5f, .lr = 1e-2f, .beta1 = 0.9f, .beta2 = 0.95f,
			       .eps = 1e-8f, .decay = 0.1f, .bias1 = 0.1f, .bias2 = 0.05f};

	(void)n;
	float *positive = poison_floats(t, all);
	k->vexp(p, positive, v, all); /* second moments are not negative */
	a.v = positive;
	if (k->host)
		a.working = NULL;
	k->adamw(p, &a, 1);
	take_floats(t, w, all);
	take_floats(t, mm, all);
	take_floats(t, positive, all);
	if (!k->host)
		take(t, work, all);
	else
		take_floats(t, w, all);
	t->out[t->n_out++] = (float)k->sumsq(p, sq, all);
}

/* --- attention -------------------------------------------------------------------------------- */

static void do_attn(struct task *t)
{
	SIZES;
	const int heads = 4, groups = 2, d = t->k, w = (heads + 2 * groups) * d;
	int32_t cu[4] = {0, t->m / 4, t->m / 4 + 1, t->m}, fork[6] = {0};
	size_t q = m * (size_t)w, o = m * (size_t)(heads * d);
	char *qkv = acts(t, q, 1, 1), *out = poison(t, o), *dqkv = poison(t, q);
	struct kern_attn a = {.n_seqs = 3, .n_tokens = t->m, .heads = heads, .kv_heads = groups,
			      .head_dim = d, .longest = t->m - cu[2], .window = t->n == 1 ? 7 : 0,
			      .scale = 1 / sqrtf((float)d), .q = qkv,
			      .k = kern_at(k, qkv, (size_t)(heads * d)),
			      .v = kern_at(k, qkv, (size_t)((heads + groups) * d)), .ldq = w,
			      .ldk = w, .ldv = w, .out = out};

	(void)n;
	fork[4] = (t->m - cu[2]) / 3;
	fork[5] = (t->m - cu[2]) / 3 * 2;
	a.cu = ints(t, cu, 4);
	a.fork = t->n == 2 ? ints(t, fork, 6) : NULL;
	a.lse = poison_floats(t, (size_t)heads * m);
	k->attn(p, &a);
	a.dout = acts(t, o, 1, 2);
	a.dq = dqkv;
	a.dk = kern_at(k, dqkv, (size_t)(heads * d));
	a.dv = kern_at(k, dqkv, (size_t)((heads + groups) * d));
	k->attn_back(p, &a);
	take(t, out, o);
	take_floats(t, a.lse, (size_t)heads * m);
	take(t, dqkv, q);
	(void)c;
}

/* Three sequences of m tokens; of the first all rows, of the others the last. */
static void do_paged(struct task *t)
{
	SIZES;
	const int heads = 4, groups = 2, d = t->k, w = (heads + 2 * groups) * d;
	int pages = (t->m + KERN_PAGE - 1) / KERN_PAGE, rows = t->m + 2;
	int32_t blocks[3 * 64], first[512], pos[512], n_keys[512];
	enum kern_format kv = t->format;
	size_t bytes = (size_t)(3 * pages) * kern_kv_bytes(kv, groups, d);
	void *kc = hold(t, gpu_room(t->g, bytes)), *vc = hold(t, gpu_room(t->g, bytes));

	for (int i = 0; i < 3 * pages; i++)
		blocks[i] = 3 * pages - 1 - i;
	int32_t *there = ints(t, blocks, (size_t)(3 * pages));
	for (int s = 0; s < 3; s++) {
		char *x = acts(t, m * (size_t)w, 1, (uint32_t)s + 1);

		for (int i = 0; i < t->m; i++) {
			pos[i] = i;
			first[i] = s * pages;
		}
		k->kv_store(p, kv, kc, vc, kern_at(k, x, (size_t)(heads * d)), w,
			    kern_at(k, x, (size_t)((heads + groups) * d)), w, there,
			    ints(t, first, m), ints(t, pos, m), t->m, groups, d);
	}
	for (int r = 0; r < rows; r++) {
		first[r] = r < t->m ? 0 : (r - t->m + 1) * pages;
		n_keys[r] = r < t->m ? r + 1 : t->m;
	}
	void *q = acts(t, (size_t)(rows * heads * d), 1, 7);
	void *out = poison(t, (size_t)(rows * heads * d));
	struct kern_paged a = {.kv = kv, .rows = rows, .heads = heads, .kv_heads = groups,
			       .head_dim = d, .window = t->n == 1 ? 9 : 0,
			       .scale = 1 / sqrtf((float)d), .q = q, .ldq = heads * d, .k = kc,
			       .v = vc, .blocks = there, .first = ints(t, first, (size_t)rows),
			       .n_keys = ints(t, n_keys, (size_t)rows), .most_keys = t->m, .runs = 3,
			       .out = out};
	k->attn_paged(p, &a);
	take(t, out, (size_t)(rows * heads * d));
	(void)n;
	(void)c;
}

/* --- output head, draws ----------------------------------------------------------------------- */

static void do_logprob(struct task *t)
{
	SIZES;
	char *h = acts(t, m * c, 0.5f, 1), *w = acts(t, n * c, 0.5f, 2), *dh = poison(t, m * c);
	float *dw = floats(t, n * c, 1, 3);
	struct kern_logprob a = {.format = t->format, .rows = t->m, .width = t->k, .vocab = t->n,
				 .h = h, .w = w, .dh = dh, .dw = dw};

	a.target = ids(t, t->m, t->n);
	a.logp = poison_floats(t, m);
	a.hit = (uint8_t *)poison_floats(t, m);
	a.probs = poison_floats(t, m * n);
	a.sum = poison_floats(t, 2 * m);
	k->logprob(p, &a);
	take_floats(t, a.logp, m);
	a.g = floats(t, m, 1, 4);
	a.kept = true;
	k->logprob(p, &a);
	take(t, dh, m * c);
	take_floats(t, dw, n * c);
	a.probs = a.sum = NULL;
	a.kept = false;
	k->logprob(p, &a);
	take(t, dh, m * c);
	take_floats(t, dw, n * c);
}

static void do_draw(struct task *t)
{
	SIZES;
	float *x = floats(t, m * n, 4, 1), *max = poison_floats(t, m), *lse = poison_floats(t, m);
	struct kern_draw d[64];

	(void)c;
	for (int i = 0; i < t->m; i++)
		d[i] = (struct kern_draw){.row = i, .temperature = i % 3 ? 0.8f : 0,
					  .top_p = i % 2 ? 0.9f : 1, .top_k = i % 5 == 4 ? 12 : 0,
					  .u = (i + 0.5) / t->m};
	k->draw(p, d, t->m, x, t->n, t->n);
	k->row_lse(p, max, lse, x, t->n, t->m, t->n);
	for (int i = 0; i < t->m; i++) {
		t->out[t->n_out++] = (float)d[i].id;
		t->out[t->n_out++] = d[i].logp;
		t->out[t->n_out++] = d[i].lse;
	}
	take_floats(t, max, m);
	take_floats(t, lse, m);
}

/* --- all of them ------------------------------------------------------------------------------ */

static const struct operation {
	const char *name;
	void (*run)(struct task *);
	int m, n, k;
	int formats; /* bit by enum kern_format */
} operations[] = {
	{"gemm_nt", do_gemm_nt, 37, 65, 96, 3},
	{"gemm_nt", do_gemm_nt, 128, 256, 192, 3},
	{"gemm_nn", do_gemm_nn, 33, 72, 56, 3},
	{"gemm_tn", do_gemm_tn, 45, 40, 72, 3},
	{"packed", do_packed, 5, 160, 128, 15},
	{"packed", do_packed, 67, 96, 256, 15},
	{"packed", do_packed, 70, 40, 72, 11}, /* n and k that the large product of FP8 does not take */
	{"packed_back", do_packed_back, 19, 96, 128, 15},
	{"rmsnorm", do_rmsnorm, 33, 0, 200, 1},
	{"rmsnorm", do_rmsnorm, 5, 0, 1031, 1},
	{"rope", do_rope, 23, 0, 48, 1},
	{"swiglu", do_swiglu, 17, 0, 344, 1},
	{"embed", do_embed, 50, 97, 72, 1},
	{"elements", do_elements, 21, 0, 129, 1},
	{"step", do_step, 9, 0, 1111, 1},
	{"attn", do_attn, 150, 0, 64, 1},
	{"attn window", do_attn, 70, 1, 32, 1},
	{"attn fork", do_attn, 130, 2, 128, 1},
	{"paged", do_paged, 75, 0, 64, 3},
	{"paged window", do_paged, 40, 1, 128, 3},
	{"logprob", do_logprob, 40, 1003, 64, 3},
	{"draw", do_draw, 24, 2003, 0, 1},
};

static void run(const struct operation *o, const struct gpu *g, enum kern_format f, struct task *t)
{
	*t = (struct task){
		.g = g, .format = f, .m = o->m, .n = o->n, .k = o->k, .out = t->out};
	o->run(t);
	gpu_check(g);
	for (int i = 0; i < t->n_held; i++)
		gpu_free(g, t->held[i]);
}

static bool too_far(const struct operation *o, const struct gpu *g, enum kern_format f, double e)
{
	bool exact = g->k->act == KERN_F32 && (f == KERN_F32 || f == KERN_FP8);
	/* Rows that are brought to FP8 as well: one part in 32 at most, a third of it in the mean. */
	bool rows = f == KERN_FP8 && g->k->act == KERN_BF16 && o->m > 64;

	return !(e <= (exact ? 1e-5 : rows ? 4e-2 : f == KERN_Q8 ? 2e-2 : 1e-2));
}

static const char *const format_names[] = {"f32", "bf16", "int8", "fp8"};

int gpu_parity(const struct gpu *g, const struct gpu *cpu, bool all)
{
	struct task a = {.out = malloc(OUT_MAX * sizeof(float))};
	struct task b = {.out = malloc(OUT_MAX * sizeof(float))};
	int bad = 0;

	if (!a.out || !b.out)
		exit(1);
	for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
		for (int f = KERN_F32; f <= KERN_FP8; f++) {
			const struct operation *o = &operations[i];
			char why[200];

			if (!(o->formats & 1 << f) ||
			    (g->k->has_format &&
			     !g->k->has_format(g->pool, (enum kern_format)f, why, sizeof why)) ||
			    (f == KERN_F32 && o->formats > 1 && g->k->act != KERN_F32))
				continue;
			run(o, g, (enum kern_format)f, &a);
			run(o, cpu, (enum kern_format)f, &b);
			double e = a.n_out == b.n_out ? twin_error(a.out, b.out, a.n_out) : INFINITY;
			bool far = too_far(o, g, (enum kern_format)f, e);
			bad += far;
			if (far || all)
				printf("%-6s %-14s %-4s m %3d n %4d k %4d: error %.2e%s\n", g->k->name,
				       o->name, format_names[f], o->m, o->n,
				       o->k, e, far ? "  TOO FAR" : "");
		}
	free(a.out);
	free(b.out);
	return bad;
}
