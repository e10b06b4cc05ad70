/* run diff: where the specifications of two runs differ. */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

/* {"dpo.lr": 1e-6, …}: objects are taken apart, lists stay whole. */
static void flatten(const json_t *v, const char *at, json_t *into)
{
	const char *key;
	json_t *x;

	if (!json_is_object(v) || !json_object_size(v)) {
		json_object_set(into, at, (json_t *)(uintptr_t)v);
		return;
	}
	json_object_foreach((json_t *)(uintptr_t)v, key, x)
	{
		char *path = mem_printf("%s%s%s", at, *at ? "." : "", key);
		flatten(x, path, into);
		free(path);
	}
}

/* "dpo" leaves out dpo and all of dpo.*. */
static bool ignored(const struct opt_list *list, const char *key)
{
	for (size_t i = 0; i < list->n; i++) {
		size_t n = strlen(list->v[i]);
		if (!strncmp(key, list->v[i], n) && (!key[n] || key[n] == '.'))
			return true;
	}
	return false;
}

static int by_key(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* [{"key","a","b"}] by key; an absent one is null. */
static json_t *differences(const json_t *a, const json_t *b, const struct opt_list *ignore)
{
	json_t *left = json_object(), *right = json_object(), *all, *out = json_array(), *v;
	const char **keys, *key;
	size_t n = 0;

	flatten(a, "", left);
	flatten(b, "", right);
	all = json_copy(left);
	json_object_update(all, right);
	keys = mem_array(json_object_size(all) + 1, sizeof(*keys));
	json_object_foreach(all, key, v) keys[n++] = key;
	qsort(keys, n, sizeof(*keys), by_key);
	for (size_t i = 0; i < n; i++) {
		json_t *x = json_object_get(left, keys[i]), *y = json_object_get(right, keys[i]);
		if (ignored(ignore, keys[i]) || (x && y && json_equal(x, y)))
			continue;
		json_array_append_new(
			out, json_pack("{s:s, s:O?, s:O?}", "key", keys[i], "a", x, "b", y));
	}
	free(keys);
	json_decref(all);
	json_decref(left);
	json_decref(right);
	return out;
}

static int show(struct cli *c, const json_t *a, const json_t *b, const json_t *list)
{
	char heads[2][64];
	const char *columns[] = {"KEY:key", heads[0], heads[1], NULL};
	json_t *v;

	if (c->json) {
		v = json_pack("{s:O, s:O, s:O}", "a", json_object_get(a, "id"), "b",
			      json_object_get(b, "id"), "differences", list);
		json_print(v);
		json_decref(v);
		return EXIT_DONE;
	}
	str_fmt(heads[0], sizeof(heads[0]), "%.40s:a", jx_get_str(a, "id", "A"));
	str_fmt(heads[1], sizeof(heads[1]), "%.40s:b", jx_get_str(b, "id", "B"));
	if (json_array_size(list))
		table_print(stdout, list, columns);
	else if (!c->quiet)
		fputs("no differences\n", stderr);
	return EXIT_DONE;
}

int cmd_run_diff(struct cli *c, int argc, char **argv)
{
	struct opt_list ignore = {.v = {"name", "notes"}, .n = 2};
	bool all = false;
	const struct opt opts[] = {{"--ignore", OPT_LIST, &ignore}, {"--all", OPT_FLAG, &all}};
	json_t *a = NULL, *b = NULL, *list;
	struct err e;
	int code = opt_parse(opts, 2, &argc, argv, 2, 2);

	if (code)
		return code;
	if (all)
		ignore.n = 0;
	if (get_run(c, argv[0], &a, &e) || get_run(c, argv[1], &b, &e)) {
		code = fail(&e);
	} else {
		list = differences(json_object_get(a, "spec"), json_object_get(b, "spec"), &ignore);
		code = show(c, a, b, list);
		json_decref(list);
	}
	json_decref(a);
	json_decref(b);
	return code;
}
