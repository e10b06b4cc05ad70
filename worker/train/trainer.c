#include "worker/train/trainer.h"

#include "base/check.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "worker/model/mirror.h"
#include "worker/train/memory.h"
#include "worker/train/trainer_inner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct train_opts train_opts_default(void)
{
	return (struct train_opts){.schedule = {SCHEDULE_CONSTANT, 1e-5, 0, 0, 0},
				   .beta1 = 0.9,
				   .beta2 = 0.95,
				   .eps = 1e-8,
				   .clip_norm = 1.0,
				   .max_length = 1024,
				   .pairs = true,
				   .dpo = dpo_settings_default()};
}

static enum rc check_opts(const struct model *m, const struct train_opts *o, struct err *e)
{
	if (o->max_length < 2 || o->max_length > m->cfg.max_pos)
		return err_set(e, RC_INVALID,
			       "max_length %d: expected 2 to %d (max_position_embeddings)",
			       o->max_length, m->cfg.max_pos);
	if (!(o->dropout >= 0) || !(o->dropout < 1))
		return err_set(e, RC_INVALID, "dropout %g: expected 0 to below 1", o->dropout);
	if (!(o->beta1 >= 0) || !(o->beta1 < 1) || !(o->beta2 >= 0) || !(o->beta2 < 1) ||
	    !(o->eps > 0))
		return err_set(e, RC_INVALID, "AdamW needs 0 <= beta < 1 and eps > 0");
	if (!(o->schedule.lr >= 0) || !isfinite(o->schedule.lr))
		return err_set(e, RC_INVALID, "learning rate %g: expected 0 or more",
			       o->schedule.lr);
	if (o->tensor && o->data)
		return err_set(e, RC_UNSUPPORTED,
			       "ranks hold the model together or divide the batch, not both");
	return dpo_settings_check(&o->dpo, e);
}

static int budget_of(const struct train_opts *o)
{
	return o->micro_tokens > 0 ? o->micro_tokens : TRAIN_MICRO_TOKENS;
}

struct llama_opts train_llama_opts(const struct train_opts *o)
{
	int rows = train_pack_rows(budget_of(o), o->max_length, o->pairs);

	return (struct llama_opts){.max_tokens = rows,
				   .max_targets = pack_targets_max(rows, TRAIN_SEQS_PER_PACK),
				   .max_pos = o->max_length,
				   .recompute = o->recompute,
				   .format = o->format,
				   .lora = o->lora,
				   .coll = o->tensor};
}

bool train_base_format(const struct train_opts *o, const struct kern *k, enum kern_format *f)
{
	*f = o->base == TRAIN_BASE_Q8 ? KERN_Q8 : k->act == KERN_BF16 ? KERN_BF16 : o->format;
	return o->lora && (o->base == TRAIN_BASE_Q8 || !k->host);
}

static int rank_of(const struct trainer *tr)
{
	return coll_rank(tr->o.tensor) + coll_rank(tr->o.data);
}

static int ranks_of(const struct trainer *tr)
{
	return coll_ranks(tr->o.tensor) * coll_ranks(tr->o.data);
}

/* Settles recomputation; says what will be taken. */
static enum rc plan_memory(struct trainer *tr, struct err *e)
{
	size_t limit = tr->o.memory_bytes ? tr->o.memory_bytes : mirror_room(tr->k, tr->pool);
	struct memory_plan p;
	enum rc rc = memory_plan(tr->m, tr->k, &tr->o, limit, &p, e);

	if (rc != RC_OK)
		return ranks_of(tr) > 1 ? err_wrap(e, "rank %d of %d", rank_of(tr), ranks_of(tr)) : rc;
	tr->o.recompute = p.recompute;
	log_info("train", "memory",
		 "needed_mib=%zu weights_mib=%zu brought_mib=%zu gradients_mib=%zu moments_mib=%zu "
		 "activations_mib=%zu head_mib=%zu scratch_mib=%zu recompute=%d left_mib=%zu "
		 "rank=%d ranks=%d",
		 p.needed >> 20, p.weights >> 20, p.brought >> 20, p.gradients >> 20, p.moments >> 20,
		 p.activations >> 20, p.head >> 20, p.scratch >> 20, p.recompute, limit >> 20,
		 rank_of(tr), ranks_of(tr));
	return RC_OK;
}

/* Masters and what products read, where the operations can. */
static enum rc bring_set(struct trainer *tr, struct err *e)
{
	size_t n = tr->set.n;
	enum rc rc = mirror_make(tr->k, tr->pool, tr->set.params, n * sizeof(float),
				 "master weights", (void **)&tr->master, e);

	if (rc != RC_OK)
		return rc;
	tr->work = tr->master;
	if (tr->k->act == KERN_F32)
		return RC_OK;
	tr->work = tr->k->alloc(tr->pool, n * kern_act(tr->k));
	if (!tr->work)
		return err_set(e, RC_NOMEM, "working weights need %zu MiB",
			       n * kern_act(tr->k) >> 20);
	tr->k->narrow(tr->pool, tr->work, tr->master, n);
	return RC_OK;
}

/* The frozen weights under an adapter. */
static enum rc bring_base(struct trainer *tr, struct err *e)
{
	enum kern_format f;

	if (!train_base_format(&tr->o, tr->k, &f) || tr->o.frozen)
		return RC_OK;
	return weights_bring(&tr->base, tr->m, tr->k, tr->pool, f, WEIGHTS_TRAIN, e);
}

static struct llama_where where_of(const struct trainer *tr)
{
	if (tr->o.lora)
		return (struct llama_where){.lora = tr->work,
					    .base = tr->o.frozen	? tr->o.frozen
						    : tr->base.slab ? &tr->base
								    : NULL};
	return (struct llama_where){.work = tr->work, .master = tr->master};
}

static size_t moment_bytes(const struct trainer *tr)
{
	return (tr->own.to - tr->own.from) * sizeof(float);
}

static size_t padded(size_t bytes)
{
	return (bytes + 255) / 256 * 256;
}

static size_t optimizer_bytes(const struct trainer *tr)
{
	return padded(tr->set.n * sizeof(float)) + 2 * padded(moment_bytes(tr));
}

/* Gradients and both moments, in one piece. */
static enum rc make_optimizer(struct trainer *tr, struct err *e)
{
	char *p = tr->optimizer = tr->k->alloc(tr->pool, optimizer_bytes(tr));

	if (!p)
		return err_set(e, RC_NOMEM, "gradients and moments need %zu MiB",
			       optimizer_bytes(tr) >> 20);
	tr->grads = (float *)(void *)p;
	p += padded(tr->set.n * sizeof(float));
	tr->adam_m = (float *)(void *)p;
	tr->adam_v = (float *)(void *)(p + padded(moment_bytes(tr)));
	return RC_OK;
}

static enum rc allocate(struct trainer *tr, struct err *e)
{
	size_t targets;
	struct llama_opts lo;
	enum rc rc = plan_memory(tr, e);

	if (rc != RC_OK || (rc = bring_base(tr, e)) != RC_OK || (rc = bring_set(tr, e)) != RC_OK)
		return rc;
	lo = train_llama_opts(&tr->o);
	lo.at = where_of(tr);
	targets = (size_t)lo.max_targets;
	tr->budget = budget_of(&tr->o);
	tr->fork = train_can_fork(tr->m, tr->o.max_length);
	if ((rc = make_optimizer(tr, e)) != RC_OK)
		return rc;
	tr->logp = mem_array(targets, sizeof *tr->logp);
	tr->entropy = mem_array(targets, sizeof *tr->entropy);
	tr->logit = mem_array(targets, sizeof *tr->logit);
	tr->g = mem_array(targets, sizeof *tr->g);
	tr->hit = mem_array(targets, sizeof *tr->hit);
	tr->updates = mem_array((size_t)tr->set.n_tensors, sizeof *tr->updates);
	if ((rc = pack_new(lo.max_tokens, TRAIN_SEQS_PER_PACK, &tr->pack, e)) != RC_OK)
		return rc;
	return llama_new(tr->m, tr->k, tr->pool, &lo, &tr->llama, e);
}

static struct param_set set_of(const struct model *m, const struct lora *lora)
{
	if (lora)
		return (struct param_set){lora->params, lora->n_params, lora->tensors,
					  lora->n_tensors};
	return (struct param_set){m->params, m->n_params, m->tensors, m->n_tensors};
}

enum rc trainer_new(struct model *m, const struct kern *k, struct kern_pool *pool,
		    const struct train_opts *o, struct trainer **out, struct err *e)
{
	enum rc rc = check_opts(m, o, e);
	struct trainer *tr;

	if (rc != RC_OK)
		return rc;
	tr = mem_new(sizeof *tr);
	*tr = (struct trainer){.m = m, .set = set_of(m, o->lora), .k = k, .pool = pool, .o = *o};
	tr->own = coll_part(tr->set.n, coll_rank(o->data), coll_ranks(o->data));
	rc = allocate(tr, e);
	if (rc != RC_OK) {
		trainer_free(tr);
		return rc;
	}
	*out = tr;
	return RC_OK;
}

static void give_back(struct trainer *tr, void *p, size_t bytes)
{
	if (p)
		tr->k->release(tr->pool, p, bytes);
}

void trainer_free(struct trainer *tr)
{
	if (!tr)
		return;
	size_t bytes = tr->set.n * sizeof(float);

	llama_free(tr->llama);
	pack_release(&tr->pack);
	give_back(tr, tr->optimizer, optimizer_bytes(tr));
	if (tr->work != tr->master)
		give_back(tr, tr->work, tr->set.n * kern_act(tr->k));
	mirror_free(tr->k, tr->pool, tr->master, bytes);
	weights_release(&tr->base);
	free(tr->logp);
	free(tr->entropy);
	free(tr->logit);
	free(tr->g);
	free(tr->hit);
	free(tr->updates);
	free(tr);
}

/* Masks are named by seed, step, sequence in the batch, layer and site. */
struct llama_dropout trainer_dropout(const struct trainer *tr, int step)
{
	uint32_t key[2] = {(uint32_t)tr->o.seed, (uint32_t)(tr->o.seed >> 32)};
	uint32_t ctr[4] = {(uint32_t)step, RNG_DROPOUT, 0, 0}, out[4];

	rng_philox(key, ctr, out);
	return (struct llama_dropout){(float)tr->o.dropout, {out[0], out[1]}};
}

void trainer_run_pack(struct trainer *tr, const struct llama_loss *loss, int step)
{
	struct llama_dropout d = trainer_dropout(tr, step);

	llama_train(tr->llama, &tr->pack, &d, loss, tr->grads, !tr->fresh, tr->logp, tr->hit);
	llama_spread(tr->llama, tr->pack.n_targets, tr->entropy, tr->logit);
	tr->fresh = false;
}

/* Updates of what this rank has of the tensors that decay, or of the others: from `n` on. */
static int add_updates(struct trainer *tr, const struct kern_adamw *common, bool decays, int n)
{
	for (int i = 0; i < tr->set.n_tensors; i++) {
		const struct tensor_ref *r = &tr->set.tensors[i];
		size_t from = r->offset, to = from + tensor_size(r);
		struct kern_adamw *a = &tr->updates[n];

		from = from > tr->own.from ? from : tr->own.from;
		to = to < tr->own.to ? to : tr->own.to;
		if (from >= to || (r->cols > 0) != decays)
			continue;
		*a = *common;
		a->n = to - from;
		a->p = tr->master + from;
		a->m = tr->adam_m + (from - tr->own.from);
		a->v = tr->adam_v + (from - tr->own.from);
		a->g = tr->grads + from;
		a->working = tr->work == tr->master ? NULL : kern_at(tr->k, tr->work, from);
		a->decay = decays ? (float)tr->o.weight_decay : 0;
		n++;
	}
	return n;
}

/* One AdamW update of every tensor; only matrices decay. */
static void apply_adamw(struct trainer *tr, double lr, double scale)
{
	double t = (double)++tr->adam_steps;
	struct kern_adamw a = {.grad_scale = (float)scale,
			       .lr = (float)lr,
			       .beta1 = (float)tr->o.beta1,
			       .beta2 = (float)tr->o.beta2,
			       .eps = (float)tr->o.eps,
			       .bias1 = (float)(1 - pow(tr->o.beta1, t)),
			       .bias2 = (float)(1 - pow(tr->o.beta2, t))};
	int n = add_updates(tr, &a, true, 0);

	n = add_updates(tr, &a, false, n);
	tr->k->adamw(tr->pool, tr->updates, n);
}

enum rc trainer_update(struct trainer *tr, int step, struct train_metrics *out, struct err *e)
{
	double norm = sqrt(trainer_join_gradients(tr)), scale = 1;

	enum rc rc = trainer_fault(tr, e);

	if (rc != RC_OK)
		return rc;
	out->grad_norm = norm;
	out->learning_rate = schedule_lr(&tr->o.schedule, step);
	if (!isfinite(out->loss))
		return trainer_not_finite(tr, step, "loss", out->loss, e);
	if (!isfinite(norm))
		return trainer_not_finite(tr, step, "gradient", out->loss, e);
	if (tr->o.clip_norm > 0 && norm > tr->o.clip_norm)
		scale = tr->o.clip_norm / (norm + 1e-6);
	trainer_copied(tr);
	apply_adamw(tr, out->learning_rate, scale);
	trainer_spread_update(tr);
	return trainer_fault(tr, e);
}

enum rc trainer_pull(struct trainer *tr, struct err *e)
{
	if (!tr->k->host)
		tr->k->get(tr->pool, tr->set.params, tr->master, tr->set.n * sizeof(float));
	return trainer_fault(tr, e);
}

json_t *train_metrics_json(const struct train_metrics *m, bool preference)
{
	json_t *o = json_object();

	jx_put_known(o, "loss", m->loss);
	jx_put_known(o, "learning_rate", m->learning_rate);
	jx_put_known(o, "grad_norm", m->grad_norm);
	jx_put_known(o, "num_tokens", m->num_tokens);
	jx_put_known(o, "mean_token_accuracy", m->mean_token_accuracy);
	jx_put_known(o, "entropy", m->entropy);
	if (!preference)
		return o;
	jx_put_known(o, "rewards/chosen", m->reward_chosen);
	jx_put_known(o, "rewards/rejected", m->reward_rejected);
	jx_put_known(o, "rewards/accuracies", m->accuracy);
	jx_put_known(o, "rewards/margins", m->margin);
	jx_put_known(o, "logps/chosen", m->logp_chosen);
	jx_put_known(o, "logps/rejected", m->logp_rejected);
	jx_put_known(o, "logits/chosen", m->logit_chosen);
	jx_put_known(o, "logits/rejected", m->logit_rejected);
	jx_put_known(o, "nll_loss", m->nll_loss);
	jx_put_known(o, "extra_loss", m->extra_loss);
	jx_put_known(o, "tokens_saved", m->tokens_saved);
	return o;
}
