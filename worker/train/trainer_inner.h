/* What the files of the trainer share; nobody else includes this. */
#pragma once

#include "worker/model/llama.h"
#include "worker/train/trainer.h"

struct trainer {
	struct model *m;
	const struct kern *k;
	struct kern_pool *pool;
	struct train_opts o;
	struct llama *llama;		/* owned */
	struct pack pack;		/* owned */
	float *grads, *adam_m, *adam_v; /* owned slabs */
	float *logp, *g;		/* owned; one per row of the pack */
	uint8_t *hit;			/* owned */
	int64_t adam_steps;
};

/* Sums over the target rows of sequence s of the pack. */
struct seq_sums {
	double logp;
	int n, hits;
};
struct seq_sums trainer_sums(const struct pack *p, const float *logp, const uint8_t *hit, int s);
/* dL/dlogp of every target row of sequence s. */
void trainer_set_g(struct trainer *tr, int s, double g);
struct llama_dropout trainer_dropout(const struct trainer *tr, int step);
void trainer_clear_grads(struct trainer *tr);
/* Refuses ids outside the vocabulary, empty parts, sequences over `max_length`. */
enum rc train_check_sequence(const struct model *m, int max_length, const char *what, int index,
			     const int32_t *prompt, int n_prompt, const int32_t *response,
			     int n_response, struct err *e);
/* Adds the gradients of weighted examples, scaled: g = -weight * scale. Sequence ids from `id0`. */
struct example_sums {
	double nll_weighted, rows, targets, hits;
};
void trainer_run_examples(struct trainer *tr, const struct train_example *ex, int n, int id0,
			  double scale, int step, struct example_sums *sums);
/* Clips, checks and applies the summed gradient. */
enum rc trainer_update(struct trainer *tr, int step, struct train_metrics *out, struct err *e);
