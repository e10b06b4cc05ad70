/* run tag, run note: what people write about a run. A list is read, changed and written back only
 * if it is still what was read, so two who tag at once lose nothing. */
#include "cli/cli.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

#define TRIES 5 /* each lost to somebody else's change */
#define NOTE_FILE_MAX 65536

static bool has(const json_t *tags, const char *tag)
{
	const json_t *t;
	size_t i;

	json_array_foreach(tags, i, t) if (strcmp(json_string_value(t), tag) == 0) return true;
	return false;
}

struct labels {
	struct opt_list add, remove;
	bool star, unstar;
	const char *notes;
};

/* The PATCH that makes of `run` what is wanted. */
static json_t *labels_body(const json_t *run, const struct labels *l)
{
	json_t *body = json_object(), *tags = json_array(), *gone = json_array(), *t;
	size_t i;

	for (i = 0; i < l->remove.n; i++)
		json_array_append_new(gone, json_string(l->remove.v[i]));
	json_array_foreach(json_object_get(run, "tags"), i, t) if (!has(gone, json_string_value(t)))
		json_array_append(tags, t);
	for (i = 0; i < l->add.n; i++)
		if (!has(tags, l->add.v[i]))
			json_array_append_new(tags, json_string(l->add.v[i]));
	if (l->add.n || l->remove.n)
		json_object_set(body, "tags", tags);
	if (l->star || l->unstar)
		json_object_set_new(body, "starred", json_boolean(l->star));
	if (l->notes)
		json_object_set_new(body, "notes", json_string(l->notes));
	json_decref(gone);
	json_decref(tags);
	return body;
}

static enum rc try_labels(struct cli *c, const char *path, const struct labels *l, json_t **out,
			  struct err *e)
{
	json_t *run = NULL, *body;
	char header[160];
	const char *headers[] = {header, NULL};
	enum rc rc = api(c, "GET", path, NULL, &run, e);

	if (rc)
		return rc;
	str_fmt(header, sizeof(header), "If-Match: \"%.100s\"", jx_get_str(run, "revision", ""));
	body = labels_body(run, l);
	rc = api_headers(c, "PATCH", path, body, headers, out, e);
	json_decref(body);
	json_decref(run);
	return rc;
}

static int send_labels(struct cli *c, const char *id, const struct labels *l)
{
	char *q = url_quote(id), *path = mem_printf("runs/%s", q);
	json_t *run = NULL, *t;
	struct err e;
	enum rc rc = RC_CHANGED;
	int code = EXIT_DONE;
	size_t i;

	for (int n = 0; n < TRIES && rc == RC_CHANGED; n++)
		rc = try_labels(c, path, l, &run, &e);
	if (rc) {
		code = fail(&e);
	} else if (c->json) {
		json_print(run);
	} else if (!c->quiet) {
		printf("%s%s", id, jx_get_bool(run, "starred", false) ? " *" : "");
		json_array_foreach(json_object_get(run, "tags"), i, t)
			printf(" %s", json_string_value(t));
		putchar('\n');
	}
	json_decref(run);
	free(path);
	free(q);
	return code;
}

int cmd_run_tag(struct cli *c, int argc, char **argv)
{
	struct labels l = {0};
	const struct opt opts[] = {{"--add", OPT_LIST, &l.add},
				   {"--remove", OPT_LIST, &l.remove},
				   {"--star", OPT_FLAG, &l.star},
				   {"--unstar", OPT_FLAG, &l.unstar}};
	int code = opt_parse(opts, 4, &argc, argv, 1, 1);

	if (code)
		return code;
	if (!l.add.n && !l.remove.n && l.star == l.unstar) {
		fputs("pawl: run tag: give --add TAG, --remove TAG, --star or --unstar\n", stderr);
		return EXIT_USAGE;
	}
	return send_labels(c, argv[0], &l);
}

int cmd_run_note(struct cli *c, int argc, char **argv)
{
	struct labels l = {0};
	const char *file = NULL;
	const struct opt opts[] = {{"--file|-f", OPT_VALUE, &file}};
	struct buf b = BUF_INIT;
	struct err e;
	int code = opt_parse(opts, 1, &argc, argv, 1, 2);

	if (code)
		return code;
	if ((argc == 2) == (file != NULL)) {
		fputs("pawl: run note: give the text, or --file FILE\n", stderr);
		return EXIT_USAGE;
	}
	if (file && fs_read(file, NOTE_FILE_MAX, &b, &e))
		return fail(&e);
	l.notes = file ? (b.data ? b.data : "") : argv[1];
	code = send_labels(c, argv[0], &l);
	buf_release(&b);
	return code;
}
