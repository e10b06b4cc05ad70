/* One model held by several ranks together: which rank has what, cutting and joining.
 *
 *	q, k, v, gate, up (and biases)	rows, by heads and by columns of the feed-forward part
 *	o, down				columns, likewise
 *	embedding, output head		rows: words of the vocabulary, in uneven parts if need be
 *	norms				every rank has them whole
 *	adapters			as the matrix beside them: A of a matrix cut by columns and B
 *of one cut by rows are cut, the others are whole
 *
 * A rank's model is a model like any other, with fewer heads, a narrower feed-forward part and a
 *part of the vocabulary: the decoder runs on it as it is, and sums over ranks where parts of a sum
 *meet (twice a layer on the way there, twice on the way back, and in the output head).
 *
 * A tensor_ref says where its part lies in the named tensor, so files keep the names and shapes of
 * the whole: they do not know how many ranks wrote them.
 */
#pragma once

#include "base/err.h"
#include "kernels/collective.h"
#include "store/safetensors.h"
#include "worker/model/lora.h"
#include "worker/model/model.h"

/* The part of `rank` of n. RC_UNSUPPORTED says what cannot be divided. */
enum rc shard_config(const struct model_config *whole, int rank, int n, struct model_config *part,
		     struct err *e);
/* The model that `part` is a part of; itself when it is whole. */
struct model_config shard_whole(const struct model_config *part);
/* True when the rank holds less than all of it. */
bool shard_is_cut(const struct tensor_ref *t);

/* The part of every tensor, from a slab laid out like the whole. Tensors pair up by number. */
void shard_cut(const struct tensor_ref *parts, int n, float *part, const struct tensor_ref *wholes,
	       const float *whole);
/* The other way round: all ranks call it, rank 0 gets `whole` (the others may give NULL), bit for
 * bit. RC_UNREACHABLE when a rank failed. */
enum rc shard_join(struct coll *coll, const struct tensor_ref *parts, int n, const float *part,
		   const struct tensor_ref *wholes, float *whole, struct err *e);
/* A rank's model cut out of a whole one. */
enum rc shard_model(const struct model *whole, int rank, int n, struct model **out, struct err *e);
/* st_write_set() of whole tensors from parts, joined piece by piece while rank 0 writes them, so that no rank
 * ever has more than its own; all ranks call it. `set` (its feed is not looked at) and `list`, which rank 0
 * alone needs; the latter has the whole tensors of the first slab, then those of the next, without data. An
 * error of rank 0 ends the group. */
enum rc shard_write(struct coll *coll, const struct tensor_ref *parts, int n,
		    const float *const *slabs, int n_slabs, const struct st_set *set,
		    const struct st_tensor *list, struct err *e);
/* A model's directory likewise. */
enum rc shard_save(struct coll *coll, const struct model *part, const char *dir, struct err *e);
/* Likewise an adapter's, beside a model of that part. */
enum rc shard_save_lora(struct coll *coll, const struct lora *part, const struct model_config *cfg,
			const char *dir, const char *base, struct err *e);
/* The model of directory `from` with such an adapter in its weights: rank 0 reads and writes one tensor after
 * the other, the others give their parts of the adapter. `k` and `pool` as lora_merge_save() has them. */
enum rc shard_merge_save(struct coll *coll, const struct lora *part, const struct model_config *cfg,
			 const char *from, const char *dir, const struct kern *k,
			 struct kern_pool *pool, struct err *e);
/* RC_UNREACHABLE with the cause when the ranks can no longer work together. */
enum rc shard_fault(struct coll *coll, struct err *e);
