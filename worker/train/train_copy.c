/* A copy of what training would go on from, so that it can go on meanwhile. */
#include "worker/train/trainer.h"

#include "base/mem.h"
#include "worker/train/trainer_inner.h"

#include <stdlib.h>

#define TOUCH 1024 /* floats: a page of 4 KiB */

struct trainer_copy {
	struct trainer *tr;    /* borrowed; of it only what does not change */
	float *params, *m, *v; /* owned, pinned; the program's memory */
	size_t bytes;	       /* of each */
	int64_t adam_steps;
};

void trainer_copy_free(struct trainer_copy *c)
{
	float *all[3];

	if (!c)
		return;
	c->tr->k->snapped(c->tr->pool);
	all[0] = c->params;
	all[1] = c->m;
	all[2] = c->v;
	for (int i = 0; i < 3; i++)
		if (all[i])
			c->tr->k->unpin(c->tr->pool, all[i], c->bytes);
	free(c);
}

enum rc trainer_copy_new(struct trainer *tr, struct trainer_copy **out, struct err *e)
{
	size_t bytes = tr->set.n * sizeof(float), room = mem_available();
	struct trainer_copy *c;

	*out = NULL;
	if (tr->o.tensor || tr->o.data)
		return err_set(e, RC_UNSUPPORTED, "what several ranks have is not copied");
	if (room && room / 4 < bytes) /* Three of them, and one to spare. */
		return err_set(e, RC_NOMEM, "no memory for a copy of %zu bytes thrice", bytes);
	c = mem_new(sizeof *c);
	c->tr = tr;
	c->bytes = bytes;
	c->params = tr->k->pin(tr->pool, bytes);
	c->m = tr->k->pin(tr->pool, bytes);
	c->v = tr->k->pin(tr->pool, bytes);
	if (!c->params || !c->m || !c->v) {
		trainer_copy_free(c);
		return err_set(e, RC_NOMEM, "no memory for a copy of %zu bytes thrice", bytes);
	}
	*out = c;
	return RC_OK;
}

void trainer_copy_touch(struct trainer_copy *c)
{
	float *all[3] = {c->params, c->m, c->v};

	for (int i = 0; i < 3; i++)
		for (size_t at = 0; at < c->bytes / sizeof(float); at += TOUCH)
			*(volatile float *)&all[i][at] = 0;
}

size_t trainer_copy_bytes(const struct trainer_copy *c)
{
	return 3 * c->bytes;
}

enum rc trainer_copy_take(struct trainer_copy *c, struct err *e)
{
	struct trainer *tr = c->tr;

	tr->k->snap(tr->pool, c->params, tr->master, c->bytes);
	tr->k->snap(tr->pool, c->m, tr->adam_m, c->bytes);
	tr->k->snap(tr->pool, c->v, tr->adam_v, c->bytes);
	tr->copying = true; /* Until trainer_copied(); steps may begin meanwhile. */
	c->adam_steps = tr->adam_steps;
	return trainer_fault(tr, e);
}

void trainer_copied(struct trainer *tr)
{
	if (tr->copying)
		tr->k->snapped(tr->pool);
	tr->copying = false;
}

float *trainer_copy_params(const struct trainer_copy *c)
{
	return c->params;
}

enum rc trainer_copy_save(const struct trainer_copy *c, const char *dir, const json_t *cursor,
			  struct err *e)
{
	enum rc rc;

	c->tr->k->snapped(c->tr->pool);
	rc = trainer_write_tensors(dir, c->tr->set.tensors, (size_t)c->tr->set.n_tensors, c->m,
				   c->v, e);

	return rc ? rc : trainer_write_count(dir, c->adam_steps, 0, 1, cursor, e);
}
