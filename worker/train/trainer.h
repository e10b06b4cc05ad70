/* Turns a model into a better one: supervised and preference steps with AdamW.
 *
 * A step is a function of (weights, optimizer state, batch, step number, settings): nothing else is
 * remembered, so training resumed at any step gives the same bits. Batches may be any size: they
 * are cut into micro-batches of whole sequences (whole pairs) by a token budget, in order, and
 * gradients are summed in that order. Knows nothing of files of data, templates or jobs.
 */
#pragma once

#include "base/err.h"
#include "kernels/collective.h"
#include "kernels/kernels.h"
#include "worker/model/model.h"
#include "worker/train/dpo.h"
#include "worker/train/schedule.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct weights;

#define TRAIN_MICRO_TOKENS 4096 /* default budget of a micro-batch, in tokens */

/* As the model has them (packed in the table's `act` where its memory is not the program's), or
 * packed as int8: half of bfloat16. */
enum train_base { TRAIN_BASE_PLAIN, TRAIN_BASE_Q8 };

struct train_opts {
	struct schedule schedule;
	double beta1, beta2, eps, weight_decay; /* decay on matrices only */
	double clip_norm;			/* 0: no clipping */
	double dropout;				/* 0 for none */
	uint64_t seed;				/* of the masks */
	int max_length;	      /* longest prompt + response in tokens; longer is refused */
	int micro_tokens;     /* 0: TRAIN_MICRO_TOKENS. Part of the settings: never by machine */
	bool recompute;	      /* always; else when only that fits. Changes no bit */
	size_t memory_bytes;  /* that may be taken; 0: what the machine has left */
	struct lora *lora;    /* borrowed; it alone is trained then, the model is frozen. Or NULL */
	enum train_base base; /* with an adapter: how the frozen matrices are kept */
	/* They are in the back end's memory already, packed for WEIGHTS_TRAIN; borrowed. NULL: brought
	 * from the model or its files. */
	const struct weights *frozen;
	bool pairs;	      /* preference steps will be taken */
	enum kern_format format; /* of the factors of products with weights: F32 or BF16 */
	struct dpo_settings dpo; /* for preference steps only */
	/* Ranks, borrowed; NULL: alone. All of a group call everything below alike.
	 * `tensor`: they hold the model together; `m` and the adapter are this one's part (shard.h).
	 * `data`: each has the whole model and takes its part of every batch; gradients are summed in
	 * the order of ranks, and each keeps the moments of its coll_part() of the parameters alone
	 * (ZeRO, Rajbhandari et al. 2020). Give a step as many examples as there are ranks, or more. */
	struct coll *tensor, *data;
};

/* Sensible values everywhere; the caller sets learning rate, steps and length. */
struct train_opts train_opts_default(void);

struct train_example {
	const int32_t *prompt, *response; /* borrowed; the response ends with its end token */
	int n_prompt, n_response;
	float weight; /* of each response token */
};

struct train_pair {
	const int32_t *prompt, *chosen, *rejected; /* borrowed */
	int n_prompt, n_chosen, n_rejected;
	double ref_chosen, ref_rejected; /* from scorer_pairs() with the reference */
	/* Above 0: how unsure this pair's label is, in place of the settings' label_smoothing; up to one
	 * half, at which the pair says nothing. For the loss "sigmoid". */
	double doubt;
};

struct train_metrics {
	double loss, learning_rate, grad_norm;
	double num_tokens;	    /* rows fed through the model */
	double tokens_saved;	    /* rows more, had each pair's prompt been fed twice */
	double mean_token_accuracy; /* over target tokens (of chosen ones in pairs) */
	double entropy;		    /* mean over target tokens, in nats; NaN: not known */
	/* Preference steps only. */
	double reward_chosen, reward_rejected, accuracy, margin;
	double logp_chosen, logp_rejected;
	double logit_chosen, logit_rejected; /* mean over tokens and vocabulary; NaN: not known */
	double nll_loss;		     /* mean over pairs of -logp / length of the chosen */
	double extra_loss;		     /* mean over target tokens of the extra examples */
};

struct trainer;

/* Borrows model (trained, or the adapter is), kernels and pool. With an adapter the model may be a
 * mere layout of the directory it names: its weights are read from there, piece by piece. */
enum rc trainer_new(struct model *m, const struct kern *k, struct kern_pool *pool,
		    const struct train_opts *o, struct trainer **out, struct err *e);
void trainer_free(struct trainer *tr);

/* Loss: sum of weight * nll over all response tokens, divided by the sum of their weights.
 * `step` counts from 0. On error (bad batch, loss or gradient not finite) nothing has changed. */
enum rc trainer_sft_step(struct trainer *tr, const struct train_example *ex, int n, int step,
			 struct train_metrics *out, struct err *e);
/* Loss: mean over pairs of preference loss + nll_coef * NLL of the chosen, plus the weighted nll of
 * the extra examples (each weight stands on its own) divided by the number of their tokens. */
enum rc trainer_dpo_step(struct trainer *tr, const struct train_pair *pairs, int n,
			 const struct train_example *extra, int n_extra, int step,
			 struct train_metrics *out, struct err *e);
/* Before the first step, when the reference is the model itself: rewards must be 0 and the sigmoid
 * loss ln 2. RC_CORRUPT names the first pair that differs. */
enum rc trainer_check_reference(struct trainer *tr, const struct train_pair *pairs, int n,
				struct err *e);

/* What was trained is in the back end's memory. This brings it to the model's or the adapter's own
 * floats, so that they can be saved or read; nothing to do where both are the same. */
enum rc trainer_pull(struct trainer *tr, struct err *e);
/* optimizer.safetensors (several files and their index where it is larger than a volume may be) and
 * state.json in `dir`; `cursor` (object, or NULL) is the caller's own. Ranks of `tensor` bring their parts to
 * rank 0, which writes what one process would have; those of `data` write files of their own, as many each.
 * The former is read by any number of ranks of either kind, the latter by any number that divide batches.
 * `dir` is the same folder for all of them. */
enum rc trainer_save_state(struct trainer *tr, const char *dir, const json_t *cursor,
			   struct err *e);
/* *cursor: new reference, or NULL when none was saved; may be NULL. */
enum rc trainer_load_state(struct trainer *tr, const char *dir, json_t **cursor, struct err *e);

/* A copy of all that is trained and of its moments, in the program's memory. Steps go on while it is
 * written to files, by any one thread. Free it before the trainer. */
struct trainer_copy;
/* RC_NOMEM when it does not fit with room to spare; RC_UNSUPPORTED with several ranks. */
enum rc trainer_copy_new(struct trainer *tr, struct trainer_copy **out, struct err *e);
void trainer_copy_free(struct trainer_copy *c); /* NULL is fine */
/* Makes the system hand its pages out, which takes longer than to fill them; on any thread, before the
 * first copy is taken. */
void trainer_copy_touch(struct trainer_copy *c);
size_t trainer_copy_bytes(const struct trainer_copy *c);
/* As things are now, between two steps. On a device the bytes travel while the next step computes;
 * its update waits for them. */
enum rc trainer_copy_take(struct trainer_copy *c, struct err *e);
/* The slab of what is trained, the model's or the adapter's; borrowed. There once
 * trainer_copy_save() has returned. */
float *trainer_copy_params(const struct trainer_copy *c);
/* What trainer_save_state() would have written then; `dir` is there. */
enum rc trainer_copy_save(const struct trainer_copy *c, const char *dir, const json_t *cursor,
			  struct err *e);

/* Flat JSON with TRL's names: "loss", "rewards/chosen", ...; new reference. */
json_t *train_metrics_json(const struct train_metrics *m, bool preference);
