/* The CUDA emulator: what it computes, and that it finds the mistakes it promises to find. */
#include "tests/cuemu/cuemu.h"
#include "tests/cuemu/self.h"
#include "tests/test.h"

#include <cuda_runtime.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define N 300
#define BLOCKS 3

static float *device_floats(const float *x, size_t n)
{
	void *p;

	CHECK(cudaMalloc(&p, n * sizeof *x) == cudaSuccess);
	CHECK(cudaMemcpy(p, x, n * sizeof *x, cudaMemcpyHostToDevice) == cudaSuccess);
	return p;
}

static void numbers(float *x, int n)
{
	for (int i = 0; i < n; i++)
		x[i] = (float)(i * 37 % 101) / 101;
}

/* The sums a mistake leaves: run in this process. */
static void sums(enum self_mistake m, unsigned order, float *got, int n)
{
	float x[N], blank[N];
	float *in, *out;

	numbers(x, N);
	memset(blank, 0xff, sizeof blank);
	cuemu_order(order);
	in = device_floats(x, N);
	out = device_floats(blank, (size_t)n);
	self_sum(NULL, m, out, in, N);
	CHECK(cudaMemcpy(got, out, (size_t)n * sizeof *got, cudaMemcpyDeviceToHost) == cudaSuccess);
	cudaFree(in);
	cudaFree(out);
}

static int report_to;

static void report(const char *what)
{
	if (write(report_to, what, strlen(what)) < 0)
		_exit(2);
	_exit(3);
}

/* Runs fn in a process of its own; what the emulator said about it, empty when nothing. */
static const char *said(void (*fn)(void))
{
	static char text[2048];
	int pipe_fd[2], status;
	ssize_t n;

	CHECK(pipe(pipe_fd) == 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		report_to = pipe_fd[1];
		cuemu_on_fault(report);
		fn();
		_exit(0);
	}
	close(pipe_fd[1]);
	n = read(pipe_fd[0], text, sizeof text - 1);
	close(pipe_fd[0]);
	text[n > 0 ? n : 0] = 0;
	CHECK(waitpid(pid, &status, 0) == pid);
	return text;
}

static void check_said(void (*fn)(void), const char *part)
{
	const char *text = said(fn);

	if (!strstr(text, part)) {
		printf("# said: \"%s\", expected \"%s\"\n", text, part);
		test_fail(__FILE__, __LINE__, "the emulator did not find the mistake");
	}
}

void test_cuda_emu__sums_are_right_in_every_order(void)
{
	float x[N], got[BLOCKS], first[BLOCKS];

	numbers(x, N);
	for (unsigned order = 0; order < 5; order++) {
		sums(SELF_NONE, order, got, BLOCKS);
		for (int b = 0; b < BLOCKS; b++) {
			double want = 0;

			for (int i = 128 * b; i < 128 * (b + 1) && i < N; i++)
				want += (double)x[i];
			CHECK_NEAR((double)got[b], want, 1e-4);
		}
		if (order == 0)
			memcpy(first, got, sizeof first);
		CHECK(memcmp(first, got, sizeof first) == 0);
	}
	CHECK(cuemu_live(NULL) == 0);
}

/* From the last thread to the first these sums happen to come right: one order is not enough. */
void test_cuda_emu__a_missing_barrier_shows(void)
{
	float good[BLOCKS], bad[BLOCKS];

	sums(SELF_NONE, 0, good, BLOCKS);
	sums(SELF_NO_BARRIER, 1, bad, BLOCKS);
	CHECK(memcmp(good, bad, sizeof bad) == 0);
	for (unsigned order = 0; order < 6; order += 2) {
		sums(SELF_NO_BARRIER, order, bad, BLOCKS);
		CHECK(memcmp(good, bad, sizeof bad) != 0);
	}
}

void test_cuda_emu__shared_memory_begins_as_nan(void)
{
	float bad[BLOCKS];

	sums(SELF_UNINITIALISED, 0, bad, BLOCKS);
	CHECK(isfinite(bad[0]) && isnan(bad[BLOCKS - 1]));
}

static void out_of_bounds(void)
{
	float got[BLOCKS];

	sums(SELF_OUT_OF_BOUNDS, 0, got, BLOCKS);
}

static void early_return(void)
{
	float got[BLOCKS];

	sums(SELF_EARLY_RETURN, 0, got, BLOCKS);
}

static void divergent(void)
{
	float got[128];

	sums(SELF_DIVERGENT, 0, got, 128);
}

static void deadlocked(void)
{
	float got[128];

	sums(SELF_DEADLOCK, 0, got, 128);
}

static void lane_gone(void)
{
	float got[32];

	sums(SELF_LANE_GONE, 0, got, 32);
}

/* Under AddressSanitizer the write itself is reported, by the sanitizer and before us. */
void test_cuda_emu__writes_out_of_bounds_are_found(void)
{
#if defined(__SANITIZE_ADDRESS__)
	SKIP("AddressSanitizer finds it first, and ends the process");
#endif
	check_said(out_of_bounds, "behind the allocation of 12 bytes");
}

void test_cuda_emu__barrier_after_a_return_is_found(void)
{
	check_said(early_return, "the others have returned");
	check_said(early_return, "sum_k<SELF_EARLY_RETURN>, block (2,0,0)");
}

void test_cuda_emu__divergent_barriers_are_found(void)
{
	check_said(divergent, "wait at different barriers");
}

void test_cuda_emu__deadlock_is_found(void)
{
	check_said(deadlocked, "waits in __syncwarp");
}

void test_cuda_emu__a_lane_that_returned_is_found(void)
{
	check_said(lane_gone, "lane 5 has returned");
}

void test_cuda_emu__copies_arrive_when_awaited(void)
{
	float x[N], got[32];

	numbers(x, N);
	sums(SELF_COPY, 2, got, 32);
	for (int i = 0; i < 32; i++)
		CHECK(got[i] == x[i * 7 % 128]);
	sums(SELF_COPY_NOT_AWAITED, 0, got, 32);
	CHECK(isnan(got[1])); /* Lane 1's own data. Lane 0's comes while lane 1 has yet to run. */
	CHECK(isnan(got[17]));
}

static void touch_device(void)
{
	float x = 1, *p = device_floats(&x, 1);

	p[0] = 2;
}

static void give_host(void)
{
	float *x = calloc(N, sizeof *x), *out = device_floats(x, BLOCKS);

	self_sum(NULL, SELF_NONE, out, x, N);
}

static void give_freed(void)
{
	float x[N] = {0}, *in = device_floats(x, N), *out = device_floats(x, BLOCKS);

	cudaFree(in);
	cudaFree(device_floats(x, 1)); /* What comes after must not be at the same place. */
	self_sum(NULL, SELF_NONE, out, in + 4 * N, N);
}

static void copy_wrong_way(void)
{
	float x[4] = {0}, *p = device_floats(x, 4);

	cudaMemcpy(x, p, sizeof x, cudaMemcpyHostToDevice);
}

void test_cuda_emu__host_and_device_memory_are_apart(void)
{
	check_said(touch_device, "the host touched device memory");
	check_said(give_host, "which is memory of the host");
	check_said(give_freed, "in no allocation of the device");
	check_said(copy_wrong_way, "copy to: ");
}

void test_cuda_emu__work_waits_until_it_is_awaited(void)
{
	float x[N], *pinned, *in, *out;
	cudaStream_t s, t;
	cudaEvent_t e;

	numbers(x, N);
	CHECK(cudaMallocHost((void **)&pinned, BLOCKS * sizeof *pinned) == cudaSuccess);
	CHECK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking) == cudaSuccess);
	CHECK(cudaStreamCreateWithFlags(&t, cudaStreamNonBlocking) == cudaSuccess);
	CHECK(cudaEventCreate(&e) == cudaSuccess);
	in = device_floats(x, N);
	out = device_floats(x, BLOCKS);
	pinned[0] = -1;
	self_sum(s, SELF_NONE, out, in, N);
	CHECK(cudaEventRecord(e, s) == cudaSuccess);
	CHECK(cudaStreamWaitEvent(t, e, 0) == cudaSuccess);
	cudaMemcpyAsync(pinned, out, BLOCKS * sizeof *pinned, cudaMemcpyDeviceToHost, t);
	CHECK(pinned[0] == -1);
	CHECK(cudaStreamSynchronize(t) == cudaSuccess);
	CHECK(pinned[0] > 0);
	cudaEventDestroy(e);
	cudaStreamDestroy(s);
	cudaStreamDestroy(t);
	cudaFree(in);
	cudaFree(out);
	cudaFreeHost(pinned);
}

void test_cuda_emu__graphs_replay(void)
{
	float x[N], y[BLOCKS], *in, *out;
	cudaStream_t s;
	cudaGraph_t g;
	cudaGraphExec_t exec;

	numbers(x, N);
	CHECK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking) == cudaSuccess);
	in = device_floats(x, N);
	out = device_floats(x, BLOCKS);
	CHECK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal) == cudaSuccess);
	self_sum(s, SELF_NONE, out, in, N);
	CHECK(cudaStreamSynchronize(s) != cudaSuccess);
	CHECK(cudaGetLastError() == cudaErrorStreamCaptureUnsupported);
	CHECK(cudaStreamEndCapture(s, &g) == cudaSuccess);
	CHECK(cudaGraphInstantiate(&exec, g, 0) == cudaSuccess);
	CHECK(cudaStreamSynchronize(s) == cudaSuccess);
	CHECK_EQ(cuemu_kernels(), 0);
	for (int round = 1; round <= 2; round++) {
		x[0] = (float)round;
		cudaMemcpyAsync(in, x, sizeof x, cudaMemcpyHostToDevice, s);
		CHECK(cudaGraphLaunch(exec, s) == cudaSuccess);
		cudaMemcpyAsync(y, out, sizeof y, cudaMemcpyDeviceToHost, s);
		CHECK_EQ(cuemu_kernels(), round);
		CHECK(y[0] > (float)round);
	}
}

void test_cuda_emu__warp_operations(void)
{
	uint32_t got[209] = {0};
	void *out;

	CHECK(cudaMalloc(&out, sizeof got) == cudaSuccess);
	cudaMemset(out, 0, sizeof got);
	self_votes(NULL, out);
	cudaMemcpy(got, out, sizeof got, cudaMemcpyDeviceToHost);
	for (uint32_t i = 0; i < 32; i++) {
		CHECK_EQ(got[i], 0x49249249);
		CHECK_EQ(got[32 + i], i % 16 + 3 < 16 ? i + 3 : i);
		CHECK_EQ(got[64 + i], i ? i - 1 : 0);
		CHECK_EQ(got[96 + i], 31);
		CHECK_EQ(got[128 + i], 0xffu << i / 8 * 8);
		CHECK_EQ(got[160 + i], 1);
	}
	CHECK_EQ(got[192], 31 * 32 / 2);
	for (uint32_t i = 0; i < 16; i++)
		CHECK_EQ(got[193 + i], i ^ 1);
}

static uint16_t bf16_of(float x) /* of numbers that are bf16 already */
{
	uint32_t u;

	memcpy(&u, &x, sizeof u);
	return (uint16_t)(u >> 16);
}

void test_cuda_emu__tensor_core_fragments(void)
{
	float a[16][16], b[8][16], c[16][8];
	uint16_t half[24][16];
	void *in, *out;

	for (int i = 0; i < 24; i++)
		for (int k = 0; k < 16; k++) {
			float x = (float)((i * 29 + k * 13) % 17 - 8);

			half[i][k] = bf16_of(x);
			if (i < 16)
				a[i][k] = x;
			else
				b[i - 16][k] = x;
		}
	CHECK(cudaMalloc(&in, sizeof half) == cudaSuccess);
	CHECK(cudaMalloc(&out, sizeof c) == cudaSuccess);
	cudaMemcpy(in, half, sizeof half, cudaMemcpyHostToDevice);
	self_mma(NULL, out, in, (char *)in + 16 * 16 * sizeof(uint16_t));
	cudaMemcpy(c, out, sizeof c, cudaMemcpyDeviceToHost);
	for (int i = 0; i < 16; i++)
		for (int j = 0; j < 8; j++) {
			float want = 0;

			for (int k = 0; k < 16; k++)
				want += a[i][k] * b[j][k];
			CHECK(c[i][j] == want);
		}
}

void test_cuda_emu__memory_runs_out(void)
{
	size_t left, total;
	void *p, *q;

	cuemu_memory(1 << 20);
	CHECK(cudaMalloc(&p, 1 << 19) == cudaSuccess);
	CHECK(cudaMalloc(&q, (1 << 19) + 1) == cudaErrorMemoryAllocation);
	CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
	CHECK(cudaGetLastError() == cudaSuccess);
	CHECK(cudaMemGetInfo(&left, &total) == cudaSuccess);
	CHECK_EQ(left, 1 << 19);
	CHECK_EQ(total, 1 << 20);
	cudaFree(p);
	CHECK(cudaMalloc(&q, (1 << 19) + 1) == cudaSuccess);
}
