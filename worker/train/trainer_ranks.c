/* What the trainer does when several ranks work together. */
#include "worker/model/mirror.h"
#include "worker/model/shard.h"
#include "worker/train/trainer_inner.h"

struct train_share trainer_share(const struct trainer *tr, int n)
{
	int64_t rank = coll_rank(tr->o.data), ranks = coll_ranks(tr->o.data);
	int from = (int)(n * rank / ranks);

	return (struct train_share){from, (int)(n * (rank + 1) / ranks) - from};
}

void trainer_add_up(struct trainer *tr, double *x, size_t n)
{
	coll_agree_f64(tr->o.data, x, n, COLL_SUM);
}

/* Parts of an adapter that all ranks have whole saw only this rank's part of the rows beside them:
 * their gradients are sums. Norms saw whole rows: theirs are the same everywhere. */
static void join_adapter(struct trainer *tr)
{
	for (int i = 0; i < tr->set.n_tensors && tr->o.lora; i++) {
		const struct tensor_ref *t = &tr->set.tensors[i];

		if (!shard_is_cut(t))
			coll_all_reduce(tr->o.tensor, tr->grads + t->offset, tensor_size(t),
					COLL_F32, COLL_SUM);
	}
}

/* Of the tensors that this rank counts, as far as they lie in its part of the slab: what all ranks
 * have whole is counted by rank 0. */
static double sum_of_parts(struct trainer *tr)
{
	double sum = 0;

	for (int i = 0; i < tr->set.n_tensors; i++) {
		const struct tensor_ref *t = &tr->set.tensors[i];
		size_t from = t->offset, to = from + tensor_size(t);

		from = from > tr->own.from ? from : tr->own.from;
		to = to < tr->own.to ? to : tr->own.to;
		if (from < to && (shard_is_cut(t) || coll_rank(tr->o.tensor) == 0))
			sum += tr->k->sumsq(tr->pool, tr->grads + from, to - from);
	}
	return sum;
}

double trainer_join_gradients(struct trainer *tr)
{
	double sum;

	if (tr->fresh) /* No example was this rank's. */
		tr->k->zero(tr->pool, tr->grads, tr->set.n * sizeof(float));
	tr->fresh = false;
	if (!tr->o.tensor && !tr->o.data)
		return tr->k->sumsq(tr->pool, tr->grads, tr->set.n);
	if (tr->o.tensor)
		join_adapter(tr);
	coll_reduce_scatter(tr->o.data, tr->grads, tr->set.n, COLL_F32);
	sum = sum_of_parts(tr);
	coll_agree_f64(tr->o.tensor, &sum, 1, COLL_SUM);
	coll_agree_f64(tr->o.data, &sum, 1, COLL_SUM);
	return sum;
}

void trainer_spread_update(struct trainer *tr)
{
	if (!tr->o.data)
		return;
	coll_all_gather(tr->o.data, tr->master, tr->set.n, COLL_F32);
	if (tr->work != tr->master)
		tr->k->narrow(tr->pool, tr->work, tr->master, tr->set.n);
}

enum rc trainer_fault(struct trainer *tr, struct err *e)
{
	enum rc rc = mirror_fault(tr->k, tr->pool, e);

	if (rc == RC_OK)
		rc = shard_fault(tr->o.tensor, e);
	return rc == RC_OK ? shard_fault(tr->o.data, e) : rc;
}
