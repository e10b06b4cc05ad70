/* The route table: roles, patterns, and its agreement with the API's description, both ways. */
#include "base/jsonx.h"
#include "base/str.h"
#include "server/route.h"
#include "tests/test.h"

#include <ctype.h>
#include <string.h>

/* "/api/v1/runs/{run}/jobs" -> "/api/v1/runs/{}/jobs" */
static void plain_path(const char *path, char *out, size_t size)
{
	size_t n = 0;

	for (; *path && n + 2 < size; path++) {
		out[n++] = *path;
		if (*path == '{')
			while (path[1] != '}')
				path++;
	}
	out[n] = 0;
}

static json_t *document(void)
{
	struct err e = {0};
	json_t *doc = NULL;

	CHECK_RC(jx_load("server/openapi.json", 1 << 20, &doc, &e), RC_OK);
	return doc;
}

/* The operation of a route; NULL when it is not described. */
static json_t *operation_of(const json_t *doc, const struct route *rt)
{
	const char *path;
	json_t *ops;
	char plain[200], method[16] = "";

	for (size_t i = 0; rt->method[i] && i < 15; i++)
		method[i] = (char)tolower((unsigned char)rt->method[i]);
	json_object_foreach(json_object_get(doc, "paths"), path, ops)
	{
		plain_path(path, plain, sizeof plain);
		if (strcmp(plain, rt->pattern) == 0 && json_object_get(ops, method))
			return json_object_get(ops, method);
	}
	return NULL;
}

static bool query_has(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = strstr(list, name); p; p = strstr(p + 1, name))
		if ((p == list || p[-1] == ' ') && (p[n] == ' ' || p[n] == 0))
			return true;
	return false;
}

static size_t words(const char *list)
{
	size_t n = list[0] != 0;

	for (; *list; list++)
		n += *list == ' ';
	return n;
}

void test_server_route__every_route_is_described(void)
{
	json_t *doc = document(), *op, *param;
	size_t n, i, k, described;
	const struct route *table = route_table(&n);

	for (i = 0; i < n; i++) {
		op = operation_of(doc, &table[i]);
		if (!op)
			test_fail(__FILE__, __LINE__, table[i].pattern);
		CHECK_STR(jx_get_str(op, "x-pawl-role", ""), role_text(table[i].role));
		described = 0;
		json_array_foreach(json_object_get(op, "parameters"), k, param)
		{
			if (strcmp(jx_get_str(param, "in", ""), "query") != 0)
				continue;
			described++;
			CHECK(query_has(table[i].query, jx_get_str(param, "name", "")));
		}
		CHECK_EQ(described, words(table[i].query));
	}
	json_decref(doc);
}

void test_server_route__every_description_has_a_route(void)
{
	json_t *doc = document(), *ops, *op;
	const char *path, *method;
	size_t n, described = 0;

	json_object_foreach(json_object_get(doc, "paths"), path, ops)
		json_object_foreach(ops, method, op) described++;
	route_table(&n);
	CHECK_EQ(described, n);
	json_decref(doc);
}

void test_server_route__paths_match_whole_segments(void)
{
	const char *args[HTTP_ARGS_MAX] = {0};
	const struct route *rt;
	struct arena a;
	int allowed;

	arena_init(&a);
	rt = route_find("GET", "/api/v1/jobs/r1.0.sft.0.0/attempts/3/log", &a, args, &allowed);
	CHECK(rt != NULL);
	CHECK_STR(rt->pattern, "/api/v1/jobs/{}/attempts/{}/log");
	CHECK_STR(args[0], "r1.0.sft.0.0");
	CHECK_STR(args[1], "3");
	CHECK(route_find("HEAD", "/api/v1/runs", &a, args, &allowed) != NULL);
	CHECK(route_find("GET", "/api/v1/runs/", &a, args, &allowed) == NULL);
	CHECK(route_find("GET", "/api/v1/runs/a/b", &a, args, &allowed) == NULL);
	CHECK(route_find("GET", "/api/v1/runsx", &a, args, &allowed) == NULL);
	CHECK_EQ(allowed, 0);
	CHECK(route_find("PATCH", "/api/v1/runs", &a, args, &allowed) == NULL);
	CHECK_EQ(allowed, 2);
	arena_release(&a);
}

void test_server_route__roles_cover_as_told(void)
{
	CHECK(role_covers(ROLE_ADMIN, ROLE_VIEWER) && role_covers(ROLE_OPERATOR, ROLE_VIEWER));
	CHECK(!role_covers(ROLE_VIEWER, ROLE_OPERATOR) && !role_covers(ROLE_OPERATOR, ROLE_ADMIN));
	CHECK(!role_covers(ROLE_ADMIN, ROLE_WORKER) && !role_covers(ROLE_WORKER, ROLE_VIEWER));
	CHECK(role_covers(ROLE_WORKER, ROLE_WORKER) && role_covers(ROLE_NONE, ROLE_NONE));
	CHECK(!role_covers(ROLE_NONE, ROLE_VIEWER));
	CHECK_EQ(role_parse("admin"), ROLE_ADMIN);
	CHECK_EQ(role_parse("none"), ROLE_NONE);
	CHECK_EQ(role_parse("root"), ROLE_NONE);
}

void test_server_route__nothing_but_the_named_is_open(void)
{
	size_t n, open = 0;
	const struct route *table = route_table(&n);

	for (size_t i = 0; i < n; i++) {
		open += table[i].role == ROLE_NONE;
		if (str_starts(table[i].pattern, "/api/v1/worker/"))
			CHECK_EQ(table[i].role, ROLE_WORKER);
		else
			CHECK(table[i].role != ROLE_WORKER);
	}
	CHECK_EQ(open, 3); /* health, openapi.json, login */
	CHECK(route_always("POST", "/api/v1/worker/beat"));
	CHECK(!route_always("GET", "/api/v1/runs"));
}
