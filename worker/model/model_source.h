/* A model directory opened for reading tensor by tensor: weights stay in the mapped files until
 * somebody asks for a piece of one.
 *
 * Invariants: once open, every tensor of the layout is there with its shape and a type we know, and
 * nothing else is (rotary inv_freq buffers and the head of a tied model are ignored). Read-only,
 * may be used by many threads.
 */
#pragma once

#include "store/safetensors.h"
#include "worker/model/model.h"

struct model_source {
	struct model *layout;	     /* owned; params is NULL; dir is where it was opened */
	struct st *files;	     /* owned */
	const struct st_tensor **at; /* owned; [layout->n_tensors], borrowed from files */
};

enum rc model_source_open(const char *dir, struct model_source *s, struct err *e);
void model_source_close(struct model_source *s);
/* Elements first .. first + n of tensor i, row-major, as floats; refused by the tensor's name when
 * one is not finite. */
enum rc model_source_read(const struct model_source *s, int i, size_t first, size_t n, float *out,
			  struct err *e);
/* The same of a part of it: elements of what `t` has of tensor i. */
enum rc model_source_part(const struct model_source *s, int i, const struct tensor_ref *t,
			  size_t first, size_t n, float *out, struct err *e);
/* The elements from `first` on where they lie, when the file has them as BF16 and one behind the other;
 * else NULL. Borrowed from the files; ask model_source_finite() as well. */
const void *model_source_raw(const struct model_source *s, int i, const struct tensor_ref *t,
			     size_t first);
/* Of a tensor of BF16: refused by its name when one of the elements is not finite. They count in what
 * `t` has of it, which must not be a part of its columns. */
enum rc model_source_finite(const struct model_source *s, int i, const struct tensor_ref *t,
			    size_t first, size_t n, struct err *e);
/* Tensor i is not needed again soon: its pages may leave memory. */
void model_source_drop(const struct model_source *s, int i);
/* The type all weights have, or ST_DTYPES when they differ. */
enum st_dtype model_source_dtype(const struct model_source *s);

/* --- parts of writing a model directory (model_file.c) ---------------------------------------- */

/* The tensors of a file of F32, in order; those of a mere layout without data. The caller frees. */
struct st_tensor *model_file_list(const struct model *m);
/* A model's tensors in one file of `dir` or in several of at most `file_max` bytes (st_write_set()); how
 * many into n_files, which may be NULL. `feed` as there. */
enum rc model_write_list(const struct st_tensor *list, size_t n, const char *dir, size_t file_max,
			 const struct st_feed *feed, int *n_files, struct err *e);
/* The same of all of m, in files that fit into volumes, from m's floats or, of a mere layout, from what
 * `feed` gives. */
enum rc model_write_weights(const struct model *m, const char *dir, const struct st_feed *feed,
			    struct err *e);
/* All of a directory of F32 but the weights. */
enum rc model_save_frame(const struct model *m, const char *dir, struct err *e);
/* DIR/NAME, indented, keys sorted. */
enum rc model_write_json(const char *dir, const char *name, const json_t *v, struct err *e);
/* The source's config.json (else one made from m->cfg) with torch_dtype set. */
enum rc model_save_config(const struct model *m, const char *dir, enum st_dtype dtype,
			  struct err *e);
/* Files that travel with the weights as they are: tokenizer, chat template, generation_config. */
enum rc model_copy_companions(const char *from, const char *dir, struct err *e);
