/* Head-to-head: one model's answers against another's, each two shown in both orders to a judge that is
 * a model, an endpoint or a command. Shared by `eval` and `versus`.
 *
 * Rows: {"id","verdict":"win|tie|loss"|null,"forward","backward"}; the figures are computed from the
 * finished rows, so a resumed job has those of an undisturbed one.
 */
#pragma once

#include "base/err.h"
#include "worker/method/winrate.h"
#include "worker/stages/asker.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stage_ctx;
struct stage_rows;

struct dueling {
	struct stage_ctx *ctx; /* borrowed */
	const json_t *c;       /* settings, borrowed */
	bool by_command;
	struct judge_template tmpl;
	struct asker asker;
	int max_new;
};

struct duel {
	const char *id, *prompt, *ours, *theirs; /* borrowed */
	const json_t *meta;
	enum verdict verdict[2]; /* ours shown as A, then as B; in terms of A and B */
};

/* c: {"judge":"model|checkpoint|command|http","command","timeout_s","http","template"}. `gen` is the
 * judge's model, when it is one. */
enum rc dueling_open(struct dueling *d, struct stage_ctx *ctx, const json_t *c, struct textgen *gen,
		     struct err *e);
void dueling_close(struct dueling *d);
/* The greedy answers of rows with one id; heap array of *n in the order of `ours`, whose texts are
 * borrowed from all three. `test` is the rows both were asked, in the order of `ours`. */
struct duel *dueling_match(const json_t *ours, const json_t *theirs, const json_t *test, size_t *n);
enum rc dueling_run(struct dueling *d, struct duel *list, size_t n, struct err *e);
/* Those not in `rows` yet, chunk by chunk, marked. Progress counts from `done` of `total`. */
enum rc dueling_all(struct dueling *d, struct stage_rows *rows, struct duel *list, size_t n, int chunk,
		    int64_t done, int64_t total, struct err *e);
/* Figures h2h.* and the output. */
enum rc dueling_finish(struct dueling *d, struct stage_rows *rows, const struct duel *list, size_t n,
		       const char *opponent, struct err *e);
