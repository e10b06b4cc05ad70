/* Judge templates: the text shown to the judge, and how to read its answer. Versioned assets:
 * the SHA-256 of the text goes into every manifest that depends on it.
 *
 * Invariants of a template in use: its text holds {prompt} and {response}; its bounds are whole
 * thousandths with min < max; a response can never close the <response> tag it stands in.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"
#include "worker/method/judge_parse.h"

#include <jansson.h>

#define JUDGE_TEXT_MAX (64u << 10)
#define JUDGE_TEMPLATE_DEFAULT "additive-5"

struct judge_template {
	char name[64];
	char *text;  /* owned */
	char *words; /* owned; rule.words point into it */
	struct judge_rule rule;
	char sha256[SHA256_HEX_SIZE]; /* of text */
};

/* "additive-5" (Yuan et al. 2024, figure 2) or "choice-1-5" (Li et al. 2023). */
enum rc judge_template_named(const char *name, struct judge_template *out, struct err *e);
/* A name, or {"name","text","pattern","min","max","integer"}: pattern is the words that may stand
 * before the score, separated by "|" (default "score"); min 0, max 5, integer true. */
enum rc judge_template_of(const json_t *spec, struct judge_template *out, struct err *e);
void judge_template_release(struct judge_template *t);
/* Names of the built-in ones, NULL-terminated. */
const char *const *judge_template_names(void);
/* Appends the judge prompt. Tags "<response>" and "</response>" inside prompt or response are
 * written with a blank after "<", so that only the template's own can open and close. */
void judge_template_render(const struct judge_template *t, const char *prompt, const char *response,
			   struct buf *out);
