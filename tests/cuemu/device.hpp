// What device code sees under the emulator: built-in variables, warp operations, intrinsics, and
// the launch. C++ for g++; see cuemu.h for what is checked.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

// --- Vectors -----------------------------------------------------------------------------------

#define CUEMU_VECTORS(type, name, size)                                                            \
	struct name##1                                                                             \
	{                                                                                          \
		type x;                                                                            \
	};                                                                                         \
	struct alignas(2 * size) name##2                                                           \
	{                                                                                          \
		type x, y;                                                                         \
	};                                                                                         \
	struct name##3                                                                             \
	{                                                                                          \
		type x, y, z;                                                                      \
	};                                                                                         \
	struct alignas(4 * size > 16 ? 16 : 4 * size) name##4                                      \
	{                                                                                          \
		type x, y, z, w;                                                                   \
	};                                                                                         \
	static inline name##2 make_##name##2(type x, type y)                                       \
	{                                                                                          \
		return {x, y};                                                                     \
	}                                                                                          \
	static inline name##4 make_##name##4(type x, type y, type z, type w)                       \
	{                                                                                          \
		return {x, y, z, w};                                                               \
	}
CUEMU_VECTORS(float, float, 4)
CUEMU_VECTORS(double, double, 8)
CUEMU_VECTORS(int, int, 4)
CUEMU_VECTORS(unsigned, uint, 4)
CUEMU_VECTORS(short, short, 2)
CUEMU_VECTORS(unsigned short, ushort, 2)
CUEMU_VECTORS(signed char, char, 1)
CUEMU_VECTORS(unsigned char, uchar, 1)
CUEMU_VECTORS(long long, longlong, 8)
CUEMU_VECTORS(unsigned long long, ulonglong, 8)
#undef CUEMU_VECTORS

struct dim3 {
	unsigned x, y, z;
	constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
	{
	}
};

// --- The machine -------------------------------------------------------------------------------

namespace cuemu
{

struct index {
	unsigned x, y, z;
};

struct state { // of the fiber that runs now
	index thread, block;
	index block_dim, grid_dim;
};
extern state now;

struct shared_var { // one per __shared__ variable of the program
	void *mem;
	unsigned long block;
};
void *shared(shared_var *v, size_t size);
void *dynamic();
void barrier(const char *file, int line);
int barrier_count(int predicate, const char *file, int line);

// A warp operation: `fn` sees what all named lanes brought and fills what they take away.
struct lane {
	alignas(16) unsigned char in[64], out[64];
	bool named;
};
typedef void warp_fn(lane *lanes, int arg);
void warp(warp_fn *fn, const char *what, const char *file, int line, unsigned mask, int arg,
	  const void *in, size_t in_size, void *out, size_t out_size);

void copy_async(void *dst, const void *src, int size, int valid);
void copy_commit();
void copy_wait(int groups_left);
[[noreturn]] void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

struct launch {
	virtual ~launch()
	{
	}
	virtual void thread() const = 0; // what each fiber calls
	const char *name;
	dim3 grid, block;
	size_t smem;
	const void *kernel;
};
void submit(launch *l, cudaStream_t s); // takes l
void check_argument(const void *arg, size_t size, const char *kernel);

template <class Fn, class... Args> struct launch_of final : launch {
	Fn *fn;
	std::tuple<std::decay_t<Args>...> args;
	launch_of(Fn *f, Args... a) : fn(f), args(a...)
	{
	}
	void thread() const override
	{
		std::apply(fn, args);
	}
};

// Half an old address may stand in the padding of a structure: beside an integer it looks like a whole one.
template <class T> void look_at_argument(T &x, const char *kernel)
{
#if __has_builtin(__builtin_clear_padding)
	__builtin_clear_padding(&x);
#endif
	check_argument(&x, sizeof x, kernel);
}

template <class... P, class... A>
void start(const char *name, void (*fn)(P...), dim3 grid, dim3 block, size_t smem, cudaStream_t s,
	   A &&...a)
{
	auto *l = new launch_of<void(P...), P...>(fn, P(std::forward<A>(a))...);
	l->name = name;
	l->grid = grid;
	l->block = block;
	l->smem = smem;
	l->kernel = (const void *)fn;
	std::apply([&](auto &...x) { (look_at_argument(x, name), ...); }, l->args);
	submit(l, s);
}

template <class T> T bits(const void *p)
{
	T t;
	memcpy(&t, p, sizeof t);
	return t;
}

void do_shfl(lane *, int), do_shfl_up(lane *, int), do_shfl_down(lane *, int);
void do_shfl_xor(lane *, int), do_ballot(lane *, int), do_sync(lane *, int);
void do_match(lane *, int), do_reduce(lane *, int);
void do_mma_bf16(lane *, int), do_ldmatrix(lane *, int), do_ldmatrix_trans(lane *, int);

struct shfl_in {
	uint32_t size, which;
	unsigned char value[8];
};

template <class T>
T shfl(warp_fn *fn, const char *what, const char *file, int line, unsigned mask, T v,
       unsigned which, int width)
{
	static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "a word to shuffle");
	shfl_in in = {(uint32_t)sizeof(T), which, {0}};
	memcpy(in.value, &v, sizeof v);
	warp(fn, what, file, line, mask, width, &in, sizeof in, &v, sizeof v);
	return v;
}

} // namespace cuemu

#define threadIdx (cuemu::now.thread)
#define blockIdx (cuemu::now.block)
#define blockDim (cuemu::now.block_dim)
#define gridDim (cuemu::now.grid_dim)

#define __syncthreads() cuemu::barrier(__FILE__, __LINE__)
#define __syncthreads_count(p) cuemu::barrier_count((p) ? 1 : 0, __FILE__, __LINE__)
#define __syncthreads_or(p) (cuemu::barrier_count((p) ? 1 : 0, __FILE__, __LINE__) > 0)
#define __syncthreads_and(p) (cuemu::barrier_count((p) ? 0 : 1, __FILE__, __LINE__) == 0)

#define __shfl_sync(mask, v, ...) CUEMU_SHFL_(shfl, mask, v, __VA_ARGS__)
#define __shfl_up_sync(mask, v, ...) CUEMU_SHFL_(shfl_up, mask, v, __VA_ARGS__)
#define __shfl_down_sync(mask, v, ...) CUEMU_SHFL_(shfl_down, mask, v, __VA_ARGS__)
#define __shfl_xor_sync(mask, v, ...) CUEMU_SHFL_(shfl_xor, mask, v, __VA_ARGS__)
#define CUEMU_SHFL_(fn, mask, v, ...)                                                              \
	cuemu::shfl_at(cuemu::do_##fn, #fn, __FILE__, __LINE__, mask, v, __VA_ARGS__)

namespace cuemu
{
template <class T>
T shfl_at(warp_fn *fn, const char *what, const char *file, int line, unsigned mask, T v, int which,
	  int width = 32)
{
	return shfl(fn, what, file, line, mask, v, (unsigned)which, width);
}

inline unsigned vote(const char *what, const char *file, int line, unsigned mask, int p)
{
	unsigned out, in = p ? 1 : 0;
	warp(do_ballot, what, file, line, mask, 0, &in, sizeof in, &out, sizeof out);
	return out;
}

struct sync_warp {
	const char *file;
	int line;
	void operator()(unsigned mask = 0xffffffffu) const
	{
		warp(do_sync, "__syncwarp", file, line, mask, 0, nullptr, 0, nullptr, 0);
	}
};

enum reduction { ADD, MIN, MAX, AND, OR, XOR, UMIN, UMAX };
template <class T> T reduce(int how, const char *file, int line, unsigned mask, T v)
{
	static_assert(sizeof(T) == 4 && std::is_integral<T>::value, "integers only");
	if (std::is_unsigned<T>::value && (how == MIN || how == MAX))
		how = how == MIN ? UMIN : UMAX;
	warp(do_reduce, "__reduce_sync", file, line, mask, how, &v, sizeof v, &v, sizeof v);
	return v;
}

template <class T> unsigned match(const char *file, int line, unsigned mask, T v)
{
	unsigned char in[12] = {(unsigned char)sizeof v};
	unsigned out;
	static_assert(sizeof(T) <= 8, "a word to match");
	memcpy(in + 4, &v, sizeof v);
	warp(do_match, "__match_any_sync", file, line, mask, 0, in, sizeof in, &out, sizeof out);
	return out;
}
} // namespace cuemu

#define __ballot_sync(mask, p) cuemu::vote("__ballot_sync", __FILE__, __LINE__, mask, (p) != 0)
#define __any_sync(mask, p) (cuemu::vote("__any_sync", __FILE__, __LINE__, mask, (p) != 0) != 0)
#define __all_sync(mask, p) (cuemu::vote("__all_sync", __FILE__, __LINE__, mask, !(p)) == 0)
#define __syncwarp                                                                                 \
	cuemu::sync_warp                                                                           \
	{                                                                                          \
		__FILE__, __LINE__                                                                 \
	}
#define __reduce_add_sync(mask, v) cuemu::reduce(cuemu::ADD, __FILE__, __LINE__, mask, v)
#define __reduce_min_sync(mask, v) cuemu::reduce(cuemu::MIN, __FILE__, __LINE__, mask, v)
#define __reduce_max_sync(mask, v) cuemu::reduce(cuemu::MAX, __FILE__, __LINE__, mask, v)
#define __reduce_and_sync(mask, v) cuemu::reduce(cuemu::AND, __FILE__, __LINE__, mask, v)
#define __reduce_or_sync(mask, v) cuemu::reduce(cuemu::OR, __FILE__, __LINE__, mask, v)
#define __reduce_xor_sync(mask, v) cuemu::reduce(cuemu::XOR, __FILE__, __LINE__, mask, v)
#define __match_any_sync(mask, v) cuemu::match(__FILE__, __LINE__, mask, v)

// --- Atomics, on integers alone: sums of floats must not depend on an order ----------------------

#define CUEMU_ATOMIC(name, type, expr)                                                             \
	static inline type name(type *p, type v)                                                   \
	{                                                                                          \
		type old = *p;                                                                     \
		*p = (expr);                                                                       \
		return old;                                                                        \
	}
#define CUEMU_ATOMICS(type)                                                                        \
	CUEMU_ATOMIC(atomicAdd, type, (type)(old + v))                                             \
	CUEMU_ATOMIC(atomicExch, type, v)                                                          \
	CUEMU_ATOMIC(atomicMin, type, v < old ? v : old)                                           \
	CUEMU_ATOMIC(atomicMax, type, v > old ? v : old)                                           \
	CUEMU_ATOMIC(atomicAnd, type, old &v)                                                      \
	CUEMU_ATOMIC(atomicOr, type, old | v)                                                      \
	CUEMU_ATOMIC(atomicXor, type, old ^ v)                                                     \
	static inline type atomicCAS(type *p, type expected, type v)                               \
	{                                                                                          \
		type old = *p;                                                                     \
		*p = old == expected ? v : old;                                                    \
		return old;                                                                        \
	}
CUEMU_ATOMICS(int)
CUEMU_ATOMICS(unsigned)
CUEMU_ATOMICS(unsigned long long)
#undef CUEMU_ATOMICS
#undef CUEMU_ATOMIC
#define __threadfence() ((void)0)
#define __threadfence_block() ((void)0)

// --- Intrinsics ----------------------------------------------------------------------------------

static inline float __int_as_float(int x)
{
	return cuemu::bits<float>(&x);
}
static inline float __uint_as_float(unsigned x)
{
	return cuemu::bits<float>(&x);
}
static inline int __float_as_int(float x)
{
	return cuemu::bits<int>(&x);
}
static inline unsigned __float_as_uint(float x)
{
	return cuemu::bits<unsigned>(&x);
}
static inline int __popc(unsigned x)
{
	return __builtin_popcount(x);
}
static inline int __clz(int x)
{
	return x ? __builtin_clz((unsigned)x) : 32;
}
static inline int __ffs(int x)
{
	return __builtin_ffs(x);
}
static inline unsigned __brev(unsigned x)
{
	unsigned r = 0;
	for (int i = 0; i < 32; i++)
		r |= (x >> i & 1) << (31 - i);
	return r;
}
static inline unsigned __umulhi(unsigned a, unsigned b)
{
	return (unsigned)((uint64_t)a * b >> 32);
}
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned sel)
{
	uint64_t v = (uint64_t)b << 32 | a;
	unsigned r = 0;
	for (int i = 0; i < 4; i++)
		r |= (unsigned)(v >> 8 * (sel >> 4 * i & 7) & 255) << 8 * i;
	return r;
}
static inline int __dp4a(int a, int b, int c)
{
	unsigned s = (unsigned)c;
	for (int i = 0; i < 32; i += 8)
		s += (unsigned)((int8_t)(a >> i) * (int8_t)(b >> i));
	return (int)s;
}
static inline int __float2int_rn(float x)
{
	return (int)nearbyintf(x);
}
static inline int __float2int_rz(float x)
{
	return (int)x;
}
static inline float __int2float_rn(int x)
{
	return (float)x;
}
#define __expf(x) expf(x) // glibc has functions of these names
#define __logf(x) logf(x)
static inline float __fdividef(float a, float b)
{
	return a / b;
}
static inline float __frcp_rn(float a)
{
	return 1.0f / a;
}
static inline float __fsqrt_rn(float a)
{
	return sqrtf(a);
}
static inline float __fadd_rn(float a, float b)
{
	return a + b;
}
static inline float __fmul_rn(float a, float b)
{
	return a * b;
}
static inline float __fdiv_rn(float a, float b)
{
	return a / b;
}
static inline float __fmaf_rn(float a, float b, float c)
{
	return fmaf(a, b, c);
}
static inline float rsqrtf(float a)
{
	return 1.0f / sqrtf(a);
}
static inline void __trap(void)
{
	cuemu::fault("__trap()");
}
static inline void __nanosleep(unsigned)
{
}

#define CUEMU_LOADS(name)                                                                          \
	template <class T> static inline T name(const T *p)                                        \
	{                                                                                          \
		return *p;                                                                         \
	}
CUEMU_LOADS(__ldg)
CUEMU_LOADS(__ldcs)
CUEMU_LOADS(__ldcg)
CUEMU_LOADS(__ldca)
CUEMU_LOADS(__ldlu)
#undef CUEMU_LOADS
#define CUEMU_STORES(name)                                                                         \
	template <class T> static inline void name(T *p, T v)                                      \
	{                                                                                          \
		*p = v;                                                                            \
	}
CUEMU_STORES(__stcs)
CUEMU_STORES(__stcg)
CUEMU_STORES(__stwb)
CUEMU_STORES(__stwt)
#undef CUEMU_STORES

template <class T> static inline T min(T a, T b)
{
	return b < a ? b : a;
}
template <class T> static inline T max(T a, T b)
{
	return a < b ? b : a;
}
static inline float min(float a, float b)
{
	return fminf(a, b);
}
static inline float max(float a, float b)
{
	return fmaxf(a, b);
}

template <class F> cudaError_t cudaFuncSetAttribute(F *, cudaFuncAttribute, int)
{
	return cudaSuccess;
}
template <class F>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, F *, int threads, size_t smem)
{
	int by_threads = 2048 / (threads > 0 ? threads : 1);
	int by_smem = smem ? (int)((228 << 10) / smem) : 32;
	*n = by_threads < by_smem ? by_threads : by_smem;
	return cudaSuccess;
}
