#include "worker/method/seed.h"
#include "base/jsonx.h"
#include "worker/method/uni.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *seed_role_name(enum seed_role r)
{
	static const char *const names[] = {"ift", "eft", "eval", "prompts", "test"};

	return names[r];
}

const char *seed_skip_text(enum seed_skip s)
{
	static const char *const names[] = {
#define X(name, text) text,
		SEED_SKIPS(X)
#undef X
	};

	return names[s];
}

static const char *const format_names[] = {"auto",   "oasst", "pairs", "ranked",
					   "scored", "judge", "chat",  "prompts"};

enum seed_format seed_format_of(const char *name)
{
	int f = 0;

	while (f < SEED_N_FORMATS && strcmp(format_names[f], name) != 0)
		f++;
	return (enum seed_format)f;
}

/* --- fields ---------------------------------------------------------------------------------- */

/* Names that data sets use for the same thing; the first present wins. */
static const char *const prompt_names[] = {"prompt",	  "instruction", "question",
					   "prompt_text", "query",	 NULL};
static const char *const response_names[] = {"response", "completion", "output", "answer",
					     "response_text", "chosen", NULL};
static const char *const id_names[] = {"id", "prompt_id", "message_id", "question_id", NULL};

static const char *present(const json_t *row, const char *const *names)
{
	for (; *names; names++)
		if (json_object_get(row, *names))
			return *names;
	return NULL;
}

static enum rc check_length(const char *name, const char *text, struct err *e)
{
	size_t len = strlen(text);

	if (len > SEED_TEXT_MAX)
		return err_set(e, RC_INVALID, "field \"%s\" has %zu bytes, at most %u", name, len,
			       SEED_TEXT_MAX);
	return RC_OK;
}

/* Borrowed text of the first of `names`. */
static enum rc text_of(const json_t *row, const char *const *names, const char *what,
		       const char **out, struct err *e)
{
	const char *name = present(row, names);
	enum rc rc;

	if (!name)
		return err_set(e, RC_INVALID,
			       "no %s: expected one of the fields \"%s\", \"%s\", \"%s\"", what,
			       names[0], names[1], names[2]);
	rc = jx_str(row, name, out, e);
	return rc == RC_OK ? check_length(name, *out, e) : rc;
}

/* Own id as text, or NULL. Numbers are ids too. */
static json_t *id_of(const json_t *row)
{
	const char *name = present(row, id_names);
	const json_t *v = name ? json_object_get(row, name) : NULL;

	if (json_is_string(v) && json_string_length(v) > 0 && json_string_length(v) <= 200)
		return json_string(json_string_value(v));
	if (json_is_integer(v))
		return json_sprintf("%lld", (long long)json_integer_value(v));
	return NULL;
}

static bool blank(const char *s)
{
	uint32_t cp;
	size_t len = strlen(s);

	for (size_t i = 0; i < len;) {
		i += (size_t)uni_next(s + i, len - i, &cp);
		if (!uni_is_space(cp))
			return false;
	}
	return true;
}

static bool skip(struct seed *s, enum seed_skip why)
{
	s->skipped[why]++;
	return true;
}

static void add_row(struct seed *s, json_t *row, json_t *id)
{
	if (id)
		json_object_set_new(row, "id", id);
	json_array_append_new(s->rows, row);
}

/* --- rows of one shape ----------------------------------------------------------------------- */

static void add_pair(struct seed *s, json_t *id, const char *prompt, const char *response,
		     const char *source)
{
	if (blank(prompt) || blank(response)) {
		skip(s, SEED_SKIP_EMPTY);
		json_decref(id);
		return;
	}
	add_row(s,
		json_pack("{s:s, s:s, s:s}", "prompt", prompt, "response", response, "source",
			  source),
		id);
}

/* Everything in a row but its id and prompt travels along. */
static void add_prompt(struct seed *s, const json_t *row, const char *prompt)
{
	json_t *meta = json_object(), *v;
	const char *key, *skip_a = present(row, id_names), *skip_b = present(row, prompt_names);

	if (blank(prompt)) {
		skip(s, SEED_SKIP_EMPTY);
		json_decref(meta);
		return;
	}
	json_object_foreach((json_t *)row, key, v) {
		if ((skip_a && strcmp(key, skip_a) == 0) || (skip_b && strcmp(key, skip_b) == 0))
			continue;
		if (strcmp(key, "meta") == 0 && json_is_object(v))
			json_object_update(meta, v);
		else
			json_object_set(meta, key, v);
	}
	add_row(s, json_pack("{s:s, s:o}", "prompt", prompt, "meta", meta), id_of(row));
}

/* Consumes id and replies. A list without any human-ordered pair teaches nothing. */
static void add_ranked(struct seed *s, json_t *id, const char *prompt, const char *thread,
		       json_t *replies)
{
	json_t *row;
	const json_t *first = json_array_get(replies, 0), *r;
	bool ordered = false, empty = blank(prompt);
	size_t i;

	json_array_foreach(replies, i, r) {
		ordered |= jx_get_i64(r, "rank", 0) != jx_get_i64(first, "rank", 0);
		empty |= blank(jx_get_str(r, "text", ""));
	}
	if (!ordered || empty) {
		skip(s, empty ? SEED_SKIP_EMPTY : SEED_SKIP_UNRANKED);
		json_decref(id);
		json_decref(replies);
		return;
	}
	row = json_pack("{s:s, s:o}", "prompt", prompt, "replies", replies);
	if (thread)
		json_object_set_new(row, "thread", json_string(thread));
	add_row(s, row, id);
}

static const char *best_reply(const json_t *replies)
{
	const json_t *r, *best = NULL;
	size_t i;

	json_array_foreach(replies, i, r)
		if (!best || jx_get_i64(r, "rank", 0) < jx_get_i64(best, "rank", 0))
			best = r;
	return jx_get_str(best, "text", "");
}

/* A ranked prompt in the shape the role wants. Consumes id and replies. */
static void give_ranked(struct seed *s, const json_t *row, json_t *id, const char *prompt,
			json_t *replies)
{
	if (s->role == SEED_IFT) {
		add_pair(s, id, prompt, best_reply(replies), "ranked");
	} else if (s->role == SEED_PROMPTS || s->role == SEED_TEST) {
		json_decref(id);
		add_prompt(s, row, prompt);
	} else {
		add_ranked(s, id, prompt, NULL, json_incref(replies));
	}
	json_decref(replies);
}

/* --- Open Assistant trees -------------------------------------------------------------------- */

static bool usable(struct seed *s, const json_t *message)
{
	const char *lang = jx_get_str(message, "lang", "");

	if (jx_get_bool(message, "deleted", false))
		return !skip(s, SEED_SKIP_DELETED);
	if (s->lang[0] && lang[0] && strcmp(lang, s->lang) != 0)
		return !skip(s, SEED_SKIP_LANG);
	return true;
}

/* Assistant replies with a rank, as [{"text","rank"}]. */
static enum rc ranked_children(struct seed *s, const json_t *message, json_t **out, struct err *e)
{
	const json_t *list = json_object_get(message, "replies"), *c;
	json_t *replies = json_array();
	const char *text;
	size_t i;
	enum rc rc = RC_OK;

	json_array_foreach(list, i, c) {
		if (strcmp(jx_get_str(c, "role", ""), "assistant") != 0 ||
		    !json_is_integer(json_object_get(c, "rank")) || !usable(s, c))
			continue;
		rc = jx_str(c, "text", &text, e);
		if (rc == RC_OK)
			rc = check_length("text", text, e);
		if (rc == RC_OK && json_array_size(replies) >= SEED_REPLIES_MAX)
			rc = err_set(e, RC_INVALID, "field \"replies\": more than %d",
				     SEED_REPLIES_MAX);
		if (rc != RC_OK)
			break;
		json_array_append_new(replies, json_pack("{s:s, s:O}", "text", text, "rank",
							 json_object_get(c, "rank")));
	}
	if (rc != RC_OK)
		json_decref(replies);
	else
		*out = replies;
	return rc;
}

static enum rc walk_ranked(struct seed *s, const json_t *message, const char *before,
			   const char *root, struct err *e);

/* What an assistant reply leads to: the user's next messages. */
static enum rc walk_replies(struct seed *s, const json_t *message, const char *so_far,
			    const char *root, struct err *e)
{
	const json_t *answer, *next;
	struct buf talk = BUF_INIT;
	enum rc rc = RC_OK;
	size_t i, k;

	json_array_foreach(json_object_get(message, "replies"), i, answer) {
		if (!json_is_object(answer) || jx_get_bool(answer, "deleted", false))
			continue;
		json_array_foreach(json_object_get(answer, "replies"), k, next) {
			buf_clear(&talk);
			buf_puts(&talk, so_far);
			buf_puts(&talk, "\n\nAssistant: ");
			buf_puts(&talk, jx_get_str(answer, "text", ""));
			buf_puts(&talk, "\n\nUser: ");
			if (json_is_object(next) &&
			    (rc = walk_ranked(s, next, talk.data, root, e)) != RC_OK)
				goto out;
		}
	}
out:
	buf_release(&talk);
	return rc;
}

/* `root` is the first message of the conversation, NULL when this is it. Depth is bounded by the
 * JSON reader (JX_DEPTH_MAX). */
static enum rc walk_ranked(struct seed *s, const json_t *message, const char *before,
			   const char *root, struct err *e)
{
	struct buf prompt = BUF_INIT;
	json_t *replies = NULL;
	const char *text;
	enum rc rc = jx_str(message, "text", &text, e);

	if (rc != RC_OK || !usable(s, message))
		return rc;
	buf_puts(&prompt, before);
	buf_puts(&prompt, text);
	rc = prompt.len > SEED_TEXT_MAX
		     ? err_set(e, RC_INVALID, "conversation has %zu bytes, at most %u", prompt.len,
			       SEED_TEXT_MAX)
		     : ranked_children(s, message, &replies, e);
	if (rc == RC_OK) {
		if (json_array_size(replies) >= 2)
			add_ranked(s, id_of(message), prompt.data, root, replies);
		else
			json_decref(replies);
		rc = walk_replies(s, message, prompt.data, root ? root : text, e);
	}
	buf_release(&prompt);
	return rc;
}

static enum rc first_turn(struct seed *s, const json_t *root, struct err *e)
{
	json_t *replies, *r, *best = NULL;
	const char *prompt;
	size_t i;
	enum rc rc = jx_str(root, "text", &prompt, e);

	if (rc != RC_OK || (rc = check_length("text", prompt, e)) != RC_OK || !usable(s, root))
		return rc;
	if (s->role != SEED_IFT) {
		json_t *row = json_pack("{s:s}", "prompt", prompt);
		json_t *id = id_of(root);
		if (id)
			json_object_set_new(row, "id", id);
		add_prompt(s, row, prompt);
		json_decref(row);
		return RC_OK;
	}
	if ((rc = ranked_children(s, root, &replies, e)) != RC_OK)
		return rc;
	json_array_foreach(replies, i, r)
		if (!best && jx_get_i64(r, "rank", -1) == 0)
			best = r;
	if (best)
		add_pair(s, id_of(root), prompt, jx_get_str(best, "text", ""), "oasst");
	else
		skip(s, SEED_SKIP_UNRANKED);
	json_decref(replies);
	return RC_OK;
}

static enum rc take_oasst(struct seed *s, const json_t *row, struct err *e)
{
	json_t *root;
	enum rc rc = jx_obj(row, "prompt", &root, e);

	if (rc != RC_OK)
		return rc;
	if (strcmp(jx_get_str(row, "tree_state", "ready_for_export"), "ready_for_export") != 0) {
		skip(s, SEED_SKIP_STATE);
		return RC_OK;
	}
	if (s->role == SEED_EFT || s->role == SEED_EVAL)
		return walk_ranked(s, root, "", NULL, e);
	return first_turn(s, root, e);
}

/* --- flat rows ------------------------------------------------------------------------------- */

static enum rc take_ranked(struct seed *s, const json_t *row, struct err *e)
{
	const char *prompt, *text;
	json_t *list, *replies, *r;
	int64_t rank;
	size_t i;
	enum rc rc;

	if ((rc = text_of(row, prompt_names, "prompt", &prompt, e)) != RC_OK)
		return rc;
	replies = json_array();
	if (json_object_get(row, "rejected")) {
		const char *chosen, *rejected;
		if ((rc = jx_str(row, "chosen", &chosen, e)) == RC_OK &&
		    (rc = jx_str(row, "rejected", &rejected, e)) == RC_OK &&
		    (rc = check_length("chosen", chosen, e)) == RC_OK &&
		    (rc = check_length("rejected", rejected, e)) == RC_OK) {
			json_array_append_new(replies,
					      json_pack("{s:s, s:i}", "text", chosen, "rank", 0));
			json_array_append_new(replies,
					      json_pack("{s:s, s:i}", "text", rejected, "rank", 1));
		}
	} else if ((rc = jx_arr(row, "replies", &list, e)) == RC_OK) {
		if (json_array_size(list) > SEED_REPLIES_MAX)
			rc = err_set(e, RC_INVALID, "field \"replies\" has %zu entries, at most %d",
				     json_array_size(list), SEED_REPLIES_MAX);
		for (i = 0; rc == RC_OK && i < json_array_size(list); i++) {
			r = json_array_get(list, i);
			if ((rc = jx_str(r, "text", &text, e)) != RC_OK ||
			    (rc = check_length("text", text, e)) != RC_OK ||
			    (rc = jx_i64(r, "rank", 0, 1 << 20, &rank, e)) != RC_OK)
				err_wrap(e, "replies[%zu]", i);
			else
				json_array_append_new(replies, json_pack("{s:s, s:I}", "text", text,
									 "rank", (json_int_t)rank));
		}
	}
	if (rc == RC_OK)
		give_ranked(s, row, id_of(row), prompt, replies);
	else
		json_decref(replies);
	return rc;
}

/* {"prompt_id","prompt_text","response_text","quality_score"}: one reply a row. */
static enum rc take_scored(struct seed *s, const json_t *row, struct err *e)
{
	const char *prompt, *response, *lang = "", *key;
	const char *field = json_object_get(row, "quality_score") ? "quality_score" : "score";
	json_t *group, *id;
	double score = NAN;
	enum rc rc;

	if ((rc = text_of(row, prompt_names, "prompt", &prompt, e)) != RC_OK ||
	    (rc = text_of(row, response_names, "response", &response, e)) != RC_OK ||
	    (rc = jx_opt_f64(row, field, -1e9, 1e9, &score, e)) != RC_OK ||
	    (rc = jx_opt_str(row, json_object_get(row, "language") ? "language" : "lang", &lang,
			     e)) != RC_OK)
		return rc;
	if (s->lang[0] && lang[0] && strcmp(lang, s->lang) != 0) {
		skip(s, SEED_SKIP_LANG);
		return RC_OK;
	}
	if (isnan(score)) { /* shown to people, but not scored by them */
		skip(s, SEED_SKIP_UNRANKED);
		return RC_OK;
	}
	id = id_of(row);
	key = id ? json_string_value(id) : prompt;
	group = json_object_get(s->groups, key);
	if (!group) {
		group = json_pack("{s:s, s:[]}", "prompt", prompt, "replies");
		json_object_set_new(s->groups, key, group);
		if (id)
			json_object_set(group, "id", id);
	}
	json_decref(id);
	if (json_array_size(json_object_get(group, "replies")) >= SEED_REPLIES_MAX)
		return err_set(e, RC_INVALID, "prompt \"%.60s\" has more than %d replies", prompt,
			       SEED_REPLIES_MAX);
	json_array_append_new(json_object_get(group, "replies"),
			      json_pack("{s:s, s:f}", "text", response, "score", score));
	return RC_OK;
}

void seed_finish(struct seed *s)
{
	const char *key;
	json_t *group;

	json_object_foreach(s->groups, key, group) {
		json_t *list = json_object_get(group, "replies"), *replies = json_array(), *id;
		for (size_t i = 0; i < json_array_size(list); i++) {
			json_t *r = json_array_get(list, i);
			double score = jx_get_f64(r, "score", 0);
			int better = 0;
			for (size_t k = 0; k < json_array_size(list); k++)
				better += jx_get_f64(json_array_get(list, k), "score", 0) > score;
			json_array_append_new(replies, json_pack("{s:O, s:i}", "text",
								 json_object_get(r, "text"), "rank",
								 better));
		}
		id = json_incref(json_object_get(group, "id"));
		json_object_del(group, "replies");
		give_ranked(s, group, id, jx_get_str(group, "prompt", ""), replies);
	}
	json_object_clear(s->groups);
}

static enum rc take_judge(struct seed *s, const json_t *row, struct err *e)
{
	const char *prompt, *response;
	const json_t *given = json_object_get(row, "score");
	struct judge_score score;
	double told = 0;
	enum rc rc;

	if ((rc = text_of(row, prompt_names, "prompt", &prompt, e)) != RC_OK ||
	    (rc = text_of(row, response_names, "response", &response, e)) != RC_OK ||
	    (rc = jx_opt_f64(row, "score", -1000, 1000, &told, e)) != RC_OK)
		return rc;
	score = judge_parse(&s->tmpl->rule, response, strlen(response), true);
	if (blank(prompt))
		skip(s, SEED_SKIP_EMPTY);
	else if (score.reason != JUDGE_OK)
		skip(s, SEED_SKIP_UNSCORED);
	else if (json_is_number(given) && (int64_t)(told * 1000 + 0.5) != score.milli)
		skip(s, SEED_SKIP_MISMATCH);
	else
		add_row(s,
			json_pack("{s:s, s:s, s:o}", "prompt", prompt, "response", response,
				  "score",
				  score.milli % 1000 ? json_real((double)score.milli / 1000)
						     : json_integer(score.milli / 1000)),
			id_of(row));
	return RC_OK;
}

/* {"messages":[{"role":"user","content"},{"role":"assistant","content"}]}: the first turn. */
static enum rc take_chat(struct seed *s, const json_t *row, struct err *e)
{
	const char *prompt = NULL, *response = NULL, *role, *text;
	json_t *list;
	size_t i;
	enum rc rc = jx_arr(row, "messages", &list, e);

	for (i = 0; rc == RC_OK && i < json_array_size(list) && !response; i++) {
		const json_t *m = json_array_get(list, i);
		if ((rc = jx_str(m, "role", &role, e)) != RC_OK ||
		    (rc = jx_str(m, "content", &text, e)) != RC_OK ||
		    (rc = check_length("content", text, e)) != RC_OK)
			return err_wrap(e, "messages[%zu]", i);
		if (!prompt && strcmp(role, "user") == 0)
			prompt = text;
		else if (prompt && strcmp(role, "assistant") == 0)
			response = text;
	}
	if (rc != RC_OK)
		return rc;
	if (!prompt || (!response && s->role == SEED_IFT)) {
		skip(s, SEED_SKIP_EMPTY);
	} else if (s->role == SEED_IFT) {
		add_pair(s, id_of(row), prompt, response, "chat");
	} else {
		json_t *bare = json_pack("{s:s}", "prompt", prompt);
		add_prompt(s, bare, prompt);
		json_decref(bare);
	}
	return RC_OK;
}

static enum rc take_pair(struct seed *s, const json_t *row, struct err *e)
{
	const json_t *instance = json_array_get(json_object_get(row, "instances"), 0);
	const char *prompt, *response, *input = "";
	struct buf full = BUF_INIT;
	enum rc rc;

	if ((rc = text_of(row, prompt_names, "prompt", &prompt, e)) != RC_OK)
		return rc;
	if (s->role != SEED_IFT) {
		add_prompt(s, row, prompt);
		return RC_OK;
	}
	if ((rc = text_of(instance ? instance : row, response_names, "response", &response, e)) !=
		    RC_OK ||
	    (rc = jx_opt_str(instance ? instance : row, "input", &input, e)) != RC_OK ||
	    (rc = check_length("input", input, e)) != RC_OK)
		return rc;
	buf_puts(&full, prompt);
	if (!blank(input))
		buf_printf(&full, "\n\n%s", input);
	add_pair(s, id_of(row), full.data ? full.data : "", response, "pairs");
	buf_release(&full);
	return RC_OK;
}

static enum rc take_prompt(struct seed *s, const json_t *row, struct err *e)
{
	const char *prompt;
	const json_t *turn = json_array_get(json_object_get(row, "turns"), 0);
	enum rc rc = RC_OK;

	if (json_is_string(turn)) { /* MT-Bench */
		prompt = json_string_value(turn);
		rc = check_length("turns", prompt, e);
	} else {
		rc = text_of(row, prompt_names, "prompt", &prompt, e);
	}
	if (rc == RC_OK)
		add_prompt(s, row, prompt);
	return rc;
}

/* --- dispatch -------------------------------------------------------------------------------- */

static enum seed_format guess(enum seed_role role, const json_t *row)
{
	if (json_is_object(json_object_get(row, "prompt")))
		return SEED_OASST;
	if (json_is_array(json_object_get(row, "messages")))
		return SEED_CHAT;
	if (json_object_get(row, "replies") ||
	    (json_object_get(row, "rejected") && role != SEED_PROMPTS))
		return SEED_RANKED;
	if (json_object_get(row, "quality_score"))
		return SEED_SCORED;
	if (role == SEED_PROMPTS || role == SEED_TEST)
		return SEED_PROMPT;
	if (role == SEED_EFT && present(row, response_names))
		return SEED_JUDGE;
	return role == SEED_EVAL ? SEED_RANKED : SEED_PAIRS;
}

typedef enum rc take_fn(struct seed *s, const json_t *row, struct err *e);

static take_fn *const takers[] = {
	[SEED_OASST] = take_oasst,   [SEED_PAIRS] = take_pair,  [SEED_RANKED] = take_ranked,
	[SEED_SCORED] = take_scored, [SEED_JUDGE] = take_judge, [SEED_CHAT] = take_chat,
	[SEED_PROMPT] = take_prompt,
};

/* Roles each format can serve. */
static bool serves(enum seed_format f, enum seed_role r)
{
	bool ranked = r == SEED_EFT || r == SEED_EVAL;

	if (f == SEED_JUDGE)
		return r == SEED_EFT;
	if (f == SEED_PROMPT)
		return r == SEED_PROMPTS || r == SEED_TEST;
	return !ranked || f == SEED_OASST || f == SEED_RANKED || f == SEED_SCORED;
}

void seed_open(struct seed *s, enum seed_role role, const char *lang,
	       const struct judge_template *tmpl)
{
	memset(s, 0, sizeof(*s));
	s->role = role;
	s->lang = lang;
	s->tmpl = tmpl;
	s->rows = json_array();
	s->groups = json_object();
}

void seed_release(struct seed *s)
{
	json_decref(s->rows);
	json_decref(s->groups);
	s->rows = s->groups = NULL;
}

enum rc seed_take(struct seed *s, enum seed_format format, const json_t *row, struct err *e)
{
	if (!json_is_object(row))
		return err_set(e, RC_INVALID, "expected a JSON object on each line");
	s->read++;
	if (format == SEED_AUTO)
		format = guess(s->role, row);
	if (!serves(format, s->role))
		return err_set(e, RC_INVALID, "a row of format \"%s\" cannot serve as %s data",
			       format_names[format], seed_role_name(s->role));
	return takers[format](s, row, e);
}
