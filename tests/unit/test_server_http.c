/* Addresses, hosts, ranges, intervals: the server's pure parts. */
#include "server/compare.h"
#include "server/events.h"
#include "server/forwarded.h"
#include "server/http.h"
#include "server/range.h"
#include "tests/test.h"

#include <string.h>

void test_server_http__listen_addresses(void)
{
	struct err e = {0};
	char host[64];
	int port;

	CHECK_RC(http_listen_parse("127.0.0.1:8080", host, sizeof host, &port, &e), RC_OK);
	CHECK_STR(host, "127.0.0.1");
	CHECK_EQ(port, 8080);
	CHECK_RC(http_listen_parse("8080", host, sizeof host, &port, &e), RC_OK);
	CHECK_STR(host, "127.0.0.1");
	CHECK_RC(http_listen_parse(":8080", host, sizeof host, &port, &e), RC_OK);
	CHECK_STR(host, "0.0.0.0");
	CHECK_RC(http_listen_parse("127.0.0.1:8443s", host, sizeof host, &port, &e), RC_INVALID);
	CHECK(strstr(e.text, "TLS") != NULL);
	CHECK_RC(http_listen_parse("127.0.0.1:80r", host, sizeof host, &port, &e), RC_INVALID);
	CHECK_RC(http_listen_parse("127.0.0.1", host, sizeof host, &port, &e), RC_INVALID);
	CHECK_RC(http_listen_parse("127.0.0.1:99999", host, sizeof host, &port, &e), RC_INVALID);
	CHECK_RC(http_listen_parse("", host, sizeof host, &port, &e), RC_INVALID);
	CHECK(http_is_loopback("127.0.0.1") && http_is_loopback("localhost") &&
	      http_is_loopback("::1"));
	CHECK(!http_is_loopback("0.0.0.0") && !http_is_loopback("10.0.0.1"));
}

void test_server_http__hosts_without_their_port(void)
{
	const char *list = "localhost,127.0.0.1,::1,Pawl.example";

	CHECK(http_host_allowed("localhost", list) && http_host_allowed("localhost:8080", list));
	CHECK(http_host_allowed("pawl.EXAMPLE:443", list) && http_host_allowed("[::1]:8080", list));
	CHECK(!http_host_allowed("evil.example:8080", list) &&
	      !http_host_allowed("localhost.evil:80", list));
	CHECK(!http_host_allowed("", list) && !http_host_allowed(":80", list) &&
	      !http_host_allowed("[", list));
	CHECK(http_host_allowed("anything", "*"));
}

void test_server_http__clients_behind_proxies(void)
{
	static const char proxies[] = "127.0.0.1, 10.0.0.2";
	char out[FORWARDED_ADDR_MAX];

	CHECK(forwarded_client("127.0.0.1", "192.0.2.7", proxies, out));
	CHECK_STR(out, "192.0.2.7");
	/* What the client itself wrote stands left of what a proxy of ours added. */
	CHECK(forwarded_client("127.0.0.1", "6.6.6.6, 192.0.2.7, 10.0.0.2", proxies, out));
	CHECK_STR(out, "192.0.2.7");
	CHECK(forwarded_client("127.0.0.1", "2001:db8::1", proxies, out));
	CHECK(!forwarded_client("192.0.2.9", "192.0.2.7", proxies, out)); /* no proxy of ours */
	CHECK(!forwarded_client("127.0.0.1", "192.0.2.7", "", out));
	CHECK(!forwarded_client("127.0.0.1", NULL, proxies, out));
	CHECK(!forwarded_client("127.0.0.1", "", proxies, out));
	CHECK(!forwarded_client("127.0.0.1", "10.0.0.2,127.0.0.1", proxies, out));
	CHECK(!forwarded_client("127.0.0.1", "192.0.2.7, evil", proxies, out));
	CHECK(!forwarded_client("127.0.0.1", "192.0.2.7,", proxies, out));
}

static void check_range(const char *header, int64_t size, enum range_kind want, int64_t from,
			int64_t to)
{
	int64_t a = 0, b = size - 1;

	CHECK_EQ(range_parse(header, size, &a, &b), want);
	if (want == RANGE_PART) {
		CHECK_EQ(a, from);
		CHECK_EQ(b, to);
	}
}

void test_server_http__ranges(void)
{
	check_range(NULL, 100, RANGE_WHOLE, 0, 0);
	check_range("bytes=0-0", 100, RANGE_PART, 0, 0);
	check_range("bytes=90-200", 100, RANGE_PART, 90, 99);
	check_range("bytes=10-", 100, RANGE_PART, 10, 99);
	check_range("bytes=-10", 100, RANGE_PART, 90, 99);
	check_range("bytes=-1000", 100, RANGE_PART, 0, 99);
	check_range("bytes=100-", 100, RANGE_BAD, 0, 0);
	check_range("bytes=100-101", 100, RANGE_BAD, 0, 0);
	check_range("bytes=-0", 100, RANGE_BAD, 0, 0);
	check_range("bytes=0-", 0, RANGE_BAD, 0, 0);
	check_range("bytes=0-1,5-6", 100, RANGE_WHOLE, 0, 0);
	check_range("bytes=5-1", 100, RANGE_WHOLE, 0, 0);
	check_range("bytes=a-b", 100, RANGE_WHOLE, 0, 0);
	check_range("bytes=-", 100, RANGE_WHOLE, 0, 0);
	check_range("bytes=1-2-3", 100, RANGE_WHOLE, 0, 0);
	check_range("bytes=99999999999999999999-", 100, RANGE_WHOLE, 0, 0);
	check_range("lines=1-2", 100, RANGE_WHOLE, 0, 0);
}

void test_server_http__event_ids_compare_as_numbers(void)
{
	CHECK_EQ(event_id_cmp("9-0", "10-0"), -1);
	CHECK_EQ(event_id_cmp("10-9", "10-10"), -1);
	CHECK_EQ(event_id_cmp("10-1", "10-1"), 0);
	CHECK_EQ(event_id_cmp("10", "10-0"), 0);
	CHECK_EQ(event_id_cmp("11-0", "10-99"), 1);
}

/* Values from R: prop.test(x, n, correct = FALSE). */
void test_server_http__wilson_intervals(void)
{
	double lo, hi;

	wilson(8, 10, &lo, &hi);
	CHECK_NEAR(lo, 0.4901625, 1e-6);
	CHECK_NEAR(hi, 0.9433178, 1e-6);
	wilson(50, 100, &lo, &hi);
	CHECK_NEAR(lo, 0.4038315, 1e-6);
	CHECK_NEAR(hi, 0.5961685, 1e-6);
	wilson(0, 20, &lo, &hi);
	CHECK_NEAR(lo, 0, 1e-12);
	CHECK_NEAR(hi, 0.1611252, 1e-6);
	wilson(0, 0, &lo, &hi);
	CHECK_NEAR(hi - lo, 1, 0);
}
