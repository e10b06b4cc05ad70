// RMS norm. A row has `blockDim.x` threads, a block `blockDim.y` rows; a thread holds up to
// NORM_KEEP vectors of its row in registers, what is wider is read a second time (from the
// first-level cache).
#pragma once

#include "kernels/cuda/rows.cuh"

#define NORM_KEEP 4

// y = x rinv w, rinv = 1/sqrt(mean(x^2) + eps); with ADD first x += add, rounded as it is stored.
// Bytes: x once, y once; with ADD also add once and x written.
template <class T, int V, bool ADD>
static __global__ void __launch_bounds__(1024, 1)
	norm_k(T *y, float *rinv, T *x, const T *add, const float *w, int rows, int width,
	       float eps)
{
	CU_SHARED(float, red, [CU_WARP]);
	int row = (int)(blockIdx.x * blockDim.y + threadIdx.y), warps = (int)blockDim.x / CU_WARP;
	int first = (int)threadIdx.x * V, step = (int)blockDim.x * V;
	size_t at = (size_t)row * width;
	float keep[NORM_KEEP][V], v[V], scale[V], sum = 0, r;

	if (row >= rows)
		width = 0;
#pragma unroll
	for (int j = 0; j < NORM_KEEP; j++) {
		int i = first + j * step;

		if (i >= width)
			continue;
		load(keep[j], x + at + i);
		if (ADD) {
			load(v, add + at + i);
#pragma unroll
			for (int e = 0; e < V; e++)
				keep[j][e] = to_float(from_float<T>(keep[j][e] + v[e]));
			store(x + at + i, keep[j]);
		}
#pragma unroll
		for (int e = 0; e < V; e++)
			sum = fmaf(keep[j][e], keep[j][e], sum);
	}
	for (int i = first + NORM_KEEP * step; i < width; i += step) {
		load(v, x + at + i);
		if (ADD) {
			load(scale, add + at + i);
#pragma unroll
			for (int e = 0; e < V; e++)
				v[e] = to_float(from_float<T>(v[e] + scale[e]));
			store(x + at + i, v);
		}
#pragma unroll
		for (int e = 0; e < V; e++)
			sum = fmaf(v[e], v[e], sum);
	}
	sum = group_sum(sum, red + (int)threadIdx.y * warps, (int)threadIdx.x / CU_WARP, warps);
	r = 1.0f / sqrtf(sum / (float)width + eps);
	if (rinv && threadIdx.x == 0 && row < rows)
		rinv[row] = r;
#pragma unroll
	for (int j = 0; j < NORM_KEEP; j++) {
		int i = first + j * step;

		if (i >= width)
			continue;
		load_floats(scale, w + i);
#pragma unroll
		for (int e = 0; e < V; e++)
			keep[j][e] = keep[j][e] * r * scale[e];
		store(y + at + i, keep[j]);
	}
	for (int i = first + NORM_KEEP * step; i < width; i += step) {
		load(v, x + at + i);
		load_floats(scale, w + i);
#pragma unroll
		for (int e = 0; e < V; e++)
			v[e] = v[e] * r * scale[e];
		store(y + at + i, v);
	}
}

// dx += r (w dy - x r^2 mean(x w dy)). A block goes through NORM_CHUNK rows; with `part` it also
// leaves sums of dy x r over them in part[chunk][width], columns by the thread that owns them, rows
// ascending; they gather in shared memory, [width]. Bytes: dy, x once (a second time from cache
// where a row is wider than registers), dx read and written, 4 / NORM_CHUNK for part.
#define NORM_CHUNK 8
template <class T, int V>
static __global__ void __launch_bounds__(1024, 1)
	norm_back_k(T *dx, float *part, const T *dy, const T *x, const float *w, const float *rinv,
		    int rows, int width)
{
	CU_SHARED(float, red, [2 * CU_WARP]);
	CU_DYNAMIC(float, dw);
	int from = (int)blockIdx.x * NORM_CHUNK, warps = (int)blockDim.x / CU_WARP;
	int first = (int)threadIdx.x * V, step = (int)blockDim.x * V;
	float xs[V], ds[V], ws[V], out[V];

	for (int row = from; row < from + NORM_CHUNK && row < rows; row++) {
		size_t at = (size_t)row * width;
		float r = rinv[row], s = 0;

		for (int i = first; i < width; i += step) {
			load(xs, x + at + i);
			load(ds, dy + at + i);
			load_floats(ws, w + i);
#pragma unroll
			for (int e = 0; e < V; e++)
				s = fmaf(xs[e], ws[e] * ds[e], s);
			if (!part)
				continue;
			load_floats(out, dw + i);
#pragma unroll
			for (int e = 0; e < V; e++)
				out[e] = fmaf(ds[e], xs[e] * r, row == from ? 0 : out[e]);
			store_floats(dw + i, out);
		}
		// Two places in turn: a thread may be a row ahead of one that still adds.
		s = group_sum(s, red + row % 2 * CU_WARP, (int)threadIdx.x / CU_WARP, warps);
		s = -s * r * r * r / (float)width;
		for (int i = first; i < width; i += step) {
			load(xs, x + at + i);
			load(ds, dy + at + i);
			load(out, dx + at + i);
			load_floats(ws, w + i);
#pragma unroll
			for (int e = 0; e < V; e++)
				out[e] += fmaf(xs[e], s, ws[e] * ds[e] * r);
			store(dx + at + i, out);
		}
	}
	for (int i = first; part && i < width; i += step) {
		load_floats(out, dw + i);
		store_floats(part + (size_t)blockIdx.x * width + i, out);
	}
}
