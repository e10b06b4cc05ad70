/* What a model still knows: benchmarks by likelihood or by exact answer, and the likelihood of
 * held-out answers. The alignment tax is their fall from one model to the next.
 *
 * in   model, bench (rows of worker/method/bench.h with "id" and "set"); params.name
 * out  bench {"id","set","kind","correct"|null,"correct_norm"|null,"nll","tokens","said",
 *      "grades"}
 * A choice is picked by the likelihood of its text as the answer to the question in the model's
 * chat template; "norm" divides it by the text's characters. An exact answer is generated greedily
 * and read by bench_number(). Conversations are those of bench_chat.h.
 * Figures bench.<set>.accuracy, .accuracy_norm, .nll (per token), .n
 */
#include "worker/stages/stages.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/method/bench.h"
#include "worker/stage.h"
#include "worker/stages/bench_chat.h"
#include "worker/stages/textgen.h"
#include "worker/stages/training.h"
#include "worker/train/scorer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BENCH_ROWS_MAX (4u << 20)
#define BENCH_CHUNK 16

struct bench {
	struct stage_ctx *ctx;
	struct training t; /* model, tokenizer and template; never trained */
	struct scorer *scorer;
	struct textgen *gen; /* opened when a row wants an exact answer */
	json_t *rows;
	struct bench_chat chat; /* opened at the first conversation */
	int max_new, max_length;
	struct stage_rows out;
};

/* --- by likelihood --------------------------------------------------------------------------- */

/* Sum over the answer's tokens; NaN when it is too long. */
static enum rc likelihood(struct bench *b, const char *question, const char *answer, double *sum,
			  int *n_tokens, struct err *e)
{
	struct tokens p = TOKENS_INIT, r = TOKENS_INIT;
	enum rc rc = template_prompt(b->t.tmpl, NULL, question, &p, e);

	*sum = NAN;
	*n_tokens = 0;
	if (rc == RC_OK)
		rc = template_response(b->t.tmpl, answer, &r, e);
	if (rc == RC_OK && p.n + r.n <= (size_t)b->max_length) {
		struct train_example x = {p.ids, r.ids, (int)p.n, (int)r.n, 1};

		rc = scorer_examples(b->scorer, &x, 1, sum, e);
		stage_tokens(b->ctx, x.n_prompt + x.n_response);
		*n_tokens = (int)r.n;
	}
	tokens_release(&p);
	tokens_release(&r);
	return rc;
}

static double characters(const char *text)
{
	double n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

static enum rc choose(struct bench *b, const json_t *row, json_t *out, struct err *e)
{
	const json_t *choices = json_object_get(row, "choices");
	double best = -INFINITY, best_norm = -INFINITY;
	int64_t pick = -1, pick_norm = -1, want = jx_get_i64(row, "answer", -1);
	enum rc rc = RC_OK;

	for (size_t i = 0; rc == RC_OK && i < json_array_size(choices); i++) {
		const char *text = json_string_value(json_array_get(choices, i));
		double sum;
		int n;

		rc = likelihood(b, jx_get_str(row, "question", ""), text, &sum, &n, e);
		if (sum > best) {
			best = sum;
			pick = (int64_t)i;
		}
		if (sum / characters(text) > best_norm) {
			best_norm = sum / characters(text);
			pick_norm = (int64_t)i;
		}
	}
	json_object_set_new(out, "correct", pick < 0 ? json_null() : json_boolean(pick == want));
	json_object_set_new(out, "correct_norm",
			    pick_norm < 0 ? json_null() : json_boolean(pick_norm == want));
	return rc;
}

static enum rc held_out(struct bench *b, const json_t *row, json_t *out, struct err *e)
{
	double sum;
	int n;
	enum rc rc = likelihood(b, jx_get_str(row, "question", ""), jx_get_str(row, "response", ""),
				&sum, &n, e);

	if (rc == RC_OK && isfinite(sum)) {
		json_object_set_new(out, "nll", json_real(-sum));
		json_object_set_new(out, "tokens", json_integer(n));
	}
	return rc;
}

/* --- by exact answer ------------------------------------------------------------------------- */

static enum rc open_textgen(struct bench *b, struct err *e)
{
	return b->gen ? RC_OK
		      : textgen_open(b->ctx, stage_in(b->ctx, "model"),
				     jx_get_str(b->ctx->spec, "template", "plain"), &b->gen, e);
}

static enum rc open_chat(struct bench *b, struct err *e)
{
	enum rc rc = open_textgen(b, e);

	if (rc != RC_OK || b->chat.ctx)
		return rc;
	rc = bench_chat_open(&b->chat, b->ctx, b->gen, b->max_new, e);
	if (rc == RC_OK)
		asker_charges_load(&b->chat.asker, b->out.state);
	return rc;
}

static enum rc converse(struct bench *b, const json_t *row, json_t *out, struct err *e)
{
	enum rc rc = open_chat(b, e);

	return rc == RC_OK ? bench_chat_row(&b->chat, row, out, e) : rc;
}

static enum rc exact(struct bench *b, const json_t *row, json_t *out, struct err *e)
{
	struct textgen_req q = {.prompt = jx_get_str(row, "question", ""),
				.sampling = {.top_p = 1, .max_new = b->max_new},
				.stage = RNG_EVAL,
				.iter = (uint32_t)b->ctx->iter,
				.item = stage_item(jx_get_str(row, "id", "")),
				.n = 1};
	char number[BENCH_NUMBER_MAX];
	enum rc rc = open_textgen(b, e);
	int index;

	if (rc != RC_OK)
		return rc;
	textgen_clear(b->gen);
	if ((rc = textgen_add(b->gen, &q, &index, e)) != RC_OK ||
	    (rc = textgen_run(b->gen, e)) != RC_OK)
		return rc;
	const struct textgen_result *r = textgen_result(b->gen, index, 0);
	bool ok =
		bench_number(r->text, number) && strcmp(number, jx_get_str(row, "answer", "")) == 0;
	json_object_set_new(out, "correct", json_boolean(ok));
	json_object_set_new(out, "said", json_string(r->text));
	return RC_OK;
}

/* --- the stage ------------------------------------------------------------------------------- */

static enum rc one_row(struct bench *b, const json_t *row, struct err *e)
{
	const char *kind = jx_get_str(row, "kind", "");
	json_t *out = json_pack("{s:s, s:s, s:s}", "id", jx_get_str(row, "id", ""), "set",
				jx_get_str(row, "set", ""), "kind", kind);
	enum rc rc = strcmp(kind, "choice") == 0  ? choose(b, row, out, e)
		     : strcmp(kind, "exact") == 0 ? exact(b, row, out, e)
		     : strcmp(kind, "chat") == 0  ? converse(b, row, out, e)
						  : held_out(b, row, out, e);

	if (json_object_get(row, "category"))
		json_object_set(out, "category", json_object_get(row, "category"));
	if (rc == RC_OK)
		rc = stage_rows_add(&b->out, out, e);
	json_decref(out);
	return rc == RC_OK ? RC_OK : err_wrap(e, "%s", jx_get_str(row, "id", "?"));
}

struct tally {
	int64_t n, right, n_norm, right_norm, tokens;
	struct bench_grades grades;
	json_t *categories; /* owned; see add_category() */
	double nll;
};

/* {category: {"n","mean"}}: of grades, or of right answers. */
static void count_in(json_t *categories, const char *name, double value)
{
	json_t *entry = json_object_get(categories, name);
	double had = jx_get_f64(entry, "mean", 0), n = (double)jx_get_i64(entry, "n", 0);

	json_object_set_new(categories, name,
			    json_pack("{s:I, s:f}", "n", (json_int_t)n + 1, "mean",
				      (had * n + value) / (n + 1)));
}

static void add_category(struct tally *t, const json_t *row)
{
	const char *name = jx_get_str(row, "category", NULL);
	const json_t *ok = json_object_get(row, "correct"), *grade;
	size_t i;

	if (!name)
		return;
	if (!t->categories)
		t->categories = json_object();
	if (json_is_boolean(ok))
		count_in(t->categories, name, json_is_true(ok));
	json_array_foreach(json_object_get(row, "grades"), i, grade)
		if (json_is_number(grade))
			count_in(t->categories, name, json_number_value(grade));
}

/* Takes t->categories. */
static void report_set(struct bench *b, const char *set, const struct tally *t)
{
	const struct {
		const char *name;
		double value;
	} list[] = {{"accuracy", t->n ? (double)t->right / (double)t->n : NAN},
		    {"accuracy_norm", t->n_norm ? (double)t->right_norm / (double)t->n_norm : NAN},
		    {"nll", t->tokens ? t->nll / (double)t->tokens : NAN}};
	char name[96];

	for (int i = 0; i < 3; i++) {
		str_fmt(name, sizeof name, "bench.%.60s.%s", set, list[i].name);
		if (isfinite(list[i].value))
			stage_final(b->ctx, name, json_real(list[i].value));
	}
	bench_grades_report(&t->grades, b->ctx, set);
	if (t->categories) {
		str_fmt(name, sizeof name, "bench.%.60s.categories", set);
		stage_final(b->ctx, name, t->categories);
	}
	str_fmt(name, sizeof name, "bench.%.60s.n", set);
	stage_final(b->ctx, name, json_integer(t->n));
}

/* Sets come one after the other. */
static void report(struct bench *b, const json_t *all)
{
	struct tally t = {0};
	const json_t *row;
	size_t i, n = json_array_size(all);

	json_array_foreach((json_t *)(uintptr_t)all, i, row)
	{
		const json_t *ok = json_object_get(row, "correct"),
			     *norm = json_object_get(row, "correct_norm");
		const char *set = jx_get_str(row, "set", "");

		t.n += json_is_boolean(ok);
		t.right += json_is_true(ok);
		t.n_norm += json_is_boolean(norm);
		t.right_norm += json_is_true(norm);
		bench_grades_add(&t.grades, json_object_get(row, "grades"));
		add_category(&t, row);
		t.nll += jx_get_f64(row, "nll", 0);
		t.tokens += jx_get_i64(row, "tokens", 0);
		if (i + 1 < n &&
		    strcmp(set, jx_get_str(json_array_get(all, i + 1), "set", "")) == 0)
			continue;
		report_set(b, set, &t);
		t = (struct tally){0};
	}
}

static enum rc open_bench(struct bench *b, struct err *e)
{
	struct scorer_opts o = {.micro_tokens = 0, .ld_alpha = 1};
	enum rc rc = stage_in_rows(b->ctx, "bench", BENCH_ROWS_MAX, &b->rows, e);

	if (rc == RC_OK)
		rc = training_open(&b->t, b->ctx, "eval", "model", e);
	if (rc != RC_OK)
		return rc;
	b->max_new = (int)jx_get_i64(stage_section(b->ctx, "eval"), "max_new_tokens", 256);
	b->max_length = b->t.model->cfg.max_pos;
	o.format = strcmp(b->t.format, "bf16") == 0 ? KERN_BF16 : KERN_F32;
	o.max_length = b->max_length;
	o.tensor = training_tensor(&b->t);
	rc = scorer_new(b->t.model, stage_kern(b->ctx), stage_pool(b->ctx), &o, &b->scorer, e);
	if (rc == RC_OK)
		rc = stage_rows_open(b->ctx, "bench", &b->out, e);
	return rc == RC_OK && b->out.state ? open_chat(b, e) : rc; /* What was charged goes on. */
}

enum rc stage_bench(struct stage_ctx *ctx, struct err *e)
{
	struct bench b = {.ctx = ctx, .out.fd = -1};
	enum rc rc = open_bench(&b, e);
	size_t n = json_array_size(b.rows);
	json_t *all = NULL;

	for (size_t at = (size_t)b.out.n; rc == RC_OK && at < n; at += BENCH_CHUNK) {
		size_t end = at + BENCH_CHUNK < n ? at + BENCH_CHUNK : n;

		for (size_t i = at; rc == RC_OK && i < end; i++)
			rc = one_row(&b, json_array_get(b.rows, i), e);
		stage_progress(ctx, (int64_t)end, (int64_t)n, "questions");
		if (rc == RC_OK)
			rc = stage_rows_mark(&b.out, asker_charges(&b.chat.asker), e);
	}
	if (rc == RC_OK)
		rc = stage_rows_load(&b.out, &all, e);
	if (rc == RC_OK) {
		report(&b, all);
		asker_report(&b.chat.asker, ctx, "bench");
		rc = stage_rows_finish(
			&b.out, json_pack("{s:s}", "name", jx_get_str(ctx->params, "name", "")), e);
	}
	json_decref(all);
	stage_rows_release(&b.out);
	bench_chat_close(&b.chat);
	textgen_close(b.gen);
	scorer_free(b.scorer);
	training_close(&b.t);
	json_decref(b.rows);
	return rc;
}
