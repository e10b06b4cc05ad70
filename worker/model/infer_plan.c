/* What generation takes, known before anything is loaded, and whether that is there. */
#include "worker/model/infer_impl.h"

#include "base/log.h"
#include "base/mem.h"

/* Room for a full batch of a thousand tokens each, as far as a quarter of the memory goes; pages
 * that are never written take none. Measured at 110M: with 1 GiB a batch of 256 judgements did not
 * fit, a third of the prompts was computed again and the batch was half full. */
#define KV_LEAST_BYTES ((size_t)1 << 30)
#define KV_MOST_BYTES ((size_t)4 << 30)
#define KV_DEFAULT_TOKENS (256 * 1024)

enum kern_format plan_cache_format(const struct infer_opts *o)
{
	return o->weights == KERN_F32 ? KERN_F32 : KERN_BF16;
}

/* Keys and values of one block of tokens in every layer. */
static size_t block_bytes(const struct model_config *cfg, const struct infer_opts *o)
{
	return 2 * (size_t)cfg->n_layers *
	       kern_kv_bytes(plan_cache_format(o), cfg->n_kv_heads, cfg->head_dim);
}

/* Of a device, whose cache is really there: a quarter of it, or what the weights leave. */
static size_t device_cache_bytes(const struct model_config *cfg, const struct kern *kern,
				 const struct infer_opts *o)
{
	struct infer_opts one = *o;
	size_t others, bytes = o->memory_max / 4;

	one.kv_tokens = cfg->max_pos;
	others = infer_plan(cfg, kern, 1, &one).total;
	if (others >= o->memory_max)
		return 0;
	return o->memory_max - others < bytes ? o->memory_max - others : bytes;
}

static size_t cache_bytes(const struct infer_opts *o)
{
	size_t bytes = (o->memory_max ? o->memory_max : mem_available()) / 4;

	bytes = bytes < KV_LEAST_BYTES ? KV_LEAST_BYTES : bytes;
	return bytes > KV_MOST_BYTES ? KV_MOST_BYTES : bytes;
}

struct infer_opts plan_filled(const struct model_config *cfg, const struct kern *kern,
			      const struct infer_opts *o)
{
	struct infer_opts f = *o;

	if (f.kv_tokens == 0) {
		size_t bytes = kern->host || o->memory_max == 0 ? cache_bytes(o)
							       : device_cache_bytes(cfg, kern, o);

		f.kv_tokens = (int64_t)(bytes / block_bytes(cfg, o) * KERN_PAGE);
		f.kv_tokens = f.kv_tokens > KV_DEFAULT_TOKENS ? KV_DEFAULT_TOKENS : f.kv_tokens;
		f.kv_tokens = f.kv_tokens < 16384 ? 16384 : f.kv_tokens;
	}
	f.max_batch = o->max_batch ? o->max_batch : 256;
	f.chunk = o->chunk ? o->chunk : 512;
	return f;
}

int plan_blocks(int64_t tokens)
{
	return (int)((tokens + KERN_PAGE - 1) / KERN_PAGE);
}

int plan_blocks_kept(const struct kern *kern, int n_blocks)
{
	return n_blocks + (kern->graph_run ? 1 : 0);
}

int plan_context(const struct model_config *cfg, const struct infer_opts *o)
{
	return o->kv_tokens < cfg->max_pos ? (int)o->kv_tokens : cfg->max_pos;
}

static size_t device_scratch(const struct model_config *c, const struct kern *k,
			     const struct infer_opts *o)
{
	struct kern_sizes s = {.weights = o->weights,
			       .packed = true,
			       .width = c->dim,
			       .ffn = c->ffn_dim,
			       .heads = c->n_heads,
			       .kv_heads = c->n_kv_heads,
			       .head_dim = c->head_dim,
			       .vocab = model_vocab_span(c).n,
			       .rows = o->max_batch + o->chunk,
			       .keys = plan_context(c, o)};

	return k->scratch(k->act, &s);
}

struct infer_plan infer_plan(const struct model_config *cfg, const struct kern *kern, int threads,
			     const struct infer_opts *opts)
{
	struct infer_opts o = plan_filled(cfg, kern, opts);
	struct infer_plan p = {
		.weights = weights_bytes(cfg, kern, o.weights, WEIGHTS_GENERATE),
		.cache = (size_t)plan_blocks_kept(kern, plan_blocks(o.kv_tokens)) *
			 block_bytes(cfg, &o),
		.activations = pass_bytes(cfg, kern, &o, plan_context(cfg, &o)),
		.sampling = (size_t)threads * 3 * sizeof(float) * (size_t)cfg->vocab,
	};

	if (kern->scratch)
		p.scratch = device_scratch(cfg, kern, &o);
	p.total = p.weights + p.cache + p.activations + p.sampling + p.scratch;
	return p;
}

static double mib(size_t bytes)
{
	return (double)bytes / 1048576.0;
}

enum rc plan_check(const struct model_config *cfg, const struct kern *kern, int threads,
		   const struct infer_opts *o, struct err *e)
{
	struct infer_plan p = infer_plan(cfg, kern, threads, o);

	log_info("infer", "memory",
		 "weights=%s mib=%.1f weights_mib=%.1f cache_mib=%.1f activations_mib=%.1f "
		 "sampling_mib=%.1f scratch_mib=%.1f available_mib=%.0f rank=%d ranks=%d",
		 weights_format_name(o->weights), mib(p.total), mib(p.weights), mib(p.cache),
		 mib(p.activations), mib(p.sampling), mib(p.scratch), mib(o->memory_max),
		 coll_rank(o->coll), coll_ranks(o->coll));
	if (o->memory_max == 0 || p.total <= o->memory_max)
		return RC_OK;
	return err_set(
		e, RC_NOMEM,
		"generation needs %.0f MiB (weights as %s %.0f, a cache of %lld tokens %.0f, "
		"activations %.0f, sampling %.0f, scratch %.0f), but %.0f are available; a smaller cache%s "
		"would need less",
		mib(p.total), weights_format_name(o->weights), mib(p.weights),
		(long long)o->kv_tokens, mib(p.cache), mib(p.activations), mib(p.sampling),
		mib(p.scratch), mib(o->memory_max),
		o->weights == KERN_F32	  ? " or weights as bf16 or q8"
		: o->weights == KERN_BF16 ? " or weights as q8 (on newer GPUs fp8)"
					  : "");
}

enum rc plan_opts_check(const struct infer_opts *o, struct err *e)
{
	if (o->kv_tokens < 0 || o->kv_tokens > INT32_MAX)
		return err_set(e, RC_INVALID, "kv_tokens %lld is not in 0..%d",
			       (long long)o->kv_tokens, INT32_MAX);
	if (o->max_batch < 0 || o->max_batch > INFER_SAMPLES_MAX)
		return err_set(e, RC_INVALID, "max_batch %d is not in 0..%d", o->max_batch,
			       INFER_SAMPLES_MAX);
	if (o->chunk < 0 || o->chunk > 65536)
		return err_set(e, RC_INVALID, "chunk %d is not in 0..65536", o->chunk);
	return RC_OK;
}
