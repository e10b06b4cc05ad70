/* SHA-256 (FIPS 180-4) with the SHA-NI instructions where present, plain C otherwise. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32
#define SHA256_HEX_SIZE 65 /* 64 digits and the terminator */

struct sha256 {
	uint32_t h[8];
	uint64_t len;
	uint8_t block[64];
	uint32_t fill;
};

void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t len);
/* The same bytes into two: little slower than into one where neither holds part of a 64-byte block. */
void sha256_add_both(struct sha256 *s, struct sha256 *t, const void *data, size_t len);
void sha256_end(struct sha256 *s, uint8_t out[SHA256_SIZE]);
void sha256_hex(const uint8_t digest[SHA256_SIZE], char out[SHA256_HEX_SIZE]);
/* 1 switches to plain C, for tests and comparison; 0 back to the best. Not thread safe. */
void sha256_use_portable(int portable);
void sha256_of(const void *data, size_t len, char out[SHA256_HEX_SIZE]);
/* RFC 2104. */
void hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
		 uint8_t out[SHA256_SIZE]);
int sha256_hex_valid(const char *s); /* 64 lower-case hex digits and nothing else */
int ct_equal(const void *a, const void *b, size_t len); /* constant time */
/* From the kernel; aborts when the kernel has none. */
void random_bytes(void *out, size_t len);
