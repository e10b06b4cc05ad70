#include "worker/stages/contest.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/rng.h"
#include "worker/method/winrate.h"
#include "worker/stage.h"
#include "worker/stages/judging.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLE_CONTEST 0x20000000u

/* Two items of one prompt and pass. */
struct meeting {
	int a, b;            /* items; a is shown first when the order is forward */
	bool order[2];       /* forward, backward: which of them take place */
	enum verdict got[2]; /* in terms of what was shown first and second */
	int tries[2];
};

struct contest {
	struct judging *j;
	struct judging_item *items;
	struct meeting *list; /* owned */
	int n, cap;
};

static bool together(const struct judging_item *a, const struct judging_item *b)
{
	return a->pass == b->pass && a->tmpl == b->tmpl && strcmp(a->id, b->id) == 0;
}

static void add(struct contest *c, int a, int b)
{
	struct meeting m = {.a = a, .b = b, .order = {true, true}};
	const struct judging_item *x = &c->items[a], *y = &c->items[b];

	if (c->j->random_order) {
		struct rng r;

		rng_open(&r, c->j->ctx->seed, c->j->stage, c->j->iter, stage_item(x->id),
			 SAMPLE_CONTEST + (uint32_t)(x->pass << 16 | x->candidate << 8 | y->candidate));
		m.order[rng_below(&r, 2)] = false;
	}
	if (strcmp(x->response, y->response) == 0) /* A judge would only show its taste for a position. */
		for (int k = 0; k < 2; k++) {
			m.order[k] = false;
			m.got[k] = VERDICT_TIE;
		}
	if (c->n == c->cap) {
		c->cap = c->cap ? 2 * c->cap : 64;
		c->list = mem_grow(c->list, (size_t)c->cap, sizeof *c->list);
	}
	c->list[c->n++] = m;
}

static void draw_up(struct contest *c, int n)
{
	for (int i = 0; i < n; i++)
		for (int k = i + 1; k < n && strcmp(c->items[i].id, c->items[k].id) == 0; k++)
			if (together(&c->items[i], &c->items[k]))
				add(c, i, k);
}

static struct asker_q question(const struct contest *c, const struct meeting *m, int k)
{
	const struct judging_item *a = &c->items[k ? m->b : m->a], *b = &c->items[k ? m->a : m->b];
	uint32_t sample = (uint32_t)(a->pass * 256 + a->candidate) * 256 + (uint32_t)b->candidate;

	return (struct asker_q){.tmpl = a->tmpl ? a->tmpl : &c->j->tmpl,
				.shown = {.prompt = a->prompt,
					  .response_a = a->response,
					  .response_b = b->response,
					  .reference = judging_reference(a->meta)},
				.sampling = c->j->sampling,
				.stage = c->j->stage,
				.iter = c->j->iter,
				.item = stage_item(a->id),
				.sample = SAMPLE_CONTEST + sample * JUDGE_TRIES_MAX + (uint32_t)m->tries[k]};
}

static bool wanted(const struct contest *c, const struct meeting *m, int k)
{
	return m->order[k] && m->got[k] == VERDICT_NONE && m->tries[k] <= c->j->max_retries;
}

static enum rc hold(struct contest *c, struct err *e)
{
	struct asker_q *q = mem_array(2 * (size_t)c->n + 1, sizeof *q);
	int *of = mem_array(2 * (size_t)c->n + 1, sizeof *of), asked;
	enum rc rc = RC_OK;

	do {
		asked = 0;
		for (int i = 0; i < 2 * c->n; i++) {
			struct meeting *m = &c->list[i / 2];

			if (!wanted(c, m, i % 2))
				continue;
			c->j->retries += m->tries[i % 2] > 0;
			of[asked] = i;
			q[asked++] = question(c, m, i % 2);
		}
		if (asked > 0)
			rc = asker_run(&c->j->asker, q, asked, e);
		for (int k = 0; rc == RC_OK && k < asked; k++) {
			struct meeting *m = &c->list[of[k] / 2];

			m->tries[of[k] % 2]++;
			if (q[k].answered && q[k].stopped && !q[k].too_long)
				m->got[of[k] % 2] = winrate_parse(q[k].text, strlen(q[k].text));
		}
		asker_release(q, asked);
	} while (rc == RC_OK && asked > 0);
	free(q);
	free(of);
	return rc;
}

/* In terms of m->a; VERDICT_NONE: it does not count. */
static enum verdict outcome(const struct contest *c, const struct meeting *m)
{
	static const enum verdict mirror[] = {VERDICT_NONE, VERDICT_B, VERDICT_A, VERDICT_TIE};

	if (!c->j->random_order || (!m->order[0] && !m->order[1]))
		return winrate_combine(m->got[0], m->got[1]);
	return m->order[0] ? m->got[0] : mirror[m->got[1]];
}

struct standing {
	int halves, n; /* won comparisons count two, ties one */
	struct buf text;
};

static void note(struct standing *s, int against, enum verdict v)
{
	static const char *const words[] = {"unreadable", "win", "loss", "tie"};

	buf_printf(&s->text, "%sagainst %d: %s", s->text.len ? "; " : "", against, words[v]);
	if (v == VERDICT_NONE)
		return;
	s->n++;
	s->halves += v == VERDICT_A ? 2 : v == VERDICT_TIE;
}

static void settle(struct contest *c, int n)
{
	static const enum verdict mirror[] = {VERDICT_NONE, VERDICT_B, VERDICT_A, VERDICT_TIE};
	struct standing *s = mem_array((size_t)n + 1, sizeof *s);

	for (int i = 0; i < c->n; i++) {
		const struct meeting *m = &c->list[i];
		enum verdict v = outcome(c, m);

		note(&s[m->a], c->items[m->b].candidate, v);
		note(&s[m->b], c->items[m->a].candidate, mirror[v]);
	}
	for (int i = 0; i < n; i++) {
		struct judging_item *it = &c->items[i];

		it->attempts = 1;
		it->reason = s[i].n > 0 ? JUDGE_OK : JUDGE_NO_MATCH;
		it->milli = s[i].n > 0
				    ? llround(1000.0 * JUDGE_PAIR_MAX * s[i].halves / (2.0 * s[i].n))
				    : 0;
		free(it->text);
		it->text = s[i].text.data ? buf_detach(&s[i].text) : mem_str("");
	}
	free(s);
}

enum rc judging_contest(struct judging *j, struct judging_item *items, int n, struct err *e)
{
	struct contest c = {.j = j, .items = items};

	draw_up(&c, n);
	enum rc rc = hold(&c, e);
	if (rc == RC_OK)
		settle(&c, n);
	free(c.list);
	return rc;
}
