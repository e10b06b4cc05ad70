#include "cli/world_data.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/world.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Judge data needs the whole range of quality, so it does not come from careless people alone. */
static const double forgets[] = {0.0, 0.1, 0.28, 0.5, 0.8};
#define RANKED_FIRST (1u << 20) /* beyond the requests that have judgements */
#define N_FORGETS ((uint32_t)(sizeof forgets / sizeof *forgets))

/* Appends `row` (stolen) as one line. */
static void put_row(struct buf *out, json_t *row)
{
	jx_dump(row, out);
	buf_putc(out, '\n');
	json_decref(row);
}

static void varied_answer(const struct world_request *q, struct rng *r, struct world_answer *a)
{
	double forget = forgets[rng_below(r, N_FORGETS)];
	int extras = rng_below(r, 2) ? 0 : (int)rng_below(r, 3) + 1;

	world_demonstrate(q, r, forget, extras, a);
	/* Models repeat themselves; a judge must have seen it. */
	if (rng_below(r, 8) == 0 && a->n < WORLD_LISTED_MAX) {
		a->listed[a->n] = a->listed[rng_below(r, a->n)];
		a->n++;
	}
}

static double put_ift(uint64_t seed, uint32_t n, struct buf *out)
{
	struct buf prompt = BUF_INIT, answer = BUF_INIT;
	int64_t total = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct world_request q;
		struct world_answer a;
		struct rng r;

		world_request(seed, WORLD_IFT, i, &q);
		rng_open(&r, seed, RNG_WORLD, WORLD_IFT, i, 1);
		world_demonstrate(&q, &r, 0.28, world_careless_extras(&r), &a);
		total += world_judge(&q, &a).score;
		buf_clear(&prompt);
		buf_clear(&answer);
		world_prompt_text(&q, &prompt);
		world_answer_text(&q, &a, &answer);
		put_row(out, json_pack("{s:s, s:s}", "prompt", prompt.data, "response", answer.data));
	}
	buf_release(&prompt);
	buf_release(&answer);
	return n ? (double)total / n : 0;
}

/* The judge prompt: the template with both places filled in. */
static void put_judge_prompt(const char *prompt, const char *response, struct buf *out)
{
	for (const char *p = world_judge_template; *p;) {
		if (str_starts(p, "{prompt}")) {
			buf_puts(out, prompt);
			p += strlen("{prompt}");
		} else if (str_starts(p, "{response}")) {
			buf_puts(out, response);
			p += strlen("{response}");
		} else {
			buf_putc(out, *p++);
		}
	}
}

static void put_eft(uint64_t seed, uint32_t n, struct buf *out)
{
	struct buf prompt = BUF_INIT, answer = BUF_INIT, ask = BUF_INIT, verdict = BUF_INIT;

	for (uint32_t i = 0; i < n; i++) {
		struct world_request q;
		struct world_answer a;
		struct rng r;

		world_request(seed, WORLD_EFT, i, &q);
		rng_open(&r, seed, RNG_WORLD, WORLD_EFT, i, 1);
		varied_answer(&q, &r, &a);
		buf_clear(&prompt);
		buf_clear(&answer);
		buf_clear(&ask);
		buf_clear(&verdict);
		world_prompt_text(&q, &prompt);
		world_answer_text(&q, &a, &answer);
		put_judge_prompt(prompt.data, answer.data, &ask);
		world_verdict_text(&q, &a, &verdict);
		put_row(out, json_pack("{s:s, s:s, s:i}", "prompt", ask.data, "response", verdict.data,
				       "score", world_judge(&q, &a).score));
	}
	buf_release(&prompt);
	buf_release(&answer);
	buf_release(&ask);
	buf_release(&verdict);
}

/* Two to four replies, 2.85 on average as in the paper's evaluation data. */
static uint32_t reply_count(struct rng *r)
{
	float u = rng_unit(r);

	return u < 0.4f ? 2 : u < 0.75f ? 3 : 4;
}

/* People rank by quality: rank = how many replies are better; equals share a rank. */
static json_t *ranked_replies(const struct world_request *q, struct rng *r)
{
	struct world_answer a[4];
	int score[4];
	uint32_t n = reply_count(r);
	json_t *replies = json_array();
	struct buf text = BUF_INIT;

	for (uint32_t i = 0; i < n; i++) {
		varied_answer(q, r, &a[i]);
		score[i] = world_judge(q, &a[i]).score;
	}
	for (uint32_t i = 0; i < n; i++) {
		int rank = 0;

		for (uint32_t j = 0; j < n; j++)
			rank += score[j] > score[i];
		buf_clear(&text);
		world_answer_text(q, &a[i], &text);
		json_array_append_new(replies,
				      json_pack("{s:s, s:i}", "text", text.data, "rank", rank));
	}
	buf_release(&text);
	return replies;
}

/* Requests of a part with ranked replies, from number `first` on. */
static void put_ranked(uint64_t seed, enum world_part part, uint32_t first, uint32_t n, struct buf *out)
{
	struct buf prompt = BUF_INIT;

	for (uint32_t i = first; i < first + n; i++) {
		struct world_request q;
		struct rng r;

		world_request(seed, part, i, &q);
		rng_open(&r, seed, RNG_WORLD, part, i, 1);
		buf_clear(&prompt);
		world_prompt_text(&q, &prompt);
		put_row(out, json_pack("{s:s, s:o}", "prompt", prompt.data, "replies",
				       ranked_replies(&q, &r)));
	}
	buf_release(&prompt);
}

static void put_prompts(uint64_t seed, enum world_part part, uint32_t n, struct buf *out)
{
	struct buf prompt = BUF_INIT;

	for (uint32_t i = 0; i < n; i++) {
		struct world_request q;

		world_request(seed, part, i, &q);
		buf_clear(&prompt);
		world_prompt_text(&q, &prompt);
		put_row(out, json_pack("{s:s}", "prompt", prompt.data));
	}
	buf_release(&prompt);
}

static enum rc write_file(const char *dir, const char *name, struct buf *b, struct err *e)
{
	char path[PATH_MAX];
	enum rc rc;

	str_fmt(path, sizeof path, "%s/%s", dir, name);
	rc = fs_write_durable(path, b->data ? b->data : "", b->len, e);
	buf_clear(b);
	return rc;
}

enum rc world_write(const char *dir, uint64_t seed, const struct world_sizes *n, double *human_score,
		    struct err *e)
{
	struct buf b = BUF_INIT;
	char base[PATH_MAX];
	enum rc rc = fs_mkdirs(dir, e);

	if (rc)
		goto out;
	*human_score = put_ift(seed, n->ift, &b);
	if ((rc = write_file(dir, "ift.jsonl", &b, e)))
		goto out;
	put_eft(seed, n->eft, &b);
	if ((rc = write_file(dir, "eft.jsonl", &b, e)))
		goto out;
	put_ranked(seed, WORLD_EVAL, 0, n->eval, &b);
	if ((rc = write_file(dir, "eval.jsonl", &b, e)))
		goto out;
	put_ranked(seed, WORLD_EFT, RANKED_FIRST, n->ranked, &b);
	if ((rc = write_file(dir, "ranked.jsonl", &b, e)))
		goto out;
	put_prompts(seed, WORLD_POOL, n->pool, &b);
	if ((rc = write_file(dir, "prompts.jsonl", &b, e)))
		goto out;
	put_prompts(seed, WORLD_TEST, n->test, &b);
	if ((rc = write_file(dir, "test.jsonl", &b, e)))
		goto out;
	str_fmt(base, sizeof base, "%s/base", dir);
	rc = world_write_model(base, seed, e);
out:
	buf_release(&b);
	return rc ? err_wrap(e, "demo world") : RC_OK;
}
