/* eval compare: models side by side, who beats whom, and whether answers only grew longer. */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

#define GREW 0.15 /* so much longer, and winning: said */

struct style {
	bool markdown, runs; /* runs: of several, models are named with theirs */
};

/* "M2", or "r1/M2" where there are several runs. Heap. */
static char *model_name(const struct style *s, const json_t *m)
{
	return s->runs ? mem_printf("%s/%s", jx_get_str(m, "run", "?"), jx_get_str(m, "name", "?"))
		       : mem_str(jx_get_str(m, "name", "?"));
}

static bool chosen(const struct opt_list *models, const char *name)
{
	for (size_t i = 0; i < models->n; i++)
		if (!strcmp(models->v[i], name))
			return true;
	return models->n == 0;
}

/* Leaves of `list` those whose member `key` is among the chosen. */
static void choose(json_t *list, const struct opt_list *models, const char *key)
{
	for (size_t i = json_array_size(list); i-- > 0;)
		if (!chosen(models, jx_get_str(json_array_get(list, i), key, "")))
			json_array_remove(list, i);
}

/* Every metric any of the models has, in the order of its first sight. */
static json_t *metric_names(const json_t *models)
{
	json_t *names = json_object(), *list = json_array();
	const json_t *m;
	size_t i;
	const char *key;
	json_t *v;

	json_array_foreach(models, i, m)
		json_object_foreach(json_object_get(m, "metrics"), key,
				    v) if (json_is_number(v) && !json_object_get(names, key))
	{
		json_object_set_new(names, key, json_true());
		json_array_append_new(list, json_string(key));
	}
	json_decref(names);
	return list;
}

static void print_value(const json_t *v, bool markdown)
{
	char text[32] = "-";

	if (json_is_integer(v))
		str_fmt(text, sizeof(text), "%lld", (long long)json_integer_value(v));
	else if (json_is_number(v))
		str_fmt(text, sizeof(text), "%.4g", json_number_value(v));
	printf(markdown ? " %s |" : " %16s", text);
}

static void rule(size_t numbers)
{
	printf("|---|");
	for (size_t i = 0; i < numbers; i++)
		printf("---:|");
	putchar('\n');
}

/* Metrics down, models across. */
static void print_metrics(const json_t *models, const struct style *s)
{
	json_t *names = metric_names(models), *name;
	const json_t *m;
	size_t i, k;

	printf(s->markdown ? "| %s |" : "%-28s", "metric");
	json_array_foreach(models, i, m)
	{
		char *text = model_name(s, m);
		printf(s->markdown ? " %.60s |" : " %16.16s", text);
		free(text);
	}
	putchar('\n');
	if (s->markdown)
		rule(json_array_size(models));
	json_array_foreach(names, k, name)
	{
		const char *key = json_string_value(name);
		printf(s->markdown ? "| %s |" : "%-28s", key);
		json_array_foreach(models, i, m) print_value(
			json_object_get(json_object_get(m, "metrics"), key), s->markdown);
		putchar('\n');
	}
	json_decref(names);
}

static void print_pairs(const json_t *pairs, const struct style *s)
{
	static const char *const columns[] = {"RUN:run", "MODEL:a",   "AGAINST:b", "WIN:win",
					      "TIE:tie", "LOSS:loss", "N:n",	   "RATE:rate",
					      "LOW:low", "HIGH:high", NULL};
	const json_t *p;
	size_t i;

	if (!json_array_size(pairs))
		return;
	putchar('\n');
	if (!s->markdown) {
		table_print(stdout, pairs, columns + !s->runs);
		return;
	}
	puts("| model against | wins | ties | losses | win rate (a tie is half) |");
	rule(4);
	json_array_foreach(pairs, i, p) printf(
		"| %s%s%s against %s | %g | %g | %g | %.1f %% (%.1f to %.1f) |\n",
		s->runs ? jx_get_str(p, "run", "?") : "", s->runs ? "/" : "",
		jx_get_str(p, "a", "?"), jx_get_str(p, "b", "?"), jx_get_f64(p, "win", 0),
		jx_get_f64(p, "tie", 0), jx_get_f64(p, "loss", 0), 100 * jx_get_f64(p, "rate", 0),
		100 * jx_get_f64(p, "low", 0), 100 * jx_get_f64(p, "high", 0));
}

/* Mean tokens of a model's answers; 0 when nobody counted. */
static double length_of(const json_t *models, const char *run, const char *name)
{
	const json_t *m, *metrics;
	size_t i;

	json_array_foreach(models, i, m)
	{
		metrics = json_object_get(m, "metrics");
		if (!strcmp(jx_get_str(m, "run", ""), run) &&
		    !strcmp(jx_get_str(m, "name", ""), name))
			return jx_get_f64(metrics, "length.sampled",
					  jx_get_f64(metrics, "length.greedy", 0));
	}
	return 0;
}

/* Judges prefer length: a gain that came with it is doubtful. `models`: all, also those not shown.
 */
static void warn_of_length(const json_t *models, const json_t *pairs, const struct style *s)
{
	const json_t *p;
	size_t i;

	json_array_foreach(pairs, i, p)
	{
		const char *run = jx_get_str(p, "run", ""), *a = jx_get_str(p, "a", ""),
			   *b = jx_get_str(p, "b", "");
		double now = length_of(models, run, a), before = length_of(models, run, b);
		if (jx_get_f64(p, "rate", 0) > 0.5 && before > 0 && now / before - 1 > GREW)
			printf("%sWin rate and length moved together: %s wins %.0f %% against %s, "
			       "and its answers "
			       "are %.0f %% longer (%.0f against %.0f tokens).\n",
			       s->markdown ? "\n> " : "\n", a, 100 * jx_get_f64(p, "rate", 0), b,
			       100 * (now / before - 1), now, before);
	}
}

int cmd_eval_compare(struct cli *c, int argc, char **argv)
{
	struct opt_list models = {0};
	struct style s = {0};
	const struct opt opts[] = {{"--markdown", OPT_FLAG, &s.markdown},
				   {"--model", OPT_LIST, &models}};
	struct err e;
	json_t *answer, *all;
	struct buf path = BUF_INIT;
	int code = opt_parse(opts, 2, &argc, argv, 1, 16);

	if (code)
		return code;
	buf_puts(&path, "compare?run=");
	for (int i = 0; i < argc; i++) {
		char *q = url_quote(argv[i]);
		buf_printf(&path, "%s%s", i ? "," : "", q);
		free(q);
	}
	s.runs = argc > 1;
	if (api(c, "GET", path.data, NULL, &answer, &e)) {
		code = fail(&e);
	} else {
		all = json_copy(json_object_get(answer, "models"));
		choose(json_object_get(answer, "models"), &models, "name");
		choose(json_object_get(answer, "pairs"), &models, "a");
		if (c->json) {
			json_print(answer);
		} else {
			print_metrics(json_object_get(answer, "models"), &s);
			print_pairs(json_object_get(answer, "pairs"), &s);
			warn_of_length(all, json_object_get(answer, "pairs"), &s);
		}
		json_decref(all);
	}
	json_decref(answer);
	buf_release(&path);
	return code;
}
