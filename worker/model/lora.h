/* Low-rank adapters (Hu et al. 2021, LoRA): beside a frozen matrix W[out][in] stand A[r][in] and
 * B[out][r]; the layer computes y = x W^T + s (x A^T) B^T, s = alpha / r (alpha / sqrt(r) with
 * rslora, Kalajdzievski 2023).
 *
 * One slab of floats with a table of named tensors, like struct model: an optimizer, its moments
 * and its files need not know which of the two they train. Names and files are those of PEFT, so
 * that its users can load an adapter made here and the other way round.
 *
 * Invariants: B is zero when made, so a new adapter changes no bit of the model's output. The A of
 * parts that share an input (q, k, v; gate, up) lie side by side: one product. Knows nothing of
 * losses, data or stages.
 */
#pragma once

#include "base/err.h"
#include "kernels/kernels.h"
#include "worker/model/model.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LORA_RANK_MAX 1024

struct lora_settings {
	int r;
	double alpha;
	unsigned targets; /* of enum model_part */
	bool rslora;
	double dropout; /* of its input while it is trained; parts with one input share the mask */
};

struct lora {
	struct lora_settings s;
	float scale;
	float *params;		    /* owned */
	size_t n_params, n_weights; /* with and without gaps */
	struct tensor_ref *tensors; /* owned; A [r, in] and B [out, r] of every target */
	int n_tensors;
	size_t *a, *b; /* owned; [layers][MODEL_PARTS] offsets; those not adapted mean nothing */
};

/* "q_proj,v_proj", "q,v", or "all" (all-linear); RC_INVALID names the word that is none. */
enum rc lora_targets_parse(const char *text, unsigned *out, struct err *e);

/* A uniform in +-1/sqrt(in) (Kaiming with a = sqrt 5, as PEFT does), a function of the seed. With the
 * configuration of a rank's part (shard.h), its part of the adapter; lora_load() likewise. */
enum rc lora_new(const struct model_config *cfg, const struct lora_settings *s, uint64_t seed,
		 struct lora **out, struct err *e);
void lora_free(struct lora *l);
/* Bytes of the slab that lora_new() would take. */
size_t lora_bytes(const struct model_config *cfg, const struct lora_settings *s);

/* W += s B A for every target, in the program's memory: a table with `host`. */
void lora_merge(const struct lora *l, struct model *m, const struct kern *k,
		struct kern_pool *pool);

/* One matrix of it, `part` being 1u << part of enum model_part; nothing when it is no target. `scaled`:
 * lora_merge_floats() of room. */
void lora_merge_part(const struct lora *l, const struct model_config *cfg, const struct kern *k,
		     struct kern_pool *pool, int layer, int part, float *w, float *scaled);
size_t lora_merge_floats(const struct lora *l, const struct model_config *cfg);
/* The directory that model_save() of the merged model would make, from the model in `from`, one tensor
 * in memory at a time. A table with `host`. */
enum rc lora_merge_save(const struct lora *l, const char *from, const char *dir,
			const struct kern *k, struct kern_pool *pool, struct err *e);

/* adapter_model.safetensors (F32) and adapter_config.json in `dir`, which is made. `base` is what
 * base_model_name_or_path will say. Same adapter, same bytes. */
enum rc lora_save(const struct lora *l, const char *dir, const char *base, struct err *e);
/* F32, BF16 or F16. Refused by name: tensors of another shape, missing ones, unknown ones, settings
 * this engine would compute wrongly (bias, DoRA, rank patterns, other layers). */
enum rc lora_load(const char *dir, const struct model_config *cfg, struct lora **out,
		  struct err *e);
