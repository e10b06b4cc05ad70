/* What the CUDA tests share: arrays on the emulated device in either format of activations, and how
 * far a result is from double precision. Fresh device memory holds NaN and has guard words, which the
 * emulator looks at after every kernel.
 */
#pragma once

#include "kernels/cuda/launch.h"
#include "tests/cuemu/cuemu.h"
#include "tests/gpu/gpu.h"
#include "tests/kern_util.h"

#include <cuda_runtime.h>

/* A table of the emulator; ends with gpu_close(). */
static inline struct gpu emulated(const char *table)
{
	struct gpu g = {.k = kern_gpu_table(&pawl_gpu, table)};
	struct kern_open o = {0};
	char why[256] = "";

	g.pool = g.k->open(&o, why, sizeof why);
	CHECK(g.pool);
	return g;
}

static inline float rounded_bf16(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof bits);
	bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
	memcpy(&x, &bits, sizeof x);
	return x;
}

static inline size_t act_size(enum kern_format act)
{
	return act == KERN_F32 ? 4 : 2;
}

static inline void *dev_new(size_t bytes)
{
	void *p;

	CHECK_EQ(cudaMalloc(&p, bytes ? bytes : 1), cudaSuccess);
	return p;
}

static inline void *dev_put(const void *from, size_t bytes)
{
	void *p = dev_new(bytes);

	CHECK_EQ(cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice), cudaSuccess);
	return p;
}

static inline void *dev_zeros(size_t bytes)
{
	void *p = dev_new(bytes);

	CHECK_EQ(cudaMemset(p, 0, bytes), cudaSuccess);
	return p;
}

static inline void dev_get(void *to, const void *from, size_t bytes)
{
	CHECK_EQ(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
}

static inline void dev_free(void *p)
{
	CHECK_EQ(cudaFree(p), cudaSuccess);
}

/* n floats in the format `act`; BF16 rounds the caller's to what the device has. */
static inline void *dev_act(enum kern_format act, float *x, size_t n)
{
	uint16_t *half;
	void *p;

	if (act == KERN_F32)
		return dev_put(x, n * sizeof *x);
	half = malloc(n * sizeof *half + 1);
	CHECK(half);
	for (size_t i = 0; i < n; i++) {
		uint32_t bits;

		x[i] = rounded_bf16(x[i]);
		memcpy(&bits, x + i, sizeof bits);
		half[i] = (uint16_t)(bits >> 16);
	}
	p = dev_put(half, n * sizeof *half);
	free(half);
	return p;
}

/* The caller frees. */
static inline float *dev_floats(enum kern_format act, const void *p, size_t n)
{
	float *x = malloc(n * sizeof *x + 1);
	uint16_t *half = malloc(n * sizeof *half + 1);

	CHECK(x && half);
	if (act == KERN_F32) {
		dev_get(x, p, n * sizeof *x);
	} else {
		dev_get(half, p, n * sizeof *half);
		for (size_t i = 0; i < n; i++) {
			uint32_t bits = (uint32_t)half[i] << 16;

			memcpy(x + i, &bits, sizeof bits);
		}
	}
	free(half);
	return x;
}

/* Root of the mean square of the error over that of the values wanted; not a number if any is not. */
static inline double error_of(const float *got, const double *want, size_t n)
{
	double err = 0, all = 0;

	for (size_t i = 0; i < n; i++) {
		err += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
		all += want[i] * want[i];
	}
	return sqrt(err / (all > 0 ? all : 1));
}

#define CHECK_ERROR(got, want, n, bound) check_error(__LINE__, #got, got, want, n, bound)
static inline void check_error(int line, const char *what, const float *got, const double *want,
			       size_t n, double bound)
{
	double e = error_of(got, want, n);

	if (e <= bound)
		return;
	printf("# line %d: %s is %.3g from double precision, at most %.3g\n", line, what, e, bound);
	for (size_t i = 0, shown = 0; i < n && shown < 8; i++)
		if (!(fabs((double)got[i] - want[i]) <= bound * (1 + fabs(want[i])))) {
			printf("# element %zu: got %.9g, expected %.9g\n", i, (double)got[i],
			       want[i]);
			shown++;
		}
	test_fail(__FILE__, __LINE__, "result too far from double precision");
}
