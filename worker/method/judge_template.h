/* Judge templates: the text shown to the judge, and how to read its answer. Versioned assets:
 * the SHA-256 of the text goes into every manifest that depends on it.
 *
 * A template scores one answer or compares two. Those that come along are the files of
 * worker/method/templates:
 *
 *	name: additive-5           version: 1
 *	form: score                or pair: the verdict is [[A]], [[B]] or [[C]]
 *	marks: score|得分           words that stand before the score, or "[[]]": it stands in brackets
 *	min: 0   max: 5   integer: yes
 *	=== system                 optional
 *	=== user                   the text, with slots
 *	=== end
 *
 * one setting a line. Slots: {prompt} {response} {reference}; of a pair {response_a} {response_b};
 * the names of MT-Bench are understood likewise ({question}, {answer}, {ref_answer_1}, {question_1},
 * {answer_a_2} and so on).
 *
 * Invariants of a template in use: it shows the prompt and what is to be judged; its bounds are whole
 * thousandths with min < max; what it shows can close no tag and no section it stands in.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"
#include "worker/method/judge_parse.h"

#include <jansson.h>

#define JUDGE_TEXT_MAX (64u << 10)
#define JUDGE_TEMPLATE_DEFAULT "additive-5"
#define JUDGE_TEMPLATES_MAX 64 /* that come along */
#define JUDGE_PAIR_MAX 10      /* a candidate that wins all its comparisons has so many points */

enum judge_form { JUDGE_SCORE, JUDGE_PAIR };

struct judge_template {
	char name[64];
	int version;
	enum judge_form form;
	char *system;  /* owned; NULL: none */
	char *text;    /* owned */
	char *words;   /* owned; rule.words point into it */
	bool reference; /* shows one: without it there is nothing to judge by */
	struct judge_rule rule; /* of a pair: 0 to JUDGE_PAIR_MAX, any fraction */
	char sha256[SHA256_HEX_SIZE]; /* of text; with a system part, of both with a line "===" between */
};

/* One that comes along; see judge_template_names(). */
enum rc judge_template_named(const char *name, struct judge_template *out, struct err *e);
/* A file of the form above. `what` names it in errors. */
enum rc judge_template_read(const char *data, size_t len, const char *what, struct judge_template *out,
			    struct err *e);
/* A name, or {"name","text","pattern","min","max","integer"} and, optionally, "system", "version" and
 * "form" ("score" | "pair"): pattern is the words that may stand before the score, separated by "|"
 * (default "score"), or "[[]]"; min 0, max 5, integer true. */
enum rc judge_template_of(const json_t *spec, struct judge_template *out, struct err *e);
void judge_template_release(struct judge_template *t);
/* Names of those that come along, NULL-terminated. */
const char *const *judge_template_names(void);
/* The object judge_template_of() takes; new reference. */
json_t *judge_template_json(const struct judge_template *t);

/* What is shown; NULL: nothing of the kind. */
struct judge_shown {
	const char *prompt, *response, *reference; /* borrowed, as all of these */
	const char *response_a, *response_b;
	/* Second turn of a conversation. */
	const char *prompt_2, *response_2, *reference_2, *response_a_2, *response_b_2;
};
/* Appends the judge prompt. Tags of the template inside what is shown ("<response>", "</response>",
 * "[The End of", "<|The End of" and the like) get a blank behind their first sign, so that only the
 * template's own can open and close. */
void judge_template_fill(const struct judge_template *t, const struct judge_shown *v, struct buf *out);
void judge_template_render(const struct judge_template *t, const char *prompt, const char *response,
			   struct buf *out);
/* The same behind the system part and an empty line, for judges that are asked in one piece. */
void judge_template_whole(const struct judge_template *t, const struct judge_shown *v, struct buf *out);
/* The other way round: appends the prompt that a judge prompt of this template is about, as it stands in
 * it. False when the text is not of this template, or the template shows something else first. */
bool judge_template_asked(const struct judge_template *t, const char *shown, struct buf *prompt);
