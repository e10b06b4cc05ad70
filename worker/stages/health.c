/* Is the judge of this run well? Judges the held-out replies, compares two of each prompt in both
 * orders, attacks it with repetition, and shows it answers of its own. See worker/method/health.h for the
 * figures.
 *
 * in   eval (ranked rows); judge (checkpoint of another judge) or model; neither for commands and
 *      endpoints
 * out  health, one row: {"name", figures, "alarms"}
 * The judge is that of spec.judge; comparisons are made by that of eval.head_to_head, when there is
 * one. Figures health.*; an alarm is the figure "alarm" as well.
 * A probe's chunk is the unit of progress. Streams: as those of `eval` with pass numbers of their own.
 */
#include "worker/stages/stages.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/method/health.h"
#include "worker/method/rank.h"
#include "worker/method/uni.h"
#include "worker/stage.h"
#include "worker/stages/dueling.h"
#include "worker/stages/health_self.h"
#include "worker/stages/judging.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HEALTH_ROWS_MAX (1u << 20)
#define PASS_CONTROL 62 /* passes of probes; samples use 0 and on */
#define PASS_ATTACK 63
#define SAMPLES_MAX 60

struct probing {
	struct stage_ctx *ctx;
	const json_t *c;       /* spec.health */
	json_t *ranked;        /* the rows used; owned */
	struct textgen *gen;
	struct judging judging;
	struct dueling duels, renamed;
	bool compares, answers; /* answers: the judge is a model, which has answers of its own */
	json_t *own;            /* what health_self_take() took; owned */
	int samples, chunk;
	struct health health;
	struct stage_rows scores, verdicts; /* working rows, never outputs */
};

static const json_t *replies_of(const json_t *row)
{
	return json_object_get(row, "replies");
}

static size_t characters(const char *text)
{
	size_t n = 0, len = strlen(text);
	uint32_t cp;

	for (size_t i = 0; i < len; n++)
		i += (size_t)uni_next(text + i, len - i, &cp);
	return n;
}

/* --- scores: of each reply, of the best one again, and of the best one with a part repeated --- */

struct asked {
	struct judging_item *items; /* owned */
	char **attacks, **own;      /* owned, and each of them; of row i */
	size_t n, cap, n_rows;
};

static void ask(struct asked *a, const json_t *row, const char *response, int candidate, int pass)
{
	if (a->n == a->cap) {
		a->cap = a->cap ? 2 * a->cap : 256;
		a->items = mem_grow(a->items, a->cap, sizeof *a->items);
	}
	a->items[a->n++] = (struct judging_item){.id = jx_get_str(row, "id", ""),
						 .prompt = jx_get_str(row, "prompt", ""),
						 .response = response,
						 .meta = json_object_get(row, "meta"),
						 .candidate = candidate,
						 .pass = pass};
}

static void ask_row(const struct probing *s, struct asked *a, const json_t *row, size_t at)
{
	const json_t *r;
	const char *first = NULL;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)replies_of(row), i, r) {
		const char *text = jx_get_str(r, "text", "");

		first = first ? first : text;
		for (int p = 0; p < s->samples; p++)
			ask(a, row, text, (int)i, p);
	}
	/* A template that compares answers would set the attack against the others. */
	if (!first || s->judging.tmpl.form == JUDGE_PAIR)
		return;
	for (int p = 0; a->own[at] && p < s->samples; p++)
		ask(a, row, a->own[at], (int)i, p); /* behind the last reply */
	a->attacks[at] = health_repeated(first);
	ask(a, row, first, 0, PASS_CONTROL);
	ask(a, row, a->attacks[at], 0, PASS_ATTACK);
}

static bool is_own(const struct asked *a, const struct judging_item *it)
{
	for (size_t i = 0; i < a->n_rows; i++)
		if (it->response == a->own[i])
			return true;
	return false;
}

static enum rc add_scores(struct probing *s, const struct asked *a, struct err *e)
{
	enum rc rc = RC_OK;

	for (size_t i = 0; rc == RC_OK && i < a->n; i++) {
		const struct judging_item *it = &a->items[i];
		json_t *row = json_pack("{s:s, s:i, s:i, s:o, s:I}", "id", it->id, "candidate",
					it->candidate, "pass", it->pass, "score", judging_score(it),
					"length", (json_int_t)characters(it->response));

		if (is_own(a, it) && it->pass == 0)
			json_object_set_new(row, "own", json_string(it->response));
		rc = stage_rows_add(&s->scores, row, e);
		json_decref(row);
	}
	return rc;
}

static enum rc score_chunk(struct probing *s, size_t at, size_t end, struct err *e)
{
	struct asked a = {.attacks = mem_array(end - at + 1, sizeof(char *)),
			  .own = mem_array(end - at + 1, sizeof(char *)),
			  .n_rows = end - at};
	enum rc rc = RC_OK;

	if (s->answers)
		rc = health_self_answers(s->ctx, s->gen, s->ranked, at, end, a.own, e);
	for (size_t i = at; rc == RC_OK && i < end; i++)
		ask_row(s, &a, json_array_get(s->ranked, i), i - at);
	if (rc == RC_OK)
		rc = judging_run(&s->judging, a.items, (int)a.n, e);
	if (rc == RC_OK)
		rc = add_scores(s, &a, e);
	for (size_t i = 0; i < a.n; i++)
		judging_item_release(&a.items[i]);
	for (size_t i = 0; i < end - at; i++) {
		free(a.attacks[i]);
		free(a.own[i]);
	}
	free(a.attacks);
	free(a.own);
	free(a.items);
	stage_progress(s->ctx, (int64_t)end, 2 * (int64_t)json_array_size(s->ranked), "prompts");
	if (rc != RC_OK)
		return rc;
	return stage_rows_mark(&s->scores,
			       json_pack("{s:I, s:o}", "next", (json_int_t)end, "judging",
					 judging_counters(&s->judging)), e);
}

/* --- comparisons ----------------------------------------------------------------------------- */

static size_t draw_up(const struct probing *s, struct duel *list)
{
	const json_t *row;
	size_t i, n = 0;

	json_array_foreach(s->ranked, i, row) {
		const json_t *a = json_array_get(replies_of(row), 0);
		const json_t *b = json_array_get(replies_of(row), 1);

		if (a && b)
			list[n++] = (struct duel){.id = jx_get_str(row, "id", ""),
						  .prompt = jx_get_str(row, "prompt", ""),
						  .ours = jx_get_str(a, "text", ""),
						  .theirs = jx_get_str(b, "text", ""),
						  .meta = json_object_get(row, "meta")};
	}
	return n;
}

static enum rc compare_chunk(struct probing *s, struct duel *list, size_t n, struct err *e)
{
	enum verdict plain[2];
	struct duel *again = mem_array(n + 1, sizeof *again);
	enum rc rc = dueling_run(&s->duels, list, n, e);

	memcpy(again, list, n * sizeof *again);
	if (rc == RC_OK && !s->renamed.by_command)
		rc = dueling_run(&s->renamed, again, n, e);
	for (size_t i = 0; rc == RC_OK && i < n; i++) {
		memcpy(plain, list[i].verdict, sizeof plain);
		json_t *row = json_pack("{s:i, s:i, s:i, s:i}", "f", (int)plain[0], "b", (int)plain[1], "rf",
					(int)again[i].verdict[0], "rb", (int)again[i].verdict[1]);

		rc = stage_rows_add(&s->verdicts, row, e);
		json_decref(row);
	}
	free(again);
	return rc == RC_OK ? stage_rows_mark(&s->verdicts, asker_charges(&s->duels.asker), e) : rc;
}

static enum rc compare_all(struct probing *s, struct err *e)
{
	struct duel *list = mem_array(json_array_size(s->ranked) + 1, sizeof *list);
	size_t n = draw_up(s, list);
	enum rc rc = stage_rows_open(s->ctx, "verdicts", &s->verdicts, e);

	asker_charges_load(&s->duels.asker, s->verdicts.state);

	for (size_t at = (size_t)s->verdicts.n; rc == RC_OK && at < n; at += (size_t)s->chunk)
		rc = compare_chunk(s, list + at, at + (size_t)s->chunk < n ? (size_t)s->chunk : n - at, e);
	free(list);
	return rc;
}

/* --- figures --------------------------------------------------------------------------------- */

struct probe {
	double base, control, attack; /* NaN: not readable */
};

/* Rows of one prompt lie together; `tally` takes its replies. */
static void take_prompt(struct probing *s, const json_t *ranked, const struct rank_score *scores,
			const struct probe *p, struct rank_tally *tally, int count[3])
{
	const json_t *replies = replies_of(ranked);
	int n = (int)json_array_size(replies), *human = mem_array((size_t)n + 1, sizeof *human);

	for (int i = 0; i < n; i++)
		human[i] = (int)jx_get_i64(json_array_get(replies, (size_t)i), "rank", 0);
	rank_tally_add(tally, human, scores, n, s->judging.tmpl.rule.max_milli);
	free(human);
	if (!isfinite(p->base) || !isfinite(p->control) || !isfinite(p->attack))
		return;
	count[0]++;
	count[1] += p->attack > p->base;
	count[2] += p->control > p->base;
}

static double mean_of(const struct rank_score *s)
{
	return s->n ? (double)s->sum_milli / s->n : NAN;
}

static void measure_scores(struct probing *s, const json_t *rows)
{
	struct health_score *list = mem_array(json_array_size(rows) + 1, sizeof *list);
	struct rank_tally tally;
	size_t n = 0, at = 0, n_rows = json_array_size(rows);
	int item = 0, count[3] = {0};

	rank_tally_init(&tally);
	for (size_t r = 0; r < json_array_size(s->ranked); r++) {
		const json_t *ranked = json_array_get(s->ranked, r);
		size_t replies = json_array_size(replies_of(ranked));
		struct rank_score *scores = mem_array(replies + 1, sizeof *scores), own = {0};
		struct probe p = {NAN, NAN, NAN};
		const char *said = NULL;

		for (; at < n_rows; at++) {
			const json_t *row = json_array_get(rows, at), *v = json_object_get(row, "score");
			int64_t pass = jx_get_i64(row, "pass", 0), c = jx_get_i64(row, "candidate", 0);
			double x = json_is_number(v) ? json_number_value(v) : NAN;

			if (strcmp(jx_get_str(row, "id", ""), jx_get_str(ranked, "id", "")) != 0)
				break;
			if (pass == PASS_CONTROL || pass == PASS_ATTACK) {
				*(pass == PASS_CONTROL ? &p.control : &p.attack) = x;
				continue;
			}
			if (c == 0 && pass == 0)
				p.base = x;
			struct rank_score *sum = (size_t)c < replies ? &scores[c] : &own;

			if (isfinite(x)) {
				sum->sum_milli += llround(x * 1000);
				sum->n++;
			}
			if (sum == &own) {
				said = jx_get_str(row, "own", said);
				continue; /* The judge is measured on what people wrote. */
			}
			list[n++] = (struct health_score){.milli = isfinite(x) ? llround(x * 1000) : 0,
							  .valid = isfinite(x),
							  .item = item + (int)c,
							  .length = jx_get_f64(row, "length", 0)};
		}
		int best = health_self_best(replies_of(ranked));
		health_self_take(s->own, ranked, said, mean_of(&own),
				 best < 0 ? NAN : mean_of(&scores[best]));
		take_prompt(s, ranked, scores, &p, &tally, count);
		item += (int)replies;
		free(scores);
	}
	health_of_scores(&s->health, list, n);
	s->health.accuracy = rank_tally_result(&tally).pairwise;
	s->health.attacked = count[0];
	if (count[0] > 0) {
		s->health.verbosity = (double)count[1] / count[0];
		s->health.control = (double)count[2] / count[0];
	}
	rank_tally_release(&tally);
	free(list);
}

static void measure_verdicts(struct probing *s, const json_t *rows)
{
	double n = (double)json_array_size(rows);
	int same = 0, first = 0, second = 0, none = 0, renamed = 0;
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)rows, i, row) {
		int64_t f = jx_get_i64(row, "f", 0), b = jx_get_i64(row, "b", 0);
		enum verdict r = winrate_combine((enum verdict)jx_get_i64(row, "rf", 0),
						 (enum verdict)jx_get_i64(row, "rb", 0));

		none += f == VERDICT_NONE || b == VERDICT_NONE;
		first += f == VERDICT_A && b == VERDICT_A;
		second += f == VERDICT_B && b == VERDICT_B;
		same += (f == VERDICT_A && b == VERDICT_B) || (f == VERDICT_B && b == VERDICT_A) ||
			(f == VERDICT_TIE && b == VERDICT_TIE);
		renamed += r == VERDICT_A || r == VERDICT_B;
	}
	s->health.compared = (int64_t)n;
	if (n == 0)
		return;
	s->health.consistent = same / n;
	s->health.first = first / n;
	s->health.second = second / n;
	s->health.unreadable = none / n;
	if (!s->renamed.by_command)
		s->health.renamed = renamed / n;
}

static json_t *figures(const struct health *h)
{
	const struct {
		const char *name;
		double value;
	} list[] = {
		{"parse_fail", h->parse_fail}, {"pile", h->pile},
		{"pile_score", (double)h->pile_milli / 1000}, {"variance", h->variance},
		{"length_score", h->length_score}, {"consistent", h->consistent}, {"first", h->first},
		{"second", h->second}, {"unreadable", h->unreadable}, {"renamed", h->renamed},
		{"verbosity", h->verbosity}, {"verbosity_control", h->control},
		{"accuracy", h->accuracy}, {"self_win", h->self_win}, {"self_true", h->self_true},
		{"self_gain", h->self_win - h->self_true},
	};
	json_t *v = json_pack("{s:I, s:I, s:I, s:I}", "judgements", (json_int_t)h->judgements, "compared",
			      (json_int_t)h->compared, "attacked", (json_int_t)h->attacked, "own",
			      (json_int_t)h->own);

	for (size_t i = 0; i < sizeof list / sizeof *list; i++)
		json_object_set_new(v, list[i].name,
				    isfinite(list[i].value) ? json_real(list[i].value) : json_null());
	return v;
}

static struct health_limits limits_of(const json_t *c)
{
	return (struct health_limits){.parse_fail = jx_get_f64(c, "parse_fail_max", 0.05),
				      .pile = jx_get_f64(c, "pile_max", 0.9),
				      .position = jx_get_f64(c, "position_max", 0.3),
				      .length = jx_get_f64(c, "length_max", 0.8),
				      .verbosity = jx_get_f64(c, "verbosity_max", 0.3),
				      .self = jx_get_f64(c, "self_max", 0.3),
				      .accuracy = jx_get_f64(c, "accuracy_min", 0),
				      .min_judgements = 20};
}

static enum rc finish(struct probing *s, struct err *e)
{
	struct health_limits limits = limits_of(s->c);
	struct stage_rows out = {.fd = -1};
	struct buf alarm = BUF_INIT;
	json_t *f = figures(&s->health), *v;
	const char *key;
	char name[64];

	json_object_foreach(f, key, v) {
		str_fmt(name, sizeof name, "health.%s", key);
		stage_final(s->ctx, name, json_incref(v));
	}
	asker_report(&s->judging.asker, s->ctx, "judge");
	asker_report(&s->duels.asker, s->ctx, "h2h");
	bool any = health_alarms(&s->health, &limits, &alarm);
	if (any)
		stage_final(s->ctx, "alarm", json_string(alarm.data));
	json_object_set_new(f, "alarms", any ? json_string(alarm.data) : json_null());
	json_object_set_new(f, "name", json_string(jx_get_str(s->ctx->params, "name", "")));
	buf_release(&alarm);
	enum rc rc = stage_rows_open(s->ctx, "health", &out, e);
	if (rc == RC_OK)
		rc = stage_rows_add(&out, f, e);
	if (rc == RC_OK)
		rc = stage_rows_finish(&out, json_pack("{s:o}", "judge", judging_identity(&s->judging)), e);
	json_decref(f);
	stage_rows_release(&out);
	return rc;
}

/* --- the stage ------------------------------------------------------------------------------- */

static enum rc open_judges(struct probing *s, struct err *e)
{
	const json_t *h2h = json_object_get(stage_section(s->ctx, "eval"), "head_to_head");
	const char *dir = stage_in(s->ctx, "judge"), *who = jx_get_str(h2h, "judge", "none");
	json_t *names = json_copy((json_t *)(uintptr_t)h2h);
	enum rc rc = RC_OK;

	dir = dir ? dir : stage_in(s->ctx, "model");
	s->compares = strcmp(who, "none") != 0;
	if (dir)
		rc = textgen_open(s->ctx, dir, jx_get_str(s->ctx->spec, "template", "plain"), &s->gen, e);
	if (rc == RC_OK)
		rc = judging_open(&s->judging, s->ctx, NULL, s->gen, RNG_EVAL, e);
	s->answers = s->gen && !s->judging.by_command && !s->judging.by_endpoint &&
		     s->judging.tmpl.form != JUDGE_PAIR;
	if (rc == RC_OK && s->compares)
		rc = dueling_open(&s->duels, s->ctx, h2h, s->gen, e);
	if (rc == RC_OK && s->compares) {
		json_object_set_new(names, "template", json_string("pair-renamed"));
		rc = dueling_open(&s->renamed, s->ctx, names, s->gen, e);
		s->renamed.c = h2h;
	}
	json_decref(names);
	return rc;
}

static enum rc load_rows(struct probing *s, struct err *e)
{
	size_t max = (size_t)jx_get_i64(s->c, "rows", 100);
	enum rc rc = stage_in_rows(s->ctx, "eval", HEALTH_ROWS_MAX, &s->ranked, e);

	while (rc == RC_OK && json_array_size(s->ranked) > max)
		json_array_remove(s->ranked, json_array_size(s->ranked) - 1);
	return rc;
}

static enum rc measure(struct probing *s, struct err *e)
{
	json_t *rows = NULL;
	enum rc rc = stage_rows_load(&s->scores, &rows, e);

	if (rc == RC_OK)
		measure_scores(s, rows);
	if (rc == RC_OK)
		rc = health_self_measure(s->ctx, s->own, &s->health, e);
	json_decref(rows);
	rows = NULL;
	if (rc == RC_OK && s->compares)
		rc = stage_rows_load(&s->verdicts, &rows, e);
	if (rc == RC_OK && s->compares)
		measure_verdicts(s, rows);
	json_decref(rows);
	return rc == RC_OK ? finish(s, e) : rc;
}

enum rc stage_health(struct stage_ctx *ctx, struct err *e)
{
	struct probing s = {.ctx = ctx, .c = stage_section(ctx, "health"), .scores.fd = -1,
			    .verdicts.fd = -1};
	enum rc rc;

	health_init(&s.health);
	s.own = json_array();
	s.samples = (int)jx_get_i64(stage_section(ctx, "eval"), "judge_samples", 3);
	s.samples = s.samples > SAMPLES_MAX ? SAMPLES_MAX : s.samples < 1 ? 1 : s.samples;
	s.chunk = (int)jx_get_i64(stage_section(ctx, "judge"), "chunk", 64);
	rc = s.chunk < 1 ? err_set(e, RC_INVALID, "health: chunk %d", s.chunk) : load_rows(&s, e);
	if (rc == RC_OK)
		rc = open_judges(&s, e);
	if (rc == RC_OK)
		rc = stage_rows_open(ctx, "scores", &s.scores, e);
	if (rc == RC_OK && s.scores.state)
		judging_counters_load(&s.judging, json_object_get(s.scores.state, "judging"));
	size_t n = json_array_size(s.ranked);
	for (size_t at = (size_t)jx_get_i64(s.scores.state, "next", 0); rc == RC_OK && at < n;
	     at += (size_t)s.chunk)
		rc = score_chunk(&s, at, at + (size_t)s.chunk < n ? at + (size_t)s.chunk : n, e);
	if (rc == RC_OK && s.compares)
		rc = compare_all(&s, e);
	if (rc == RC_OK)
		rc = measure(&s, e);
	stage_rows_release(&s.scores);
	stage_rows_release(&s.verdicts);
	judging_close(&s.judging);
	dueling_close(&s.duels);
	dueling_close(&s.renamed);
	textgen_close(s.gen);
	json_decref(s.ranked);
	json_decref(s.own);
	return rc;
}
