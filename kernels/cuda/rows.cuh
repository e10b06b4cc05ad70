// Row-wise kernels without sums over a row: each thread owns V neighbouring columns, so that a warp
// reads and writes 512 bytes in a row. All are bound by memory; a comment gives the bytes.
#pragma once

#include "kernels/cuda/pick.cuh"

#define ROW_THREADS 256

// out[r] = x[index[r]]. Bytes: one row read, one written.
template <class T, int V>
static __global__ void gather_k(T *out, const T *x, const int32_t *index, int rows, int width)
{
	int i = MY_COLUMN(V);

	if (i >= width)
		return;
	EACH_ROW(r, rows)
	*(vec<T, V> *)(out + (size_t)r * width + i) =
		*(const vec<T, V> *)(x + (size_t)index[r] * width + i);
}

// out[r] = 0 + x[from[r][0]] + x[from[r][1]], without those below 0; rounded after each addition,
// as the twin does. Bytes: up to two rows read, one written.
template <class T, int V>
static __global__ void spread_k(T *out, const T *x, const int32_t *from, int rows, int width)
{
	int i = MY_COLUMN(V);

	if (i >= width)
		return;
	EACH_ROW(r, rows)
	{
		float s[V] = {0}, v[V];

		for (int j = 0; j < 2; j++) {
			int at = from[2 * r + j];

			if (at < 0)
				continue;
			load(v, x + (size_t)at * width + i);
#pragma unroll
			for (int e = 0; e < V; e++)
				s[e] += v[e];
		}
		store(out + (size_t)r * width + i, s);
	}
}

// dw[id] += rows of that id in ascending order. The block of the first row of an id does them all;
// the others leave. grid: (rows, tiles of columns). Bytes: every row of dout once, dw's rows twice,
// and ids from the second-level cache.
#define EMBED_THREADS 128
template <class T, int V>
static __global__ void embed_back_k(float *dw, const T *dout, const int32_t *ids, int rows,
				    int width)
{
	CU_SHARED(unsigned, found, [EMBED_THREADS / CU_WARP]);
	int row = (int)blockIdx.x, t = (int)threadIdx.x, id = ids[row];
	int i = ((int)blockIdx.y * EMBED_THREADS + t) * V;
	float s[V] = {0}, v[V];

	for (int from = 0; from < row; from += 4 * EMBED_THREADS) {
		bool earlier = false;

#pragma unroll
		for (int j = 0; j < 4; j++) {
			int at = from + j * EMBED_THREADS + t;
			earlier |= at < row && ids[at] == id;
		}
		if (__syncthreads_or(earlier))
			return;
	}
	if (i < width)
		load_floats(s, dw + (size_t)id * width + i);
	for (int from = row; from < rows; from += EMBED_THREADS) {
		bool mine = from + t < rows && ids[from + t] == id;
		unsigned votes = __ballot_sync(CU_ALL, mine);

		__syncthreads();
		if (t % CU_WARP == 0)
			found[t / CU_WARP] = votes;
		__syncthreads();
		for (int w = 0; w < EMBED_THREADS / CU_WARP; w++)
			for (unsigned left = found[w]; left; left &= left - 1) {
				int at = from + w * CU_WARP + __ffs((int)left) - 1;

				if (i >= width)
					continue;
				load(v, dout + (size_t)at * width + i);
#pragma unroll
				for (int e = 0; e < V; e++)
					s[e] += v[e];
			}
	}
	if (i < width)
		store_floats(dw + (size_t)id * width + i, s);
}

// Rotates (lo, hi) = (i, i + D/2). A thread has V pairs of ROPE_HEADS heads and one angle for all
// of them. Bytes: the heads read and written; the tables come from the caches.
#define ROPE_HEADS 4
template <class T, int V>
static __global__ void rope_k(T *x, int ldx, int rows, int heads, int half, const int32_t *pos,
			      const float *cosines, const float *sines, float sign)
{
	int at = (int)(blockIdx.x * blockDim.x + threadIdx.x), across = half / V;
	int i = at % across * V, h = at / across * ROPE_HEADS;

	if (h >= heads)
		return;
	EACH_ROW(r, rows)
	{
		float c[V], s[V], lo[V], hi[V], a[V], b[V];
		size_t table = (size_t)pos[r] * half + i;
		T *p = x + (ptrdiff_t)r * ldx + 2 * h * half + i;

		load_floats(c, cosines + table);
		load_floats(s, sines + table);
		for (int j = 0; j < ROPE_HEADS && h + j < heads; j++, p += 2 * half) {
			load(lo, p);
			load(hi, p + half);
#pragma unroll
			for (int e = 0; e < V; e++) {
				a[e] = lo[e] * c[e] - hi[e] * (sign * s[e]);
				b[e] = hi[e] * c[e] + lo[e] * (sign * s[e]);
			}
			store(p, a);
			store(p + half, b);
		}
	}
}

template <class T> __device__ __forceinline__ float sigmoid(float x)
{
	return div_for<T>(1.0f, 1.0f + exp_for<T>(-x));
}

// y = silu(gate) up. Bytes: two elements read, one written.
template <class T, int V>
static __global__ void swiglu_k(T *y, const T *gate, const T *up, int ldg, int rows, int width)
{
	int i = MY_COLUMN(V);

	if (i >= width)
		return;
	EACH_ROW(r, rows)
	{
		float g[V], u[V];

		load(g, gate + (ptrdiff_t)r * ldg + i);
		load(u, up + (ptrdiff_t)r * ldg + i);
#pragma unroll
		for (int e = 0; e < V; e++)
			u[e] = g[e] * sigmoid<T>(g[e]) * u[e];
		store(y + (size_t)r * width + i, u);
	}
}

// silu'(g) = s (1 + g (1 - s)), s = sigmoid(g). Bytes: three elements read, two written. The
// outputs may lie where gate and up do: a thread reads its own before it writes.
template <class T, int V>
static __global__ void swiglu_back_k(T *dgate, T *dup, const T *dy, const T *gate, const T *up,
				     int ldg, int rows, int width)
{
	int i = MY_COLUMN(V);

	if (i >= width)
		return;
	EACH_ROW(r, rows)
	{
		float g[V], u[V], d[V];
		ptrdiff_t at = (ptrdiff_t)r * ldg + i;

		load(g, gate + at);
		load(u, up + at);
		load(d, dy + (size_t)r * width + i);
#pragma unroll
		for (int e = 0; e < V; e++) {
			float s = sigmoid<T>(g[e]), du = d[e] * u[e];

			u[e] = d[e] * (g[e] * s);
			g[e] = du * (s * fmaf(g[e], 1 - s, 1.0f));
		}
		store(dgate + at, g);
		store(dup + at, u);
	}
}

// y += b. Bytes: one element read and written.
template <class T, int V>
static __global__ void bias_k(T *y, int ldy, const float *b, int rows, int width)
{
	int i = MY_COLUMN(V);
	float add[V], x[V];

	if (i >= width)
		return;
	load_floats(add, b + i);
	EACH_ROW(r, rows)
	{
		load(x, y + (ptrdiff_t)r * ldy + i);
#pragma unroll
		for (int e = 0; e < V; e++)
			x[e] += add[e];
		store(y + (ptrdiff_t)r * ldy + i, x);
	}
}

// part[chunk][width] = sums of CHUNK rows in ascending order; column_sum_k adds the chunks. Bytes:
// every element read once, 4 / CHUNK written.
#define BIAS_CHUNK 64
template <class T, int V>
static __global__ void bias_part_k(float *part, const T *dy, int ldy, int rows, int width)
{
	int i = MY_COLUMN(V), from = (int)blockIdx.y * BIAS_CHUNK;
	float s[V] = {0}, x[V];

	if (i >= width)
		return;
	for (int r = from; r < from + BIAS_CHUNK && r < rows; r++) {
		load(x, dy + (ptrdiff_t)r * ldy + i);
#pragma unroll
		for (int e = 0; e < V; e++)
			s[e] += x[e];
	}
	store_floats(part + (size_t)blockIdx.y * width + i, s);
}

// out[i] += part[0][i] + part[1][i] + ...: eight shares of neighbouring chunks, each in ascending
// order, then the shares. 32 columns in a block.
#define SUM_SHARES 8
static __global__ void column_sum_k(float *out, const float *part, int chunks, int width)
{
	CU_SHARED(float, sums, [SUM_SHARES][CU_WARP]);
	int share = (int)threadIdx.y, i = (int)(blockIdx.x * CU_WARP + threadIdx.x);
	int per = (chunks + SUM_SHARES - 1) / SUM_SHARES, from = share * per;
	float s = 0;

	if (i < width) {
#pragma unroll 8
		for (int c = from; c < from + per; c++)
			s += c < chunks ? part[(size_t)c * width + i] : 0;
	}
	sums[share][threadIdx.x] = s;
	__syncthreads();
	if (share > 0 || i >= width)
		return;
	for (int j = 1; j < SUM_SHARES; j++)
		s += sums[j][threadIdx.x];
	out[i] += s;
}
