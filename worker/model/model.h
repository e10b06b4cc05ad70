/* The weights: one slab of floats with a table of named tensors over it.
 *
 * Knows the layout, the Hugging Face names and the files; computes nothing. Invariants: wq, wk, wv
 * of a layer lie side by side, so they are one matrix [(H + 2G) D, C]; so do w1 (gate) and w3 (up),
 * one matrix [2F, C], and the three biases. Gradients and optimizer moments are slabs of the same
 * layout. Every group begins at a multiple of 16 floats; gaps stay zero.
 */
#pragma once

#include "base/err.h"
#include "worker/model/config.h"

#include <stddef.h>
#include <stdint.h>

#define MODEL_NAME_MAX 96

struct tensor_ref {
	char name[MODEL_NAME_MAX]; /* Hugging Face name */
	size_t offset;		   /* in floats, into the slab */
	int rows, cols;		   /* cols = 0 for a vector */
	/* Of the tensor that has this name, where it is cut (shard.h); else 0 and the same. */
	int first_row, first_col, all_rows, all_cols;
};

/* Offsets into the slab, in floats. Matrices are [out, in], row-major. */
struct model_layer {
	size_t norm_attn;  /* [C] */
	size_t wq, wk, wv; /* [H D, C], [G D, C], [G D, C]; adjacent */
	size_t bq, bk, bv; /* adjacent; only with cfg.qkv_bias */
	size_t wo;	   /* [C, H D] */
	size_t norm_ffn;   /* [C] */
	size_t w1, w3;	   /* gate, up: [F, C] each; adjacent */
	size_t w2;	   /* down: [C, F] */
};

/* The matrices of a layer. */
enum model_part {
	MODEL_Q = 1,
	MODEL_K = 2,
	MODEL_V = 4,
	MODEL_O = 8,
	MODEL_GATE = 16,
	MODEL_UP = 32,
	MODEL_DOWN = 64,
	MODEL_ALL_PARTS = 127
};
#define MODEL_PARTS 7
struct model_shape {
	int out, in;
};

struct model {
	struct model_config cfg;
	char dir[4096];		    /* where it was loaded from; "" when made here */
	float *params;		    /* owned; NULL when only planned */
	size_t n_params;	    /* floats in the slab, gaps included */
	size_t n_weights;	    /* without gaps */
	struct tensor_ref *tensors; /* owned; in the order they are saved */
	int n_tensors;
	struct model_layer *layers;   /* owned */
	size_t embed, norm_out, head; /* [V, C], [C], [V, C]; head == embed when tied */
};

size_t tensor_size(const struct tensor_ref *t); /* elements */
/* Element k in the tensor that has the name. */
size_t tensor_whole_at(const struct tensor_ref *t, size_t k);

/* "self_attn.q_proj", ... */
const char *model_part_name(enum model_part p);
struct model_shape model_part_shape(const struct model_config *cfg, enum model_part p);
/* Offset of that matrix in the slab. */
size_t model_part_at(const struct model *m, int layer, enum model_part p);

/* The layout alone: params is NULL. */
enum rc model_plan(const struct model_config *cfg, struct model **out, struct err *e);
/* Weights are zero. */
enum rc model_new(const struct model_config *cfg, struct model **out, struct err *e);
/* Random weights (normal, 0.02, scaled down by depth on wo and w2), a function of the seed. */
void model_init(struct model *m, uint64_t seed);
/* F32, BF16 or F16 safetensors, one file or shards, become F32. Every tensor must be there with the
 * right shape; unknown tensors are refused (rotary inv_freq buffers are ignored). */
enum rc model_load(const char *dir, struct model **out, struct err *e);
/* The part of `rank` of n, read as such; RC_UNSUPPORTED when it cannot be divided. */
enum rc model_load_part(const char *dir, int rank, int n, struct model **out, struct err *e);
/* The layout of it alone, where the weights are read from the files piece by piece. */
enum rc model_load_layout(const char *dir, int rank, int n, struct model **out, struct err *e);
/* Writes DIR/model.safetensors (F32), or of a large one several files and their index, and config.json;
 * copies tokenizer and generation files of the source directory. Same weights, same bytes. */
enum rc model_save(const struct model *m, const char *dir, struct err *e);
void model_free(struct model *m);
/* Same shapes and weights. */
enum rc model_clone(const struct model *m, struct model **out, struct err *e);

/* Cosines and sines of every position below n_pos: [n_pos][D/2] each. */
struct rope_table {
	int n_pos, half;
	float *cos, *sin; /* owned */
};
enum rc rope_table_make(const struct model_config *cfg, int n_pos, struct rope_table *t,
			struct err *e);
size_t rope_table_bytes(const struct rope_table *t); /* of each of the two */
void rope_table_release(struct rope_table *t);
