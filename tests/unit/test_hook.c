/* Signatures of webhooks, where they may go, and how long a failing one is left alone. */
#include "base/fetch.h"
#include "base/str.h"
#include "server/hook.h"
#include "server/notify.h"
#include "tests/test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

void test_hook__a_signature_is_the_hmac_of_time_id_and_body(void)
{
	char out[HOOK_SIGNATURE_MAX];

	/* printf '1732160000.7-0.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef */
	hook_sign("0123456789abcdef", "7-0", 1732160000, "{\"a\":1}", out);
	CHECK_STR(out, "t=1732160000,v1="
		       "5b9bb0f92a91ca7e7fa949e139d0afbea5357ecf73819df04fd9c5c754dbd756");
}

static bool is_public(const char *text)
{
	struct sockaddr_storage a = {0};
	struct sockaddr_in *v4 = (struct sockaddr_in *)&a;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a;

	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
		a.ss_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1)
		a.ss_family = AF_INET6;
	else
		test_fail(__FILE__, __LINE__, text);
	return fetch_address_public((struct sockaddr *)&a);
}

void test_hook__addresses_of_this_machine_and_of_private_networks_are_known(void)
{
	static const char *const closed[] = {
		"127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255",
		"192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255", "198.18.0.1",
		"198.19.255.255", "192.0.0.8", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1",
		"fc00::1", "fd12::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1",
		"2002:7f00:1::", "2002:a9fe:a9fe::", "100::1"};
	static const char *const open[] = {"1.1.1.1", "9.255.255.255", "11.0.0.0", "172.15.255.255",
					   "172.32.0.0", "192.167.255.255", "100.63.255.255", "100.128.0.0",
					   "198.17.255.255", "198.20.0.0", "223.255.255.255",
					   "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808",
					   "2002:808:808::"};
	struct sockaddr other = {.sa_family = AF_UNIX};

	for (size_t i = 0; i < sizeof closed / sizeof *closed; i++)
		if (is_public(closed[i]))
			test_fail(__FILE__, __LINE__, closed[i]);
	for (size_t i = 0; i < sizeof open / sizeof *open; i++)
		if (!is_public(open[i]))
			test_fail(__FILE__, __LINE__, open[i]);
	CHECK(!fetch_address_public(&other));
}

void test_hook__a_fetch_for_the_public_does_not_reach_this_machine(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	static const char *const hosts[] = {"127.0.0.1", "localhost", "0x7f.1", "2130706433", "[::1]",
					    "[::ffff:127.0.0.1]"};
	struct fetch_resp r;
	struct err e = {0};
	char url[80];

	CHECK(!bind(fd, (struct sockaddr *)&a, len) && !listen(fd, 8));
	CHECK(!getsockname(fd, (struct sockaddr *)&a, &len));
	for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
		str_fmt(url, sizeof url, "http://%s:%d/x", hosts[i], ntohs(a.sin_port));
		struct fetch_req q = {.method = "POST", .url = url, .body = "{}", .body_len = 2,
				      .timeout_ms = 3000, .public_only = true};
		CHECK(fetch(&q, &r, &e) != RC_OK);
		fetch_resp_release(&r);
	}
	CHECK(accept(fd, NULL, NULL) < 0); /* Nobody came. */
}

void test_hook__a_failing_one_is_asked_ever_less_often(void)
{
	int64_t sum = 0;

	CHECK_EQ(notify_backoff_ms(0), 5000);
	CHECK_EQ(notify_backoff_ms(1), 5000);
	CHECK_EQ(notify_backoff_ms(4), 40000);
	CHECK_EQ(notify_backoff_ms(1000000), 2560000);
	for (int i = 1; i < TRIES_MAX; i++)
		sum += notify_backoff_ms(i);
	CHECK(sum > 4 * 3600000 && sum < 12 * 3600000);
}

void test_hook__kinds_are_wanted_by_name_or_all(void)
{
	json_t *h = json_loads("{\"enabled\":true,\"events\":[\"run.done\"]}", 0, NULL);

	CHECK(hook_wants(h, "run.done") && !hook_wants(h, "run.failed"));
	json_object_set_new(h, "events", json_pack("[s]", "*"));
	CHECK(hook_wants(h, "run.failed"));
	json_object_set_new(h, "enabled", json_false());
	CHECK(!hook_wants(h, "run.failed"));
	json_decref(h);
}
