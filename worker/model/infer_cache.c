#include "worker/model/infer_impl.h"

#include "base/check.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum rc kv_init(struct kv *kv, const struct kern *kern, struct kern_pool *pool,
		const struct model_config *cfg, enum kern_format format, int n_blocks, struct err *e)
{
	*kv = (struct kv){.format = format, .n_blocks = n_blocks, .n_layers = cfg->n_layers,
			  .spare = n_blocks, .per_layer = plan_blocks_kept(kern, n_blocks),
			  .kern = kern, .pool = pool, .oldest = -1, .newest = -1};
	kv->stride = kern_kv_bytes(format, cfg->n_kv_heads, cfg->head_dim);
	kv->bytes = (size_t)cfg->n_layers * (size_t)kv->per_layer * kv->stride;
	kv->k = kern->alloc(pool, kv->bytes);
	kv->v = kern->alloc(pool, kv->bytes);
	if (!kv->k || !kv->v) {
		kv_release(kv);
		return err_set(e, RC_NOMEM, "key/value cache: %d blocks of %d tokens need %.1f MiB",
			       n_blocks, KERN_PAGE, 2.0 * (double)kv->bytes / 1048576.0);
	}
	kv->blocks = mem_array((size_t)n_blocks, sizeof(*kv->blocks));
	for (kv->mask = 16; kv->mask < 2 * (uint32_t)n_blocks; kv->mask *= 2)
		;
	kv->buckets = mem_array(kv->mask, sizeof(*kv->buckets));
	memset(kv->buckets, -1, kv->mask * sizeof(*kv->buckets));
	kv->mask--;
	for (int i = 0; i < n_blocks; i++)
		kv->blocks[i].next = i + 1 < n_blocks ? i + 1 : -1;
	kv->n_available = n_blocks;
	return RC_OK;
}

void kv_release(struct kv *kv)
{
	if (kv->k)
		kv->kern->release(kv->pool, kv->k, kv->bytes);
	if (kv->v)
		kv->kern->release(kv->pool, kv->v, kv->bytes);
	free(kv->blocks);
	free(kv->buckets);
	*kv = (struct kv){0};
}

/* --- lists ------------------------------------------------------------------------------------ */

static void kept_remove(struct kv *kv, int b)
{
	struct kv_block *x = &kv->blocks[b];

	*(x->prev < 0 ? &kv->oldest : &kv->blocks[x->prev].next) = x->next;
	*(x->next < 0 ? &kv->newest : &kv->blocks[x->next].prev) = x->prev;
}

static void kept_append(struct kv *kv, int b)
{
	struct kv_block *x = &kv->blocks[b];

	x->prev = kv->newest;
	x->next = -1;
	*(x->prev < 0 ? &kv->oldest : &kv->blocks[x->prev].next) = b;
	kv->newest = b;
}

static int *bucket_of(struct kv *kv, uint64_t parent, const int32_t *tokens)
{
	uint64_t h = parent * 0x9e3779b97f4a7c15u;

	for (int i = 0; i < KERN_PAGE; i++)
		h = ((h ^ h >> 29) + (uint32_t)tokens[i]) * 0xbf58476d1ce4e5b9u;
	return &kv->buckets[(h ^ h >> 32) & kv->mask];
}

static void unregister(struct kv *kv, int b)
{
	int *at = bucket_of(kv, kv->blocks[b].parent, kv->blocks[b].tokens);

	while (*at != b)
		at = &kv->blocks[*at].next_hash;
	*at = kv->blocks[b].next_hash;
	kv->blocks[b].uid = 0;
}

/* --- life of a block -------------------------------------------------------------------------- */

int kv_take(struct kv *kv)
{
	int b = kv->free;

	if (!kv->n_available)
		return -1;
	if (b >= 0) {
		kv->free = kv->blocks[b].next;
	} else {
		b = kv->oldest;
		kept_remove(kv, b);
		unregister(kv, b);
	}
	kv->n_available--;
	kv->blocks[b].refs = 1;
	return b;
}

void kv_hold(struct kv *kv, int b)
{
	if (kv->blocks[b].refs++)
		return;
	ASSERT(kv->blocks[b].uid);
	kept_remove(kv, b);
	kv->n_available--;
}

void kv_drop(struct kv *kv, int b)
{
	struct kv_block *x = &kv->blocks[b];

	ASSERT(x->refs > 0);
	if (--x->refs)
		return;
	kv->n_available++;
	if (x->uid) {
		kept_append(kv, b);
		return;
	}
	x->next = kv->free;
	kv->free = b;
}

static int lookup(struct kv *kv, uint64_t parent, const int32_t *tokens)
{
	int b = *bucket_of(kv, parent, tokens);

	for (; b >= 0; b = kv->blocks[b].next_hash)
		if (kv->blocks[b].parent == parent &&
		    !memcmp(kv->blocks[b].tokens, tokens, sizeof(kv->blocks[b].tokens)))
			return b;
	return -1;
}

int kv_find(struct kv *kv, uint64_t parent, const int32_t *tokens)
{
	int b = lookup(kv, parent, tokens);

	if (b >= 0)
		kv_hold(kv, b);
	return b;
}

uint64_t kv_register(struct kv *kv, int b, uint64_t parent, const int32_t *tokens)
{
	struct kv_block *x = &kv->blocks[b];
	int known = lookup(kv, parent, tokens), *at;

	if (known >= 0)
		return kv->blocks[known].uid;
	ASSERT(!x->uid);
	x->uid = ++kv->last_uid;
	x->parent = parent;
	memcpy(x->tokens, tokens, sizeof(x->tokens));
	at = bucket_of(kv, parent, tokens);
	x->next_hash = *at;
	*at = b;
	return x->uid;
}

void kv_copy(struct kv *kv, int to, int from)
{
	for (int l = 0; l < kv->n_layers; l++) {
		size_t layer = (size_t)l * (size_t)kv->per_layer * kv->stride;
		size_t a = layer + (size_t)to * kv->stride, b = layer + (size_t)from * kv->stride;
		kv->kern->copy(kv->pool, kv->k + a, kv->k + b, kv->stride);
		kv->kern->copy(kv->pool, kv->v + a, kv->v + b, kv->stride);
	}
}
