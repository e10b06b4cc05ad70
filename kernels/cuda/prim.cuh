// What kernels are built from: launching, shared memory, vectors of activations, sums over a warp
// and a block, and the instructions C++ has no words for (cp.async, ldmatrix, mma.sync). With
// PAWL_CUEMU the same names are the emulator's (tests/cuemu).
//
// Sources are compiled with -fmad=false: fused multiply-add is written fmaf() where it is meant, so
// that the device and the emulator round alike.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <math.h>
#include <stdint.h>

// --- Launch and shared memory --------------------------------------------------------------------

extern "C" void cu_launched(const char *kernel, int cuda_error); // launch.h

// A kernel with template arguments stands in parentheses. Nothing is launched when the grid is
// empty.
#if defined(PAWL_CUEMU)
#define CU_LAUNCH(kernel, grid, block, smem, stream, ...)                                          \
	do {                                                                                       \
		dim3 grid_ = grid;                                                                 \
		if (grid_.x && grid_.y && grid_.z) {                                               \
			cuemu::start(#kernel, kernel, grid_, block, smem, stream, __VA_ARGS__);    \
			cu_launched(#kernel, cudaPeekAtLastError());                               \
		}                                                                                  \
	} while (0)
#define CU_SHARED(type, name, dims)                                                                \
	static cuemu::shared_var name##_var;                                                       \
	typedef type name##_type dims;                                                             \
	name##_type &name = *(name##_type *)cuemu::shared(&name##_var, sizeof(name##_type))
#define CU_DYNAMIC(type, name) type *name = (type *)cuemu::dynamic()
#else
#define CU_LAUNCH(kernel, grid, block, smem, stream, ...)                                          \
	do {                                                                                       \
		dim3 grid_ = grid;                                                                 \
		if ((smem) > 48 << 10)                                                             \
			cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,  \
					     (int)(smem));                                         \
		if (grid_.x && grid_.y && grid_.z) {                                               \
			kernel<<<grid_, block, smem, stream>>>(__VA_ARGS__);                       \
			cu_launched(#kernel, cudaPeekAtLastError());                               \
		}                                                                                  \
	} while (0)
// `dims` in brackets, or empty for one element.
#define CU_SHARED(type, name, dims) __shared__ __align__(16) type name dims
// Dynamic shared memory, once in a kernel; 16-byte aligned.
#define CU_DYNAMIC(type, name)                                                                     \
	extern __shared__ __align__(16) unsigned char cu_dynamic_[];                               \
	type *name = (type *)cu_dynamic_
#endif

#define CU_WARP 32
#define CU_ALL 0xffffffffu

typedef __nv_bfloat16 bf16;

__host__ __device__ static inline int ceil_div(int a, int b)
{
	return (a + b - 1) / b;
}

// --- Activations ---------------------------------------------------------------------------------

__device__ static __forceinline__ float to_float(float x)
{
	return x;
}
__device__ static __forceinline__ float to_float(bf16 x)
{
	return __bfloat162float(x);
}
__device__ static __forceinline__ float to_float(int8_t x)
{
	return (float)x;
}

// E4M3: a sign, four bits of exponent (bias 7), three of mantissa; no infinities, 448 at most, seven ones
// are no number.
struct fp8 {
	uint8_t bits;
};
#define FP8_MOST 448.0f
// Its bits where bfloat16 has sign, exponent and mantissa are the number times 2^-120, subnormal ones
// included.
#define FP8_POWER 1.329227995784916e36f // 2^120

// Of a number.
__device__ static __forceinline__ float to_float(fp8 x)
{
	return __uint_as_float((uint32_t)(x.bits & 0x80) << 24 | (uint32_t)(x.bits & 0x7f) << 20) *
	       FP8_POWER;
}

template <class T> __device__ __forceinline__ T from_float(float x);
// To nearest even; what is larger than 448 becomes 448.
template <> __device__ __forceinline__ fp8 from_float<fp8>(float x)
{
	uint32_t sign = __float_as_uint(x) >> 24 & 0x80;
	float a = fminf(fabsf(x), FP8_MOST);
	uint32_t bits = __float_as_uint(a);

	if (!(x == x))
		return fp8{0x7f};
	// Eight steps of 2^-9 are the least normal number, whose code follows theirs.
	bits = a < 0.015625f ? (uint32_t)__float2int_rn(a * 512.0f)
			     : ((bits + 0x7ffff + (bits >> 20 & 1)) >> 20) - 960;
	return fp8{(uint8_t)(sign | bits)};
}
template <> __device__ __forceinline__ float from_float<float>(float x)
{
	return x;
}
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x)
{
	return __float2bfloat16_rn(x);
}

// V neighbours, moved by one instruction; V = 16 / sizeof(T), or 1 where rows are not aligned.
template <class T, int V> struct __align__(sizeof(T) * V) vec
{
	T e[V];
};

// Elements of a 128-bit access.
template <class T> struct wide {
	static const int n = 16 / (int)sizeof(T);
};

// The elements as floats.
template <int V, class T> __device__ __forceinline__ void load(float (&x)[V], const T *p)
{
	vec<T, V> v = *(const vec<T, V> *)p;
#pragma unroll
	for (int i = 0; i < V; i++)
		x[i] = to_float(v.e[i]);
}
template <int V, class T> __device__ __forceinline__ void store(T *p, const float (&x)[V])
{
	vec<T, V> v;
#pragma unroll
	for (int i = 0; i < V; i++)
		v.e[i] = from_float<T>(x[i]);
	*(vec<T, V> *)p = v;
}

// V neighbours in `from`, which need not be in the format that V was chosen for: float arrays that
// go along with bf16 ones take two accesses.
template <int V> __device__ __forceinline__ void load_floats(float (&x)[V], const float *p)
{
	if (V % 4 == 0) {
#pragma unroll
		for (int i = 0; i < V; i += 4) {
			float4 v = *(const float4 *)(p + i);
			x[i] = v.x;
			x[(i + 1) % V] = v.y;
			x[(i + 2) % V] = v.z;
			x[(i + 3) % V] = v.w;
		}
	} else {
#pragma unroll
		for (int i = 0; i < V; i++)
			x[i] = p[i];
	}
}
template <int V> __device__ __forceinline__ void store_floats(float *p, const float (&x)[V])
{
	if (V % 4 == 0) {
#pragma unroll
		for (int i = 0; i < V; i += 4)
			*(float4 *)(p + i) =
				make_float4(x[i], x[(i + 1) % V], x[(i + 2) % V], x[(i + 3) % V]);
	} else {
#pragma unroll
		for (int i = 0; i < V; i++)
			p[i] = x[i];
	}
}

// exp and quotients in the precision that the format of the result deserves: bf16 takes the fast
// ones (relative error below 1e-5).
template <class T> __device__ __forceinline__ float exp_for(float x)
{
	return sizeof(T) == 2 ? __expf(x) : expf(x);
}
template <class T> __device__ __forceinline__ float div_for(float a, float b)
{
	return sizeof(T) == 2 ? __fdividef(a, b) : a / b;
}

// --- Sums ----------------------------------------------------------------------------------------

// Every lane gets the result; one fixed tree: 16, 8, 4, 2, 1.
__device__ static __forceinline__ float warp_sum(float x)
{
#pragma unroll
	for (int i = 16; i; i /= 2)
		x += __shfl_xor_sync(CU_ALL, x, i);
	return x;
}
__device__ static __forceinline__ float warp_max(float x)
{
#pragma unroll
	for (int i = 16; i; i /= 2)
		x = fmaxf(x, __shfl_xor_sync(CU_ALL, x, i));
	return x;
}

// Over the `warps` neighbouring warps that share `red`, the caller's warp being number `warp` of
// them. Every thread of the block must call; `red` may be used again after the next barrier.
__device__ static __forceinline__ float group_sum(float x, float *red, int warp, int warps)
{
	float s = 0;

	x = warp_sum(x);
	if (warps == 1)
		return x;
	if (threadIdx.x % CU_WARP == 0)
		red[warp] = x;
	__syncthreads();
	for (int i = 0; i < warps; i++)
		s += red[i];
	return s;
}

// --- Copies to shared memory that go on while the thread computes
// -----------------------------------

// 16 bytes, of which the first `valid` (0 or 16) are read and the rest become zeros.
__device__ static __forceinline__ void cp_async16(void *shared, const void *global, int valid = 16)
{
#if defined(PAWL_CUEMU)
	cuemu::copy_async(shared, global, 16, valid);
#else
	unsigned to = (unsigned)__cvta_generic_to_shared(shared);
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global),
		     "r"(valid)
		     : "memory");
#endif
}
// 4 bytes, of which the first `valid` (0 or 4) are read and the rest become zeros.
__device__ static __forceinline__ void cp_async4(void *shared, const void *global, int valid)
{
#if defined(PAWL_CUEMU)
	cuemu::copy_async(shared, global, 4, valid);
#else
	unsigned to = (unsigned)__cvta_generic_to_shared(shared);
	asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(global),
		     "r"(valid)
		     : "memory");
#endif
}
__device__ static __forceinline__ void cp_async_commit()
{
#if defined(PAWL_CUEMU)
	cuemu::copy_commit();
#else
	asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Until at most n groups of this thread are under way. Other threads see the data after a barrier.
template <int n> __device__ __forceinline__ void cp_async_wait()
{
#if defined(PAWL_CUEMU)
	cuemu::copy_wait(n);
#else
	asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
#endif
}

// --- Tensor cores --------------------------------------------------------------------------------

// Four 8x8 matrices of 16-bit elements: lane 8m + r names row r of matrix m (16-byte aligned). Lane
// l gets of matrix m the elements [l/4][2(l%4)], [l/4][2(l%4) + 1]; `trans`: of the turned matrix.
__device__ static __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void *shared)
{
#if defined(PAWL_CUEMU)
	cuemu::warp(cuemu::do_ldmatrix, "ldmatrix", __FILE__, __LINE__, CU_ALL, 4, &shared,
		    sizeof shared, r, sizeof r);
#else
	unsigned from = (unsigned)__cvta_generic_to_shared(shared);
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(from)
		     : "memory");
#endif
}
__device__ static __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void *shared)
{
#if defined(PAWL_CUEMU)
	cuemu::warp(cuemu::do_ldmatrix_trans, "ldmatrix.trans", __FILE__, __LINE__, CU_ALL, 4,
		    &shared, sizeof shared, r, sizeof r);
#else
	unsigned from = (unsigned)__cvta_generic_to_shared(shared);
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(from)
		     : "memory");
#endif
}

// d[16x8] += a[16x16] . b[16x8], bf16 factors in pairs along k, PTX's fragments of m16n8k16: with
// g = lane/4, t = lane%4: a[0] row g, k 2t..; a[1] row g+8; a[2], a[3] the same at k + 8; b[0] k
// 2t.., column g; b[1] k + 8; d[0], d[1] row g, columns 2t, 2t + 1; d[2], d[3] row g + 8.
__device__ static __forceinline__ void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
						uint32_t b1)
{
#if defined(PAWL_CUEMU)
	struct {
		uint32_t a[4], b[2];
		float c[4];
	} in = {{a[0], a[1], a[2], a[3]}, {b0, b1}, {d[0], d[1], d[2], d[3]}};
	cuemu::warp(cuemu::do_mma_bf16, "mma.sync", __FILE__, __LINE__, CU_ALL, 0, &in, sizeof in,
		    d, sizeof d);
#else
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
		     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// Two products of bfloat16, rounded.
__device__ static __forceinline__ uint32_t mul_bf16x2(uint32_t a, uint32_t b)
{
	uint32_t r;

#if defined(PAWL_CUEMU)
	__nv_bfloat162 x, y;
	float2 u, v;

	memcpy(&x, &a, sizeof x);
	memcpy(&y, &b, sizeof y);
	u = __bfloat1622float2(x);
	v = __bfloat1622float2(y);
	x = __floats2bfloat162_rn(u.x * v.x, u.y * v.y);
	memcpy(&r, &x, sizeof r);
#else
	asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(0x80008000u)); // + -0
#endif
	return r;
}

// Two floats rounded to a word of bf16, `low` at the lower address.
__device__ static __forceinline__ uint32_t pack_bf16(float low, float high)
{
	__nv_bfloat162 v = __floats2bfloat162_rn(low, high);
	uint32_t r;

	memcpy(&r, &v, sizeof r);
	return r;
}
