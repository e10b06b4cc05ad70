#include "worker/method/pairs.h"
#include "base/check.h"
#include "worker/method/uni.h"

#include <stdlib.h>
#include <string.h>

/* Sums of thousandths stay under 2^40 and counts under 2^10, so products of five fit 128 bits. */
__extension__ typedef __int128 wide;

const char *pair_drop_text(enum pair_drop d)
{
	static const char *const names[] = {
#define X(name, text) text,
		PAIR_DROPS(X)
#undef X
	};

	return d < PAIR_N_DROPS ? names[d] : "unknown";
}

static int sign(wide v)
{
	return (v > 0) - (v < 0);
}

void pair_mean_add(struct pair_mean *m, int64_t milli)
{
	m->sum += milli;
	m->sum_sq += milli * milli;
	m->n++;
}

int pair_mean_cmp(const struct pair_mean *a, const struct pair_mean *b)
{
	return sign((wide)a->sum * b->n - (wide)b->sum * a->n);
}

/* n^2 times the variance. */
static wide spread(const struct pair_mean *m)
{
	return (wide)m->sum_sq * m->n - (wide)m->sum * m->sum;
}

int pair_variance_cmp(const struct pair_mean *a, const struct pair_mean *b)
{
	return sign(spread(a) * b->n * b->n - spread(b) * a->n * a->n);
}

double pair_mean_value(const struct pair_mean *m)
{
	return (double)m->sum / (1000.0 * m->n);
}

double pair_mean_variance(const struct pair_mean *m)
{
	return (double)spread(m) / ((double)m->n * m->n * 1e6);
}

/* --- who is out ------------------------------------------------------------------------------ */

static bool blank(const char *s)
{
	char *t = uni_squeeze(s, strlen(s));
	bool yes = *t == 0;

	free(t);
	return yes;
}

static bool same_text(const char *a, const char *b)
{
	char *x = uni_squeeze(a, strlen(a)), *y = uni_squeeze(b, strlen(b));
	bool same = strcmp(x, y) == 0;

	free(x);
	free(y);
	return same;
}

static bool same_candidate(const struct pair_candidate *a, const struct pair_candidate *b)
{
	if (a->n_tokens > 0 && a->n_tokens == b->n_tokens &&
	    memcmp(a->tokens, b->tokens, (size_t)a->n_tokens * sizeof(*a->tokens)) == 0)
		return true;
	return same_text(a->text, b->text);
}

static enum pair_drop excluded(const struct pair_rule *rule, const struct pair_candidate *list,
			       int i)
{
	const struct pair_candidate *c = &list[i];

	if (c->mean.n < rule->min_valid || c->mean.n < 1)
		return PAIR_UNJUDGED;
	if (blank(c->text))
		return PAIR_EMPTY;
	if (!c->finished)
		return PAIR_UNFINISHED;
	if (rule->max_tokens > 0 && c->n_tokens > rule->max_tokens)
		return PAIR_TOO_LONG;
	for (int k = 0; k < i; k++)
		if (list[k].out == PAIR_NONE && same_candidate(&list[k], c))
			return PAIR_DUPLICATE;
	return PAIR_NONE;
}

/* Why fewer than two are left: the commonest exclusion, the earlier named of equals. */
static enum pair_drop commonest(const struct pair_candidate *list, int n)
{
	int count[PAIR_N_DROPS] = {0}, best = PAIR_TOO_FEW;

	for (int i = 0; i < n; i++)
		count[list[i].out]++;
	for (int d = PAIR_N_DROPS - 1; d > PAIR_NONE; d--)
		if (count[d] > 0 && count[d] >= count[best])
			best = d;
	return (enum pair_drop)best;
}

/* --- tiers ----------------------------------------------------------------------------------- */

#define PPM 1000000

/* Sign of mean(c) - ((1-rho) mean(near) + rho mean(far)). */
static int against_tier(const struct pair_mean *c, const struct pair_mean *near,
			const struct pair_mean *far, int64_t rho_ppm)
{
	wide edge = (wide)(PPM - rho_ppm) * near->sum * far->n + (wide)rho_ppm * far->sum * near->n;

	return sign((wide)c->sum * near->n * far->n * PPM - edge * c->n);
}

/* Should `a` be taken before `b`? `want` +1: shortest first, -1: longest first, 0: by variance. */
static bool before(const struct pair_candidate *a, const struct pair_candidate *b, int want)
{
	if (want && a->n_tokens != b->n_tokens)
		return want > 0 ? a->n_tokens < b->n_tokens : a->n_tokens > b->n_tokens;
	return pair_variance_cmp(&a->mean, &b->mean) < 0;
}

static int pick_tier(const struct pair_rule *rule, const struct pair_candidate *list, int n,
		     int near, int far, int side)
{
	int best = -1, want = rule->rho_ppm > 0 ? side : 0;

	for (int i = 0; i < n; i++) {
		if (list[i].out != PAIR_NONE ||
		    side * against_tier(&list[i].mean, &list[near].mean, &list[far].mean,
					rule->rho_ppm) < 0)
			continue;
		if (best < 0 || before(&list[i], &list[best], want))
			best = i;
	}
	return best;
}

struct pair_pick pair_pick(const struct pair_rule *rule, struct pair_candidate *list, int n)
{
	struct pair_pick pick = {-1, -1, PAIR_NONE};
	int left = 0, top = -1, bottom = -1;

	ASSERT(rule->rho_ppm >= 0 && rule->rho_ppm < PPM / 2);
	for (int i = 0; i < n; i++) {
		list[i].out = excluded(rule, list, i);
		if (list[i].out != PAIR_NONE)
			continue;
		left++;
		if (top < 0 || pair_mean_cmp(&list[i].mean, &list[top].mean) > 0)
			top = i;
		if (bottom < 0 || pair_mean_cmp(&list[i].mean, &list[bottom].mean) < 0)
			bottom = i;
	}
	if (left < 2) {
		pick.drop = commonest(list, n);
	} else if (pair_mean_cmp(&list[top].mean, &list[bottom].mean) == 0) {
		pick.drop = PAIR_TIE;
	} else {
		pick.chosen = pick_tier(rule, list, n, top, bottom, 1);
		pick.rejected = pick_tier(rule, list, n, bottom, top, -1);
		ASSERT(pair_mean_cmp(&list[pick.chosen].mean, &list[pick.rejected].mean) > 0);
	}
	return pick;
}

/* --- counters -------------------------------------------------------------------------------- */

void pair_counts_init(struct pair_counts *c, int64_t min_milli, int64_t max_milli)
{
	memset(c, 0, sizeof(*c));
	c->min_points = min_milli / 1000;
	c->max_milli = max_milli;
	c->bins = (int)((max_milli + 999) / 1000 - c->min_points + 1);
	if (c->bins > PAIR_BINS_MAX)
		c->bins = PAIR_BINS_MAX;
}

void pair_counts_judgement(struct pair_counts *c, bool valid, int64_t milli)
{
	int64_t bin = (milli + 500) / 1000 - c->min_points;

	c->judgements++;
	if (!valid) {
		c->failed++;
		return;
	}
	c->hist[bin < 0 ? 0 : bin >= c->bins ? c->bins - 1 : bin]++;
	c->sum_milli += milli;
	c->at_max += milli >= c->max_milli;
}

void pair_counts_prompt(struct pair_counts *c, const struct pair_candidate *list, int n,
			const struct pair_pick *pick)
{
	c->prompts++;
	c->drop[pick->drop]++;
	for (int i = 0; i < n; i++) {
		c->candidates++;
		c->judged += list[i].out != PAIR_UNJUDGED;
		c->out[list[i].out]++;
	}
	if (pick->drop != PAIR_NONE)
		return;
	c->kept++;
	c->chosen_tokens += list[pick->chosen].n_tokens;
	c->rejected_tokens += list[pick->rejected].n_tokens;
	c->chosen_longer += list[pick->chosen].n_tokens > list[pick->rejected].n_tokens;
}

const char *pair_counts_alarm(const struct pair_counts *c)
{
	int64_t valid = c->judgements - c->failed, most = 0;

	for (int i = 0; i < c->bins; i++)
		most = c->hist[i] > most ? c->hist[i] : most;
	if (c->judgements >= 20 && c->failed * 20 > c->judgements)
		return "more than 5 % of the judgements have no readable score";
	if (valid >= 100 && most * 10 > valid * 9)
		return "more than 90 % of the scores are the same";
	return NULL;
}
