#include "worker/method/health.h"

#include "base/mem.h"
#include "worker/method/rank.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MIN_OWN 10 /* answers of its own; fewer say nothing */

void health_init(struct health *h)
{
	*h = (struct health){.parse_fail = NAN,
			     .pile = NAN,
			     .variance = NAN,
			     .length_score = NAN,
			     .consistent = NAN,
			     .first = NAN,
			     .second = NAN,
			     .unreadable = NAN,
			     .renamed = NAN,
			     .verbosity = NAN,
			     .control = NAN,
			     .accuracy = NAN,
			     .self_win = NAN,
			     .self_true = NAN};
}

static int by_score(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void find_pile(struct health *h, const struct health_score *list, size_t n)
{
	int64_t *sorted = mem_array(n + 1, sizeof *sorted);
	size_t m = 0, best = 0;

	for (size_t i = 0; i < n; i++)
		if (list[i].valid)
			sorted[m++] = list[i].milli;
	qsort(sorted, m, sizeof *sorted, by_score);
	for (size_t i = 0, run = 0; i < m; i++) {
		run = i > 0 && sorted[i] == sorted[i - 1] ? run + 1 : 1;
		if (run > best) {
			best = run;
			h->pile_milli = sorted[i];
		}
	}
	if (m > 0)
		h->pile = (double)best / (double)m;
	free(sorted);
}

struct answer {
	double sum, sum_sq, length;
	int n;
};

static void weigh(struct health *h, const struct answer *a, size_t n)
{
	double *length = mem_array(n + 1, sizeof *length), *mean = mem_array(n + 1, sizeof *mean);
	double spread = 0;
	int judged = 0, several = 0;

	for (size_t i = 0; i < n; i++) {
		if (a[i].n == 0)
			continue;
		length[judged] = a[i].length;
		mean[judged++] = a[i].sum / a[i].n;
		if (a[i].n > 1) {
			spread += a[i].sum_sq / a[i].n - (a[i].sum / a[i].n) * (a[i].sum / a[i].n);
			several++;
		}
	}
	if (several > 0)
		h->variance = spread / several;
	if (judged > 2)
		h->length_score = rank_spearman(length, mean, judged);
	free(length);
	free(mean);
}

void health_of_scores(struct health *h, const struct health_score *list, size_t n)
{
	size_t items = 0;
	int64_t failed = 0;

	for (size_t i = 0; i < n; i++)
		items = (size_t)list[i].item >= items ? (size_t)list[i].item + 1 : items;
	struct answer *a = mem_array(items + 1, sizeof *a);
	for (size_t i = 0; i < n; i++) {
		struct answer *one = &a[list[i].item];
		double points = (double)list[i].milli / 1000;

		one->length = list[i].length;
		failed += !list[i].valid;
		if (!list[i].valid)
			continue;
		one->sum += points;
		one->sum_sq += points * points;
		one->n++;
	}
	h->judgements = (int64_t)n;
	if (n > 0)
		h->parse_fail = (double)failed / (double)n;
	find_pile(h, list, n);
	weigh(h, a, items);
	free(a);
}

/* Where the next sentence goes. */
static struct buf *next(struct buf *out, bool *any)
{
	if (*any)
		buf_puts(out, "; ");
	*any = true;
	return out;
}

bool health_alarms(const struct health *h, const struct health_limits *l, struct buf *out)
{
	bool any = false;
	double biased = h->first > h->second ? h->first - h->second : h->second - h->first;

	if (h->judgements >= l->min_judgements) {
		if (h->parse_fail > l->parse_fail)
			buf_printf(next(out, &any),
				   "%.0f %% of the judgements cannot be read (limit %.0f %%)",
				   100 * h->parse_fail, 100 * l->parse_fail);
		if (h->pile > l->pile)
			buf_printf(next(out, &any), "%.0f %% of the scores are %g", 100 * h->pile,
				   (double)h->pile_milli / 1000);
		if (fabs(h->length_score) > l->length)
			buf_printf(
				next(out, &any),
				h->length_score > 0
					? "longer answers score higher (Spearman %.2f, limit %.2f)"
					: "shorter answers score higher (Spearman %.2f, limit "
					  "%.2f)",
				h->length_score, l->length);
		if (l->accuracy > 0 && h->accuracy < l->accuracy)
			buf_printf(next(out, &any),
				   "only %.0f %% of the pairs are ordered as people do (limit %.0f "
				   "%%)",
				   100 * h->accuracy, 100 * l->accuracy);
	}
	if (h->compared > 0 && biased > l->position)
		buf_printf(
			next(out, &any),
			h->first > h->second
				? "the answer shown first wins %.0f %% of the comparisons in both "
				  "orders, the second %.0f %%"
				: "the answer shown second wins whatever it says: first %.0f %%, "
				  "second "
				  "%.0f %% of the comparisons",
			100 * h->first, 100 * h->second);
	if (h->compared > 0 && h->unreadable > l->parse_fail)
		buf_printf(next(out, &any),
			   "%.0f %% of the comparisons cannot be read (limit %.0f %%)",
			   100 * h->unreadable, 100 * l->parse_fail);
	if (h->attacked > 0 && h->verbosity - h->control > l->verbosity)
		buf_printf(next(out, &any),
			   "%.0f %% of the answers score higher when a part of them is repeated "
			   "(%.0f %% when nothing is changed)",
			   100 * h->verbosity, 100 * h->control);
	if (h->own >= MIN_OWN && h->self_win - h->self_true > l->self)
		buf_printf(next(out, &any),
			   "it scores its own answers above people's best in %.0f %% of the prompts, where "
			   "%.0f %% are better",
			   100 * h->self_win, 100 * h->self_true);
	return any;
}

static bool list_line(const char *p)
{
	p += strspn(p, " \t");
	if (*p == '-' || *p == '*')
		return p[1] == ' ';
	size_t digits = strspn(p, "0123456789");
	return digits > 0 && (p[digits] == '.' || p[digits] == ')');
}

char *health_repeated(const char *answer)
{
	struct buf out = BUF_INIT;
	size_t first = strcspn(answer, ".!?\n");

	for (const char *p = answer; *p;) {
		size_t n = strcspn(p, "\n");

		if (list_line(p)) {
			buf_append(&out, p, n);
			buf_putc(&out, '\n');
		}
		p += n + (p[n] == '\n');
	}
	if (out.len == 0) {
		buf_append(&out, answer, first + (answer[first] != 0 && answer[first] != '\n'));
		buf_putc(&out, answer[first] == '\n' ? '\n' : ' ');
	}
	buf_puts(&out, answer);
	return buf_detach(&out);
}
