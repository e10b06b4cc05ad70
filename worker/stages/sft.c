/* Supervised fine-tuning: the baseline learns from demonstrations (IFT), M1 from demonstrations and
 * judgements (IFT + EFT). Loss on the response's tokens only, its end token included.
 *
 * in   base (checkpoint), ift and eft {"prompt","response"}, extra (the perfect answers of `pair`, as
 *      ids); params.variant "baseline" | "m1" | "positive" | "sft"
 * out  model (checkpoint), state (train_state)
 */
#include "worker/stages/stages.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "worker/stage.h"
#include "worker/stages/training.h"

#include <math.h>
#include <stdlib.h>

#define EXTRA_MAX (4u << 20)

struct sft {
	struct training t;
	struct examples examples;
	struct order order;
	int64_t total;
	struct train_example *batch; /* owned, [order.batch] */
};

static enum rc load_extra(struct sft *s, int max_length, struct err *e)
{
	json_t *rows;

	if (!stage_in(s->t.ctx, "extra"))
		return RC_OK;
	enum rc rc = stage_in_rows(s->t.ctx, "extra", EXTRA_MAX, &rows, e);
	if (rc != RC_OK)
		return rc;
	stage_final(s->t.ctx, "sft.extra", json_integer((json_int_t)json_array_size(rows)));
	rc = examples_add_generated(&s->examples, rows, s->t.model->cfg.vocab, max_length, e);
	json_decref(rows);
	return rc == RC_OK ? RC_OK : err_wrap(e, "input extra");
}

static enum rc load_data(struct sft *s, struct err *e)
{
	const json_t *c = s->t.section;
	int64_t max_length = jx_get_i64(c, "max_length", 1024);
	int64_t batch = jx_get_i64(c, "batch", 16);
	double epochs = jx_get_f64(c, "epochs", 2);
	int64_t max_steps = jx_get_i64(c, "max_steps", 0);

	if (max_length > s->t.model->cfg.max_pos)
		max_length = s->t.model->cfg.max_pos;
	enum rc rc = training_examples(&s->t, "ift", (int)max_length, &s->examples, e);
	if (rc == RC_OK)
		rc = training_examples(&s->t, "eft", (int)max_length, &s->examples, e);
	if (rc == RC_OK)
		rc = load_extra(s, (int)max_length, e);
	if (rc != RC_OK)
		return rc;
	if (s->examples.n == 0)
		return err_set(e, RC_INVALID, "sft: no examples (%lld are longer than %lld tokens)",
			       (long long)s->examples.too_long, (long long)max_length);
	if (batch < 1 || batch > 1 << 20 || !(epochs >= 0 && epochs <= 1e6))
		return err_set(e, RC_INVALID, "sft: batch %lld, epochs %g", (long long)batch, epochs);
	order_init(&s->order, s->t.ctx->seed, RNG_SFT, (uint32_t)s->t.ctx->iter, 0, s->examples.n,
		   (uint32_t)batch);
	s->batch = mem_array((size_t)batch, sizeof *s->batch);
	s->total = (int64_t)ceil(epochs * order_steps_per_epoch(&s->order));
	if (max_steps > 0 && (max_steps < s->total || s->total == 0))
		s->total = max_steps;
	return RC_OK;
}

static enum rc one_step(struct sft *s, struct err *e)
{
	struct train_metrics m;
	const uint32_t *items;
	uint32_t n = order_step(&s->order, s->t.step, &items);

	training_step_begins(&s->t);
	for (uint32_t i = 0; i < n; i++) {
		const struct example *x = &s->examples.items[items[i]];

		s->batch[i] = (struct train_example){x->prompt, x->response, x->n_prompt, x->n_response, 1};
	}
	enum rc rc = trainer_sft_step(s->t.trainer, s->batch, (int)n, (int)s->t.step, &m, e);
	if (rc != RC_OK)
		return err_wrap(e, "step %lld", (long long)s->t.step + 1);
	return training_stepped(&s->t, &m, false, 0, s->total, e);
}

static enum rc finish(struct sft *s, const char *variant, struct err *e)
{
	json_t *meta = json_pack("{s:s, s:I, s:I}", "variant", variant, "examples",
				 (json_int_t)s->examples.n, "too_long", (json_int_t)s->examples.too_long);

	stage_final(s->t.ctx, "sft.examples", json_integer(s->examples.n));
	stage_final(s->t.ctx, "sft.too_long", json_integer(s->examples.too_long));
	return training_finish(&s->t, meta, e);
}

enum rc stage_sft(struct stage_ctx *ctx, struct err *e)
{
	struct sft s = {0};
	struct train_opts o;
	const char *variant = jx_get_str(ctx->params, "variant", "baseline");
	enum rc rc = training_open(&s.t, ctx, "sft", "base", e);

	if (rc == RC_OK)
		rc = load_data(&s, e);
	if (rc == RC_OK)
		rc = training_options(&s.t, s.total, variant, &o, e);
	o.pairs = false;
	if (rc == RC_OK)
		rc = training_start(&s.t, &o, NULL, 0, e);
	while (rc == RC_OK && s.t.step < s.total)
		rc = one_step(&s, e);
	if (rc == RC_OK)
		rc = finish(&s, variant, e);
	training_close(&s.t);
	examples_release(&s.examples);
	order_release(&s.order);
	free(s.batch);
	return rc;
}
