/* One iteration of a run, whatever it is made of:
 *
 *	self_reward, external   prompts → generate → judge → pair → reference → dpo → eval
 *	spin                    generate (answers to the instruction data) → pair (the human answer is
 *	                        chosen) → reference → dpo → eval
 *	positive                prompts → generate → judge → pair (the perfect answers) → sft → eval
 *	sft                     sft → eval
 */
#include "queue/plan_impl.h"

#include "base/jsonx.h"
#include "base/str.h"

#include <math.h>
#include <string.h>

#define EARLIER_PASSES 64 /* judge passes from here are those of the model before */

enum plan_kind plan_kind(const struct planner *p, int64_t t)
{
	static const char *const names[] = {"self_reward", "external", "spin", "positive", "sft"};
	const char *name = json_string_value(
		json_array_get(json_object_get(p->spec, "stages"), (size_t)(t - 1)));

	for (int k = 0; name && k < (int)(sizeof names / sizeof *names); k++)
		if (!strcmp(name, names[k]))
			return (enum plan_kind)k;
	return KIND_SELF_REWARD;
}

bool plan_asks(enum plan_kind kind)
{
	return kind == KIND_SELF_REWARD || kind == KIND_EXTERNAL || kind == KIND_POSITIVE;
}

static bool pairs_up(enum plan_kind kind)
{
	return kind == KIND_SELF_REWARD || kind == KIND_EXTERNAL || kind == KIND_SPIN;
}

/* --- prompts, answers, judgements -------------------------------------------------------------- */

/* Iterations from t on that ask for prompts; 0 where the run names no kinds: then all do. */
static int64_t rounds_left(const struct planner *p, int64_t t)
{
	int64_t n = 0;

	if (json_array_size(json_object_get(p->spec, "stages")) == 0)
		return 0;
	for (; t <= p->iterations; t++)
		n += plan_asks(plan_kind(p, t));
	return n;
}

static void plan_prompts(struct planner *p, int64_t t, struct plan_source model)
{
	json_t *in = json_array(), *params = NULL;
	char role[32];

	if (plan_is(p, "prompts", "generator", "current"))
		plan_input(in, "model", model);
	plan_input(in, "ift", p->ift);
	plan_input(in, "prompts", p->prompts);
	for (int64_t k = 1; k < t; k++) {
		if (!plan_asks(plan_kind(p, k)))
			continue;
		str_fmt(role, sizeof(role), "earlier.%lld", (long long)k);
		plan_input(in, role, plan_from(p, k, "prompts", 0, 0, "prompts"));
	}
	if (rounds_left(p, t))
		params = json_pack("{s:I}", "rounds", (json_int_t)rounds_left(p, t));
	plan_add(p, (struct plan_where){t, "prompts", 0, 0}, in, params, 30);
}

static double tokens_cost(int64_t rows, int64_t samples, const json_t *sec)
{
	return 1 + (double)(rows * samples * jx_get_i64(sec, "max_new_tokens", 256)) / 10000;
}

/* Judgements of one answer in iteration t, without those of the model before. */
static int64_t passes(const struct planner *p, int64_t t)
{
	enum plan_kind kind = plan_kind(p, t);

	return kind == KIND_SPIN       ? 0
	       : kind == KIND_EXTERNAL ? jx_get_i64(plan_section(p, "external"), "samples", 1)
				       : p->samples;
}

/* Whether the model before judges as well, and its model. */
static bool consistency(const struct planner *p, int64_t t)
{
	return plan_kind(p, t) == KIND_SELF_REWARD && p->judge_is_model && p->before.job[0] &&
	       jx_get_bool(plan_section(p, "pair"), "consistency", false);
}

static void plan_judge(struct planner *p, int64_t t, int64_t s, int64_t rows, struct plan_source model)
{
	bool external = plan_kind(p, t) == KIND_EXTERNAL;
	const json_t *sec = plan_section(p, external ? "external" : "judge");
	double cost = tokens_cost(rows, jx_get_i64(plan_section(p, "generate"), "n", 4), sec);
	int64_t n = passes(p, t), all = consistency(p, t) ? 2 * n : n;
	bool own = p->judge_is_model && !external;

	for (int64_t k = 0; k < all; k++) {
		bool earlier = k >= n;
		int64_t pass = earlier ? EARLIER_PASSES + k - n : k;
		json_t *params = json_pack("{s:I}", "pass", (json_int_t)(earlier ? k - n : k));
		json_t *in = json_array();

		if (own)
			plan_input(in, "model", earlier ? p->before : model);
		plan_input(in, "model", external ? p->external : p->judge);
		plan_input(in, "responses", plan_from(p, t, "generate", s, 0, "responses"));
		if (external)
			json_object_set_new(params, "section", json_string("external"));
		else
			plan_input(in, "template", p->found);
		plan_add(p, (struct plan_where){t, "judge", s, pass}, in, params, own ? cost : 1);
	}
}

/* Another model that answers beside the one in training; "" for none. */
static struct plan_source past_model(const struct planner *p)
{
	static const struct plan_source none = {.job = ""};

	return plan_is(p, "generate", "past", "m1")	     ? p->m1
	       : plan_is(p, "generate", "past", "previous") ? p->before
							     : none;
}

static void plan_generate(struct planner *p, int64_t t, int64_t rows, struct plan_source model)
{
	bool spin = plan_kind(p, t) == KIND_SPIN;
	int64_t n = spin ? 1 : jx_get_i64(plan_section(p, "generate"), "n", 4);
	struct plan_source prompts = spin ? p->ift : plan_from(p, t, "prompts", 0, 0, "prompts");

	for (int64_t s = 0, from = 0; from < rows; s++, from += p->shard_size) {
		int64_t to = from + p->shard_size < rows ? from + p->shard_size : rows;
		json_t *in = json_array();
		json_t *params = json_pack("{s:I, s:I}", "from", (json_int_t)from, "to", (json_int_t)to);

		plan_input(in, "model", model);
		plan_input(in, "prompts", prompts);
		if (spin)
			json_object_set_new(params, "n", json_integer(1));
		else
			plan_input(in, "past", past_model(p));
		plan_add(p, (struct plan_where){t, "generate", s, 0}, in, params,
			 tokens_cost(to - from, n, plan_section(p, "generate")));
		plan_judge(p, t, s, to - from, model);
	}
}

/* --- pairs ------------------------------------------------------------------------------------- */

static json_t *pair_params(enum plan_kind kind)
{
	return kind == KIND_EXTERNAL ? json_pack("{s:s}", "section", "external")
	       : kind == KIND_SPIN   ? json_pack("{s:s}", "kind", "spin")
	       : kind == KIND_POSITIVE ? json_pack("{s:s}", "kind", "positive")
				     : NULL;
}

static void plan_pair(struct planner *p, int64_t t, int64_t shards, struct plan_source model)
{
	int64_t n = passes(p, t);
	json_t *in = json_array();
	char role[64];

	for (int64_t s = 0; s < shards; s++) {
		str_fmt(role, sizeof(role), "responses.%lld", (long long)s);
		plan_input(in, role, plan_from(p, t, "generate", s, 0, "responses"));
		for (int64_t k = 0; k < n; k++) {
			str_fmt(role, sizeof(role), "judgements.%lld.%lld", (long long)s, (long long)k);
			plan_input(in, role, plan_from(p, t, "judge", s, k, "judgements"));
		}
		for (int64_t k = 0; consistency(p, t) && k < n; k++) {
			str_fmt(role, sizeof(role), "before.%lld.%lld", (long long)s, (long long)k);
			plan_input(in, role,
				   plan_from(p, t, "judge", s, EARLIER_PASSES + k, "judgements"));
		}
	}
	if (plan_kind(p, t) == KIND_SPIN) {
		plan_input(in, "ift", p->ift);
		plan_input(in, "model", model);
	}
	plan_add(p, (struct plan_where){t, "pair", 0, 0}, in, pair_params(plan_kind(p, t)), 2);
}

int64_t plan_steps(const struct planner *p, int64_t pairs)
{
	const json_t *dpo = plan_section(p, "dpo");
	double epochs = jx_get_f64(dpo, "epochs", 1), batch = jx_get_f64(dpo, "batch", 16);
	double steps = ceil(epochs * (double)pairs / batch);

	return steps >= 1 ? (int64_t)steps : pairs > 0;
}

/* --- training ---------------------------------------------------------------------------------- */

static struct plan_source reference_model(const struct planner *p, struct plan_source model)
{
	return plan_is(p, "dpo", "reference", "m1")	? p->m1
	       : plan_is(p, "dpo", "reference", "path") ? p->reference
							: model;
}

/* A job of its own, whose key has no beta, loss or learning rate in it: runs that differ in those
 * alone find its result. */
static void plan_reference(struct planner *p, int64_t t, int64_t pairs, struct plan_source model)
{
	json_t *in = json_array();

	plan_input(in, "ref", reference_model(p, model));
	plan_input(in, "pairs", plan_from(p, t, "pair", 0, 0, "pairs"));
	plan_add(p, (struct plan_where){t, "reference", 0, 0}, in, NULL, 1 + (double)pairs / 50);
}

static bool early_stop(const struct planner *p)
{
	return jx_get_bool(plan_section(p, "dpo"), "early_stop", false);
}

/* What the judge said of shard k beside what it began with: -1 not known, 0 worse, 1 go on. */
static int verdict(const struct planner *p, int64_t t, int64_t k)
{
	struct plan_source s = plan_from(p, t, "versus", k, 0, "h2h");
	const json_t *outputs = json_object_get(json_object_get(p->done, s.job), "outputs");
	const json_t *meta = json_object_get(json_object_get(outputs, "h2h"), "meta");
	double win = jx_get_f64(meta, "win", 0), tie = jx_get_f64(meta, "tie", 0);
	double loss = jx_get_f64(meta, "loss", 0);

	if (!meta)
		return -1;
	return 2 * win + tie >= win + tie + loss; /* Nothing readable stops nothing. */
}

static void plan_versus(struct planner *p, int64_t t, int64_t k, struct plan_source ours,
			struct plan_source theirs)
{
	json_t *in = json_array();

	plan_input(in, "model", ours);
	plan_input(in, "other", theirs);
	plan_input(in, "test", p->test);
	plan_add(p, (struct plan_where){t, "versus", k, 0}, in,
		 json_pack("{s:s}", "name", "the checkpoint before"), 20);
}

static void plan_dpo_shard(struct planner *p, int64_t t, int64_t k, int64_t from, int64_t to,
			   int64_t steps, struct plan_source model)
{
	const json_t *dpo = plan_section(p, "dpo");
	bool replay = jx_get_f64(dpo, "sft_replay", 0) > 0, adapter = jx_get_i64(dpo, "lora_r", 0) > 0;
	json_t *in = json_array();
	char name[16]; /* of the model the last shard makes */

	str_fmt(name, sizeof(name), "M%lld", (long long)t + 1);
	/* An adapter is trained beside the weights the iteration began with. */
	plan_input(in, "model", k && !adapter ? plan_from(p, t, "dpo", k - 1, 0, "model") : model);
	if (k)
		plan_input(in, "state", plan_from(p, t, "dpo", k - 1, 0, "state"));
	if (steps > 0)
		plan_input(in, "reflogps", plan_from(p, t, "reference", 0, 0, "reflogps"));
	plan_input(in, "ref", reference_model(p, model));
	plan_input(in, "pairs", plan_from(p, t, "pair", 0, 0, "pairs"));
	if (replay) {
		plan_input(in, "ift", p->ift);
		plan_input(in, "eft", p->eft);
	}
	plan_add(p, (struct plan_where){t, "dpo", k, 0}, in,
		 json_pack("{s:I, s:I, s:I, s:s*}", "step_from", (json_int_t)from, "step_to",
			   (json_int_t)to, "total_steps", (json_int_t)steps, "name",
			   to == steps ? name : NULL),
		 1 + (double)(to - from));
}

/* True with the model the iteration ends in; false while a verdict is waited for. */
static bool plan_dpo(struct planner *p, int64_t t, int64_t steps, struct plan_source *model)
{
	int64_t size = jx_get_i64(plan_section(p, "dpo"), "shard_steps", 200), k = 0, from = 0;
	struct plan_source begun = *model, best = *model;

	/* No pairs: one job that says so. */
	do {
		int64_t to = from + size < steps ? from + size : steps;
		struct plan_source made = plan_from(p, t, "dpo", k, 0, "model");

		plan_dpo_shard(p, t, k, from, to, steps, begun);
		if (early_stop(p) && steps > 0) {
			plan_versus(p, t, k, made, best);
			int v = verdict(p, t, k);
			if (v <= 0) {
				*model = best;
				return v == 0;
			}
		}
		best = made;
		from = to;
		k++;
	} while (from < steps);
	*model = best;
	return true;
}

int64_t plan_last_shard(const struct planner *p, int64_t steps)
{
	int64_t size = jx_get_i64(plan_section(p, "dpo"), "shard_steps", 200);

	return steps > 0 ? (steps - 1) / size : 0;
}

static void plan_more_sft(struct planner *p, int64_t t, struct plan_source model)
{
	bool positive = plan_kind(p, t) == KIND_POSITIVE;
	bool anew = positive && !plan_is(p, "positive", "base", "previous");
	json_t *in = json_array();
	char name[16];

	str_fmt(name, sizeof(name), "M%lld", (long long)t + 1);
	plan_input(in, "base", anew ? p->base : model);
	plan_input(in, "ift", p->ift);
	plan_input(in, "eft", p->eft);
	if (positive)
		plan_input(in, "extra", plan_from(p, t, "pair", 0, 0, "positives"));
	plan_add(p, (struct plan_where){t, "sft", 0, 0}, in,
		 json_pack("{s:s, s:s}", "variant", positive ? "positive" : "sft", "name", name), 60);
}

struct plan_source plan_end(const struct planner *p, int64_t t)
{
	struct plan_source none = {.job = ""};
	int64_t pairs, last;

	if (t < 1)
		return plan_from(p, 0, "sft", 1, 0, "model");
	if (!pairs_up(plan_kind(p, t)))
		return plan_from(p, t, "sft", 0, 0, "model");
	pairs = plan_rows(p, plan_from(p, t, "pair", 0, 0, "pairs"));
	if (pairs < 0)
		return none;
	last = plan_last_shard(p, plan_steps(p, pairs));
	for (int64_t k = 0; early_stop(p) && pairs > 0 && k <= last; k++) {
		int v = verdict(p, t, k);
		if (v < 0)
			return none;
		if (v == 0)
			return k ? plan_from(p, t, "dpo", k - 1, 0, "model") : plan_end(p, t - 1);
	}
	return plan_from(p, t, "dpo", last, 0, "model");
}

/* --- the whole --------------------------------------------------------------------------------- */

/* Rows the iteration answers; -1 while that is not known. */
static int64_t rows_asked(const struct planner *p, int64_t t)
{
	int64_t max = jx_get_i64(plan_section(p, "spin"), "max_rows", 0), rows;

	if (plan_kind(p, t) != KIND_SPIN)
		return plan_rows(p, plan_from(p, t, "prompts", 0, 0, "prompts"));
	rows = plan_rows(p, p->ift);
	return max > 0 && rows > max ? max : rows;
}

/* Up to the pairs; false while they are not planned, or when they cannot be. */
static bool plan_pairs(struct planner *p, int64_t t, struct plan_source model, enum rc *rc)
{
	int64_t each = passes(p, t) * (consistency(p, t) ? 2 : 1) + 1, rows, shards;

	if (plan_asks(plan_kind(p, t)))
		plan_prompts(p, t, model);
	rows = rows_asked(p, t);
	if (rows < 0)
		return false;
	shards = (rows + p->shard_size - 1) / p->shard_size;
	if (shards == 0 || shards * each > PARENTS_MAX) {
		*rc = err_set(p->e, RC_INVALID,
			      "iteration %lld: %lld prompts in shards of %lld make %lld jobs, "
			      "expected 1 to %d", (long long)t, (long long)rows, (long long)p->shard_size,
			      (long long)(shards * each), PARENTS_MAX);
		return false;
	}
	plan_generate(p, t, rows, model);
	plan_pair(p, t, shards, model);
	return true;
}

bool plan_iteration(struct planner *p, int64_t t, struct plan_source *model, enum rc *rc)
{
	struct plan_source begun = *model;
	enum plan_kind kind = plan_kind(p, t);
	int64_t pairs, steps;
	char name[16];

	if (kind != KIND_SFT && !plan_pairs(p, t, *model, rc))
		return false;
	if (pairs_up(kind)) {
		pairs = plan_rows(p, plan_from(p, t, "pair", 0, 0, "pairs"));
		if (pairs < 0)
			return false;
		steps = plan_steps(p, pairs);
		if (steps > 0)
			plan_reference(p, t, pairs, *model);
		if (!plan_dpo(p, t, steps, model))
			return false;
	} else {
		plan_more_sft(p, t, *model);
		*model = plan_from(p, t, "sft", 0, 0, "model");
	}
	str_fmt(name, sizeof(name), "M%lld", (long long)t + 1);
	plan_eval(p, t, 0, name, *model);
	p->before = begun;
	return true;
}
