#include "base/sha256.h"

#include <errno.h>
#include <string.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

static const uint32_t K[64] __attribute__((aligned(16))) = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
	0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
	0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
	0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2};

static uint32_t ror(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* One round; the caller renames the eight words instead of moving them. */
static inline void one(uint32_t a, uint32_t b, uint32_t c, uint32_t *d, uint32_t e, uint32_t f,
		       uint32_t g, uint32_t *h, uint32_t kw)
{
	uint32_t t = *h + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + (g ^ (e & (f ^ g))) + kw;

	*d += t;
	*h = t + (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & b) | (c & (a | b)));
}

static void blocks_plain(uint32_t h[8], const uint8_t *p, size_t n)
{
	uint32_t w[64];

	for (; n--; p += 64) {
		for (int i = 0; i < 16; i++)
			w[i] = be32(p + 4 * i);
		for (int i = 16; i < 64; i++) {
			uint32_t x = ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3;
			uint32_t y = ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10;
			w[i] = w[i - 16] + x + w[i - 7] + y;
		}
		uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], k = h[7];
		for (int i = 0; i < 64; i += 8) {
			one(a, b, c, &d, e, f, g, &k, K[i] + w[i]);
			one(k, a, b, &c, d, e, f, &g, K[i + 1] + w[i + 1]);
			one(g, k, a, &b, c, d, e, &f, K[i + 2] + w[i + 2]);
			one(f, g, k, &a, b, c, d, &e, K[i + 3] + w[i + 3]);
			one(e, f, g, &k, a, b, c, &d, K[i + 4] + w[i + 4]);
			one(d, e, f, &g, k, a, b, &c, K[i + 5] + w[i + 5]);
			one(c, d, e, &f, g, k, a, &b, K[i + 6] + w[i + 6]);
			one(b, c, d, &e, f, g, k, &a, K[i + 7] + w[i + 7]);
		}
		const uint32_t sum[8] = {a, b, c, d, e, f, g, k};
		for (int i = 0; i < 8; i++)
			h[i] += sum[i];
	}
}

#if defined(__x86_64__)
/* Two registers hold the state as ABEF and CDGH, the order sha256rnds2 wants. */
__attribute__((target("sha,sse4.1,ssse3"))) static void blocks_shani(uint32_t h[8],
								     const uint8_t *p, size_t n)
{
	const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bll, 0x0405060700010203ll);
	__m128i t = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)h), 0xb1);
	__m128i s1 = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(h + 4)), 0x1b);
	__m128i s0 = _mm_alignr_epi8(t, s1, 8);

	s1 = _mm_blend_epi16(s1, t, 0xf0);
	for (; n--; p += 64) {
		__m128i a = s0, b = s1, m[4];
		for (int i = 0; i < 4; i++)
			m[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)p + i), swap);
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++) {
			__m128i cur = m[i & 3];
			__m128i k = _mm_add_epi32(cur, _mm_load_si128((const __m128i *)K + i));
			s1 = _mm_sha256rnds2_epu32(s1, s0, k);
			s0 = _mm_sha256rnds2_epu32(s0, s1, _mm_shuffle_epi32(k, 0x0e));
			if (i < 12) { /* words 16+4i .. 19+4i replace words 4i .. */
				__m128i x = _mm_sha256msg1_epu32(cur, m[(i + 1) & 3]);
				__m128i last = m[(i + 3) & 3];
				x = _mm_add_epi32(x, _mm_alignr_epi8(last, m[(i + 2) & 3], 4));
				m[i & 3] = _mm_sha256msg2_epu32(x, last);
			}
		}
		s0 = _mm_add_epi32(s0, a);
		s1 = _mm_add_epi32(s1, b);
	}
	t = _mm_shuffle_epi32(s0, 0x1b);
	s1 = _mm_shuffle_epi32(s1, 0xb1);
	_mm_storeu_si128((__m128i *)h, _mm_blend_epi16(t, s1, 0xf0));
	_mm_storeu_si128((__m128i *)(h + 4), _mm_alignr_epi8(s1, t, 8));
}

/* The same message into two states: one schedule, and two chains of rounds that do not wait for each
 * other, so both cost little more than one. */
__attribute__((target("sha,sse4.1,ssse3"))) static void blocks_shani_both(uint32_t g[8],
									  uint32_t h[8],
									  const uint8_t *p,
									  size_t n)
{
	const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bll, 0x0405060700010203ll);
	__m128i s[2][2];

	for (int k = 0; k < 2; k++) {
		const __m128i *from = (const __m128i *)(k ? h : g);
		__m128i t = _mm_shuffle_epi32(_mm_loadu_si128(from), 0xb1);
		s[k][1] = _mm_shuffle_epi32(_mm_loadu_si128(from + 1), 0x1b);
		s[k][0] = _mm_alignr_epi8(t, s[k][1], 8);
		s[k][1] = _mm_blend_epi16(s[k][1], t, 0xf0);
	}
	for (; n--; p += 64) {
		__m128i a0 = s[0][0], a1 = s[0][1], b0 = s[1][0], b1 = s[1][1], m[4];
		for (int i = 0; i < 4; i++)
			m[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)p + i), swap);
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++) {
			__m128i cur = m[i & 3];
			__m128i k = _mm_add_epi32(cur, _mm_load_si128((const __m128i *)K + i));
			__m128i k2 = _mm_shuffle_epi32(k, 0x0e);
			s[0][1] = _mm_sha256rnds2_epu32(s[0][1], s[0][0], k);
			s[1][1] = _mm_sha256rnds2_epu32(s[1][1], s[1][0], k);
			s[0][0] = _mm_sha256rnds2_epu32(s[0][0], s[0][1], k2);
			s[1][0] = _mm_sha256rnds2_epu32(s[1][0], s[1][1], k2);
			if (i < 12) {
				__m128i x = _mm_sha256msg1_epu32(cur, m[(i + 1) & 3]);
				__m128i last = m[(i + 3) & 3];
				x = _mm_add_epi32(x, _mm_alignr_epi8(last, m[(i + 2) & 3], 4));
				m[i & 3] = _mm_sha256msg2_epu32(x, last);
			}
		}
		s[0][0] = _mm_add_epi32(s[0][0], a0);
		s[0][1] = _mm_add_epi32(s[0][1], a1);
		s[1][0] = _mm_add_epi32(s[1][0], b0);
		s[1][1] = _mm_add_epi32(s[1][1], b1);
	}
	for (int k = 0; k < 2; k++) {
		__m128i *to = (__m128i *)(k ? h : g);
		__m128i t = _mm_shuffle_epi32(s[k][0], 0x1b);
		s[k][1] = _mm_shuffle_epi32(s[k][1], 0xb1);
		_mm_storeu_si128(to, _mm_blend_epi16(t, s[k][1], 0xf0));
		_mm_storeu_si128(to + 1, _mm_alignr_epi8(s[k][1], t, 8));
	}
}

static int have_shani(void)
{
	unsigned a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSE4_1) || !(c & bit_SSSE3))
		return 0;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA);
}
#endif

static void blocks_first(uint32_t h[8], const uint8_t *p, size_t n);

static void (*blocks)(uint32_t h[8], const uint8_t *p, size_t n) = blocks_first;

void sha256_use_portable(int portable)
{
	void (*best)(uint32_t *, const uint8_t *, size_t) = blocks_plain;

#if defined(__x86_64__)
	if (!portable && have_shani())
		best = blocks_shani;
#endif
	(void)portable;
	/* Threads may race here on the first call; all of them store the same value. */
	__atomic_store_n(&blocks, best, __ATOMIC_RELAXED);
}

static void blocks_first(uint32_t h[8], const uint8_t *p, size_t n)
{
	sha256_use_portable(0);
	__atomic_load_n(&blocks, __ATOMIC_RELAXED)(h, p, n);
}

static void run(uint32_t h[8], const uint8_t *p, size_t n)
{
	__atomic_load_n(&blocks, __ATOMIC_RELAXED)(h, p, n);
}

void sha256_init(struct sha256 *s)
{
	static const uint32_t h0[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
				       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

	memset(s, 0, sizeof(*s));
	memcpy(s->h, h0, sizeof(h0));
}

void sha256_add(struct sha256 *s, const void *data, size_t len)
{
	const uint8_t *p = data;

	s->len += len;
	if (s->fill) {
		size_t n = 64 - s->fill < len ? 64 - s->fill : len;
		memcpy(s->block + s->fill, p, n);
		s->fill += (uint32_t)n;
		p += n;
		len -= n;
		if (s->fill < 64)
			return;
		run(s->h, s->block, 1);
		s->fill = 0;
	}
	if (len >= 64) {
		run(s->h, p, len / 64);
		p += len / 64 * 64;
		len %= 64;
	}
	if (len)
		memcpy(s->block, p, len);
	s->fill = (uint32_t)len;
}

void sha256_add_both(struct sha256 *s, struct sha256 *t, const void *data, size_t len)
{
	const uint8_t *p = data;
	size_t n = 0;

#if defined(__x86_64__)
	if (!s->fill && !t->fill && __atomic_load_n(&blocks, __ATOMIC_RELAXED) == blocks_shani) {
		n = len / 64;
		blocks_shani_both(s->h, t->h, p, n);
		n *= 64;
		s->len += n;
		t->len += n;
	}
#endif
	if (n == len)
		return;
	sha256_add(s, p + n, len - n);
	sha256_add(t, p + n, len - n);
}

void sha256_end(struct sha256 *s, uint8_t out[SHA256_SIZE])
{
	uint8_t pad[72] = {0x80};
	uint64_t bits = s->len * 8;
	size_t n = (s->fill < 56 ? 56 : 120) - s->fill;

	for (int i = 0; i < 8; i++)
		pad[n + (size_t)i] = (uint8_t)(bits >> (56 - 8 * i));
	sha256_add(s, pad, n + 8);
	for (int i = 0; i < 32; i++)
		out[i] = (uint8_t)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

void sha256_hex(const uint8_t digest[SHA256_SIZE], char out[SHA256_HEX_SIZE])
{
	static const char hex[] = "0123456789abcdef";

	for (int i = 0; i < SHA256_SIZE; i++) {
		out[2 * i] = hex[digest[i] >> 4];
		out[2 * i + 1] = hex[digest[i] & 15];
	}
	out[64] = 0;
}

void sha256_of(const void *data, size_t len, char out[SHA256_HEX_SIZE])
{
	struct sha256 s;
	uint8_t digest[SHA256_SIZE];

	sha256_init(&s);
	sha256_add(&s, data, len);
	sha256_end(&s, digest);
	sha256_hex(digest, out);
}

void hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
		 uint8_t out[SHA256_SIZE])
{
	uint8_t pad[64] = {0};
	struct sha256 s;

	if (key_len > sizeof(pad)) {
		sha256_init(&s);
		sha256_add(&s, key, key_len);
		sha256_end(&s, pad);
	} else {
		memcpy(pad, key, key_len);
	}
	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] ^= 0x36;
	sha256_init(&s);
	sha256_add(&s, pad, sizeof(pad));
	sha256_add(&s, data, len);
	sha256_end(&s, out);
	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] ^= 0x36 ^ 0x5c;
	sha256_init(&s);
	sha256_add(&s, pad, sizeof(pad));
	sha256_add(&s, out, SHA256_SIZE);
	sha256_end(&s, out);
}

int sha256_hex_valid(const char *s)
{
	return strspn(s, "0123456789abcdef") == 64 && !s[64];
}

int ct_equal(const void *a, const void *b, size_t len)
{
	const volatile uint8_t *x = a, *y = b;
	uint8_t diff = 0;

	for (size_t i = 0; i < len; i++)
		diff |= x[i] ^ y[i];
	return diff == 0;
}

void random_bytes(void *out, size_t len)
{
	uint8_t *p = out;

	while (len) {
		ssize_t n = getrandom(p, len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			perror("getrandom");
			abort();
		}
		p += n;
		len -= (size_t)n;
	}
}
