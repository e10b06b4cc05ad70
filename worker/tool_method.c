/* `pawl-worker method <tool>`: the rules of the method as filters over JSON lines, for looking at
 * data by hand and for comparing with other implementations. One object in, one object out.
 *
 *   judge-parse [--template NAME]   {"text","finish"}                    -> {"score","reason"}
 *   pairs [--min-valid N] [--length-control R] [--max-tokens N]
 *                                   {"id","candidates":[{"text","tokens","finish","scores":[]}]}
 *                                                              -> {"id","chosen","rejected","drop"}
 *   rouge [--unicode]               {"a","b"}                -> {"f","lcs","len_a","len_b"}
 *   rank [--max S]                  {"human_rank":[],"score":[x|null]}   -> running totals
 *   filter [--pool FILE] [--rouge-max X] [--any-script] [--capitalize]
 *                                   {"instruction"} or {"text","finish"} -> {"results":[...]}
 */
#include "worker/tools.h"

#include "base/jsonl.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/method/judge_template.h"
#include "worker/method/pairs.h"
#include "worker/method/rank.h"
#include "worker/method/rouge.h"
#include "worker/method/selfinstruct.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES (16u << 20)
#define LIST_MAX 4096
#define WORDS_BYTES_MAX (256u << 10)

struct method_tool {
	struct judge_template tmpl;
	struct pair_rule rule;
	enum rouge_mode mode;
	struct rank_tally tally;
	int64_t max_milli;
	struct si_rules si;
	struct si_pool *pool;
	const char *pool_file, *template_name;
};

/* --- tools ----------------------------------------------------------------------------------- */

static bool finished(const json_t *row)
{
	return strcmp(jx_get_str(row, "finish", "stop"), "stop") == 0;
}

static enum rc run_judge_parse(struct method_tool *t, const json_t *row, json_t **out,
			       struct err *e)
{
	const char *text;
	struct judge_score s;
	enum rc rc = jx_str(row, "text", &text, e);

	if (rc != RC_OK)
		return rc;
	s = judge_parse(&t->tmpl.rule, text, strlen(text), finished(row));
	if (s.reason == JUDGE_OK)
		*out = json_pack("{s:o, s:n}", "score",
				 s.milli % 1000 ? json_real((double)s.milli / 1000)
						: json_integer(s.milli / 1000),
				 "reason");
	else
		*out = json_pack("{s:n, s:s}", "score", "reason", judge_reason_text(s.reason));
	return RC_OK;
}

static enum rc read_candidate(const json_t *v, struct pair_candidate *c, struct err *e)
{
	const json_t *tokens = json_object_get(v, "tokens"), *score;
	int32_t *ids;
	json_t *scores;
	size_t i;
	enum rc rc;

	if ((rc = jx_str(v, "text", &c->text, e)) != RC_OK ||
	    (rc = jx_arr(v, "scores", &scores, e)) != RC_OK)
		return rc;
	ids = mem_array(json_array_size(tokens) + 1, sizeof(*ids));
	c->tokens = ids;
	c->n_tokens = (int)json_array_size(tokens);
	for (int k = 0; k < c->n_tokens; k++)
		ids[k] = (int32_t)json_integer_value(json_array_get(tokens, (size_t)k));
	c->finished = finished(v);
	json_array_foreach(scores, i, score) {
		double points = json_number_value(score);
		if (json_is_number(score) && points >= 0 && points <= 1000)
			pair_mean_add(&c->mean, llround(points * 1000));
	}
	return RC_OK;
}

static json_t *place(int at)
{
	return at < 0 ? json_null() : json_integer(at);
}

static enum rc run_pairs(struct method_tool *t, const json_t *row, json_t **out, struct err *e)
{
	struct pair_candidate *list;
	struct pair_pick pick;
	json_t *in, *shown = json_array();
	enum rc rc = jx_arr(row, "candidates", &in, e);
	int n = rc == RC_OK ? (int)json_array_size(in) : 0;

	if (n > LIST_MAX)
		rc = err_set(e, RC_INVALID, "%d candidates, at most %d", n, LIST_MAX);
	list = mem_array((size_t)n + 1, sizeof(*list));
	for (int i = 0; rc == RC_OK && i < n; i++)
		rc = read_candidate(json_array_get(in, (size_t)i), &list[i], e);
	if (rc == RC_OK) {
		pick = pair_pick(&t->rule, list, n);
		for (int i = 0; i < n; i++)
			json_array_append_new(
				shown,
				json_pack("{s:o, s:i, s:s}", "mean",
					  list[i].mean.n ? json_real(pair_mean_value(&list[i].mean))
							 : json_null(),
					  "valid", list[i].mean.n, "out",
					  pair_drop_text(list[i].out)));
		*out = json_pack("{s:O?, s:o, s:o, s:o, s:O}", "id", json_object_get(row, "id"),
				 "chosen", place(pick.chosen), "rejected", place(pick.rejected),
				 "drop",
				 pick.drop == PAIR_NONE ? json_null()
							: json_string(pair_drop_text(pick.drop)),
				 "candidates", shown);
	}
	for (int i = 0; i < n; i++)
		free((void *)(uintptr_t)list[i].tokens);
	free(list);
	json_decref(shown);
	return rc;
}

static enum rc run_rouge(struct method_tool *t, const json_t *row, json_t **out, struct err *e)
{
	const char *a, *b;
	struct rouge_pair p;
	enum rc rc;

	if ((rc = jx_str(row, "a", &a, e)) != RC_OK || (rc = jx_str(row, "b", &b, e)) != RC_OK)
		return rc;
	if (strlen(a) > WORDS_BYTES_MAX || strlen(b) > WORDS_BYTES_MAX)
		return err_set(e, RC_INVALID, "texts of at most %u bytes", WORDS_BYTES_MAX);
	p = rouge_compare(t->mode, a, b);
	*out = json_pack("{s:f, s:i, s:i, s:i}", "f", p.f, "lcs", p.lcs, "len_a", p.len_a, "len_b",
			 p.len_b);
	return RC_OK;
}

static json_t *real_or_null(double v)
{
	return isnan(v) ? json_null() : json_real(v);
}

static enum rc run_rank(struct method_tool *t, const json_t *row, json_t **out, struct err *e)
{
	json_t *ranks, *scores;
	int human[LIST_MAX];
	static struct rank_score score[LIST_MAX];
	enum rc rc;

	if ((rc = jx_arr(row, "human_rank", &ranks, e)) != RC_OK ||
	    (rc = jx_arr(row, "score", &scores, e)) != RC_OK)
		return rc;
	size_t n = json_array_size(ranks);
	if (n > LIST_MAX || n != json_array_size(scores))
		return err_set(
			e, RC_INVALID,
			"human_rank has %zu entries, score %zu: expected as many, at most %d", n,
			json_array_size(scores), LIST_MAX);
	for (size_t i = 0; i < n; i++) {
		const json_t *s = json_array_get(scores, i);
		human[i] = (int)json_integer_value(json_array_get(ranks, i));
		/* Thirds and sixths stay exact as sums over six judgements. */
		score[i] = (struct rank_score){llround(json_number_value(s) * 6000),
					       json_is_number(s) ? 6 : 0};
	}
	rank_tally_add(&t->tally, human, score, (int)n, t->max_milli);
	struct rank_result r = rank_tally_result(&t->tally);
	*out = json_pack(
		"{s:I, s:I, s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "instructions",
		(json_int_t)r.instructions, "pairs", (json_int_t)r.pairs, "pairwise_accuracy",
		real_or_null(r.pairwise), "exact_match", real_or_null(r.exact), "five_best",
		real_or_null(r.five_best), "five_best_n", (json_int_t)r.five_best_n, "spearman",
		real_or_null(r.spearman), "kendall", real_or_null(r.kendall), "spearman_pooled",
		real_or_null(r.spearman_pooled), "kendall_pooled", real_or_null(r.kendall_pooled),
		"ties", real_or_null(r.ties), "coverage", real_or_null(r.coverage));
	return RC_OK;
}

static void judge_one(struct method_tool *t, const char *raw, json_t *results)
{
	char *text = si_clean(&t->si, raw);
	double f;
	enum si_reason why = si_pool_try(t->pool, text, &f);

	json_array_append_new(results, json_pack("{s:s, s:s, s:f}", "instruction", text, "verdict",
						 si_reason_text(why), "similarity", f));
	free(text);
}

static enum rc run_filter(struct method_tool *t, const json_t *row, json_t **out, struct err *e)
{
	const char *text = NULL, *one = jx_get_str(row, "instruction", NULL);
	json_t *results = json_array();
	char *items[SI_ITEMS_MAX];
	enum rc rc = one ? RC_OK : jx_str(row, "text", &text, e);

	if (rc == RC_OK && one) {
		judge_one(t, one, results);
	} else if (rc == RC_OK) {
		size_t len = strlen(text), cut = si_cut(text, len);
		int n = finished(row) || cut < len ? si_split(text, cut, items) : 0;
		for (int i = 0; i < n; i++) {
			judge_one(t, items[i], results);
			free(items[i]);
		}
		if (n == 0)
			json_array_append_new(results, json_pack("{s:s}", "verdict",
								 si_reason_text(SI_UNFINISHED)));
	}
	*out = json_pack("{s:o}", "results", results);
	return rc;
}

/* --- options --------------------------------------------------------------------------------- */

static enum rc set_number(const char *flag, const char *value, double min, double max, double *out,
			  struct err *e)
{
	if (!value || !str_to_f64(value, out) || !(*out >= min && *out <= max))
		return err_set(e, RC_INVALID, "%s: expected a number from %g to %g", flag, min,
			       max);
	return RC_OK;
}

/* Returns through *used how many words it took. */
static enum rc set_option(struct method_tool *t, const char *flag, const char *value, int *used,
			  struct err *e)
{
	double v = 0;
	enum rc rc = RC_OK;

	*used = 2;
	if (strcmp(flag, "--unicode") == 0) {
		t->mode = ROUGE_UNICODE;
		*used = 1;
	} else if (strcmp(flag, "--any-script") == 0) {
		t->si.any_script = true;
		*used = 1;
	} else if (strcmp(flag, "--capitalize") == 0) {
		t->si.capitalize = true;
		*used = 1;
	} else if (strcmp(flag, "--template") == 0 && value) {
		t->template_name = value;
	} else if (strcmp(flag, "--pool") == 0 && value) {
		t->pool_file = value;
	} else if (strcmp(flag, "--rouge-max") == 0) {
		rc = set_number(flag, value, 0, 1, &t->si.rouge_max, e);
	} else if (strcmp(flag, "--min-valid") == 0) {
		rc = set_number(flag, value, 1, 1000, &v, e);
		t->rule.min_valid = (int)v;
	} else if (strcmp(flag, "--max-tokens") == 0) {
		rc = set_number(flag, value, 0, 1e6, &v, e);
		t->rule.max_tokens = (int)v;
	} else if (strcmp(flag, "--length-control") == 0) {
		rc = set_number(flag, value, 0, 0.499999, &v, e);
		t->rule.rho_ppm = llround(v * 1e6);
	} else if (strcmp(flag, "--max") == 0) {
		rc = set_number(flag, value, 0, 1000, &v, e);
		t->max_milli = llround(v * 1000);
	} else {
		rc = err_set(e, RC_INVALID, "unknown option %s", flag);
	}
	return rc;
}

static enum rc fill_pool(struct method_tool *t, struct err *e)
{
	struct jsonl *r = NULL;
	json_t *row;
	enum rc rc;

	t->pool = si_pool_new(&t->si);
	if (!t->pool_file)
		return RC_OK;
	rc = jsonl_open(t->pool_file, &r, e);
	while (rc == RC_OK && (rc = jsonl_next(r, &row, e)) == RC_OK && row) {
		si_pool_seed(t->pool,
			     jx_get_str(row, "instruction", jx_get_str(row, "prompt", "")));
		json_decref(row);
	}
	jsonl_close(r);
	return rc;
}

/* --- the loop -------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	enum rc (*run)(struct method_tool *t, const json_t *row, json_t **out, struct err *e);
} method_tools[] = {
	{"judge-parse", run_judge_parse}, {"pairs", run_pairs}, {"rouge", run_rouge},
	{"rank", run_rank},               {"filter", run_filter},
};

#define N_TOOLS (sizeof(method_tools) / sizeof(method_tools[0]))

static enum rc one_line(struct method_tool *t, size_t tool, const char *line, size_t len,
			struct err *e)
{
	json_t *row = NULL, *out = NULL;
	enum rc rc = jx_parse(line, len, "standard input", &row, e);

	if (rc == RC_OK)
		rc = method_tools[tool].run(t, row, &out, e);
	if (rc == RC_OK) {
		char *text = jx_text(out);
		puts(text);
		free(text);
	}
	json_decref(out);
	json_decref(row);
	return rc;
}

static enum rc all_lines(struct method_tool *t, size_t tool, struct err *e)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t len;
	int64_t at = 0;
	enum rc rc = RC_OK;

	while (rc == RC_OK && (len = getline(&line, &cap, stdin)) > 0) {
		at++;
		if ((size_t)len > LINE_MAX_BYTES)
			rc = err_set(e, RC_INVALID, "%zd bytes, at most %u", len, LINE_MAX_BYTES);
		else if (str_trim((struct str){line, (size_t)len}).len > 0)
			rc = one_line(t, tool, line, (size_t)len, e);
		if (rc != RC_OK)
			err_wrap(e, "line %lld", (long long)at);
	}
	free(line);
	return rc;
}

static int usage(void)
{
	fputs("usage: pawl-worker method TOOL [options] < rows.jsonl\ntools:", stderr);
	for (size_t i = 0; i < N_TOOLS; i++)
		fprintf(stderr, " %s", method_tools[i].name);
	fputs("\n", stderr);
	return 64;
}

int tool_method_main(int argc, char **argv)
{
	struct method_tool t = {.rule = {.min_valid = 1}, .max_milli = 5000, .si = si_rules_default,
				.template_name = JUDGE_TEMPLATE_DEFAULT};
	struct err e = {0};
	size_t tool = 0;
	enum rc rc = RC_OK;

	while (argc > 1 && tool < N_TOOLS && strcmp(method_tools[tool].name, argv[1]) != 0)
		tool++;
	if (argc < 2 || tool == N_TOOLS)
		return usage();
	for (int i = 2, used; rc == RC_OK && i < argc; i += used)
		rc = set_option(&t, argv[i], i + 1 < argc ? argv[i + 1] : NULL, &used, &e);
	if (rc == RC_OK)
		rc = judge_template_named(t.template_name, &t.tmpl, &e);
	if (rc == RC_OK)
		rc = fill_pool(&t, &e);
	rank_tally_init(&t.tally);
	if (rc == RC_OK)
		rc = all_lines(&t, tool, &e);
	if (t.pool && rc == RC_OK) {
		int64_t run, asked;

		si_pool_stats(t.pool, &run, &asked);
		if (asked > 0)
			fprintf(stderr, "comparisons: %lld, settled by the bounds: %lld\n",
				(long long)asked, (long long)(asked - run));
	}
	if (rc != RC_OK)
		fprintf(stderr, "pawl-worker method: %s\n", e.text);
	rank_tally_release(&t.tally);
	si_pool_free(t.pool);
	judge_template_release(&t.tmpl);
	return rc == RC_OK ? 0 : 65;
}
