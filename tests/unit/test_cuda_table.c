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
