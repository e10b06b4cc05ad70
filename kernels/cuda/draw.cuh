// A token drawn from a row of logits by one block, without sorting the vocabulary; log-sum-exp of
// rows.
//
// Weights are exp((logit - max) / T), at most 1. They are kept in shared memory where the
// vocabulary fits, so that a row is read once from memory; else they are made anew from the logits
// at every pass. Tokens are ranked by (weight descending, id ascending). The last token of a prefix
// is found by its bits: three histograms of 1024 bins (bits 29-20, 19-10, 9-0) with counts and
// masses, each descending to the bin where the prefix ends. Masses in bins are whole multiples of
// 2^-40, so their sums do not depend on an order, and atomics on integers do.
//
// The mass that `u` points into is summed as the CPU does (kernels/cpu/body_draw.inc): blocks of
// 2048, four chains of sixteen lanes, the blocks in double.
//
// Passes over the row: largest, sum, mass, place; four for each of top-k and top-p.
#pragma once

#include "kernels/cuda/launch.h"
#include "kernels/cuda/words.cuh"

#include <limits.h>

#define DRAW_THREADS 1024
#define DRAW_BINS 1024
#define DRAW_BLOCK 2048 // elements
#define DRAW_ONE 1099511627776.0f

typedef unsigned long long draw_mass;

// One row and how its logits become weights.
struct draw_row {
	const float *x; // logits
	const float *w; // weights in shared memory, or NULL
	int n;
	float max, by;	// by: 1/T
	bool plain;	// T = 1
	unsigned least; // bits of the lightest weight that is kept
	int last;	// of those of exactly that weight, the last id that is kept
};

__device__ __forceinline__ float draw_make(const draw_row &a, float x)
{
	return exp_poly(a.plain ? x - a.max : (x - a.max) * a.by);
}

__device__ __forceinline__ float draw_weight(const draw_row &a, int i)
{
	float e = a.w ? a.w[i] : draw_make(a, a.x[i]);
	unsigned bits = __float_as_uint(e);

	return bits > a.least || (bits == a.least && i <= a.last) ? e : 0;
}

__device__ static __forceinline__ draw_mass draw_whole(float w)
{
	return (draw_mass)(w * DRAW_ONE);
}

// Sums of all threads; `red` has a place for each warp.
template <class T> __device__ T draw_sum(T x, T *red)
{
	T s = 0;

	for (int i = 16; i; i /= 2)
		x += __shfl_xor_sync(CU_ALL, x, i);
	__syncthreads();
	if (threadIdx.x % CU_WARP == 0)
		red[threadIdx.x / CU_WARP] = x;
	__syncthreads();
#pragma unroll 4
	for (int i = 0; i < DRAW_THREADS / CU_WARP; i++)
		s += red[i];
	return s;
}

// Sum of what the threads before this one have; *all: of all threads.
template <class T> __device__ T draw_before(T x, T *red, T *all)
{
	int lane = (int)threadIdx.x % CU_WARP, warp = (int)threadIdx.x / CU_WARP;
	T up = x, s = 0, base = 0;

	for (int i = 1; i < CU_WARP; i *= 2) {
		T v = __shfl_up_sync(CU_ALL, up, i);

		if (lane >= i)
			up += v;
	}
	__syncthreads();
	if (lane == CU_WARP - 1)
		red[warp] = up;
	__syncthreads();
#pragma unroll 4
	for (int i = 0; i < DRAW_THREADS / CU_WARP; i++) {
		base = i == warp ? s : base;
		s += red[i];
	}
	*all = s;
	up = __shfl_up_sync(CU_ALL, up, 1);
	return base + (lane ? up : 0);
}

// The prefix ends where it has `count` tokens or `mass`, whichever comes first.
struct draw_goal {
	int count;
	draw_mass mass;
};

// What is heavier than the bin that is looked at, and that bin.
struct draw_place {
	int above, bin_count;
	draw_mass mass_above;
	int bin; // -1: the whole row does not reach the goal
};

// Thread b has bin b: finds the bin where the goal is reached, from the heaviest down.
__device__ static draw_place draw_descend(int count, draw_mass mass, const draw_goal &goal,
					  const draw_place &from, draw_place *found, draw_mass *red)
{
	int all, count_below;
	draw_mass all_mass, mass_below;
	int *red_count = (int *)red;

	count_below = draw_before(count, red_count, &all);
	__syncthreads();
	mass_below = draw_before(mass, red, &all_mass);
	int above = from.above + all - count_below - count;
	draw_mass mass_above = from.mass_above + all_mass - mass_below - mass;

	if (threadIdx.x == 0)
		found->bin = -1;
	__syncthreads();
	if (count > 0 && above < goal.count && mass_above < goal.mass &&
	    (above + count >= goal.count || mass_above + mass >= goal.mass)) {
		found->bin = (int)threadIdx.x;
		found->above = above;
		found->mass_above = mass_above;
		found->bin_count = count;
	}
	__syncthreads();
	return *found;
}

// The id of the j-th (from 1) token of exactly this weight.
__device__ static int draw_tied(const draw_row &a, unsigned bits, int j, int *red)
{
	CU_SHARED(int, id, );

	for (int from = 0; from < a.n; from += DRAW_THREADS) {
		int i = from + (int)threadIdx.x, all;
		int mine = i < a.n && __float_as_uint(draw_weight(a, i)) == bits;
		int before = draw_before(mine, red, &all);

		if (mine && before == j - 1)
			id = i;
		j -= all;
		if (j <= 0)
			break;
	}
	__syncthreads();
	return id;
}

struct draw_shared {
	unsigned count[DRAW_BINS];
	draw_mass mass[DRAW_BINS], red[CU_WARP];
	draw_place found;
};

// Cuts the row where its ranking reaches the goal; leaves it whole where it does not.
__device__ static void draw_cut(draw_row *a, const draw_goal &goal, draw_shared *s)
{
	draw_place place = {0, 0, 0, 0};
	unsigned prefix = 0;
	int t = (int)threadIdx.x, take;

	for (int shift = 20; shift >= 0; shift -= 10) {
		__syncthreads();
		s->count[t] = 0;
		s->mass[t] = 0;
		__syncthreads();
		for (int i = t; i < a->n; i += DRAW_THREADS) {
			float w = draw_weight(*a, i);
			unsigned bits = __float_as_uint(w);

			if (!(w > 0) || (shift < 20 && bits >> (shift + 10) != prefix))
				continue;
			atomicAdd(&s->count[bits >> shift & 1023], 1u);
			atomicAdd(&s->mass[bits >> shift & 1023], draw_whole(w));
		}
		__syncthreads();
		place = draw_descend((int)s->count[t], s->mass[t], goal, place, &s->found, s->red);
		if (place.bin < 0)
			return;
		prefix = prefix << 10 | (unsigned)place.bin;
	}
	// Of those tied at the end, so many; each adds its mass.
	draw_mass each = draw_whole(__uint_as_float(prefix));
	draw_mass need = place.mass_above < goal.mass ? goal.mass - place.mass_above : 0;

	take = goal.count - place.above;
	if (each && need / each < (draw_mass)take)
		take = (int)(need / each) + (need % each != 0);
	take = take < 1 ? 1 : take;
	int last = take < place.bin_count ? draw_tied(*a, prefix, take, (int *)s->red) : INT_MAX;
	if (prefix == a->least && last > a->last)
		last = a->last;
	a->least = prefix;
	a->last = last;
}

__device__ static draw_mass draw_total(const draw_row &a, draw_mass *red)
{
	draw_mass m = 0;

	for (int i = (int)threadIdx.x; i < a.n; i += DRAW_THREADS)
		m += draw_whole(draw_weight(a, i));
	return draw_sum(m, red);
}

__device__ static draw_mass draw_share(draw_mass total, float top_p)
{
	draw_mass share = (draw_mass)((double)top_p * (double)total);

	return share ? share : 1;
}

// mass[b] of each block of 2048: 64 threads for one, thread 16 c + l is lane l of chain c.
__device__ static void draw_blocks(const draw_row &a, double *mass, float *lanes)
{
	int t = (int)threadIdx.x % 64, blocks = (a.n + DRAW_BLOCK - 1) / DRAW_BLOCK;
	float *mine = lanes + threadIdx.x / 64 * 64;

	for (int first = 0; first < blocks; first += DRAW_THREADS / 64) {
		int b = first + (int)threadIdx.x / 64, i = b * DRAW_BLOCK;
		int to = i + DRAW_BLOCK < a.n ? i + DRAW_BLOCK : a.n;
		float s = 0;

		for (; i + 64 <= to; i += 64)
			s += draw_weight(a, i + t);
		for (; i < to; i += 16) // what is left goes to the first chain
			if (t < 16)
				s += i + t < to ? draw_weight(a, i + t) : 0;
		__syncthreads();
		mine[t] = s;
		__syncthreads();
		s = mine[t % 16] + mine[32 + t % 16];
		s += mine[16 + t % 16] + mine[48 + t % 16];
		for (int n = 8; n; n /= 2)
			s += __shfl_down_sync(CU_ALL, s, n, 16);
		if (t == 0 && b < blocks)
			mass[b] = (double)s;
	}
	__syncthreads();
}

struct draw_spot {
	int block, id, last;
	double before, goal;
};

// The first thread walks over the blocks: the one where the mass exceeds the goal, else the last
// that has any.
__device__ static void draw_walk(const double *mass, int blocks, double u, draw_spot *spot)
{
	double total = 0, sum = 0;

	for (int b = 0; b < blocks; b++)
		total += mass[b];
	spot->goal = u * total;
	spot->block = 0;
	spot->before = 0;
	for (int b = 0; b < blocks; b++) {
		if (!(mass[b] > 0))
			continue;
		spot->block = b;
		spot->before = sum;
		sum += mass[b];
		if (sum > spot->goal)
			break;
	}
	spot->id = INT_MAX;
	spot->last = 0;
}

// The first id of that block where the mass exceeds the goal, else its last that has any.
__device__ static int draw_at(const draw_row &a, double *mass, double u, float *lanes,
			      draw_spot *spot)
{
	double w[DRAW_BLOCK / DRAW_THREADS], all, sum = 0;
	int first;

	draw_blocks(a, mass, lanes);
	if (threadIdx.x == 0)
		draw_walk(mass, (a.n + DRAW_BLOCK - 1) / DRAW_BLOCK, u, spot);
	__syncthreads();
	first = spot->block * DRAW_BLOCK + (int)threadIdx.x * (DRAW_BLOCK / DRAW_THREADS);
	for (int j = 0; j < DRAW_BLOCK / DRAW_THREADS; j++) {
		w[j] = first + j < a.n ? (double)draw_weight(a, first + j) : 0;
		sum += w[j];
	}
	__syncthreads();
	sum = spot->before + draw_before(sum, (double *)lanes, &all);
	for (int j = 0; j < DRAW_BLOCK / DRAW_THREADS; j++) {
		if (!(w[j] > 0))
			continue;
		sum += w[j];
		atomicMax(&spot->last, first + j);
		if (sum > spot->goal)
			atomicMin(&spot->id, first + j);
	}
	__syncthreads();
	return spot->id < INT_MAX ? spot->id : spot->last;
}

// Dynamic shared memory: a double for each block of the vocabulary and, with `kept`, a float for
// each token.
static __global__ void __launch_bounds__(DRAW_THREADS, 1)
	draw_k(struct kern_draw *draws, const float *logits, int ld, int vocab, bool kept)
{
	CU_SHARED(draw_shared, s, );
	CU_SHARED(float, lanes, [DRAW_THREADS]);
	CU_SHARED(draw_spot, spot, );
	CU_DYNAMIC(double, mass);
	struct kern_draw *d = &draws[blockIdx.x];
	float *w = kept ? (float *)(mass + (vocab + DRAW_BLOCK - 1) / DRAW_BLOCK) : NULL;
	draw_row a = {logits + (ptrdiff_t)d->row * ld, w, vocab, 0, 1, true, 1, INT_MAX};
	float max = -INFINITY, sum = 0;
	int id = INT_MAX;

#pragma unroll 8
	for (int i = (int)threadIdx.x; i < vocab; i += DRAW_THREADS) {
		float x = a.x[i];

		if (w)
			w[i] = x;
		id = x > max ? i : id;
		max = x > max ? x : max;
	}
	lanes[threadIdx.x / CU_WARP] = warp_max(max);
	__syncthreads();
	a.max = lanes[0];
	for (int i = 1; i < DRAW_THREADS / CU_WARP; i++)
		a.max = fmaxf(a.max, lanes[i]);
	a.plain = d->temperature == 1.0f || d->temperature <= 0;
	a.by = 1.0f / d->temperature;
	for (int i = (int)threadIdx.x; i < vocab; i += DRAW_THREADS) {
		float x = w ? w[i] : a.x[i], e = exp_poly(x - a.max);

		sum += e;
		if (w)
			w[i] = a.plain ? e : draw_make(a, x);
	}
	sum = draw_sum(sum, (float *)s.red);
	sum = a.max + logf(sum);
	if (threadIdx.x == 0) {
		d->lse = sum;
		d->id = 0;
		spot.id = INT_MAX;
	}
	if (!isfinite(sum))
		return;
	__syncthreads();
	if (d->temperature <= 0) {
		if (max == a.max)
			atomicMin(&spot.id, id);
		__syncthreads();
		id = spot.id;
	} else {
		if (d->top_k > 0 && d->top_k < vocab)
			draw_cut(&a, {d->top_k, ~(draw_mass)0}, &s);
		if (d->top_p < 1)
			draw_cut(&a, {vocab + 1, draw_share(draw_total(a, s.red), d->top_p)}, &s);
		id = draw_at(a, mass, d->u, lanes, &spot);
	}
	if (threadIdx.x == 0) {
		d->id = id;
		d->logp = a.x[id] - sum;
	}
}

// A block for each row. Bytes: the row once; its second reading comes from the second-level cache.
#define LSE_THREADS 512
static __global__ void row_lse_k(float *max, float *lse, const float *x, int ldx, int width)
{
	CU_SHARED(float, red, [2][LSE_THREADS / CU_WARP]);
	const float *row = x + (ptrdiff_t)blockIdx.x * ldx;
	int warp = (int)threadIdx.x / CU_WARP;
	float m = -INFINITY, s = 0;

	for (int i = (int)threadIdx.x; i < width; i += LSE_THREADS)
		m = fmaxf(m, row[i]);
	m = warp_max(m);
	if (threadIdx.x % CU_WARP == 0)
		red[0][warp] = m;
	__syncthreads();
	for (int i = 0; i < LSE_THREADS / CU_WARP; i++)
		m = fmaxf(m, red[0][i]);
	for (int i = (int)threadIdx.x; i < width; i += LSE_THREADS)
		s += exp_poly(row[i] - m);
	s = group_sum(s, red[1], warp, LSE_THREADS / CU_WARP);
	if (threadIdx.x == 0) {
		max[blockIdx.x] = m;
		lse[blockIdx.x] = m + logf(s);
	}
}
