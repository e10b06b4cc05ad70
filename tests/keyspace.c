#include "tests/keyspace.h"

#include "base/check.h"
#include "base/mem.h"
#include "tests/test.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct redis_reply *ask(struct redis *r, const char *command, const char *key, const char *more)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	struct err e = {0};

	redis_cmd_add(&c, command);
	redis_cmd_add(&c, key);
	redis_cmd_words(&c, more);
	CHECK_RC(redis_call(r, &c, &p, &e), RC_OK);
	return p;
}

static void put(json_t *line, const struct redis_reply *p)
{
	json_array_append_new(line, json_stringn(reply_text(p), reply_len(p)));
}

/* The words of `p` in steps of `step`; with `swap` each pair the other way round (scores first). */
static void put_all(json_t *line, const struct redis_reply *p, bool swap)
{
	for (size_t i = 0; i < reply_n(p); i++)
		put(line, reply_at(p, swap ? i ^ 1 : i));
}

static void write_line(FILE *out, json_t *line)
{
	char *text = json_dumps(line, JSON_COMPACT | JSON_ENSURE_ASCII);

	CHECK(text != NULL);
	fprintf(out, "%s\n", text);
	free(text);
	json_decref(line);
}

static void save_stream(struct redis *r, FILE *out, const char *key)
{
	struct redis_reply *p = ask(r, "XRANGE", key, "- +");

	for (size_t i = 0; i < reply_n(p); i++) {
		json_t *line = json_pack("[s, s]", "XADD", key);
		put(line, reply_at(reply_at(p, i), 0));
		put_all(line, reply_at(reply_at(p, i), 1), false);
		write_line(out, line);
	}
	reply_free(p);
}

static const struct {
	const char *type, *read, *more, *write;
	bool swap;
} kinds[] = {
	{"hash", "HGETALL", "", "HSET", false},
	{"set", "SMEMBERS", "", "SADD", false},
	{"list", "LRANGE", "0 -1", "RPUSH", false},
	{"zset", "ZRANGE", "0 -1 WITHSCORES", "ZADD", true},
};

static void save_key(struct redis *r, FILE *out, const char *key)
{
	struct redis_reply *type = ask(r, "TYPE", key, ""), *p;
	json_t *line;

	if (!strcmp(reply_text(type), "stream"))
		save_stream(r, out, key);
	if (!strcmp(reply_text(type), "string")) {
		p = ask(r, "GET", key, "");
		line = json_pack("[s, s]", "SET", key);
		put(line, p);
		write_line(out, line);
		reply_free(p);
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		if (strcmp(reply_text(type), kinds[i].type) != 0)
			continue;
		p = ask(r, kinds[i].read, key, kinds[i].more);
		line = json_pack("[s, s]", kinds[i].write, key);
		put_all(line, p, kinds[i].swap);
		write_line(out, line);
		reply_free(p);
	}
	reply_free(type);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void keyspace_save(struct redis *r, const char *path)
{
	struct redis_reply *p = ask(r, "KEYS", "*", "");
	size_t n = reply_n(p);
	const char **keys = mem_array(n + 1, sizeof(*keys));
	FILE *out = fopen(path, "w");

	CHECK(out != NULL);
	for (size_t i = 0; i < n; i++)
		keys[i] = reply_text(reply_at(p, i));
	qsort(keys, n, sizeof(*keys), by_text);
	for (size_t i = 0; i < n; i++)
		save_key(r, out, keys[i]);
	CHECK_EQ(fclose(out), 0);
	free(keys);
	reply_free(p);
}

void keyspace_load(struct redis *r, const char *path)
{
	FILE *in = fopen(path, "r");
	char *line = NULL;
	size_t cap = 0, i;
	json_t *words, *w;

	CHECK(in != NULL);
	while (getline(&line, &cap, in) > 0) {
		struct redis_cmd c = REDIS_CMD_INIT;
		struct err e = {0};

		words = json_loads(line, 0, NULL);
		CHECK(json_is_array(words));
		json_array_foreach(words, i, w)
			redis_cmd_addn(&c, json_string_value(w), json_string_length(w));
		CHECK_RC(redis_call(r, &c, NULL, &e), RC_OK);
		json_decref(words);
	}
	free(line);
	fclose(in);
}
