/* A better judge template, searched for on the judge data (ProTeGi; rules in
 * worker/method/protegi.h).
 *
 * in   eft (rows of `import`; those with ranked answers that are not held out are searched on),
 * eval (held-out ranked rows), model (the judge's, where the judge is one), writer (that of a
 * writer of its own; without one the judge's model writes) out  candidates  one row each:
 * {"id","parent","round","how":"start|edit|paraphrase","text","sha256",
 *                  "reason","trials","pairs","right","score","state","why","held_out","held_out_pairs"}
 *      trials      what judge and writer answered, in the order they were asked:
 * {"ask":"judge|test", "round","trials":[{"candidate","k","id","scores":[[…]]}]} (the k-th prompt)
 * and
 *                  {"ask":"reasons|edits|variants","round","candidate","texts"}
 *      template    the winner, one row: {"template","sha256","candidate"}
 *
 * What is edited is the system part of a template that has one, else its text; a candidate that
 * shows no prompt or no answer is refused. A round: each of the beam meets the training prompts up
 * to `minibatch` of them, its errors make criticisms and those edits, edits and the candidate
 * itself are paraphrased, `max_children` of all that are drawn; the bandit races them with the
 * beam. What is left of the budget lets the last beam and the start meet the same prompts; the best
 * of them is the winner. Only then are start and winner judged on the held-out prompts: no choice
 * depends on those. Streams: (seed, RNG_PROTEGI, 0, prompt, …) judging, the same for all
 * candidates; (seed, RNG_PROTEGI, round, …) the writer and all that is drawn; the held-out test has
 * those of `eval`.
 */
#include "worker/stages/protegi.h"

#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "worker/stages/ranked.h"
#include "worker/stages/stages.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PROTEGI_ROWS_MAX (4u << 20)
#define PIECES_MAX 64

/* What is drawn, beside what candidates (below 2^34) name. */
enum { DRAW_ORDER = 1, DRAW_CHILDREN, DRAW_FIRST };
#define DRAWS (UINT64_C(1) << 40)

/* --- candidates --------------------------------------------------------------------------------
 */

static bool same_template(const struct judge_template *a, const struct judge_template *b)
{
	return a->text && b->text && strcmp(a->sha256, b->sha256) == 0;
}

/* The start with another text in it. */
static enum rc make_template(const struct protegi *s, const char *text, struct judge_template *out,
			     struct err *e)
{
	json_t *v = judge_template_json(&s->start);

	json_object_set_new(v, s->start.system ? "system" : "text", json_string(text));
	json_object_set_new(v, "version", json_integer(s->start.version + (s->n > 0)));
	enum rc rc = judge_template_of(v, out, e);
	json_decref(v);
	return rc;
}

/* Number of the new candidate, which may be refused; -1: there is one like it. Takes `text`. */
static int add_candidate(struct protegi *s, char *text, int parent, int round, enum protegi_how how,
			 const char *reason)
{
	struct protegi_candidate c = {.parent = parent, .round = round, .how = how, .text = text};
	struct err why = {0};
	bool fits = make_template(s, text, &c.tmpl, &why) == RC_OK;

	for (int i = 0; i < s->n; i++)
		if (fits ? same_template(&s->list[i].tmpl, &c.tmpl)
			 : s->list[i].refused && strcmp(s->list[i].text, text) == 0) {
			judge_template_release(&c.tmpl);
			free(text);
			s->doubles++;
			return -1;
		}
	if (s->n == s->cap) {
		s->cap = s->cap ? 2 * s->cap : 64;
		s->list = mem_grow(s->list, (size_t)s->cap, sizeof *s->list);
	}
	c.reason = reason ? mem_str(reason) : NULL;
	c.refused = fits ? NULL : mem_str(why.text);
	c.seen = json_array();
	s->list[s->n] = c;
	return s->n++;
}

static void release_candidates(struct protegi *s)
{
	for (int i = 0; i < s->n; i++) {
		struct protegi_candidate *c = &s->list[i];

		free(c->text);
		free(c->reason);
		free(c->refused);
		judge_template_release(&c->tmpl);
		json_decref(c->seen);
	}
	free(s->list);
}

/* --- errors ------------------------------------------------------------------------------------
 */

static double mean_of(const json_t *scores)
{
	struct rank_score sum = {0};

	ranked_sum(scores, &sum);
	return sum.n > 0 ? (double)sum.sum_milli / 1000 / sum.n : NAN;
}

/* Appends the pairs of one example that `scores` orders wrongly. */
static void wrong_pairs(const json_t *row, const json_t *scores, struct protegi_error **list,
			int *n)
{
	const json_t *replies = json_object_get(row, "replies");
	size_t many = json_array_size(replies);

	for (size_t i = 0; i < many; i++)
		for (size_t k = i + 1; k < many; k++) {
			const json_t *a = json_array_get(replies, i),
				     *b = json_array_get(replies, k);
			int64_t ra = jx_get_i64(a, "rank", 0), rb = jx_get_i64(b, "rank", 0);
			double x = mean_of(json_array_get(scores, i)),
			       y = mean_of(json_array_get(scores, k));

			if (ra == rb ||
			    (ra < rb ? x > y : y > x)) /* false with what is unreadable */
				continue;
			*list = mem_grow(*list, (size_t)*n + 1, sizeof **list);
			(*list)[(*n)++] =
				(struct protegi_error){.prompt = jx_get_str(row, "prompt", ""),
						       .a = jx_get_str(a, "text", ""),
						       .b = jx_get_str(b, "text", ""),
						       .a_better = ra < rb,
						       .score_a = x,
						       .score_b = y};
		}
}

static int errors_of(const struct protegi *s, int candidate, struct protegi_error **list)
{
	const json_t *scores;
	size_t i;
	int n = 0;

	*list = NULL;
	json_array_foreach(s->list[candidate].seen, i, scores)
		wrong_pairs(json_array_get(s->train, s->order[i]), scores, list, &n);
	return n;
}

/* --- new candidates ----------------------------------------------------------------------------
 */

/* The pieces of an answer; counts one that has none. */
static int pieces_of(struct protegi *s, const char *answer, int want, char **out)
{
	int n = protegi_parse(answer, want < PIECES_MAX ? want : PIECES_MAX, out);

	s->silent += n == 0;
	return n;
}

static void release_questions(struct protegi_question *q, int n)
{
	for (int i = 0; i < n; i++)
		free(q[i].answer);
	free(q);
}

/* Each criticism of each draw of errors becomes edits. */
static enum rc edits_from(struct protegi *s, int parent, int round,
			  const struct protegi_question *asked, struct err *e)
{
	int max = s->gradients * s->reasons, n = 0;
	struct protegi_question *q = mem_array((size_t)max + 1, sizeof *q);
	char *reasons[PIECES_MAX], *texts[PIECES_MAX];
	enum rc rc;

	for (int g = 0; g < s->gradients; g++) {
		int got = pieces_of(s, asked[g].answer, s->reasons, reasons);

		for (int i = 0; i < got; i++, n++) {
			q[n] = asked[g];
			q[n].kind = "edits";
			q[n].k = n;
			q[n].want = s->edits;
			q[n].reason = reasons[i];
			q[n].answer = NULL;
		}
	}
	rc = protegi_write(s, round, q, n, e);
	for (int i = 0; rc == RC_OK && i < n; i++) {
		int got = pieces_of(s, q[i].answer, q[i].want, texts);

		for (int k = 0; k < got; k++)
			add_candidate(s, texts[k], parent, round, PROTEGI_EDIT, q[i].reason);
	}
	for (int i = 0; i < n; i++)
		free((char *)(uintptr_t)q[i].reason);
	release_questions(q, n);
	return rc;
}

static enum rc criticise(struct protegi *s, int parent, int round, struct err *e)
{
	struct protegi_question *q = mem_array((size_t)s->gradients + 1, sizeof *q);
	struct protegi_error *all,
		*drawn = mem_array((size_t)(s->gradients * s->errors) + 1, sizeof *drawn);
	int *which = mem_array((size_t)s->errors + 1, sizeof *which),
	    n = errors_of(s, parent, &all);
	enum rc rc = RC_OK;

	for (int g = 0; n > 0 && g < s->gradients; g++) {
		struct protegi_error *mine = drawn + g * s->errors;
		struct rng r;

		rng_open(&r, s->ctx->seed, RNG_PROTEGI, (uint32_t)round,
			 DRAWS + ((uint64_t)parent << 8), (uint32_t)g);
		int got = protegi_draw(n, s->errors, &r, which);
		for (int i = 0; i < got; i++)
			mine[i] = all[which[i]];
		q[g] = (struct protegi_question){.kind = "reasons",
						 .candidate = parent,
						 .k = g,
						 .want = s->reasons,
						 .errors = mine,
						 .n_errors = got};
	}
	if (n > 0)
		rc = protegi_write(s, round, q, s->gradients, e);
	if (rc == RC_OK && n > 0)
		rc = edits_from(s, parent, round, q, e);
	release_questions(q, s->gradients);
	free(which);
	free(drawn);
	free(all);
	return rc;
}

/* The candidate itself and those from `first` on. */
static enum rc paraphrase(struct protegi *s, int parent, int first, int round, struct err *e)
{
	int last = s->n, n = 0;
	struct protegi_question *q =
		mem_array((size_t)(last - first + 1) * (size_t)s->variants + 1, sizeof *q);
	enum rc rc;

	for (int i = first - 1; i < last; i++) {
		int of = i < first ? parent : i;

		for (int k = 0; !s->list[of].refused && k < s->variants; k++, n++)
			q[n] = (struct protegi_question){
				.kind = "variants", .candidate = of, .k = k, .want = 1};
	}
	rc = protegi_write(s, round, q, n, e);
	for (int i = 0; rc == RC_OK && i < n; i++) {
		char *text = protegi_variant(q[i].answer);

		s->silent += text == NULL;
		if (text)
			add_candidate(s, text, q[i].candidate, round, PROTEGI_VARIANT, NULL);
	}
	release_questions(q, n);
	return rc;
}

/* Those of the new ones that race: all usable ones, or as many drawn. */
static void draw_children(struct protegi *s, int parent, int first, int round, int *arms,
			  int *n_arms)
{
	int *usable = mem_array((size_t)(s->n - first) + 1, sizeof *usable), n = 0;
	int *which = mem_array((size_t)s->children + 1, sizeof *which);
	struct rng r;

	for (int i = first; i < s->n; i++)
		if (!s->list[i].refused)
			usable[n++] = i;
	rng_open(&r, s->ctx->seed, RNG_PROTEGI, (uint32_t)round, DRAWS + DRAW_CHILDREN,
		 (uint32_t)parent);
	int got = protegi_draw(n, s->children, &r, which);
	for (int i = 0; i < got && *n_arms < PROTEGI_ARMS_MAX; i++)
		arms[(*n_arms)++] = usable[which[i]];
	free(usable);
	free(which);
}

static enum rc expand(struct protegi *s, int parent, int round, int *arms, int *n_arms,
		      struct err *e)
{
	int first = s->n;
	enum rc rc = criticise(s, parent, round, e);
	if (rc == RC_OK)
		rc = paraphrase(s, parent, first, round, e);
	if (rc == RC_OK)
		draw_children(s, parent, first, round, arms, n_arms);
	return rc;
}

/* --- races -------------------------------------------------------------------------------------
 */

struct race {
	struct protegi *s;
	int round, *arms, n;
	int64_t until; /* what may have been spent when it is over */
};

static void look(const struct race *r, struct protegi_arm *out)
{
	for (int i = 0; i < r->n; i++)
		out[i] = r->s->list[r->arms[i]].arm;
}

/* Best first. */
static void put_in_order(struct race *r)
{
	struct protegi_arm *look_of = mem_array((size_t)r->n + 1, sizeof *look_of);
	int *order = mem_array((size_t)r->n + 1, sizeof *order),
	    *was = mem_array((size_t)r->n + 1, sizeof *was);

	look(r, look_of);
	protegi_rank(look_of, r->n, order);
	memcpy(was, r->arms, (size_t)r->n * sizeof *was);
	for (int i = 0; i < r->n; i++)
		r->arms[i] = was[order[i]];
	free(look_of);
	free(order);
	free(was);
}

/* Everybody in it has had `to` evaluations. */
static enum rc level(const struct race *r, int64_t to, struct err *e)
{
	struct protegi_goal *goals = mem_array((size_t)r->n + 1, sizeof *goals);

	for (int i = 0; i < r->n; i++)
		goals[i] = (struct protegi_goal){r->arms[i], to};
	enum rc rc = protegi_evaluate(r->s, r->round, goals, r->n, e);
	free(goals);
	return rc;
}

static enum rc race_all(struct race *r, struct err *e)
{
	int64_t each = (r->until - r->s->spent) / r->n;

	return level(r, each > 0 ? each : 1, e);
}

static enum rc race_ucb(struct race *r, struct err *e)
{
	int want = (int)jx_get_i64(r->s->c, "arms_per_step", 8);
	int64_t each = jx_get_i64(r->s->c, "samples_per_eval", 32),
		all = (int64_t)json_array_size(r->s->train);
	double c = jx_get_f64(r->s->c, "ucb_c", 1);
	struct protegi_arm *arms = mem_array((size_t)r->n + 1, sizeof *arms);
	struct protegi_goal *goals = mem_array((size_t)r->n + 1, sizeof *goals);
	int *out = mem_array((size_t)r->n + 1, sizeof *out), got = 1;
	struct rng rng;
	enum rc rc = RC_OK;

	rng_open(&rng, r->s->ctx->seed, RNG_PROTEGI, (uint32_t)r->round, DRAWS + DRAW_FIRST, 0);
	for (int64_t t = 1; rc == RC_OK && got > 0 && r->s->spent < r->until; t++) {
		look(r, arms);
		got = protegi_ucb_pick(arms, r->n, all, t, c, want, &rng, out);
		for (int i = 0; i < got; i++)
			goals[i] = (struct protegi_goal){r->arms[out[i]], arms[out[i]].n + each};
		rc = protegi_evaluate(r->s, r->round, goals, got, e);
	}
	free(goals);
	free(arms);
	free(out);
	return rc;
}

static enum rc race_sr(struct race *r, struct err *e)
{
	int arms = r->n, keep = r->s->width < r->n ? r->s->width : r->n;
	int64_t budget = r->until - r->s->spent;
	enum rc rc = RC_OK;

	for (int k = 1; rc == RC_OK && k <= arms - keep; k++) {
		rc = level(r, protegi_sr_trials(arms, keep, budget, k), e);
		put_in_order(r);
		r->n--;
	}
	return rc;
}

/* What is left of the budget is shared by the rounds to come and the last comparison. */
static enum rc one_round(struct protegi *s, int round, struct err *e)
{
	int *arms = mem_array(PROTEGI_ARMS_MAX, sizeof *arms), n = 0;
	int64_t share = (s->budget - s->spent) / (s->rounds - round + 2);
	const char *bandit = jx_get_str(s->c, "bandit", "ucb");
	struct race r = {.s = s, .round = round, .arms = arms, .until = s->spent + share};
	enum rc rc = RC_OK;

	for (int i = 0; i < s->n_beam; i++)
		arms[n++] = s->beam[i];
	r.n = n;
	rc = level(&r, s->minibatch, e);
	for (int i = 0; rc == RC_OK && i < s->n_beam; i++)
		rc = expand(s, s->beam[i], round, arms, &n, e);
	r.n = n;
	for (int i = 0; i < n; i++)
		s->list[arms[i]].raced = true;
	if (rc == RC_OK && n > 1)
		rc = strcmp(bandit, "sr") == 0	  ? race_sr(&r, e)
		     : strcmp(bandit, "all") == 0 ? race_all(&r, e)
						  : race_ucb(&r, e);
	if (rc == RC_OK) {
		put_in_order(&r);
		s->n_beam = r.n < s->width ? r.n : s->width;
		memcpy(s->beam, arms, (size_t)s->n_beam * sizeof *arms);
		log_info("protegi", "round",
			 "n=%d candidates=%d raced=%d evaluations=%lld best=c%d score=%.4f", round,
			 s->n, n, (long long)s->spent, s->beam[0],
			 protegi_mean(&s->list[s->beam[0]].arm));
	}
	free(arms);
	return rc;
}

/* The beam and the start meet the same prompts, as many as the budget has left; the best wins, the
 * start where nobody is better. */
static enum rc last_race(struct protegi *s, int *winner, struct err *e)
{
	int arms[PROTEGI_BEAM_MAX + 1] = {0};
	struct race r = {.s = s, .round = s->rounds, .arms = arms, .n = 1};
	int64_t to = 0, extra;
	enum rc rc = RC_OK;

	for (int i = 0; i < s->n_beam; i++)
		if (s->beam[i] != 0)
			arms[r.n++] = s->beam[i];
	for (int i = 0; i < r.n; i++)
		to = s->list[arms[i]].arm.n > to ? s->list[arms[i]].arm.n : to;
	rc = level(&r, to, e);
	extra = (s->budget - s->spent) / r.n;
	if (rc == RC_OK && extra > 0)
		rc = level(&r, to + extra, e);
	put_in_order(&r);
	*winner = protegi_mean(&s->list[arms[0]].arm) > protegi_mean(&s->list[0].arm) ? arms[0] : 0;
	return rc;
}

/* --- the stage ---------------------------------------------------------------------------------
 */

static bool is_ordered(const json_t *row)
{
	const json_t *replies = json_object_get(row, "replies");
	int64_t first = jx_get_i64(json_array_get(replies, 0), "rank", 0);
	size_t n = json_array_size(replies);

	for (size_t i = 1; i < n; i++)
		if (jx_get_i64(json_array_get(replies, i), "rank", 0) != first)
			return true;
	return false;
}

/* Ranked rows with an order in them; those of `without` are left out. Takes `rows`. */
static json_t *ordered_rows(json_t *rows, const json_t *without)
{
	json_t *list = json_array(), *held = json_object(), *row;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)without, i, row)
		json_object_set_new(held, jx_get_str(row, "id", ""), json_true());
	json_array_foreach(rows, i, row) if (is_ordered(row) &&
					     !json_object_get(held, jx_get_str(row, "id", "")))
		json_array_append(list, row);
	json_decref(rows);
	json_decref(held);
	return list;
}

static enum rc read_rows(struct protegi *s, struct err *e)
{
	size_t max = (size_t)jx_get_i64(s->c, "test_rows", 400);
	json_t *rows = NULL;
	struct rng r;
	enum rc rc = stage_in(s->ctx, "eval")
			     ? stage_in_rows(s->ctx, "eval", PROTEGI_ROWS_MAX, &s->held, e)
			     : RC_OK;

	if (rc == RC_OK)
		rc = stage_in_rows(s->ctx, "eft", PROTEGI_ROWS_MAX, &rows, e);
	if (rc != RC_OK)
		return rc;
	s->train = ordered_rows(rows, s->held);
	s->held = ordered_rows(s->held ? s->held : json_array(), NULL);
	while (max > 0 && json_array_size(s->held) > max)
		json_array_remove(s->held, json_array_size(s->held) - 1);
	size_t n = json_array_size(s->train);
	if (n == 0)
		return err_set(e, RC_INVALID,
			       "protegi: data.eft has no prompts with ranked answers that are not "
			       "held out; "
			       "give some, and data.eval to measure by");
	s->order = mem_array(n, sizeof *s->order);
	for (size_t i = 0; i < n; i++)
		s->order[i] = (uint32_t)i;
	rng_open(&r, s->ctx->seed, RNG_PROTEGI, 0, DRAWS + DRAW_ORDER, 0);
	rng_shuffle(&r, s->order, (uint32_t)n);
	return RC_OK;
}

static int setting(const struct protegi *s, const char *key, int dflt, int max)
{
	int64_t v = jx_get_i64(s->c, key, dflt);

	return (int)(v < 0 ? 0 : v > max ? max : v);
}

static enum rc configure(struct protegi *s, struct err *e)
{
	s->rounds = setting(s, "rounds", 6, 1000);
	s->width = setting(s, "beam", 4, PROTEGI_BEAM_MAX);
	s->minibatch = setting(s, "minibatch", 64, 1 << 30);
	s->gradients = setting(s, "gradients", 4, 64);
	s->errors = setting(s, "errors_per_gradient", 4, 64);
	s->reasons = setting(s, "reasons_per_gradient", 1, PIECES_MAX);
	s->edits = setting(s, "edits_per_reason", 1, PIECES_MAX);
	s->variants = setting(s, "paraphrases", 2, 64);
	s->children = setting(s, "max_children", 8, 1024);
	s->samples = setting(s, "samples", 1, JUDGE_PASSES_MAX);
	s->budget = jx_get_i64(s->c, "budget", 6000);
	s->chunk = (int)jx_get_i64(stage_section(s->ctx, "judge"), "chunk", 64);
	if (s->width < 1 || s->minibatch < 1 || s->children < 1 || s->samples < 1 ||
	    s->budget < 1 || s->chunk < 1)
		return err_set(e, RC_INVALID,
			       "protegi: beam, minibatch, max_children, samples, budget and "
			       "judge.chunk must be at least 1");
	return judge_template_of(json_object_get(stage_section(s->ctx, "judge"), "template"),
				 &s->start, e);
}

static enum rc search(struct protegi *s, struct err *e)
{
	int winner = 0;
	enum rc rc = RC_OK;

	add_candidate(s, mem_str(s->start.system ? s->start.system : s->start.text), -1, 0,
		      PROTEGI_START, NULL);
	s->beam[s->n_beam++] = 0;
	for (int r = 1; rc == RC_OK && r <= s->rounds && s->spent < s->budget; r++)
		rc = one_round(s, r, e);
	if (rc == RC_OK)
		rc = last_race(s, &winner, e);
	if (rc == RC_OK)
		rc = protegi_test(s, (const int[]){0, winner}, winner ? 2 : 1, e);
	return rc == RC_OK ? protegi_report(s, winner, e) : rc;
}

enum rc stage_protegi(struct stage_ctx *ctx, struct err *e)
{
	struct protegi s = {.ctx = ctx, .c = stage_section(ctx, "protegi"), .log.fd = -1};
	enum rc rc = configure(&s, e);

	if (rc == RC_OK)
		rc = read_rows(&s, e);
	if (rc == RC_OK)
		rc = protegi_open(&s, e);
	if (rc == RC_OK)
		rc = search(&s, e);
	protegi_close(&s);
	release_candidates(&s);
	judge_template_release(&s.start);
	json_decref(s.train);
	json_decref(s.held);
	free(s.order);
	return rc;
}
