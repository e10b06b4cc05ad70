/* Two stages. The reference: log-probabilities of every pair under a checkpoint, whatever is then
 * made of them.
 *
 * in   ref (checkpoint), pairs (dataset of `pair`)
 * out  reflogps {"id","chosen","rejected"}
 *
 * Preference optimisation: one slice [step_from, step_to) of the iteration's steps.
 *
 * in   model (M_t for the first shard and wherever an adapter is trained, else the previous
 *      shard's), state (previous shard's; not for the first), ref (checkpoint), pairs (dataset of
 *      `pair`), reflogps, ift and eft (for replay); params.step_from, step_to, total_steps
 * out  model, state (with the adapter, if one is trained); without an input reflogps (by hand)
 *      these as well
 *
 * sft_replay = w > 0: every step also sees about w seed examples (IFT + EFT) per pair, whose mean
 * token loss is added w times: the model keeps the skills (judging!) that pairs do not exercise.
 */
#include "worker/stages/stages.h"

#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "worker/stage.h"
#include "worker/stages/training.h"
#include "worker/train/scorer.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PAIRS_MAX (4u << 20)
#define REF_CHUNK 64 /* pairs between two marks */

struct dpo {
	struct training t;
	struct train_opts o;
	json_t *rows;               /* of `pairs`; owned */
	struct examples pairs;      /* 2i chosen, 2i + 1 rejected */
	double *doubt;              /* of each pair: 1 - "label", 0 where it has none; owned */
	struct examples replay;
	double *ref;                /* [2 n] log-probabilities, same order; owned */
	struct order order, replay_order;
	double replay_share;
	int64_t from, to, total;
	double tokens_saved; /* by feeding each prompt once for both answers */
	struct train_pair *batch;      /* owned, [order.batch] */
	struct train_example *extra;   /* owned */
	struct stage_rows ref_rows;
	bool makes_ref;
};

static uint32_t n_pairs(const struct dpo *d)
{
	return d->pairs.n / 2;
}

/* --- reference ------------------------------------------------------------------------------- */

static struct train_pair pair_at(const struct dpo *d, uint32_t i)
{
	const struct example *c = &d->pairs.items[2 * i], *r = c + 1;

	return (struct train_pair){.prompt = c->prompt,
				   .chosen = c->response,
				   .rejected = r->response,
				   .n_prompt = c->n_prompt,
				   .n_chosen = c->n_response,
				   .n_rejected = r->n_response,
				   .ref_chosen = d->ref[2 * i],
				   .ref_rejected = d->ref[2 * i + 1],
				   .doubt = d->doubt[i]};
}

/* Pairs [at, end); those that are too long keep 0. */
static enum rc score_chunk(struct dpo *d, struct scorer *sc, uint32_t at, uint32_t end, struct err *e)
{
	struct train_pair pairs[REF_CHUNK] = {{0}};
	double out[2 * REF_CHUNK];
	uint32_t at_of[REF_CHUNK];
	int n = 0;

	for (uint32_t i = at; i < end; i++) {
		pairs[n] = pair_at(d, i);
		if (pairs[n].n_chosen == 0)
			continue;
		stage_tokens(d->t.ctx, pairs[n].n_prompt + pairs[n].n_chosen + pairs[n].n_rejected);
		at_of[n++] = i;
	}
	enum rc rc = scorer_pairs(sc, pairs, n, out, e);
	for (int k = 0; rc == RC_OK && k < n; k++) {
		d->ref[2 * at_of[k]] = out[2 * k];
		d->ref[2 * at_of[k] + 1] = out[2 * k + 1];
	}
	return rc;
}

static enum rc add_ref_rows(struct dpo *d, uint32_t at, uint32_t end, struct err *e)
{
	enum rc rc = RC_OK;

	for (uint32_t i = at; rc == RC_OK && i < end; i++) {
		json_t *row = json_pack("{s:O, s:f, s:f}", "id",
					json_object_get(json_array_get(d->rows, i), "id"), "chosen",
					d->ref[2 * i], "rejected", d->ref[2 * i + 1]);

		rc = stage_rows_add(&d->ref_rows, row, e);
		json_decref(row);
	}
	return rc;
}

static enum rc take_ref(struct dpo *d, const json_t *list, struct err *e)
{
	const json_t *row;
	size_t i;

	if (json_array_size(list) > n_pairs(d))
		return err_set(e, RC_INVALID, "reflogps: %zu rows for %u pairs", json_array_size(list),
			       n_pairs(d));
	json_array_foreach((json_t *)list, i, row) {
		const char *id = jx_get_str(json_array_get(d->rows, i), "id", "");
		enum rc rc;

		if (strcmp(jx_get_str(row, "id", ""), id) != 0)
			return err_set(e, RC_INVALID, "reflogps: row %zu is not of pair %s", i + 1, id);
		if ((rc = jx_f64(row, "chosen", -1e9, 1e9, &d->ref[2 * i], e)) != RC_OK ||
		    (rc = jx_f64(row, "rejected", -1e9, 1e9, &d->ref[2 * i + 1], e)) != RC_OK)
			return err_wrap(e, "reflogps: row %zu", i + 1);
	}
	return RC_OK;
}

/* The policy before its first step is the reference when both are the same checkpoint. */
static bool ref_is_model(const struct dpo *d)
{
	if (strcmp(d->t.role, "ref") == 0)
		return true;
	const char *a = stage_in_digest(d->t.ctx, "model"), *b = stage_in_digest(d->t.ctx, "ref");
	const char *da = stage_in(d->t.ctx, "model"), *db = stage_in(d->t.ctx, "ref");
	char ra[PATH_MAX], rb[PATH_MAX];

	if (!db || (*a && strcmp(a, b) == 0))
		return true;
	return da && realpath(da, ra) && realpath(db, rb) && strcmp(ra, rb) == 0;
}

static enum rc score_rest(struct dpo *d, const struct model *ref, struct err *e)
{
	struct scorer_opts o = {.format = d->o.format,
				.max_length = d->o.max_length,
				.micro_tokens = d->o.micro_tokens,
				.ld_alpha = d->o.dpo.ld_alpha,
				.base = d->o.base,
				.tensor = training_tensor(&d->t)};
	struct scorer *sc = NULL;
	enum rc rc = scorer_new(ref, stage_kern(d->t.ctx), stage_pool(d->t.ctx), &o, &sc, e);

	for (uint32_t at = (uint32_t)d->ref_rows.n; rc == RC_OK && at < n_pairs(d); at += REF_CHUNK) {
		uint32_t end = at + REF_CHUNK < n_pairs(d) ? at + REF_CHUNK : n_pairs(d);

		rc = score_chunk(d, sc, at, end, e);
		stage_progress(d->t.ctx, end, n_pairs(d), "pairs");
		if (rc == RC_OK)
			rc = add_ref_rows(d, at, end, e);
		if (rc == RC_OK)
			rc = stage_rows_mark(&d->ref_rows, NULL, e);
	}
	scorer_free(sc);
	return rc;
}

static enum rc make_ref(struct dpo *d, struct err *e)
{
	struct stage_ctx *ctx = d->t.ctx;
	struct model *other = NULL;
	json_t *done = NULL;
	enum rc rc = stage_rows_open(ctx, "reflogps", &d->ref_rows, e);

	if (rc == RC_OK)
		rc = stage_rows_load(&d->ref_rows, &done, e);
	if (rc == RC_OK)
		rc = take_ref(d, done, e);
	json_decref(done);
	if (rc != RC_OK || d->ref_rows.n == n_pairs(d))
		return rc;
	/* Under an adapter the model is still what the input was. */
	if ((d->t.resumed && d->t.adapter.r == 0) || !ref_is_model(d))
		rc = training_load(&d->t, stage_in(ctx, "ref"), true, &other, e);
	if (rc == RC_OK)
		rc = score_rest(d, other ? other : d->t.model, e);
	if (other)
		model_free(other);
	return rc;
}

/* What is said of the input reflogps; NULL without it. */
static const json_t *origin(const struct dpo *d)
{
	const json_t *list = json_object_get(d->t.ctx->job, "inputs"), *in;
	size_t i;

	json_array_foreach((json_t *)list, i, in) if (!strcmp(jx_get_str(in, "role", ""), "reflogps"))
		return json_object_get(in, "meta");
	return NULL;
}

/* It belongs to these pairs and this reference, or it is refused. */
static enum rc check_origin(const struct dpo *d, struct err *e)
{
	static const char *const roles[] = {"pairs", "ref"};

	for (int k = 0; k < 2; k++) {
		const char *made = jx_get_str(origin(d), roles[k], "");
		const char *ours = stage_in_digest(d->t.ctx, roles[k]);

		if (*made && *ours && strcmp(made, ours) != 0)
			return err_set(e, RC_INVALID,
				       "reflogps were made from other %s: %.12s, not %.12s", roles[k],
				       made, ours);
	}
	return RC_OK;
}

static enum rc load_ref(struct dpo *d, struct err *e)
{
	json_t *list;

	d->ref = mem_array(d->pairs.n + 1, sizeof *d->ref);
	d->makes_ref = !stage_in(d->t.ctx, "reflogps");
	if (d->makes_ref)
		return make_ref(d, e);
	enum rc rc = check_origin(d, e);
	if (rc == RC_OK)
		rc = stage_in_rows(d->t.ctx, "reflogps", PAIRS_MAX, &list, e);
	if (rc != RC_OK)
		return rc;
	rc = take_ref(d, list, e);
	if (rc == RC_OK && json_array_size(list) != n_pairs(d))
		rc = err_set(e, RC_INVALID, "reflogps: %zu rows for %u pairs", json_array_size(list),
			     n_pairs(d));
	json_decref(list);
	return rc;
}

/* --- data ------------------------------------------------------------------------------------ */

static int max_length_of(const struct dpo *d)
{
	int64_t n = jx_get_i64(d->t.section, "max_length", 1024);

	return n < d->t.model->cfg.max_pos ? (int)n : d->t.model->cfg.max_pos;
}

static enum rc load_pairs(struct dpo *d, struct err *e)
{
	enum rc rc = stage_in_rows(d->t.ctx, "pairs", PAIRS_MAX, &d->rows, e);

	if (rc != RC_OK)
		return rc;
	d->doubt = mem_array(json_array_size(d->rows) + 1, sizeof *d->doubt);
	for (size_t i = 0; i < json_array_size(d->rows); i++)
		d->doubt[i] = 1 - jx_get_f64(json_array_get(d->rows, i), "label", 1);
	rc = examples_add_pairs(&d->pairs, d->rows, d->t.model->cfg.vocab, max_length_of(d), e);
	if (rc == RC_OK && d->pairs.too_long == n_pairs(d))
		rc = err_set(e, RC_INVALID, "no pairs%s",
			     n_pairs(d) > 0 ? ": all are longer than max_length" : "");
	return rc;
}

static enum rc load_replay(struct dpo *d, struct err *e)
{
	enum rc rc;

	d->replay_share = jx_get_f64(d->t.section, "sft_replay", 0);
	if (!(d->replay_share > 0))
		return RC_OK;
	rc = training_examples(&d->t, "ift", max_length_of(d), &d->replay, e);
	if (rc == RC_OK)
		rc = training_examples(&d->t, "eft", max_length_of(d), &d->replay, e);
	if (rc == RC_OK && d->replay.n == 0)
		rc = err_set(e, RC_INVALID, "dpo.sft_replay: no seed examples among the inputs");
	return rc;
}

static enum rc plan_steps(struct dpo *d, struct err *e)
{
	const json_t *c = d->t.section, *p = d->t.ctx->params;
	int64_t batch = jx_get_i64(c, "batch", 16);

	if (batch < 1 || batch > 1 << 20)
		return err_set(e, RC_INVALID, "dpo: batch %lld", (long long)batch);
	order_init(&d->order, d->t.ctx->seed, RNG_DPO, (uint32_t)d->t.ctx->iter, 0, n_pairs(d),
		   (uint32_t)batch);
	order_init(&d->replay_order, d->t.ctx->seed, RNG_DPO, (uint32_t)d->t.ctx->iter, 1, d->replay.n,
		   1);
	d->batch = mem_array((size_t)batch, sizeof *d->batch);
	d->extra = mem_array((size_t)(ceil((double)batch * d->replay_share) + 1), sizeof *d->extra);
	d->total = jx_get_i64(p, "total_steps", order_steps_per_epoch(&d->order));
	d->from = jx_get_i64(p, "step_from", 0);
	d->to = jx_get_i64(p, "step_to", d->total);
	if (d->from < 0 || d->to <= d->from || d->to > d->total)
		return err_set(e, RC_INVALID, "dpo: steps %lld to %lld of %lld", (long long)d->from,
			       (long long)d->to, (long long)d->total);
	return RC_OK;
}

static enum rc read_options(struct dpo *d, struct err *e)
{
	const json_t *c = d->t.section;
	struct dpo_settings *s = &d->o.dpo;
	enum rc rc = training_options(&d->t, d->total, "dpo", &d->o, e);

	if (rc != RC_OK)
		return rc;
	s->beta = jx_get_f64(c, "beta", s->beta);
	s->label_smoothing = jx_get_f64(c, "label_smoothing", 0);
	s->nll_coef = jx_get_f64(c, "nll_coef", 0);
	s->length_normalised = jx_get_bool(c, "length_normalised", false);
	s->ld_alpha = jx_get_f64(c, "ld_alpha", 1);
	rc = dpo_loss_parse(jx_get_str(c, "loss", "sigmoid"), &s->loss, e);
	return rc == RC_OK ? dpo_settings_check(s, e) : rc;
}

/* --- steps ----------------------------------------------------------------------------------- */

static int fill_pairs(struct dpo *d, int64_t step)
{
	const uint32_t *items;
	uint32_t n = order_step(&d->order, step, &items);
	int filled = 0;

	for (uint32_t k = 0; k < n; k++)
		if (d->pairs.items[2 * items[k]].n_response > 0)
			d->batch[filled++] = pair_at(d, items[k]);
	return filled;
}

static int fill_replay(struct dpo *d, int64_t step)
{
	int n = d->replay.n > 0 ? (int)lround(d->order.batch * d->replay_share) : 0;

	if (d->replay.n > 0 && n == 0)
		n = 1;
	for (int k = 0; k < n; k++) {
		uint32_t i = order_at(&d->replay_order, (uint64_t)step * (uint64_t)n + (uint64_t)k);
		const struct example *x = &d->replay.items[i];

		d->extra[k] = (struct train_example){x->prompt, x->response, x->n_prompt, x->n_response,
						     (float)d->replay_share};
	}
	return n;
}

static enum rc one_step(struct dpo *d, struct err *e)
{
	struct train_metrics m = {0};
	int n = fill_pairs(d, d->t.step), n_extra = fill_replay(d, d->t.step);
	enum rc rc = RC_OK;

	training_step_begins(&d->t);
	if (n > 0)
		rc = trainer_dpo_step(d->t.trainer, d->batch, n, d->extra, n_extra, (int)d->t.step, &m, e);
	if (rc != RC_OK)
		return err_wrap(e, "step %lld", (long long)d->t.step + 1);
	d->tokens_saved += m.tokens_saved;
	return training_stepped(&d->t, &m, true, d->from, d->to, e);
}

/* Before anything changes: the policy is the reference, so rewards are 0 and the loss is ln 2. On
 * another engine than computed the reference that holds but roughly. */
static enum rc check_start(struct dpo *d, struct err *e)
{
	const char *engine = stage_engine(d->t.ctx), *made = jx_get_str(origin(d), "engine", engine);

	if (d->t.step != 0 || d->t.resumed || !ref_is_model(d) || strcmp(made, engine) != 0)
		return RC_OK;
	int n = fill_pairs(d, 0);
	return n > 0 ? trainer_check_reference(d->t.trainer, d->batch, n, e) : RC_OK;
}

static enum rc start(struct dpo *d, struct err *e)
{
	const char *state = stage_in(d->t.ctx, "state");
	enum rc rc = RC_OK;

	if (d->from > 0 && !state && !d->t.resumed)
		rc = err_set(e, RC_INVALID, "dpo: input state is missing at step %lld", (long long)d->from);
	if (rc == RC_OK)
		rc = training_start(&d->t, &d->o, state, d->from, e);
	if (rc == RC_OK && (d->t.step < d->from || d->t.step > d->to))
		rc = err_set(e, RC_INVALID, "dpo: the state is at step %lld, not in %lld to %lld",
			     (long long)d->t.step, (long long)d->from, (long long)d->to);
	return rc == RC_OK ? check_start(d, e) : rc;
}

static enum rc finish_ref(struct dpo *d, struct err *e)
{
	struct stage_ctx *ctx = d->t.ctx;
	json_t *meta = json_pack("{s:s, s:s, s:s, s:f}", "pairs", stage_in_digest(ctx, "pairs"), "ref",
				 stage_in_digest(ctx, "ref"), "train", d->t.format, "ld_alpha",
				 d->o.dpo.ld_alpha);

	return stage_rows_finish(&d->ref_rows, meta, e);
}

static enum rc finish(struct dpo *d, struct err *e)
{
	struct stage_ctx *ctx = d->t.ctx;
	json_t *meta = json_pack("{s:I, s:I, s:I, s:s*}", "pairs", (json_int_t)n_pairs(d), "too_long",
				 (json_int_t)d->pairs.too_long, "total_steps", (json_int_t)d->total,
				 "name", jx_get_str(ctx->params, "name", NULL));
	enum rc rc = training_finish(&d->t, meta, e);

	stage_final(ctx, "dpo.pairs", json_integer(n_pairs(d)));
	stage_final(ctx, "dpo.too_long", json_integer(d->pairs.too_long));
	stage_final(ctx, "dpo.tokens_saved", json_real(d->tokens_saved));
	return rc == RC_OK && d->makes_ref ? finish_ref(d, e) : rc;
}

static void release(struct dpo *d)
{
	stage_rows_release(&d->ref_rows);
	training_close(&d->t);
	examples_release(&d->pairs);
	examples_release(&d->replay);
	order_release(&d->order);
	order_release(&d->replay_order);
	json_decref(d->rows);
	free(d->ref);
	free(d->doubt);
	free(d->batch);
	free(d->extra);
}

enum rc stage_reference(struct stage_ctx *ctx, struct err *e)
{
	struct dpo d = {.ref_rows.fd = -1, .total = 1};
	enum rc rc = training_open(&d.t, ctx, "dpo", "ref", e);

	if (rc == RC_OK)
		rc = load_pairs(&d, e);
	if (rc == RC_OK)
		rc = read_options(&d, e);
	if (rc == RC_OK)
		rc = load_ref(&d, e);
	if (rc == RC_OK)
		rc = finish_ref(&d, e);
	release(&d);
	return rc;
}

enum rc stage_dpo(struct stage_ctx *ctx, struct err *e)
{
	struct dpo d = {.ref_rows.fd = -1};
	enum rc rc = training_open(&d.t, ctx, "dpo", "model", e);

	if (rc == RC_OK)
		rc = load_pairs(&d, e);
	if (rc == RC_OK)
		rc = load_replay(&d, e);
	if (rc == RC_OK)
		rc = plan_steps(&d, e);
	if (rc == RC_OK)
		rc = read_options(&d, e);
	if (rc == RC_OK)
		rc = load_ref(&d, e);
	if (rc == RC_OK)
		rc = start(&d, e);
	while (rc == RC_OK && d.t.step < d.to)
		rc = one_step(&d, e);
	if (rc == RC_OK)
		rc = finish(&d, e);
	release(&d);
	return rc;
}
