#include "tests/bench/limits.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Sixteen independent chains hide the latency of two units of four to five cycles. */
#define CHAINS 16
#define ROUNDS 4000
#define HUGE_PAGE (2u << 20)

double bench_now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- arithmetic ------------------------------------------------------------------------------- */

/* A burst is ROUNDS times CHAINS instructions; its sum goes to *sink so that nothing is left out.
 */

#if defined(__x86_64__)
/* Registers by name: an array of them would be kept in memory. The empty asm makes each chain's
 * value new to the compiler in every round. */
#define EACH(X)                                                                                    \
	X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define KEEP(v) __asm__ volatile("" : "+v"(v))

__attribute__((target("avx512f"))) static void burst_f32_512(float *sink)
{
	__m512 a = _mm512_set1_ps(1e-3f), sum = a;

#define X(i) __m512 c##i = a;
	EACH(X)
#undef X
	for (int r = 0; r < ROUNDS; r++) {
#define X(i)                                                                                       \
	c##i = _mm512_fmadd_ps(a, a, c##i);                                                        \
	KEEP(c##i);
		EACH(X)
#undef X
	}
#define X(i) sum = _mm512_add_ps(sum, c##i);
	EACH(X)
#undef X
	*sink = _mm512_reduce_add_ps(sum);
}

__attribute__((target("avx2,fma"))) static void burst_f32_256(float *sink)
{
	__m256 a = _mm256_set1_ps(1e-3f), sum = a;

#define X(i) __m256 c##i = a;
	EACH(X)
#undef X
	for (int r = 0; r < ROUNDS; r++) {
#define X(i)                                                                                       \
	c##i = _mm256_fmadd_ps(a, a, c##i);                                                        \
	KEEP(c##i);
		EACH(X)
#undef X
	}
#define X(i) sum = _mm256_add_ps(sum, c##i);
	EACH(X)
#undef X
	*sink = _mm256_cvtss_f32(sum);
}

__attribute__((target("avx512f,avx512bf16"))) static void burst_bf16(float *sink)
{
	__m512 sum = _mm512_setzero_ps();
	__m512bh a = (__m512bh)_mm512_set1_epi32(0x3f803f80);

#define X(i) __m512 c##i = sum;
	EACH(X)
#undef X
	for (int r = 0; r < ROUNDS; r++) {
#define X(i)                                                                                       \
	c##i = _mm512_dpbf16_ps(c##i, a, a);                                                       \
	KEEP(c##i);
		EACH(X)
#undef X
	}
#define X(i) sum = _mm512_add_ps(sum, c##i);
	EACH(X)
#undef X
	*sink = _mm512_reduce_add_ps(sum);
}

__attribute__((target("avx512f,avx512vnni"))) static void burst_int8(float *sink)
{
	__m512i sum = _mm512_setzero_si512(), a = _mm512_set1_epi8(3);

#define X(i) __m512i c##i = sum;
	EACH(X)
#undef X
	for (int r = 0; r < ROUNDS; r++) {
#define X(i)                                                                                       \
	c##i = _mm512_dpbusd_epi32(c##i, a, a);                                                    \
	KEEP(c##i);
		EACH(X)
#undef X
	}
#define X(i) sum = _mm512_add_epi32(sum, c##i);
	EACH(X)
#undef X
	*sink = (float)_mm512_reduce_add_epi32(sum);
}
#endif

static void burst_scalar(float *sink)
{
	float c[CHAINS];

	for (int i = 0; i < CHAINS; i++)
		c[i] = (float)i;
	for (int r = 0; r < ROUNDS; r++)
		for (int i = 0; i < CHAINS; i++)
			c[i] = c[i] * 0.999f + 1e-3f;
	for (int i = 1; i < CHAINS; i++)
		c[0] += c[i];
	*sink = c[0];
}

struct arith {
	void (*burst)(float *sink);
	int times;
	float sink[512][16]; /* a cache line each */
};

static void arith_item(void *ctx, int item, int thread)
{
	struct arith *a = ctx;

	(void)thread;
	for (int i = 0; i < a->times; i++)
		a->burst(a->sink[item % 512]);
}

/* Best billions of operations a second; `each` is the operations of one instruction. */
static double arith_rate(struct kern_pool *pool, void (*burst)(float *), double each,
			 double seconds)
{
	struct arith a = {.burst = burst, .times = 20};
	int n = kern_pool_threads(pool);
	double best = 0, end = bench_now_s() + seconds;

	while (bench_now_s() < end) {
		double t = bench_now_s();

		kern_pool_run(pool, arith_item, &a, n);
		t = bench_now_s() - t;
		best = fmax(best, each * CHAINS * ROUNDS * a.times * n / t * 1e-9);
	}
	return best;
}

static double f32_rate(struct kern_pool *pool, double seconds)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx512f"))
		return arith_rate(pool, burst_f32_512, 32, seconds);
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return arith_rate(pool, burst_f32_256, 16, seconds);
#endif
	return arith_rate(pool, burst_scalar, 2, seconds);
}

static double bf16_rate(struct kern_pool *pool, double seconds)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx512bf16"))
		return arith_rate(pool, burst_bf16, 64, seconds);
#endif
	(void)pool, (void)seconds;
	return 0;
}

static double int8_rate(struct kern_pool *pool, double seconds)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx512vnni"))
		return arith_rate(pool, burst_int8, 128, seconds);
#endif
	(void)pool, (void)seconds;
	return 0;
}

/* --- reading ---------------------------------------------------------------------------------- */

struct reading {
	const uint8_t *p;
	size_t share; /* bytes of one thread, a multiple of 1024 */
	int times;
	float sink[512][16];
};

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static float read_512(const uint8_t *p, size_t size)
{
	__m512i s[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
			_mm512_setzero_si512()};

	for (size_t i = 0; i < size; i += 256) {
		s[0] = _mm512_xor_si512(s[0], _mm512_load_si512(p + i));
		s[1] = _mm512_xor_si512(s[1], _mm512_load_si512(p + i + 64));
		s[2] = _mm512_xor_si512(s[2], _mm512_load_si512(p + i + 128));
		s[3] = _mm512_xor_si512(s[3], _mm512_load_si512(p + i + 192));
	}
	s[0] = _mm512_xor_si512(_mm512_xor_si512(s[0], s[1]), _mm512_xor_si512(s[2], s[3]));
	return (float)_mm512_reduce_add_epi32(s[0]);
}
#endif

static float read_plain(const uint8_t *p, size_t size)
{
	uint64_t s[8] = {0}, v;

	for (size_t i = 0; i < size; i += 64)
		for (size_t k = 0; k < 8; k++) {
			memcpy(&v, p + i + 8 * k, 8);
			s[k] ^= v;
		}
	return (float)(s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7]);
}

static void read_item(void *ctx, int item, int thread)
{
	struct reading *r = ctx;
	const uint8_t *p = r->p + r->share * (size_t)item;
	float sum = 0;

	(void)thread;
	for (int i = 0; i < r->times; i++) {
#if defined(__x86_64__)
		if (__builtin_cpu_supports("avx512f")) {
			sum += read_512(p, r->share);
			continue;
		}
#endif
		sum += read_plain(p, r->share);
	}
	r->sink[item % 512][0] = sum;
}

double limits_read(struct kern_pool *pool, size_t size, double seconds)
{
	int n = kern_pool_threads(pool);
	struct reading r = {.share = size / (size_t)n / 1024 * 1024, .times = 1};
	double best = 0, end;
	uint8_t *p = aligned_alloc(HUGE_PAGE, (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);

	if (!p)
		return 0;
	madvise(p, size, MADV_HUGEPAGE);
	memset(p, 1, size);
	r.p = p;
	kern_pool_run(pool, read_item, &r, n);
	for (end = bench_now_s() + seconds; bench_now_s() < end;) {
		double t = bench_now_s();

		kern_pool_run(pool, read_item, &r, n);
		t = bench_now_s() - t;
		best = fmax(best, (double)r.share * n * r.times / t * 1e-9);
		if (t < 2e-3)
			r.times *= 2;
	}
	free(p);
	return best;
}

/* What the processor says of itself covers the whole socket on some; the kernel knows the part this
 * core reaches. */
static double last_level_bytes(void)
{
	FILE *f = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r");
	double kib = 0;

	if (f) {
		if (fscanf(f, "%lfK", &kib) != 1)
			kib = 0;
		fclose(f);
	}
	return kib > 0 ? kib * 1024 : 16.0 * (1 << 20);
}

/* --- all -------------------------------------------------------------------------------------- */

struct limits limits_measure(struct kern_pool *pool, double seconds)
{
	double l3 = last_level_bytes();

	return (struct limits){
		.f32 = f32_rate(pool, seconds),
		.bf16 = bf16_rate(pool, seconds),
		.int8 = int8_rate(pool, seconds),
		.dram = limits_read(pool, (size_t)fmax(2.56e8, l3 * 4), seconds),
		.l3 = limits_read(pool, (size_t)(l3 * 0.75), seconds),
		.l3_bytes = l3,
	};
}

double limits_arith(struct kern_pool *pool, enum kern_format f, double seconds)
{
	double rate = f == KERN_BF16 ? bf16_rate(pool, seconds)
		      : f == KERN_Q8 ? int8_rate(pool, seconds)
				     : 0;

	return rate > 0 ? rate : f32_rate(pool, seconds);
}

void beside_keep(struct beside *b, double rate, double before, double after)
{
	if (rate > b->rate)
		*b = (struct beside){rate, fmax(before, after)};
}

void limits_print(const struct limits *l)
{
	printf("f32 %.1f\nbf16 %.1f\nint8 %.1f\ndram %.1f\nl3 %.1f\nl3_bytes %.0f\n", l->f32,
	       l->bf16, l->int8, l->dram, l->l3, l->l3_bytes);
}
