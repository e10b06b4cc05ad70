/* Pairs of self-play (SPIN, Chen et al. 2024): the human answer is chosen, the model's own rejected. No
 * judge says anything.
 *
 * in   responses.<s> (one candidate each, to the prompts of ift), ift {"id","prompt","response"}, model
 *      (its tokenizer)
 * out  pairs and samples as those of `pair`; scores are 1 and 0, made up
 * An answer is left out when it is empty, unfinished, or says what the human said.
 */
#include "worker/stages/stages.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "worker/method/pairs.h"
#include "worker/model/template.h"
#include "worker/model/token.h"
#include "worker/stage.h"

#include <string.h>

#define SPIN_ROWS_MAX (4u << 20)

struct spin {
	struct stage_ctx *ctx;
	struct tokenizer *tok;
	struct template *tmpl;
	json_t *human; /* {id: row of ift}; owned */
	struct stage_rows pairs, samples;
	int64_t rows, drop[PAIR_N_DROPS], chosen_tokens, rejected_tokens;
};

static enum rc load_human(struct spin *s, struct err *e)
{
	json_t *rows, *row;
	const char *id;
	size_t i;
	enum rc rc = stage_in_rows(s->ctx, "ift", SPIN_ROWS_MAX, &rows, e);

	s->human = json_object();
	if (rc != RC_OK)
		return rc;
	json_array_foreach(rows, i, row) {
		if (rc == RC_OK && (rc = jx_str(row, "id", &id, e)) == RC_OK)
			json_object_set(s->human, id, row);
	}
	json_decref(rows);
	return rc == RC_OK ? RC_OK : err_wrap(e, "input ift");
}

static json_t *tokens_of(const struct spin *s, const char *text, struct err *e)
{
	struct tokens t = TOKENS_INIT;
	json_t *list = NULL;

	if (template_response(s->tmpl, text, &t, e) == RC_OK) {
		list = json_array();
		for (size_t i = 0; i < t.n; i++)
			json_array_append_new(list, json_integer(t.ids[i]));
	}
	tokens_release(&t);
	return list;
}

static enum pair_drop drop_of(const json_t *own, const char *human, const json_t *human_tokens)
{
	const char *text = jx_get_str(own, "text", "");

	if (!own)
		return PAIR_TOO_FEW;
	if (!text[strspn(text, " \t\r\n")])
		return PAIR_EMPTY;
	if (strcmp(jx_get_str(own, "finish", "length"), "stop") != 0)
		return PAIR_UNFINISHED;
	if (strcmp(text, human) == 0 || json_equal(json_object_get(own, "tokens"), human_tokens))
		return PAIR_DUPLICATE;
	return PAIR_NONE;
}

static json_t *shown(int index, const char *text, const json_t *tokens, const char *finish)
{
	return json_pack("{s:i, s:s, s:i, s:s, s:n, s:n, s:i, s:[]}", "index", index, "text", text,
			 "n_tokens", (int)json_array_size(tokens), "finish", finish, "mean", "variance",
			 "valid", 0, "judgements");
}

static enum rc write_row(struct spin *s, const json_t *row, const char *human, json_t *tokens,
			 struct err *e)
{
	const json_t *own = json_array_get(json_object_get(row, "candidates"), 0);
	const char *text = jx_get_str(own, "text", "");
	enum pair_drop drop = drop_of(own, human, tokens);
	json_t *id = json_object_get(row, "id"), *prompt = json_object_get(row, "prompt"), *out;
	bool kept = drop == PAIR_NONE;

	s->drop[drop]++;
	out = json_pack("{s:O, s:O, s:[o, o], s:o, s:o, s:o}", "id", id, "prompt", prompt, "candidates",
			shown(0, human, tokens, "stop"),
			shown(1, text, json_object_get(own, "tokens"), jx_get_str(own, "finish", "length")),
			"chosen", kept ? json_integer(0) : json_null(), "rejected",
			kept ? json_integer(1) : json_null(), "drop",
			kept ? json_null() : json_string(pair_drop_text(drop)));
	enum rc rc = stage_rows_add(&s->samples, out, e);
	json_decref(out);
	if (rc != RC_OK || !kept)
		return rc;
	s->chosen_tokens += (int64_t)json_array_size(tokens);
	s->rejected_tokens += (int64_t)json_array_size(json_object_get(own, "tokens"));
	out = json_pack("{s:O, s:O, s:O?, s:{s:i, s:s, s:O, s:f}, s:{s:i, s:s, s:O, s:f}, s:f}", "id", id,
			"prompt", prompt, "prompt_tokens", json_object_get(row, "prompt_tokens"),
			"chosen", "index", 0, "text", human, "tokens", tokens, "score", 1.0, "rejected",
			"index", 1, "text", text, "tokens", json_object_get(own, "tokens"), "score", 0.0,
			"margin", 1.0);
	rc = stage_rows_add(&s->pairs, out, e);
	json_decref(out);
	return rc;
}

static enum rc one_row(struct spin *s, const json_t *row, struct err *e)
{
	const char *id, *human;
	enum rc rc = jx_str(row, "id", &id, e);
	json_t *tokens;

	if (rc != RC_OK)
		return rc;
	if (!json_object_get(s->human, id))
		return err_set(e, RC_INVALID, "ift has no row \"%s\"", id);
	if ((rc = jx_str(json_object_get(s->human, id), "response", &human, e)) != RC_OK)
		return rc;
	if (!(tokens = tokens_of(s, human, e)))
		return e ? e->code : RC_INVALID;
	s->rows++;
	rc = write_row(s, row, human, tokens, e);
	json_decref(tokens);
	return rc;
}

static enum rc one_shard(struct spin *s, const char *role, struct err *e)
{
	json_t *rows = NULL, *row;
	size_t i;
	enum rc rc = stage_in_rows(s->ctx, role, SPIN_ROWS_MAX, &rows, e);

	json_array_foreach(rows, i, row) {
		if (rc == RC_OK && (rc = one_row(s, row, e)) != RC_OK)
			err_wrap(e, "input %s: row %zu", role, i + 1);
	}
	json_decref(rows);
	return rc;
}

static enum rc finish(struct spin *s, struct err *e)
{
	json_t *f = json_pack("{s:I, s:I, s:s}", "prompts", (json_int_t)s->rows, "kept",
			      (json_int_t)s->drop[PAIR_NONE], "kind", "spin"), *v;
	const char *key;
	char name[64];
	double n = (double)s->drop[PAIR_NONE];

	for (int d = PAIR_TIE; d < PAIR_EXCLUDED; d++)
		json_object_set_new(f, pair_drop_text((enum pair_drop)d), json_integer(s->drop[d]));
	if (n > 0) {
		json_object_set_new(f, "chosen_len", json_real((double)s->chosen_tokens / n));
		json_object_set_new(f, "rejected_len", json_real((double)s->rejected_tokens / n));
	}
	json_object_foreach(f, key, v) {
		str_fmt(name, sizeof name, "pair.%s", key);
		stage_final(s->ctx, name, json_incref(v));
	}
	enum rc rc = stage_rows_finish(&s->pairs, json_deep_copy(f), e);
	return rc == RC_OK ? stage_rows_finish(&s->samples, f, e) : rc;
}

static enum rc open_spin(struct spin *s, struct err *e)
{
	const char *dir = stage_in(s->ctx, "model");
	enum rc rc = dir ? tokenizer_load(dir, &s->tok, e)
			 : err_set(e, RC_INVALID, "pair: input model is missing");

	if (rc == RC_OK)
		rc = template_open(jx_get_str(s->ctx->spec, "template", "plain"), s->tok, &s->tmpl, e);
	if (rc == RC_OK)
		rc = load_human(s, e);
	if (rc == RC_OK)
		rc = stage_rows_open(s->ctx, "pairs", &s->pairs, e);
	return rc == RC_OK ? stage_rows_open(s->ctx, "samples", &s->samples, e) : rc;
}

enum rc stage_pair_spin(struct stage_ctx *ctx, struct err *e)
{
	struct spin s = {.ctx = ctx, .pairs.fd = -1, .samples.fd = -1};
	char **roles = NULL;
	size_t n = 0;
	enum rc rc = open_spin(&s, e);

	if (rc == RC_OK)
		rc = stage_in_roles(ctx, "responses.", &roles, &n, e);
	if (rc == RC_OK && n == 0)
		rc = err_set(e, RC_INVALID, "job %s: input responses.* is missing", ctx->id);
	for (size_t i = 0; rc == RC_OK && i < n; i++)
		rc = one_shard(&s, roles[i], e);
	if (rc == RC_OK)
		rc = finish(&s, e);
	stage_rows_release(&s.pairs);
	stage_rows_release(&s.samples);
	fs_list_free(roles);
	template_free(s.tmpl);
	tokenizer_free(s.tok);
	json_decref(s.human);
	return rc;
}
