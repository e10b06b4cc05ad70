#include "base/sha256.h"

#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

static void vectors(void)
{
	static const struct {
		const char *text, *hex;
	} v[] = {
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
		{"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmn"
		 "opqrlmnopqrsmnopqrstnopqrstu",
		 "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
	};
	char hex[SHA256_HEX_SIZE];

	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		sha256_of(v[i].text, strlen(v[i].text), hex);
		CHECK_STR(hex, v[i].hex);
	}
	struct sha256 s;
	uint8_t d[SHA256_SIZE];
	char a[1000];
	memset(a, 'a', sizeof(a));
	sha256_init(&s);
	for (int i = 0; i < 1000; i++)
		sha256_add(&s, a, sizeof(a));
	sha256_end(&s, d);
	sha256_hex(d, hex);
	CHECK_STR(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

void test_sha256__fips_vectors_best(void)
{
	sha256_use_portable(0);
	vectors();
}

void test_sha256__fips_vectors_portable(void)
{
	sha256_use_portable(1);
	vectors();
}

void test_sha256__any_split_gives_the_same_digest(void)
{
	uint8_t data[300], want[32], got[32];
	struct sha256 s;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	for (size_t len = 0; len <= sizeof(data); len += 13) {
		sha256_use_portable(1);
		sha256_init(&s);
		sha256_add(&s, data, len);
		sha256_end(&s, want);
		sha256_use_portable(0);
		for (size_t cut = 0; cut <= len; cut++) {
			sha256_init(&s);
			sha256_add(&s, data, cut);
			sha256_add(&s, data + cut, len - cut);
			sha256_end(&s, got);
			CHECK(!memcmp(got, want, 32));
		}
	}
}

void test_sha256__hex_check_is_strict(void)
{
	char hex[SHA256_HEX_SIZE];

	sha256_of("x", 1, hex);
	CHECK(sha256_hex_valid(hex));
	hex[3] = 'A';
	CHECK(!sha256_hex_valid(hex));
	hex[3] = '/';
	CHECK(!sha256_hex_valid(hex));
	CHECK(!sha256_hex_valid(""));
	CHECK(!sha256_hex_valid("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8550"));
}

void test_sha256__constant_time_compare(void)
{
	CHECK(ct_equal("abc", "abc", 3));
	CHECK(!ct_equal("abc", "abd", 3));
	CHECK(ct_equal("abc", "xyz", 0));
}

/* Two digests of the same bytes at once, one of them begun before: as each alone. */
void test_sha256__both_are_as_each_alone(void)
{
	static uint8_t data[4096];
	char want[2][SHA256_HEX_SIZE], got[SHA256_HEX_SIZE];
	uint8_t digest[SHA256_SIZE];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 13 + i / 256);
	for (int portable = 0; portable < 2; portable++)
		for (size_t lead = 0; lead <= 192; lead += 32)
			for (size_t len = 0; len < sizeof(data) - lead; len += 189) {
				struct sha256 s, t;

				sha256_use_portable(1);
				sha256_of(data, lead + len, want[0]);
				sha256_of(data + lead, len, want[1]);
				sha256_use_portable(portable);
				sha256_init(&s);
				sha256_init(&t);
				sha256_add(&s, data, lead);
				sha256_add_both(&s, &t, data + lead, len / 2);
				sha256_add_both(&s, &t, data + lead + len / 2, len - len / 2);
				sha256_end(&s, digest);
				sha256_hex(digest, got);
				CHECK_STR(got, want[0]);
				sha256_end(&t, digest);
				sha256_hex(digest, got);
				CHECK_STR(got, want[1]);
			}
	sha256_use_portable(0);
}
