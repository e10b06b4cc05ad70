/* run cost: what of a run's work lives on and what was lost, stage by stage. */
#include "cli/cli.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

enum rc get_attempts(struct cli *c, const char *run, json_t **items, struct err *e)
{
	char *q = url_quote(run), *path = mem_printf("runs/%s/attempts", q);
	json_t *answer = NULL;
	enum rc rc = api(c, "GET", path, NULL, &answer, e);

	*items = rc ? NULL : json_incref(json_object_get(answer, "items"));
	json_decref(answer);
	free(path);
	free(q);
	return rc;
}

int64_t time_ms(const json_t *obj, const char *key)
{
	const char *text = jx_get_str(obj, key, "");
	int64_t ms = 0;

	return clk_parse(text, strlen(text), &ms) ? ms : 0;
}

static void count(json_t *row, const char *key, int64_t by)
{
	json_object_set_new(row, key, json_integer(jx_get_i64(row, key, 0) + by));
}

/* {"iter","stage","attempts","torn_off","open","useful_ms","lost_ms","open_ms"}, in the order of
 * the first attempt of each. */
static json_t *by_stage(const json_t *attempts)
{
	json_t *rows = json_array(), *index = json_object();
	const json_t *a;
	size_t i;

	json_array_foreach(attempts, i, a)
	{
		const char *end = jx_get_str(a, "end", "");
		char key[64];
		json_t *row;

		str_fmt(key, sizeof(key), "%lld.%.40s", (long long)jx_get_i64(a, "iter", 0),
			jx_get_str(a, "stage", "?"));
		row = json_object_get(index, key);
		if (!row) {
			row = json_pack("{s:O?, s:O?}", "iter", json_object_get(a, "iter"), "stage",
					json_object_get(a, "stage"));
			json_object_set_new(index, key, row);
			json_array_append(rows, row);
		}
		count(row, "attempts", 1);
		count(row, "torn_off", !strcmp(end, "preempted") || !strcmp(end, "lease_lost"));
		count(row, "useful_ms", jx_get_i64(a, "useful_ms", 0));
		count(row, "lost_ms", jx_get_i64(a, "lost_ms", 0));
		if (!*end && time_ms(a, "started_at"))
			count(row, "open_ms", clk_now_ms() - time_ms(a, "started_at"));
	}
	json_decref(index);
	return rows;
}

static void hours(json_t *row, const char *to, int64_t ms)
{
	char text[32];

	str_fmt(text, sizeof(text), "%.3f", (double)ms / 3.6e6);
	json_object_set_new(row, to, json_string(text));
}

static void share(json_t *row, const char *to, double part, double of)
{
	char text[16];

	str_fmt(text, sizeof(text), "%.1f %%", of > 0 ? 100 * part / of : 0.0);
	json_object_set_new(row, to, json_string(of > 0 ? text : "-"));
}

static void print_stages(json_t *rows)
{
	static const char *const columns[] = {
		"ITER:iter",	     "STAGE:stage",	"ATTEMPTS:attempts",
		"TORN OFF:torn_off", "USEFUL h:useful", "LOST h:lost",
		"RUNNING h:open",    "LOST:share",	NULL};
	json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		int64_t useful = jx_get_i64(row, "useful_ms", 0),
			lost = jx_get_i64(row, "lost_ms", 0);
		hours(row, "useful", useful);
		hours(row, "lost", lost);
		hours(row, "open", jx_get_i64(row, "open_ms", 0));
		share(row, "share", (double)lost, (double)(useful + lost));
	}
	table_print(stdout, rows, columns);
}

/* Money only where workers told a price: unknown is not free. */
static void print_total(const json_t *run)
{
	double useful = jx_get_f64(run, "useful_s", 0), lost = jx_get_f64(run, "lost_s", 0);
	double paid = jx_get_f64(run, "useful_cost", 0), wasted = jx_get_f64(run, "lost_cost", 0);

	printf("useful     %.3f h of workers (%.0f s)\n", useful / 3600, useful);
	printf("lost       %.3f h (%.0f s), %lld attempts torn off\n", lost / 3600, lost,
	       (long long)jx_get_i64(run, "torn_off", 0));
	if (useful + lost > 0)
		printf("goodput    %.1f %%\n", 100 * useful / (useful + lost));
	if (paid + wasted > 0)
		printf("cost       %.2f, of which %.2f lost\n", paid + wasted, wasted);
	else
		puts("cost       unknown: no worker told its price (--worker-price-per-hour)");
}

int cmd_run_cost(struct cli *c, int argc, char **argv)
{
	json_t *run = NULL, *attempts = NULL, *rows, *v;
	struct err e;
	int code = opt_parse(NULL, 0, &argc, argv, 1, 1);

	if (code)
		return code;
	if (get_run(c, argv[0], &run, &e) || get_attempts(c, argv[0], &attempts, &e)) {
		code = fail(&e);
	} else {
		rows = by_stage(attempts);
		if (c->json) {
			v = json_pack("{s:O?, s:O?, s:O?, s:O?, s:O?, s:O?, s:O}", "run",
				      json_object_get(run, "id"), "useful_s",
				      json_object_get(run, "useful_s"), "lost_s",
				      json_object_get(run, "lost_s"), "useful_cost",
				      json_object_get(run, "useful_cost"), "lost_cost",
				      json_object_get(run, "lost_cost"), "torn_off",
				      json_object_get(run, "torn_off"), "stages", rows);
			json_print(v);
			json_decref(v);
		} else {
			print_total(run);
			putchar('\n');
			print_stages(rows);
		}
		json_decref(rows);
	}
	json_decref(attempts);
	json_decref(run);
	return code;
}
