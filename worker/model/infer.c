#include "worker/model/infer_impl.h"

#include "base/check.h"
#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "worker/model/mirror.h"
#include "worker/model/model_source.h"
#include "worker/model/shard.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The scheduler. Every sequence is a list of known tokens of which the first n_done are in the
 * cache. A pass takes the sequences from old to new and gives each the rows it still needs: one
 * while it answers, up to what is left of the chunk while its prompt (or, after its blocks were
 * taken away, its whole text) is computed. Who has all its tokens in the cache draws the next.
 *
 * Samples of one request form groups of at most max_batch. The first computes the prompt; the
 * others then share its blocks and draw from the same logits.
 */

/* --- construction ------------------------------------------------------------------------------ */

/* `m` gives the layout, and the weights when there are no files; or they are `ready`, and taken over
 * when all goes well. */
static enum rc open_engine(const struct model *m, const struct model_source *files,
			   const struct weights *ready, const struct kern *kern,
			   struct kern_pool *pool, const struct infer_opts *opts,
			   struct infer **out, struct err *e)
{
	struct infer_opts o = *opts;
	enum rc rc = plan_opts_check(opts, e);
	struct infer *f;

	*out = NULL;
	if (!o.memory_max) /* What is ready is not among what is left. */
		o.memory_max = mirror_room(kern, pool) + (ready ? ready->bytes : 0);
	o = plan_filled(&m->cfg, kern, &o);
	coll_agree_i64(o.coll, &o.kv_tokens, 1, COLL_MIN);
	if (rc || (rc = weights_check(&m->cfg, kern, o.weights, e)) ||
	    (rc = plan_check(&m->cfg, kern, kern->host ? kern_pool_threads(pool) : 1, &o, e)))
		return rc;
	f = mem_new(sizeof(*f));
	f->cfg = m->cfg;
	f->kern = kern;
	f->pool = pool;
	f->coll = o.coll;
	f->max_batch = o.max_batch;
	f->chunk = o.chunk;
	f->share = !o.no_share;
	f->context = plan_context(&m->cfg, &o);
	f->stats.blocks = plan_blocks(o.kv_tokens);
	if (!ready)
		rc = weights_load(&f->weights, m, files, kern, pool, o.weights, WEIGHTS_GENERATE, e);
	if (!rc)
		rc = kv_init(&f->kv, kern, pool, &m->cfg, plan_cache_format(&o), f->stats.blocks, e);
	if (!rc)
		rc = rope_table_make(&m->cfg, f->context, &f->rope, e);
	if (!rc)
		rc = pass_init(f, e);
	if (rc) {
		infer_free(f);
		return rc;
	}
	if (ready)
		f->weights = *ready;
	f->active = mem_array((size_t)f->max_batch, sizeof(*f->active));
	f->order = mem_array((size_t)f->max_batch, sizeof(*f->order));
	f->draws = mem_array((size_t)f->max_batch, sizeof(*f->draws));
	f->drawn = mem_array((size_t)f->max_batch, sizeof(*f->drawn));
	*out = f;
	return RC_OK;
}

enum rc infer_new(const struct model *m, const struct kern *kern, struct kern_pool *pool,
		  const struct infer_opts *opts, struct infer **out, struct err *e)
{
	return open_engine(m, NULL, NULL, kern, pool, opts, out, e);
}

enum rc infer_take(const struct model_config *cfg, const struct weights *w,
		   const struct infer_opts *opts, struct infer **out, struct err *e)
{
	struct model m = {.cfg = *cfg};
	struct infer_opts o = *opts;

	o.weights = w->format;
	return open_engine(&m, NULL, w, w->kern, w->pool, &o, out, e);
}

enum rc infer_open(const char *dir, const struct kern *kern, struct kern_pool *pool,
		   const struct infer_opts *opts, struct infer **out, struct err *e)
{
	struct model_source files;
	struct model_config cfg;
	struct model *part = NULL;
	enum rc rc = model_source_open(dir, &files, e);

	*out = NULL;
	if (rc)
		return rc;
	rc = shard_config(&files.layout->cfg, coll_rank(opts->coll), coll_ranks(opts->coll), &cfg, e);
	if (!rc)
		rc = model_plan(&cfg, &part, e);
	if (!rc)
		rc = open_engine(part, &files, NULL, kern, pool, opts, out, e);
	model_free(part);
	model_source_close(&files);
	return rc ? err_wrap(e, "model %s", dir) : RC_OK;
}

void infer_free(struct infer *f)
{
	if (!f)
		return;
	infer_clear(f);
	free(f->reqs);
	free(f->seqs);
	free(f->active);
	free(f->order);
	free(f->draws);
	free(f->drawn);
	weights_release(&f->weights);
	pass_release(f);
	rope_table_release(&f->rope);
	kv_release(&f->kv);
	free(f);
}

const struct model_config *infer_config(const struct infer *f)
{
	return &f->cfg;
}

int infer_context(const struct infer *f)
{
	return f->context;
}

const struct infer_stats *infer_stats(const struct infer *f)
{
	return &f->stats;
}

/* --- requests --------------------------------------------------------------------------------- */

static enum rc check_req(const struct infer *f, const struct infer_req *q, struct err *e)
{
	int vocab = f->cfg.vocab;

	if (q->n < 1 || q->n > INFER_SAMPLES_MAX)
		return err_set(e, RC_INVALID, "%d samples of a prompt: not in 1..%d", q->n,
			       INFER_SAMPLES_MAX);
	if (q->stop_repeats < 0 || q->stop_repeats == 1)
		return err_set(e, RC_INVALID, "stop_repeats %d: expected 0, or 2 and more times",
			       q->stop_repeats);
	if (q->max_new < 1)
		return err_set(e, RC_INVALID, "max_new %d: at least one token", q->max_new);
	if (q->n_prompt < 1)
		return err_set(e, RC_INVALID, "the prompt is empty: at least one token is needed");
	if (q->n_prompt >= f->context)
		return err_set(e, RC_INVALID,
			       "the prompt has %d tokens, but the context holds %d (%d positions of the "
			       "model, %d tokens of cache): no room for an answer", q->n_prompt, f->context,
			       f->cfg.max_pos, f->stats.blocks * KERN_PAGE);
	for (int i = 0; i < q->n_prompt; i++)
		if (q->prompt[i] < 0 || q->prompt[i] >= vocab)
			return err_set(e, RC_INVALID, "prompt token %d is %d, not in 0..%d", i,
				       q->prompt[i], vocab - 1);
	return sampling_check(&q->sampling, e);
}

static void *copy_of(const void *p, size_t size)
{
	void *out = mem_new(size ? size : 1);

	if (size)
		memcpy(out, p, size);
	return out;
}

static void add_seq(struct infer *f, int req, int sample, int n_later, enum seq_state state)
{
	if (f->n_seqs == f->cap_seqs) {
		f->cap_seqs = f->cap_seqs ? f->cap_seqs * 2 : 64;
		f->seqs = mem_grow(f->seqs, (size_t)f->cap_seqs, sizeof(*f->seqs));
	}
	f->seqs[f->n_seqs++] = (struct seq){
		.state = state, .req = req, .sample = sample, .n_later = n_later, .out = -1};
}

enum rc infer_add(struct infer *f, const struct infer_req *q, int *index, struct err *e)
{
	enum rc rc = check_req(f, q, e);
	struct request *r;

	if (rc)
		return rc;
	if (f->n_reqs == f->cap_reqs) {
		f->cap_reqs = f->cap_reqs ? f->cap_reqs * 2 : 64;
		f->reqs = mem_grow(f->reqs, (size_t)f->cap_reqs, sizeof(*f->reqs));
	}
	r = &f->reqs[f->n_reqs];
	*r = (struct request){.q = *q, .first_seq = f->n_seqs};
	r->q.prompt = copy_of(q->prompt, (size_t)q->n_prompt * sizeof(*q->prompt));
	r->q.stops = copy_of(q->stops, (size_t)q->n_stops * sizeof(*q->stops));
	if (r->q.max_new > f->context - q->n_prompt)
		r->q.max_new = f->context - q->n_prompt;
	for (int i = 0; i < q->n; i++) {
		int left = q->n - i, group = i % f->max_batch;
		bool first = group == 0 || !f->share;
		int others = !first || !f->share ? 0 : (left < f->max_batch ? left : f->max_batch) - 1;
		add_seq(f, f->n_reqs, i, others, first ? SEQ_QUEUED : SEQ_LATER);
	}
	f->stats.prompt_tokens += q->n_prompt;
	if (index)
		*index = f->n_reqs;
	f->n_reqs++;
	return RC_OK;
}

struct infer_result infer_result(const struct infer *f, int index, int sample)
{
	ASSERT(index >= 0 && index < f->n_reqs);
	const struct request *r = &f->reqs[index];
	ASSERT(sample >= 0 && sample < r->q.n);
	const struct seq *s = &f->seqs[r->first_seq + sample];

	return (struct infer_result){
		.tokens = s->tokens ? s->tokens + r->q.n_prompt : NULL,
		.n_tokens = s->tokens ? s->n_tokens - r->q.n_prompt : 0,
		.finish = s->finish,
		.logp = s->logp,
	};
}

static void drop_blocks(struct infer *f, struct seq *s)
{
	while (s->n_blocks) /* The deepest first: it is the first to be forgotten. */
		kv_drop(&f->kv, s->blocks[--s->n_blocks]);
	s->n_done = 0;
	s->chain = 0;
	s->n_chained = 0;
}

void infer_clear(struct infer *f)
{
	for (int i = 0; i < f->n_seqs; i++) {
		drop_blocks(f, &f->seqs[i]);
		free(f->seqs[i].tokens);
		free(f->seqs[i].blocks);
	}
	for (int i = 0; i < f->n_reqs; i++) {
		free((void *)(uintptr_t)f->reqs[i].q.prompt);
		free((void *)(uintptr_t)f->reqs[i].q.stops);
	}
	f->n_seqs = f->n_reqs = f->n_started = f->n_active = f->n_reserved = 0;
}

/* --- taking up and giving back ---------------------------------------------------------------- */

static void start_seq(struct infer *f, struct seq *s)
{
	const struct infer_req *q = &f->reqs[s->req].q;
	size_t room = (size_t)q->n_prompt + (size_t)q->max_new;

	if (s->tokens)
		return;
	s->tokens = mem_array(room, sizeof(*s->tokens));
	memcpy(s->tokens, q->prompt, (size_t)q->n_prompt * sizeof(*s->tokens));
	s->n_tokens = q->n_prompt;
	s->blocks = mem_array((size_t)plan_blocks((int)room), sizeof(*s->blocks));
}

static void activate(struct infer *f, int i)
{
	f->seqs[i].state = SEQ_ACTIVE;
	f->active[f->n_active++] = i;
}

/* Takes up queued sequences, those that lost their blocks first, while places and blocks last. */
static void admit(struct infer *f)
{
	for (int i = f->n_started; i < f->n_seqs; i++) {
		struct seq *s = &f->seqs[i];
		const struct infer_req *q = &f->reqs[s->req].q;
		int places = s->tokens ? 0 : 1 + s->n_later; /* Kept while it is away. */
		if (s->state != SEQ_QUEUED)
			continue;
		int known = s->tokens ? s->n_tokens : q->n_prompt;
		int blocks = plan_blocks(known) + 1 + s->n_later + f->n_active;
		if (f->n_reserved + places > f->max_batch ||
		    (f->n_active && blocks > f->kv.n_available))
			return;
		start_seq(f, s);
		f->n_reserved += places;
		activate(f, i);
	}
}

/* The youngest gives its blocks back and waits at its place in the queue. */
static void preempt_youngest(struct infer *f)
{
	struct seq *s = &f->seqs[f->active[--f->n_active]];

	drop_blocks(f, s);
	s->state = SEQ_QUEUED;
	f->stats.preempted++;
}

static void finish_seq(struct infer *f, struct seq *s, enum infer_finish how)
{
	s->finish = how;
	s->state = SEQ_DONE;
	drop_blocks(f, s);
	f->n_reserved--;
}

static void sweep_active(struct infer *f)
{
	int n = 0;

	for (int i = 0; i < f->n_active; i++)
		if (f->seqs[f->active[i]].state == SEQ_ACTIVE)
			f->active[n++] = f->active[i];
	f->n_active = n;
}

/* --- filling a pass --------------------------------------------------------------------------- */

/* A free block for the sequence at place `at` of the active list, taken from younger ones if need
 * be; -1 when it is itself the youngest and must wait. */
static int need_block(struct infer *f, int at)
{
	int b;

	while ((b = kv_take(&f->kv)) < 0 && f->n_active - 1 > at)
		preempt_youngest(f);
	int used = f->kv.n_blocks - f->kv.n_available;
	if (used > f->stats.blocks_peak)
		f->stats.blocks_peak = used;
	return b;
}

/* Blocks that another prompt has computed already. At least one token is left to compute. */
static void adopt_known(struct infer *f, struct seq *s, int n_prompt)
{
	while (s->n_done == s->n_chained * KERN_PAGE && s->n_done + KERN_PAGE <= n_prompt &&
	       s->n_done + KERN_PAGE < s->n_tokens) {
		int b = kv_find(&f->kv, s->chain, s->tokens + s->n_done);
		if (b < 0)
			return;
		s->chain = f->kv.blocks[b].uid;
		s->blocks[s->n_blocks++] = b;
		s->n_chained++;
		s->n_done += KERN_PAGE;
		f->stats.reused_tokens += KERN_PAGE;
	}
}

/* The block of position n_done, writable; false when there is none now. */
static bool writable_block(struct infer *f, int at, struct seq *s)
{
	int i = s->n_done / KERN_PAGE, b;

	if (i < s->n_blocks && f->kv.blocks[s->blocks[i]].refs == 1)
		return true;
	b = need_block(f, at);
	if (b < 0)
		return false;
	if (i < s->n_blocks) { /* Shared with other samples: copy on write. */
		kv_copy(&f->kv, b, s->blocks[i]);
		kv_drop(&f->kv, s->blocks[i]);
		s->blocks[i] = b;
	} else {
		s->blocks[s->n_blocks++] = b;
	}
	return true;
}

/* Finds room for tokens n_done .. ; returns how many of the chunk's rows they take. */
static int take_rows(struct infer *f, int at, int left)
{
	struct seq *s = &f->seqs[f->active[at]];
	int n_prompt = f->reqs[s->req].q.n_prompt, taken = 0;

	if (f->share)
		adopt_known(f, s, n_prompt);
	bool answering = s->n_tokens - s->n_done == 1 && s->n_tokens > n_prompt;
	int n = answering ? 1 : left;
	for (; n && s->n_done < s->n_tokens && writable_block(f, at, s); n--, taken++) {
		s->n_done++;
		if (!f->share || s->n_done % KERN_PAGE || s->n_done > n_prompt ||
		    s->n_chained * KERN_PAGE + KERN_PAGE != s->n_done)
			continue;
		s->chain = kv_register(&f->kv, s->blocks[s->n_chained], s->chain,
				       s->tokens + s->n_chained * KERN_PAGE);
		s->n_chained++;
	}
	if (!answering)
		f->stats.prefill_tokens += taken;
	s->n_rows = taken;
	return answering ? 0 : taken;
}

/* Texts that begin alike, and so have the same first blocks, stand side by side. */
static int by_blocks(const void *a, const void *b)
{
	const struct seq *x = *(struct seq *const *)a, *y = *(struct seq *const *)b;
	int n = x->n_blocks < y->n_blocks ? x->n_blocks : y->n_blocks, i = 0;

	while (i < n && x->blocks[i] == y->blocks[i])
		i++;
	if (i < n)
		return x->blocks[i] < y->blocks[i] ? -1 : 1;
	if (x->n_blocks != y->n_blocks)
		return x->n_blocks < y->n_blocks ? -1 : 1;
	return x < y ? -1 : x > y;
}

static void add_rows(struct infer *f, struct seq *s)
{
	struct pass *p = &f->pass;

	for (int i = s->n_done - s->n_rows; i < s->n_done; i++)
		pass_add(p, s->tokens[i], i, s->blocks);
	s->out = -1;
	if (s->n_rows && s->n_done == s->n_tokens) {
		s->out = p->n_out;
		p->here.out[p->n_out++] = p->n - 1;
	}
}

/* The old come first when blocks are given out; in the pass, who shares blocks stands together:
 * attention then reads them once. */
static void fill_pass(struct infer *f)
{
	int left = f->chunk;

	f->pass.n = f->pass.n_out = 0;
	for (int i = 0; i < f->n_active; i++)
		left -= take_rows(f, i, left);
	for (int i = 0; i < f->n_active; i++)
		f->order[i] = &f->seqs[f->active[i]];
	if (f->share)
		qsort(f->order, (size_t)f->n_active, sizeof(*f->order), by_blocks);
	for (int i = 0; i < f->n_active; i++)
		add_rows(f, f->order[i]);
}

/* --- drawing ---------------------------------------------------------------------------------- */

static struct kern_draw draw_of(const struct infer *f, const struct seq *s)
{
	const struct infer_req *q = &f->reqs[s->req].q;
	struct sample_name name = q->name;
	uint32_t at = (uint32_t)(s->n_tokens - q->n_prompt);

	name.sample += (uint32_t)s->sample;
	return (struct kern_draw){
		.row = s->out,
		.temperature = q->sampling.temperature,
		.top_p = q->sampling.top_p,
		.top_k = q->sampling.top_k,
		.u = q->sampling.temperature > 0 ? sample_uniform(&name, at) : 0,
	};
}

/* The end of t[n] is one piece `times` times in a row. */
static bool goes_round(const int32_t *t, int n, int times)
{
	for (int piece = 1; times > 0 && piece <= INFER_REPEAT_PIECE && piece < n; piece++) {
		int least = INFER_REPEAT_LEAST > times * piece ? INFER_REPEAT_LEAST : times * piece;
		int same = 0;

		while (same < least - piece && same < n - piece &&
		       t[n - 1 - same] == t[n - 1 - same - piece])
			same++;
		if (same + piece >= least)
			return true;
	}
	return false;
}

static void take_token(struct infer *f, struct seq *s, const struct kern_draw *d)
{
	const struct infer_req *q = &f->reqs[s->req].q;
	bool stop = false;

	s->tokens[s->n_tokens++] = d->id;
	s->logp += (double)d->logp;
	f->stats.sampled_tokens++;
	for (int i = 0; i < q->n_stops; i++)
		stop = stop || q->stops[i] == d->id;
	if (q->on_token && q->on_token(q->ctx, s->sample, d->id))
		stop = true;
	if (stop)
		finish_seq(f, s, INFER_STOP);
	else if (s->n_tokens - q->n_prompt == q->max_new ||
		 goes_round(s->tokens + q->n_prompt, s->n_tokens - q->n_prompt, q->stop_repeats))
		finish_seq(f, s, INFER_LENGTH);
}

/* The others of a group begin where the first stands: its blocks are theirs too. */
static void fork_group(struct infer *f, int first)
{
	struct seq *s = &f->seqs[first];

	for (int i = 1; i <= s->n_later; i++) {
		struct seq *o = &f->seqs[first + i];
		start_seq(f, o);
		for (int b = 0; b < s->n_blocks; b++) {
			kv_hold(&f->kv, s->blocks[b]);
			o->blocks[b] = s->blocks[b];
		}
		o->n_blocks = s->n_blocks;
		o->n_done = s->n_done;
		o->chain = s->chain;
		o->n_chained = s->n_chained;
		o->out = s->out;
		activate(f, first + i);
		f->draws[f->n_draws++] = first + i;
	}
	s->n_later = 0;
}

/* Ranks do as rank 0 is told. */
static bool told_to_stop(struct infer *f, bool (*stop)(void *ctx), void *ctx)
{
	int64_t yes = stop && stop(ctx);

	coll_tell(f->coll, &yes, sizeof yes, 0);
	return yes;
}

/* Of the back end or of the other ranks. */
static enum rc fault_of(struct infer *f, struct err *e)
{
	enum rc rc = mirror_fault(f->kern, f->pool, e);

	return rc ? rc : shard_fault(f->coll, e);
}

static enum rc draw_all(struct infer *f, struct err *e)
{
	int n_active = f->n_active; /* fork_group() adds more */

	pass_logits(f, 0, f->pass.n_out);
	f->n_draws = 0;
	for (int i = 0; i < n_active; i++) {
		struct seq *s = &f->seqs[f->active[i]];
		if (s->out < 0)
			continue;
		f->draws[f->n_draws++] = f->active[i];
		fork_group(f, f->active[i]);
	}
	for (int i = 0; i < f->n_draws; i++)
		f->drawn[i] = draw_of(f, &f->seqs[f->draws[i]]);
	f->kern->draw(f->pool, f->drawn, f->n_draws, f->pass.logits, f->cfg.vocab, f->cfg.vocab);
	enum rc rc = fault_of(f, e);
	if (rc)
		return rc;
	for (int i = 0; i < f->n_draws; i++)
		if (!isfinite(f->drawn[i].lse))
			return err_set(e, RC_CORRUPT, "the model's logits are not finite: its weights are "
						      "damaged or training diverged");
	for (int i = 0; i < f->n_draws; i++)
		take_token(f, &f->seqs[f->draws[i]], &f->drawn[i]);
	sweep_active(f);
	return RC_OK;
}

/* --- running ---------------------------------------------------------------------------------- */

static bool anything_queued(struct infer *f)
{
	while (f->n_started < f->n_seqs && f->seqs[f->n_started].state == SEQ_DONE)
		f->n_started++;
	return f->n_started < f->n_seqs;
}

enum rc infer_run(struct infer *f, bool (*stop)(void *ctx), void *ctx, struct err *e)
{
	double begin = clk_mono_s();
	enum rc rc = RC_OK;

	while (!rc && anything_queued(f)) {
		if (told_to_stop(f, stop, ctx)) {
			rc = err_set(e, RC_CANCELLED, "generation was stopped");
			break;
		}
		admit(f);
		fill_pass(f);
		ASSERT(f->pass.n > 0);
		pass_run(f);
		if (f->pass.n_out)
			rc = draw_all(f, e);
		else
			rc = shard_fault(f->coll, e);
	}
	while (f->n_active) {
		preempt_youngest(f);
		f->stats.preempted--; /* This was not for want of blocks. */
	}
	f->stats.seconds += clk_mono_s() - begin;
	return rc;
}

/* --- logits and scores of given tokens -------------------------------------------------------- */

static enum rc check_ids(const struct infer *f, const int32_t *ids, int n, struct err *e)
{
	if (n < 1 || n > f->context)
		return err_set(e, RC_INVALID, "%d tokens: the context holds 1..%d", n, f->context);
	for (int i = 0; i < n; i++)
		if (ids[i] < 0 || ids[i] >= f->cfg.vocab)
			return err_set(e, RC_INVALID, "token %d is %d, not in 0..%d", i, ids[i],
				       f->cfg.vocab - 1);
	return RC_OK;
}

/* Rows [from, from + n) of a text whose blocks are `blocks`; all of them are wanted. */
static void run_rows(struct infer *f, const int32_t *ids, int from, int n, const int32_t *blocks)
{
	struct pass *p = &f->pass;

	p->n = p->n_out = 0;
	for (int i = 0; i < n; i++) {
		p->here.out[p->n_out++] = p->n;
		pass_add(p, ids[from + i], from + i, blocks);
	}
	pass_run(f);
}

struct given {
	const int32_t *ids;
	int n, from;
	float *out;
};

static void logits_of(struct infer *f, const struct given *g, int at, int n)
{
	size_t vocab = (size_t)f->cfg.vocab;

	for (int i = 0; i < n; i += f->max_batch) {
		int k = n - i < f->max_batch ? n - i : f->max_batch;
		pass_logits(f, i, k);
		f->kern->get(f->pool, g->out + (size_t)(at + i) * vocab, f->pass.logits,
			     (size_t)k * vocab * sizeof(float));
	}
}

static void logps_of(struct infer *f, const struct given *g, int at, int n)
{
	/* Row at + i tells of token at + i + 1. */
	int skip = g->from - 1 > at ? g->from - 1 - at : 0;
	int rows = n - skip - (at + n == g->n), vocab = f->cfg.vocab;
	float lse[INFER_SAMPLES_MAX], *max_there = f->pass.lse + f->pass.cap_out;

	for (int i = 0; i < rows; i += f->max_batch) {
		int k = rows - i < f->max_batch ? rows - i : f->max_batch, first = at + skip + i + 1;

		pass_logits(f, skip + i, k);
		f->kern->row_lse(f->pool, max_there, f->pass.lse, f->pass.logits, vocab, k, vocab);
		f->kern->get(f->pool, lse, f->pass.lse, (size_t)k * sizeof(*lse));
		const float *logits = pass_logits_here(f, k);
		for (int r = 0; r < k; r++) {
			const float *row = logits + (size_t)r * (size_t)vocab;

			g->out[first + r - g->from] = row[g->ids[first + r]] - lse[r];
		}
	}
}

static enum rc run_given(struct infer *f, const struct given *g,
			 void (*each)(struct infer *, const struct given *, int, int), struct err *e)
{
	enum rc rc = check_ids(f, g->ids, g->n, e);
	int32_t *blocks;
	int have = 0;

	if (rc)
		return rc;
	blocks = mem_array((size_t)plan_blocks(g->n), sizeof(*blocks));
	for (; have < plan_blocks(g->n); have++) {
		blocks[have] = kv_take(&f->kv);
		ASSERT(blocks[have] >= 0); /* Nothing is held between runs. */
	}
	for (int at = 0, n; at < g->n; at += n) {
		n = g->n - at < f->chunk ? g->n - at : f->chunk;
		run_rows(f, g->ids, at, n, blocks);
		each(f, g, at, n);
	}
	while (have)
		kv_drop(&f->kv, blocks[--have]);
	free(blocks);
	return fault_of(f, e);
}

enum rc infer_logits(struct infer *f, const int32_t *ids, int n, float *out, struct err *e)
{
	const struct given g = {.ids = ids, .n = n, .out = out};

	return run_given(f, &g, logits_of, e);
}

enum rc infer_score(struct infer *f, const int32_t *ids, int n, int from, float *logp,
		    struct err *e)
{
	const struct given g = {.ids = ids, .n = n, .from = from, .out = logp};

	if (from < 1 || from > n)
		return err_set(e, RC_INVALID, "scoring from token %d of %d", from, n);
	return run_given(f, &g, logps_of, e);
}
