/* run bulk: one decision for all runs that match, counted before it is made. */
#include "cli/cli.h"

#include "base/jsonx.h"

#include <stdlib.h>
#include <string.h>

#define AT_ONCE 500 /* more of them are an operation */

struct filter {
	const char *state, *tag, *text;
	bool starred;
};

static json_t *strings(const struct opt_list *list)
{
	json_t *out = json_array();

	for (size_t i = 0; i < list->n; i++)
		json_array_append_new(out, json_string(list->v[i]));
	return out;
}

static void put_text(json_t *obj, const char *key, const char *value)
{
	if (value)
		json_object_set_new(obj, key, json_string(value));
}

static json_t *body_of(const char *action, const struct filter *f)
{
	json_t *filter = json_object();

	put_text(filter, "state", f->state);
	put_text(filter, "tag", f->tag);
	put_text(filter, "q", f->text);
	if (f->starred)
		json_object_set_new(filter, "starred", json_true());
	return json_pack("{s:s, s:o}", "action", action, "filter", filter);
}

static int show(struct cli *c, const json_t *answer)
{
	const json_t *v;
	size_t i;

	if (c->json)
		json_print(answer);
	else if (json_object_get(answer, "kind"))
		printf("operation %s: see `pawl op list`\n", jx_get_str(answer, "id", "?"));
	else if (jx_get_bool(answer, "dry_run", false))
		printf("%lld runs match\n", (long long)jx_get_i64(answer, "matched", 0));
	else if (!c->quiet)
		printf("%lld of %lld done\n", (long long)jx_get_i64(answer, "done", 0),
		       (long long)jx_get_i64(answer, "matched", 0));
	json_array_foreach(json_object_get(answer, "failures"), i, v) fprintf(
		stderr, "pawl: %s: %s\n", jx_get_str(v, "id", "?"), jx_get_str(v, "detail", "?"));
	return jx_get_i64(answer, "failed", 0) ? EXIT_FAILED : EXIT_DONE;
}

/* Counts, asks, decides. */
static int decide(struct cli *c, json_t *body, const char *action, bool dry)
{
	static const char *const async[] = {"Prefer: respond-async", NULL};
	json_t *answer = NULL;
	struct err e;
	bool many;
	int code;

	json_object_set_new(body, "dry_run", json_true());
	if (api_headers(c, "POST", "runs/bulk", body, async, &answer, &e))
		return fail(&e);
	many = jx_get_i64(answer, "matched", 0) > AT_ONCE;
	if (dry || !jx_get_i64(answer, "matched", 0)) {
		code = show(c, answer);
	} else if (!confirmed(c, "%s %lld runs", action,
			      (long long)jx_get_i64(answer, "matched", 0))) {
		code = EXIT_FAILED;
	} else {
		json_decref(answer);
		answer = NULL;
		json_object_del(body, "dry_run");
		code = api_headers(c, "POST", "runs/bulk", body, many ? async : NULL, &answer, &e)
			       ? fail(&e)
			       : show(c, answer);
	}
	json_decref(answer);
	return code;
}

int cmd_run_bulk(struct cli *c, int argc, char **argv)
{
	struct filter f = {0};
	struct opt_list add = {0}, gone = {0};
	bool dry = false;
	const struct opt opts[] = {
		{"--state", OPT_VALUE, &f.state},   {"--tag", OPT_VALUE, &f.tag},
		{"--query|-q", OPT_VALUE, &f.text}, {"--starred", OPT_FLAG, &f.starred},
		{"--add", OPT_LIST, &add},	    {"--remove", OPT_LIST, &gone},
		{"--dry-run", OPT_FLAG, &dry}};
	int code = opt_parse(opts, sizeof(opts) / sizeof(opts[0]), &argc, argv, 1, 1);
	json_t *body;

	if (code)
		return code;
	body = body_of(argv[0], &f);
	if (add.n)
		json_object_set_new(body, "add", strings(&add));
	if (gone.n)
		json_object_set_new(body, "remove", strings(&gone));
	code = decide(c, body, argv[0], dry);
	json_decref(body);
	return code;
}
