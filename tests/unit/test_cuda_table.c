/* The CUDA tables through the emulator: every operation beside the CPU's, as on a real device (see
 * tests/gpu), then what the context promises. */
#include "tests/cuda_util.h"
#include "tests/gpu/parity.h"

static void check_table(const char *table)
{
	struct gpu cpu = {.k = kern_cpu(), .pool = kern_pool_new(2)}, g = emulated(table);

	CHECK(gpu_parity(&g, &cpu, false) == 0);
	gpu_close(&g);
	kern_pool_free(cpu.pool);
}

void test_cuda_table__every_operation_in_f32(void)
{
	check_table("cuda-f32");
}

void test_cuda_table__every_operation_in_bf16(void)
{
	check_table("cuda");
}

/* More than a slot of pinned memory, there and back; a snapshot; zeros where nothing was put. */
void test_cuda_table__memory(void)
{
	struct gpu g = emulated("cuda");
	size_t n = (9u << 20) + 3;
	float *x = numbers(n, 1), *y = guarded(n), *pinned = g.k->pin(g.pool, n * sizeof *x);
	float *there = g.k->alloc(g.pool, n * sizeof *x), *copy = g.k->alloc(g.pool, n * sizeof *x);

	CHECK(there && copy && pinned);
	g.k->get(g.pool, y, there, n * sizeof *y);
	for (size_t i = 0; i < n; i++)
		CHECK(y[i] == 0);
	g.k->put(g.pool, there, x, n * sizeof *x);
	g.k->copy(g.pool, copy, there, n * sizeof *x);
	g.k->snap(g.pool, pinned, copy, n * sizeof *x);
	g.k->zero(g.pool, there, 4 * sizeof *x);
	g.k->get(g.pool, y, there, n * sizeof *y);
	g.k->snapped(g.pool);
	check_same(pinned, x, n);
	check_same(y + 4, x + 4, n - 4);
	CHECK(y[0] == 0 && y[3] == 0);
	check_guard(y, n);
	CHECK(!g.k->alloc(g.pool, (size_t)1 << 50) && !g.k->fault(g.pool));
	g.k->release(g.pool, there, 0);
	g.k->release(g.pool, copy, 0);
	g.k->unpin(g.pool, pinned, 0);
	gpu_close(&g);
	guarded_free(x);
	guarded_free(y);
}

/* Operations recorded at the second time see what the arrays hold at the third. */
void test_cuda_table__recorded_passes(void)
{
	enum { N = 100 };
	struct gpu g = emulated("cuda-f32");
	float x[N], want[N], got[N];
	float *there = g.k->alloc(g.pool, sizeof x);

	for (int turn = 0; turn < 4; turn++) {
		for (int i = 0; i < N; i++) {
			x[i] = (float)(i + 100 * turn);
			want[i] = x[i] * 2 + x[i] * 2;
		}
		g.k->put(g.pool, there, x, sizeof x);
		CHECK(g.k->graph_run(g.pool, 7) == (turn > 1));
		if (turn < 2) {
			g.k->graph_begin(g.pool, 7);
			g.k->scale(g.pool, there, N, 2);
			g.k->add(g.pool, there, there, N);
			g.k->graph_end(g.pool);
		}
		g.k->get(g.pool, got, there, sizeof got);
		check_same(got, want, N);
	}
	CHECK(!g.k->graph_run(g.pool, 8));
	g.k->release(g.pool, there, sizeof x);
	gpu_close(&g);
}

enum { N = 40, K = 48, MANY = 300 };

/* Row `row` of a product of m rows from that one on. */
static void product(const struct gpu *g, enum kern_format f, const void *wp, const char *a, int row,
		    int m, float *out)
{
	char *c = gpu_poison(g, (size_t)m * N);

	g->k->gemm_packed(g->pool, f, c, N, kern_at(g->k, a, (size_t)row * K), K, wp, m, N, K, false);
	gpu_read(g, out, c, (size_t)m * N);
	gpu_free(g, c);
}

static void *packed(const struct gpu *g, enum kern_format f, float *here)
{
	float *w = gpu_floats(g, (size_t)N * K, 1, 3, here);
	void *wp = gpu_room(g, g->k->pack_size(f, N, K));

	g->k->pack(g->pool, f, wp, N, K, w, K, 0, N);
	gpu_free(g, w);
	return wp;
}

/* One row, a few, and more than any kernel takes at a time: the same bits in each. */
void test_cuda_table__a_steady_row_knows_no_others(void)
{
	static const int sizes[] = {1, 7, 64, 65, 150, MANY};
	static float all[MANY * N], some[MANY * N];
	struct gpu g = emulated("cuda-steady");

	for (int f = KERN_BF16; f <= KERN_FP8; f++) {
		void *wp = packed(&g, (enum kern_format)f, NULL);
		char *a = gpu_numbers(&g, (size_t)MANY * K, 1, 5, NULL);

		product(&g, (enum kern_format)f, wp, a, 0, MANY, all);
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
			int row = MANY - sizes[i];

			product(&g, (enum kern_format)f, wp, a, row, sizes[i], some);
			check_same(some, all + (size_t)row * N, (size_t)sizes[i] * N);
		}
		gpu_free(&g, wp);
		gpu_free(&g, a);
	}
	gpu_close(&g);
}

/* Floats packed on a table of bfloat16, which nobody keeps there: rounded, not misread. */
void test_cuda_table__packed_floats_are_rounded_in_bf16(void)
{
	static float w[N * K], a[70 * K], got[70 * N];
	struct gpu g = emulated("cuda");
	void *wp = packed(&g, KERN_F32, w);
	char *x = gpu_numbers(&g, 70 * K, 1, 5, a);

	product(&g, KERN_F32, wp, x, 0, 70, got);
	for (int i = 0; i < 70; i++)
		for (int j = 0; j < N; j++) {
			double want = 0;

			for (int k = 0; k < K; k++)
				want += (double)a[i * K + k] * (double)rounded_bf16(w[j * K + k]);
			CHECK_NEAR((double)got[i * N + j], want, 2e-2 * (1 + fabs(want)));
		}
	gpu_free(&g, wp);
	gpu_free(&g, x);
	gpu_close(&g);
}
