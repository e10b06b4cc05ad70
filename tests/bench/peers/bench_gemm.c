/* Our matrix products beside those of OpenBLAS, BLIS and oneDNN on the shapes of our models, in one
 * run: for each shape the contestants take turns, and the best of their short runs counts.
 *
 * The libraries are opened at run time and left out when absent; oneDNN also needs its header when
 * this is built (2.x). `make bench-gemm PEERS=1`. Usage: bench_gemm [threads [M N K]]
 */
#include "kernels/kernels.h"
#include "tests/bench/clock.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__has_include)
#if __has_include(<dnnl.h>)
#include <dnnl.h>
#endif
#endif

#define ROUNDS 4
#define SLICE_S 0.04 /* of one contestant per round */

/* --- The product and who computes it ---------------------------------------------------------- */

struct product {
	int m, n, k, threads;
	const struct kern *kern;
	struct kern_pool *pool;
	enum kern_format format;
	float *a, *w, *c;
	void *packed; /* ours */
	uint16_t *a16, *w16;
	void *state; /* a peer's */
};

struct contestant {
	const char *name;
	bool (*begin)(struct product *); /* false: cannot */
	void (*run)(struct product *);
	void (*end)(struct product *);
	double best;
};

static void ours_nt(struct product *p)
{
	p->kern->gemm_nt(p->pool, p->format, p->c, p->n, p->a, p->k, p->w, p->k, p->m, p->n, p->k,
			 false);
}
static void ours_packed(struct product *p)
{
	p->kern->gemm_packed(p->pool, p->format, p->c, p->n, p->a, p->k, p->packed, p->m, p->n,
			     p->k, false);
}
static bool pack(struct product *p, enum kern_format f)
{
	if (f == KERN_Q8 && p->k % KERN_Q8_BLOCK)
		return false;
	p->format = f;
	p->packed = memory(p->kern->pack_size(f, p->n, p->k));
	p->kern->pack(p->pool, f, p->packed, p->n, p->k, p->w, p->k, 0, p->n);
	return true;
}
static bool begin_f32(struct product *p)
{
	return pack(p, KERN_F32);
}
static bool begin_bf16(struct product *p)
{
	return pack(p, KERN_BF16);
}
static bool begin_q8(struct product *p)
{
	return pack(p, KERN_Q8);
}
static void ours_end(struct product *p)
{
	free(p->packed);
}

/* --- OpenBLAS and BLIS ------------------------------------------------------------------------ */

typedef void sgemm_fn(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
		      int lda, const float *b, int ldb, float beta, float *c, int ldc);
static sgemm_fn *openblas_sgemm, *blis_sgemm;

/* ISO C has no conversion between the pointers of dlsym() and of functions. */
static void symbol(void *out, void *lib, const char *name)
{
	void *p = lib ? dlsym(lib, name) : NULL;

	memcpy(out, &p, sizeof p);
}

static void open_blas(int threads)
{
	void (*set)(int) = NULL;
	void (*set_long)(long) = NULL;
	void *lib = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);

	symbol(&openblas_sgemm, lib, "cblas_sgemm");
	symbol(&set, lib, "openblas_set_num_threads");
	if (set)
		set(threads);
	lib = dlopen("libblis.so.4", RTLD_NOW | RTLD_LOCAL);
	symbol(&blis_sgemm, lib, "cblas_sgemm");
	symbol(&set_long, lib, "bli_thread_set_num_threads");
	if (set_long)
		set_long(threads);
}

static void blas(const struct product *p, sgemm_fn *sgemm)
{
	sgemm(101, 111, 112, p->m, p->n, p->k, 1, p->a, p->k, p->w, p->k, 0, p->c, p->n);
}
static bool begin_openblas(struct product *p)
{
	(void)p;
	return openblas_sgemm != NULL;
}
static void run_openblas(struct product *p)
{
	blas(p, openblas_sgemm);
}
static bool begin_blis(struct product *p)
{
	(void)p;
	return blis_sgemm != NULL;
}
static void run_blis(struct product *p)
{
	blas(p, blis_sgemm);
}
static void no_end(struct product *p)
{
	(void)p;
}

/* --- oneDNN ----------------------------------------------------------------------------------- */

#ifdef DNNL_VERSION_MAJOR
#if DNNL_VERSION_MAJOR == 2
#define HAVE_DNNL 1
static const struct {
	__typeof__(dnnl_engine_create) *engine_create;
	__typeof__(dnnl_stream_create) *stream_create;
	__typeof__(dnnl_stream_wait) *stream_wait;
	__typeof__(dnnl_memory_desc_init_by_tag) *desc_init;
	__typeof__(dnnl_matmul_desc_init) *matmul_init;
	__typeof__(dnnl_primitive_desc_create) *pd_create;
	__typeof__(dnnl_primitive_desc_destroy) *pd_destroy;
	__typeof__(dnnl_primitive_desc_query_md) *query_md;
	__typeof__(dnnl_memory_desc_get_size) *desc_size;
	__typeof__(dnnl_primitive_create) *create;
	__typeof__(dnnl_primitive_destroy) *destroy;
	__typeof__(dnnl_primitive_execute) *execute;
	__typeof__(dnnl_memory_create) *memory_create;
	__typeof__(dnnl_memory_destroy) *memory_destroy;
} * dnnl;

static dnnl_engine_t dnnl_engine;
static dnnl_stream_t dnnl_stream;

struct dnnl_state {
	dnnl_primitive_t primitive;
	dnnl_memory_t a, w, c;
	void *packed;
};

static void open_dnnl(void)
{
	static const char *const names[] = {
		"dnnl_engine_create",
		"dnnl_stream_create",
		"dnnl_stream_wait",
		"dnnl_memory_desc_init_by_tag",
		"dnnl_matmul_desc_init",
		"dnnl_primitive_desc_create",
		"dnnl_primitive_desc_destroy",
		"dnnl_primitive_desc_query_md",
		"dnnl_memory_desc_get_size",
		"dnnl_primitive_create",
		"dnnl_primitive_destroy",
		"dnnl_primitive_execute",
		"dnnl_memory_create",
		"dnnl_memory_destroy",
	};
	static void *table[sizeof names / sizeof names[0]];
	void *lib = dlopen("libdnnl.so.2", RTLD_NOW | RTLD_LOCAL);

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		table[i] = lib ? dlsym(lib, names[i]) : NULL;
		if (!table[i])
			return;
	}
	_Static_assert(sizeof table == sizeof *dnnl, "one name for each function");
	dnnl = (const void *)table;
	if (dnnl->engine_create(&dnnl_engine, dnnl_cpu, 0) ||
	    dnnl->stream_create(&dnnl_stream, dnnl_engine, dnnl_stream_default_flags))
		dnnl = NULL;
}

static void dnnl_run(struct product *p)
{
	struct dnnl_state *s = p->state;
	dnnl_exec_arg_t args[] = {
		{DNNL_ARG_SRC, s->a}, {DNNL_ARG_WEIGHTS, s->w}, {DNNL_ARG_DST, s->c}};

	dnnl->execute(s->primitive, dnnl_stream, 3, args);
	dnnl->stream_wait(dnnl_stream);
}

static void dnnl_end(struct product *p)
{
	struct dnnl_state *s = p->state;

	dnnl->destroy(s->primitive);
	dnnl->memory_destroy(s->a);
	dnnl->memory_destroy(s->w);
	dnnl->memory_destroy(s->c);
	free(s->packed);
	free(s);
}

/* The weight in the order that the product asks for. */
static bool dnnl_pack(struct dnnl_state *s, dnnl_primitive_desc_t pd)
{
	const dnnl_memory_desc_t *md = dnnl->query_md(pd, dnnl_query_weights_md, 0);
	dnnl_memory_t to;

	/* Zeros are zeros in every order; only speed is measured here. */
	s->packed = memory(dnnl->desc_size(md));
	if (dnnl->memory_create(&to, md, dnnl_engine, s->packed))
		return false;
	dnnl->memory_destroy(s->w);
	s->w = to;
	return true;
}

static bool dnnl_begin(struct product *p, dnnl_data_type_t type, bool packed)
{
	struct dnnl_state *s = calloc(1, sizeof *s);
	dnnl_dims_t da = {p->m, p->k}, dw = {p->k, p->n}, dc = {p->m, p->n};
	dnnl_memory_desc_t a, w, any, c;
	dnnl_matmul_desc_t d;
	dnnl_primitive_desc_t pd;
	bool f32 = type == dnnl_f32;

	p->state = s;
	if (!s || !dnnl)
		return false;
	dnnl->desc_init(&a, 2, da, type, dnnl_ab);
	dnnl->desc_init(&w, 2, dw, type, dnnl_ba);
	dnnl->desc_init(&any, 2, dw, type, dnnl_format_tag_any);
	dnnl->desc_init(&c, 2, dc, dnnl_f32, dnnl_ab);
	if (dnnl->matmul_init(&d, &a, packed ? &any : &w, NULL, &c) ||
	    dnnl->pd_create(&pd, &d, NULL, dnnl_engine, NULL))
		return false;
	if (dnnl->create(&s->primitive, pd) ||
	    dnnl->memory_create(&s->a, &a, dnnl_engine, f32 ? (void *)p->a : p->a16) ||
	    dnnl->memory_create(&s->w, &w, dnnl_engine, f32 ? (void *)p->w : p->w16) ||
	    dnnl->memory_create(&s->c, &c, dnnl_engine, p->c))
		return false;
	if (packed && !dnnl_pack(s, pd))
		return false;
	dnnl->pd_destroy(pd);
	return true;
}
static bool begin_dnnl_f32(struct product *p)
{
	return dnnl_begin(p, dnnl_f32, false);
}
static bool begin_dnnl_f32_packed(struct product *p)
{
	return dnnl_begin(p, dnnl_f32, true);
}
static bool begin_dnnl_bf16(struct product *p)
{
	return dnnl_begin(p, dnnl_bf16, false);
}
static bool begin_dnnl_bf16_packed(struct product *p)
{
	return dnnl_begin(p, dnnl_bf16, true);
}
#endif
#endif

/* --- The contest ------------------------------------------------------------------------------ */

static struct contestant contestants[] = {
	{"f32 packed", begin_f32, ours_packed, ours_end, 0},
	{"f32 nt", begin_f32, ours_nt, ours_end, 0},
	{"bf16 packed", begin_bf16, ours_packed, ours_end, 0},
	{"bf16 nt", begin_bf16, ours_nt, ours_end, 0},
	{"q8 packed", begin_q8, ours_packed, ours_end, 0},
	{"OpenBLAS f32", begin_openblas, run_openblas, no_end, 0},
	{"BLIS f32", begin_blis, run_blis, no_end, 0},
#ifdef HAVE_DNNL
	{"dnnl f32 packed", begin_dnnl_f32_packed, dnnl_run, dnnl_end, 0},
	{"dnnl f32", begin_dnnl_f32, dnnl_run, dnnl_end, 0},
	{"dnnl bf16 packed", begin_dnnl_bf16_packed, dnnl_run, dnnl_end, 0},
	{"dnnl bf16", begin_dnnl_bf16, dnnl_run, dnnl_end, 0},
#endif
};
#define N_CONTESTANTS (sizeof contestants / sizeof contestants[0])

/* Best GFLOP/s of runs in a slice of time. */
static double slice(struct product *p, void (*run)(struct product *))
{
	double flop = 2.0 * p->m * p->n * p->k, best = 0, end;
	int reps = 1;

	run(p);
	for (end = now_s() + SLICE_S; now_s() < end;) {
		double t = now_s();

		for (int i = 0; i < reps; i++)
			run(p);
		t = now_s() - t;
		if (t < 4e-4)
			reps *= 2;
		else
			best = fmax(best, flop * reps / t * 1e-9);
	}
	return best;
}

static void contest(struct product *p)
{
	size_t a = (size_t)p->m * (size_t)p->k, w = (size_t)p->n * (size_t)p->k;

	p->a = memory(a * sizeof *p->a);
	p->w = memory(w * sizeof *p->w);
	p->c = memory((size_t)p->m * (size_t)p->n * sizeof *p->c);
	p->a16 = memory(a * sizeof *p->a16);
	p->w16 = memory(w * sizeof *p->w16);
	for (size_t i = 0; i < N_CONTESTANTS; i++)
		contestants[i].best = 0;
	for (int r = 0; r < ROUNDS; r++)
		for (size_t i = 0; i < N_CONTESTANTS; i++) {
			struct contestant *c = &contestants[i];
			struct timespec quiet = {.tv_nsec = 4000000}; /* Others' threads spin. */

			if (!c->begin(p))
				continue;
			nanosleep(&quiet, NULL);
			c->best = fmax(c->best, slice(p, c->run));
			c->end(p);
		}
	printf("%5d x%5d x%5d", p->m, p->n, p->k);
	for (size_t i = 0; i < N_CONTESTANTS; i++)
		printf(" %7.0f", contestants[i].best);
	printf("\n");
	fflush(stdout);
	free(p->a);
	free(p->w);
	free(p->c);
	free(p->a16);
	free(p->w16);
}

static int number(int argc, char **argv, int i, int otherwise)
{
	return argc > i ? (int)strtol(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
	static const int shapes[][3] = {
		{2048, 2048, 2048}, {2048, 288, 288},  {2048, 768, 288},  {1024, 32000, 288},
		{1024, 2048, 768},  {2048, 2048, 768}, {512, 5632, 2048}, {64, 5632, 2048},
		{16, 5632, 2048},   {4, 5632, 2048},   {1, 5632, 2048},	  {64, 2048, 768},
		{16, 2048, 768},    {1, 2048, 768},    {64, 768, 288},	  {16, 768, 288},
		{1, 768, 288},
	};
	struct product p = {.kern = kern_cpu(), .threads = number(argc, argv, 1, 0)};
	char text[16];

	p.pool = kern_pool_new(p.threads);
	p.threads = kern_pool_threads(p.pool);
	clock_of_threads(p.threads);
	snprintf(text, sizeof text, "%d", p.threads);
	setenv("OMP_NUM_THREADS", text, 1); /* oneDNN asks OpenMP. */
	open_blas(p.threads);
#ifdef HAVE_DNNL
	open_dnnl();
#endif
	printf("%s, %d threads, GFLOP/s; zeros: not here\n    M x    N x    K", p.kern->name,
	       p.threads);
	for (size_t i = 0; i < N_CONTESTANTS; i++)
		printf(" | %s", contestants[i].name);
	printf("\n");
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
		p.m = argc > 4 ? number(argc, argv, 2, 0) : shapes[i][0];
		p.n = argc > 4 ? number(argc, argv, 3, 0) : shapes[i][1];
		p.k = argc > 4 ? number(argc, argv, 4, 0) : shapes[i][2];
		contest(&p);
		if (argc > 4)
			break;
	}
	kern_pool_free(p.pool);
	return 0;
}
