/* The signer against what AWS publishes: its Signature Version 4 test suite (region us-east-1, service
 * "service", 2015-08-30) and the four worked examples of S3's documentation (2013-05-24). */
#include "store/sigv4.h"

#include "base/str.h"

#include "tests/test.h"

#include <string.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HOST {"Host", "example.amazonaws.com"}, {"X-Amz-Date", "20150830T123600Z"}
#define UNRESERVED "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define STS_TOKEN                                                                            \
	"AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRX" \
	"mxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburE" \
	"Dy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL" \
	"64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="

struct vector {
	const char *name, *method, *path; /* path not encoded */
	struct sigv4_pair query[4], headers[6];
	const char *body, *signature;
};

static const struct vector suite[] = {
	{"get-vanilla", "GET", "/", {{0}}, {HOST}, "",
	 "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
	{"get-header-key-duplicate", "GET", "/", {{0}},
	 {HOST, {"My-Header1", "value2"}, {"My-Header1", "value2"}, {"My-Header1", "value1"}}, "",
	 "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"},
	{"get-header-value-multiline", "GET", "/", {{0}},
	 {HOST, {"My-Header1", "value1\n  value2\n     value3"}}, "",
	 "cfd34249e4b1c8d6b91ef74165d41a32e5fab3306300901bb65a51a73575eefd"},
	{"get-header-value-order", "GET", "/", {{0}},
	 {HOST, {"My-Header1", "value4"}, {"My-Header1", "value1"}, {"My-Header1", "value3"},
	  {"My-Header1", "value2"}}, "",
	 "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"},
	{"get-header-value-trim", "GET", "/", {{0}},
	 {HOST, {"My-Header1", " value1"}, {"My-Header2", " \"a   b   c\""}}, "",
	 "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
	{"get-relative-unnormalized", "GET", "/example/..", {{0}}, {HOST}, "",
	 "eca7ead57bb5aa5c8e28007acd4ff04e1ff9a0ff3b237ec1554a184887ff9282"},
	{"get-slash-dot-slash-unnormalized", "GET", "/./", {{0}}, {HOST}, "",
	 "68714168e6557f8f2de0ef956fc24dc2593a4bd2961f8df51898d8a134695145"},
	{"get-slashes-unnormalized", "GET", "//example//", {{0}}, {HOST}, "",
	 "87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5"},
	{"get-space-unnormalized", "GET", "/example space/", {{0}}, {HOST}, "",
	 "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"},
	{"get-unreserved", "GET", "/" UNRESERVED, {{0}}, {HOST}, "",
	 "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
	{"get-utf8", "GET", "/\xe1\x88\xb4", {{0}}, {HOST}, "",
	 "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"},
	{"get-vanilla-empty-query-key", "GET", "/", {{"Param1", "value1"}}, {HOST}, "",
	 "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"},
	{"get-vanilla-query-order-key-case", "GET", "/", {{"Param2", "value2"}, {"Param1", "value1"}},
	 {HOST}, "", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
	{"get-vanilla-query-order-encoded", "GET", "/",
	 {{"Param-3", "Value3"}, {"Param", "Value2"}, {"\xe1\x88\xb4", "Value1"}}, {HOST}, "",
	 "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac"},
	{"get-vanilla-query-unreserved", "GET", "/", {{UNRESERVED, UNRESERVED}}, {HOST}, "",
	 "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"},
	{"get-vanilla-utf8-query", "GET", "/", {{"\xe1\x88\xb4", "bar"}}, {HOST}, "",
	 "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
	{"get-vanilla-with-session-token", "GET", "/", {{0}},
	 {HOST, {"X-Amz-Security-Token",
		 "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"}}, "",
	 "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"},
	{"post-vanilla", "POST", "/", {{0}}, {HOST}, "",
	 "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
	{"post-header-key-sort", "POST", "/", {{0}}, {HOST, {"My-Header1", "value1"}}, "",
	 "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"},
	{"post-header-value-case", "POST", "/", {{0}}, {HOST, {"My-Header1", "VALUE1"}}, "",
	 "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"},
	{"post-sts-header-before", "POST", "/", {{0}}, {HOST, {"X-Amz-Security-Token", STS_TOKEN}}, "",
	 "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"},
	{"post-vanilla-query", "POST", "/", {{"Param1", "value1"}}, {HOST}, "",
	 "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"},
	{"post-x-www-form-urlencoded", "POST", "/", {{0}},
	 {HOST, {"Content-Type", "application/x-www-form-urlencoded"}, {"Content-Length", "13"},
	  {"x-amz-content-sha256",
	   "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e"}}, "Param1=value1",
	 "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b"},
};

static size_t count(const struct sigv4_pair *p, size_t max)
{
	size_t n = 0;

	while (n < max && p[n].name)
		n++;
	return n;
}

static void check(const struct vector *v, const char *service, const char *time, const char *id,
		  const char *secret)
{
	struct buf path = BUF_INIT, auth = BUF_INIT;
	char hex[SHA256_HEX_SIZE];

	sigv4_encode(v->path, true, &path);
	sha256_of(v->body, strlen(v->body), hex);
	const struct sigv4_req r = {.method = v->method, .path = path.data, .query = v->query,
				    .n_query = count(v->query, N(v->query)), .headers = v->headers,
				    .n_headers = count(v->headers, N(v->headers)), .payload = hex,
				    .region = "us-east-1", .service = service, .time = time,
				    .key_id = id, .secret = secret};
	sigv4_authorization(&r, &auth);
	const char *got = strstr(auth.data, "Signature=");
	CHECK(got != NULL);
	if (strcmp(got + 10, v->signature) != 0)
		test_str(__FILE__, __LINE__, v->name, got + 10, v->signature);
	buf_release(&path);
	buf_release(&auth);
}

void test_sigv4__published_suite(void)
{
	for (size_t i = 0; i < N(suite); i++)
		check(&suite[i], "service", "20150830T123600Z", "AKIDEXAMPLE",
		      "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
}

#define S3_HOST {"Host", "examplebucket.s3.amazonaws.com"}, {"x-amz-date", "20130524T000000Z"}

void test_sigv4__examples_of_the_s3_manual(void)
{
	static const struct vector examples[] = {
		{"get object", "GET", "/test.txt", {{0}},
		 {S3_HOST, {"Range", "bytes=0-9"}, {"x-amz-content-sha256", EMPTY}}, "",
		 "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
		{"put object", "PUT", "/test$file.text", {{0}},
		 {S3_HOST, {"Date", "Fri, 24 May 2013 00:00:00 GMT"},
		  {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
		  {"x-amz-content-sha256",
		   "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"}},
		 "Welcome to Amazon S3.",
		 "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
		{"bucket lifecycle", "GET", "/", {{"lifecycle", ""}},
		 {S3_HOST, {"x-amz-content-sha256", EMPTY}}, "",
		 "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
		{"list objects", "GET", "/", {{"max-keys", "2"}, {"prefix", "J"}},
		 {S3_HOST, {"x-amz-content-sha256", EMPTY}}, "",
		 "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
	};

	for (size_t i = 0; i < N(examples); i++)
		check(&examples[i], "s3", "20130524T000000Z", "AKIAIOSFODNN7EXAMPLE",
		      "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
}

/* RFC 4231, cases 2 and 6: a short key, and one longer than a block. */
void test_sigv4__hmac(void)
{
	uint8_t mac[SHA256_SIZE], key[131];
	char hex[SHA256_HEX_SIZE];

	hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, mac);
	sha256_hex(mac, hex);
	CHECK_STR(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	memset(key, 0xaa, sizeof(key));
	hmac_sha256(key, sizeof(key), "Test Using Larger Than Block-Size Key - Hash Key First", 54, mac);
	sha256_hex(mac, hex);
	CHECK_STR(hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

void test_sigv4__time_and_names(void)
{
	struct buf b = BUF_INIT, names = BUF_INIT;
	char time[SIGV4_TIME_SIZE];
	const struct sigv4_pair headers[] = {{"X-B", "2"}, {"a", "1"}, {"x-b", "3"}};
	const struct sigv4_req r = {.method = "GET", .path = "/", .headers = headers, .n_headers = 3,
				    .payload = "UNSIGNED-PAYLOAD"};

	sigv4_time(1440938160, time);
	CHECK_STR(time, "20150830T123600Z");
	sigv4_canonical(&r, &b, &names);
	CHECK_STR(names.data, "a;x-b");
	CHECK_STR(b.data, "GET\n/\n\na:1\nx-b:2,3\n\na;x-b\nUNSIGNED-PAYLOAD");
	buf_release(&b);
	buf_release(&names);
}
