#include "worker/stages/examples.h"

#include "base/check.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "worker/model/template.h"
#include "worker/stage.h"

#include <stdlib.h>
#include <string.h>

static struct example *append(struct examples *x)
{
	if (x->n == x->cap) {
		x->cap = x->cap ? 2 * x->cap : 256;
		x->items = mem_grow(x->items, x->cap, sizeof *x->items);
	}
	struct example *it = &x->items[x->n++];
	memset(it, 0, sizeof *it);
	return it;
}

static int32_t *copy_ids(const int32_t *ids, size_t n)
{
	int32_t *copy = mem_array(n + 1, sizeof *copy);

	if (n > 0)
		memcpy(copy, ids, n * sizeof *copy);
	return copy;
}

static void add_example(struct examples *x, const struct tokens *p, const struct tokens *r)
{
	struct example *it = append(x);

	it->prompt = copy_ids(p->ids, p->n);
	it->n_prompt = (int)p->n;
	it->response = copy_ids(r->ids, r->n);
	it->n_response = (int)r->n;
	x->tokens += (int64_t)(p->n + r->n);
}

enum rc examples_add_rows(struct examples *x, const json_t *rows, const struct template *t,
			  int max_length, struct err *e)
{
	struct tokens p = TOKENS_INIT, r = TOKENS_INIT;
	const char *prompt, *response;
	const json_t *row;
	enum rc rc = RC_OK;
	size_t i;

	json_array_foreach((json_t *)rows, i, row) {
		p.n = r.n = 0;
		if ((rc = jx_str(row, "prompt", &prompt, e)) != RC_OK ||
		    (rc = jx_str(row, "response", &response, e)) != RC_OK ||
		    (rc = template_prompt(t, NULL, prompt, &p, e)) != RC_OK ||
		    (rc = template_response(t, response, &r, e)) != RC_OK) {
			err_wrap(e, "row %zu (%s)", i + 1, jx_get_str(row, "id", "?"));
			break;
		}
		if (p.n == 0 || r.n == 0 || p.n + r.n > (size_t)max_length)
			x->too_long++;
		else
			add_example(x, &p, &r);
	}
	tokens_release(&p);
	tokens_release(&r);
	return rc;
}

/* --- pairs ----------------------------------------------------------------------------------- */

static enum rc read_ids(const json_t *obj, const char *key, int vocab, struct tokens *out,
			struct err *e)
{
	json_t *list;
	const json_t *v;
	size_t i;
	enum rc rc = jx_arr(obj, key, &list, e);

	if (rc != RC_OK)
		return rc;
	out->n = 0;
	json_array_foreach(list, i, v) {
		json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;

		if (id < 0 || id >= vocab)
			return err_set(e, RC_INVALID, "%s[%zu]: %lld is no token of %d", key, i,
				       (long long)id, vocab);
		tokens_push(out, (int32_t)id);
	}
	if (out->n == 0)
		return err_set(e, RC_INVALID, "%s: empty", key);
	return RC_OK;
}

static enum rc add_pair(struct examples *x, const json_t *row, int vocab, size_t max,
			struct tokens t[3], struct err *e)
{
	json_t *chosen, *rejected;
	enum rc rc;

	if ((rc = jx_obj(row, "chosen", &chosen, e)) != RC_OK ||
	    (rc = jx_obj(row, "rejected", &rejected, e)) != RC_OK ||
	    (rc = read_ids(row, "prompt_tokens", vocab, &t[0], e)) != RC_OK ||
	    (rc = read_ids(chosen, "tokens", vocab, &t[1], e)) != RC_OK ||
	    (rc = read_ids(rejected, "tokens", vocab, &t[2], e)) != RC_OK)
		return rc;
	if (t[0].n + t[1].n > max || t[0].n + t[2].n > max) {
		x->too_long++;
		append(x);
		append(x);
		return RC_OK;
	}
	add_example(x, &t[0], &t[1]);
	add_example(x, &t[0], &t[2]);
	return RC_OK;
}

enum rc examples_add_generated(struct examples *x, const json_t *rows, int vocab, int max_length,
			       struct err *e)
{
	struct tokens p = TOKENS_INIT, r = TOKENS_INIT;
	const json_t *row;
	enum rc rc = RC_OK;
	size_t i;

	json_array_foreach((json_t *)rows, i, row) {
		if ((rc = read_ids(row, "prompt_tokens", vocab, &p, e)) != RC_OK ||
		    (rc = read_ids(row, "tokens", vocab, &r, e)) != RC_OK) {
			err_wrap(e, "row %zu (%s)", i + 1, jx_get_str(row, "id", "?"));
			break;
		}
		if (p.n + r.n > (size_t)max_length)
			x->too_long++;
		else
			add_example(x, &p, &r);
	}
	tokens_release(&p);
	tokens_release(&r);
	return rc;
}

enum rc examples_add_pairs(struct examples *x, const json_t *rows, int vocab, int max_length,
			   struct err *e)
{
	struct tokens t[3] = {TOKENS_INIT, TOKENS_INIT, TOKENS_INIT};
	const json_t *row;
	enum rc rc = RC_OK;
	size_t i;

	json_array_foreach((json_t *)rows, i, row) {
		rc = add_pair(x, row, vocab, (size_t)max_length, t, e);
		if (rc != RC_OK) {
			err_wrap(e, "pair %zu (%s)", i + 1, jx_get_str(row, "id", "?"));
			break;
		}
	}
	for (int k = 0; k < 3; k++)
		tokens_release(&t[k]);
	return rc;
}

void examples_release(struct examples *x)
{
	for (uint32_t i = 0; i < x->n; i++) {
		free(x->items[i].prompt);
		free(x->items[i].response);
	}
	free(x->items);
	memset(x, 0, sizeof *x);
}

/* --- order ----------------------------------------------------------------------------------- */

void order_init(struct order *o, uint64_t seed, enum rng_stage stage, uint32_t iter,
		uint32_t stream, uint32_t n, uint32_t batch)
{
	*o = (struct order){.seed = seed,
			    .stage = stage,
			    .iter = iter,
			    .stream = stream,
			    .n = n,
			    .batch = batch,
			    .epoch = UINT32_MAX,
			    .perm = mem_array((size_t)n + 1, sizeof(uint32_t))};
}

void order_release(struct order *o)
{
	free(o->perm);
	o->perm = NULL;
}

uint32_t order_steps_per_epoch(const struct order *o)
{
	return o->n / o->batch + (o->n % o->batch != 0);
}

static void shuffle_epoch(struct order *o, uint32_t epoch)
{
	struct rng r;

	if (o->epoch == epoch)
		return;
	for (uint32_t i = 0; i < o->n; i++)
		o->perm[i] = i;
	rng_open(&r, o->seed, o->stage, o->iter, epoch, o->stream);
	rng_shuffle(&r, o->perm, o->n);
	o->epoch = epoch;
}

uint32_t order_step(struct order *o, int64_t step, const uint32_t **items)
{
	uint32_t per_epoch = order_steps_per_epoch(o);

	ASSERT(o->n > 0 && step >= 0);
	shuffle_epoch(o, (uint32_t)(step / per_epoch));
	uint32_t from = (uint32_t)(step % per_epoch) * o->batch;
	*items = o->perm + from;
	return o->n - from < o->batch ? o->n - from : o->batch;
}

uint32_t order_at(struct order *o, uint64_t i)
{
	ASSERT(o->n > 0);
	shuffle_epoch(o, (uint32_t)(i / o->n));
	return o->perm[i % o->n];
}
