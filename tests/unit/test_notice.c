/* What the clouds' metadata services say, and when it means the end. */
#include "tests/test.h"

#include "worker/notice.h"

#include <string.h>

static bool reads_as(const char *self, const char *cloud, int status, const char *text)
{
	struct buf b = BUF_INIT;

	buf_puts(&b, text);
	bool taken = notice_read(notice_cloud_named(cloud), status, &b, self);
	buf_release(&b);
	return taken;
}

static bool reads(const char *cloud, int status, const char *text)
{
	return reads_as("", cloud, status, text);
}

void test_notice__aws_says_what_it_will_do(void)
{
	CHECK(reads("aws", 200, "{\"action\":\"terminate\",\"time\":\"2026-11-21T08:22:00Z\"}"));
	CHECK(reads("aws", 200, "{\"action\":\"hibernate\",\"time\":\"2026-11-21T08:22:00Z\"}"));
	CHECK(!reads("aws", 404, "<html>404 - Not Found</html>"));
	CHECK(!reads("aws", 200, "<html>captive portal</html>"));
	CHECK(!reads("aws", 200, ""));
}

void test_notice__gcp_says_true(void)
{
	CHECK(reads("gcp", 200, "TRUE\n"));
	CHECK(!reads("gcp", 200, "FALSE"));
	CHECK(!reads("gcp", 503, "TRUE"));
}

void test_notice__azure_lists_events(void)
{
	CHECK(reads("azure", 200, "{\"DocumentIncarnation\":2,\"Events\":[{\"EventId\":\"A\","
				  "\"EventType\":\"Preempt\",\"Resources\":[\"vm_0\"]}]}"));
	CHECK(!reads("azure", 200, "{\"DocumentIncarnation\":1,\"Events\":[]}"));
	CHECK(!reads("azure", 200, "{\"Events\":[{\"EventType\":\"Freeze\"}]}"));
}

void test_notice__azure_tells_a_scale_set_of_all_its_machines(void)
{
	static const char *const event = "{\"Events\":[{\"EventType\":\"Preempt\","
					 "\"Resources\":[\"set_3\",\"set_7\"]}]}";

	CHECK(reads_as("set_7", "azure", 200, event) && reads_as("SET_3", "azure", 200, event));
	CHECK(!reads_as("set_1", "azure", 200, event));
	CHECK(reads_as("", "azure", 200, event));
	CHECK(reads_as("set_1", "azure", 200, "{\"Events\":[{\"EventType\":\"Preempt\"}]}"));
}

void test_notice__unknown_clouds_are_refused(void)
{
	CHECK(notice_cloud_named("ibm") == NULL);
	CHECK(strstr(notice_cloud_names(), "gcp") != NULL);
}
