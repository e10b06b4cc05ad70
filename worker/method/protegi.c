#include "worker/method/protegi.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/str.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- bandits -----------------------------------------------------------------------------------
 */

double protegi_mean(const struct protegi_arm *a)
{
	return a->pairs > 0 ? (double)a->right / (double)a->pairs : 0;
}

double protegi_ucb(double mean, int64_t n, int64_t t, double c)
{
	return mean + c * sqrt(log((double)t) / ((double)n + 1e-3));
}

int protegi_draw(int n, int want, struct rng *r, int *out)
{
	int taken = 0;

	/* Selection sampling (Knuth 3.4.2 S): each subset is as likely, and they come in order. */
	for (int i = 0; i < n && taken < want; i++) {
		uint32_t left = (uint32_t)(n - i), need = (uint32_t)(want - taken);

		if (need >= left || rng_below(r, left) < need)
			out[taken++] = i;
	}
	return taken;
}

struct ranked {
	double value;
	int64_t n;
	int i;
};

static int by_value(const void *x, const void *y)
{
	const struct ranked *a = x, *b = y;

	if (a->value != b->value)
		return a->value > b->value ? -1 : 1;
	if (a->n != b->n)
		return a->n > b->n ? -1 : 1;
	return a->i < b->i ? -1 : 1;
}

int protegi_ucb_pick(const struct protegi_arm *arms, int n, int64_t limit, int64_t t, double c,
		     int want, struct rng *r, int *out)
{
	struct ranked *list = mem_array((size_t)n + 1, sizeof *list);
	int open = 0, taken;

	ASSERT(n <= PROTEGI_ARMS_MAX);
	for (int i = 0; i < n; i++)
		if (arms[i].n < limit)
			list[open++] = (struct ranked){
				.value = protegi_ucb(protegi_mean(&arms[i]), arms[i].n, t, c),
				.i = i};
	if (t > 1)
		qsort(list, (size_t)open, sizeof *list, by_value);
	taken = t > 1 ? (want < open ? want : open) : protegi_draw(open, want, r, out);
	for (int k = 0; k < taken; k++)
		out[k] = list[t > 1 ? k : out[k]].i;
	free(list);
	return taken;
}

int64_t protegi_sr_trials(int arms, int keep, int64_t budget, int k)
{
	double sum = (double)keep / (keep + 1), n;

	for (int i = keep + 1; i <= arms; i++)
		sum += 1.0 / i;
	n = ceil((double)(budget - arms) / (sum * (arms + 1 - k)));
	return n >= 1 ? (int64_t)n : 1;
}

/* right / pairs of the two, compared without rounding. */
static int by_mean(const struct protegi_arm *a, const struct protegi_arm *b)
{
	int64_t x = a->right * (b->pairs ? b->pairs : 1), y = b->right * (a->pairs ? a->pairs : 1);

	if (x != y)
		return x > y ? -1 : 1;
	return a->n == b->n ? 0 : a->n > b->n ? -1 : 1;
}

void protegi_rank(const struct protegi_arm *arms, int n, int *out)
{
	/* Insertion: stable, and a round has tens of arms. */
	for (int i = 0; i < n; i++) {
		int at = i;

		for (; at > 0 && by_mean(&arms[out[at - 1]], &arms[i]) > 0; at--)
			out[at] = out[at - 1];
		out[at] = i;
	}
}

/* --- questions to the writer -------------------------------------------------------------------
 */

static void put_current(const char *judge, struct buf *out)
{
	buf_puts(out, "I'm trying to write a prompt for a judge that scores answers.\n\n"
		      "My current prompt is:\n\"");
	buf_puts(out, judge);
	buf_puts(out, "\"\n\n");
}

static void put_score(double score, struct buf *out)
{
	if (isfinite(score))
		buf_printf(out, "%g", score);
	else
		buf_puts(out, "no readable score");
}

static void put_errors(const struct protegi_error *errors, int n, struct buf *out)
{
	for (int i = 0; i < n; i++) {
		const struct protegi_error *x = &errors[i];

		buf_printf(out, "## Example %d\nText: \"", i + 1);
		buf_puts(out, x->prompt);
		buf_puts(out, "\"\nAnswer A: \"");
		buf_puts(out, x->a);
		buf_puts(out, "\"\nAnswer B: \"");
		buf_puts(out, x->b);
		buf_printf(out, "\"\nLabel: %s is better\nPrediction: A ", x->a_better ? "A" : "B");
		put_score(x->score_a, out);
		buf_puts(out, ", B ");
		put_score(x->score_b, out);
		buf_puts(out, "\n\n");
	}
}

void protegi_ask_reasons(const char *judge, const struct protegi_error *errors, int n_errors,
			 int reasons, struct buf *out)
{
	put_current(judge, out);
	buf_puts(out, "But this prompt gets the following examples wrong:\n\n");
	put_errors(errors, n_errors, out);
	buf_printf(out,
		   "give %d reasons why the prompt could have gotten these examples wrong.\n"
		   "Wrap each reason with <START> and <END>",
		   reasons);
}

void protegi_ask_edits(const char *judge, const struct protegi_error *errors, int n_errors,
		       const char *reason, int edits, struct buf *out)
{
	put_current(judge, out);
	buf_puts(out, "But it gets the following examples wrong:\n\n");
	put_errors(errors, n_errors, out);
	buf_puts(out, "Based on these examples the problem with this prompt is that ");
	buf_puts(out, reason);
	buf_printf(out,
		   "\n\nBased on the above information, I wrote %d different improved prompts. "
		   "What stands "
		   "in braces is filled in later, so each keeps it as it is.\n"
		   "Each prompt is wrapped with <START> and <END>.\n\nThe %d new prompts are:\n",
		   edits, edits);
}

void protegi_ask_variant(const char *judge, struct buf *out)
{
	buf_puts(out,
		 "Generate a variation of the following instruction while keeping the semantic "
		 "meaning.\n\nInput: ");
	buf_puts(out, judge);
	buf_puts(out, "\n\nOutput:");
}

/* --- its answers -------------------------------------------------------------------------------
 */

#define OPEN "<START>"
#define CLOSE "<END>"

/* Heap copy without the blanks around it; NULL when nothing is left. */
static char *trimmed(const char *p, size_t len)
{
	struct str s = str_trim((struct str){p, len});

	return s.len > 0 ? mem_strn(s.p, s.len) : NULL;
}

int protegi_parse(const char *text, int max, char **out)
{
	const char *from, *to;
	int n = 0;

	while (n < max && (from = strstr(text, OPEN)) &&
	       (to = strstr(from + strlen(OPEN), CLOSE))) {
		from += strlen(OPEN);
		out[n] = trimmed(from, (size_t)(to - from));
		n += out[n] != NULL;
		text = to + strlen(CLOSE);
	}
	return n;
}

char *protegi_variant(const char *text)
{
	char *piece;

	return protegi_parse(text, 1, &piece) == 1 ? piece : trimmed(text, strlen(text));
}
