/* Generation: decoding at a batch size, prefill, and the work this engine is for. */
#include "tests/bench/engine.h"
#include "tests/bench/limits.h"

#include "base/mem.h"
#include "base/rng.h"
#include "worker/model/infer_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PROMPT_MAX 8192

#define PROBE_BYTES 256000000 /* no cache holds them */

/* A model opened for generation in one format of weights. */
struct opened {
	struct infer *f;
	enum kern_format format;
	int vocab;
};

static struct opened open_engine(const struct bench_args *a, struct kern_pool *pool,
				 struct infer_opts o)
{
	const char *dir = bench_str(a, "dir", NULL);
	struct opened op = {0};
	struct err e = {0};

	if (!dir)
		bench_die("bench_engine: dir= is missing");
	o.weights = op.format = bench_format(bench_str(a, "format", "f32"));
	bench_check(infer_open(dir, kern_cpu(), pool, &o, &op.f, &e), &e);
	op.vocab = infer_config(op.f)->vocab;
	return op;
}

static void close_engine(struct opened *op)
{
	infer_free(op->f);
}

/* Ids from 3 on, another text for every `which`. */
static void fill_ids(int32_t *ids, int n, int vocab, uint32_t which)
{
	uint32_t x = which * 2654435761u + 12345;

	for (int i = 0; i < n; i++) {
		x = x * 1664525u + 1013904223u;
		ids[i] = 3 + (int32_t)((x >> 8) % (uint32_t)(vocab - 3));
	}
}

/* Times of the window in which all sequences decode: it begins with the first token the oldest one
 * draws after every other has begun, and ends with the oldest one's end. Every pass in it gives
 * each sequence one token. */
struct window {
	int sequences, started, steps, drawn_by_oldest, max_new;
	double start, end;
	bool *begun; /* per sequence */
};

struct window_seq {
	struct window *w;
	int base; /* number of the request's first sequence */
};

static bool on_token(void *ctx, int sample, int32_t id)
{
	struct window_seq *s = ctx;
	struct window *w = s->w;
	int seq = s->base + sample;

	(void)id;
	if (!w->begun[seq]) {
		w->begun[seq] = true;
		w->started++;
	}
	if (seq != 0)
		return false;
	w->drawn_by_oldest++;
	if (w->started < w->sequences)
		return false;
	if (w->start > 0)
		w->steps++;
	else
		w->start = bench_now_s();
	if (w->drawn_by_oldest == w->max_new)
		w->end = bench_now_s();
	return false;
}

/* Tokens per second in the window; requests differ in their text unless `shared`. */
static double decode_rate(struct opened *op, int batch, int n_prompt, int steps, bool shared)
{
	int skew = 2 + (shared ? 0 : batch * n_prompt / 1024), n_req = shared ? 1 : batch;
	struct window w = {.sequences = batch, .max_new = steps + skew};
	struct window_seq *seqs = mem_array((size_t)n_req, sizeof *seqs);
	static uint32_t text = 1;
	int32_t *prompt = mem_array((size_t)n_prompt, sizeof *prompt);
	struct err e = {0};

	w.begun = mem_array((size_t)batch, sizeof *w.begun);
	for (int i = 0; i < n_req; i++) {
		seqs[i] = (struct window_seq){&w, i};
		struct infer_req q = {.prompt = prompt,
				      .n_prompt = n_prompt,
				      .sampling = {1, 1, 0},
				      .max_new = w.max_new,
				      .n = shared ? batch : 1,
				      .name = {1, RNG_TEST, 0, text, 0},
				      .on_token = on_token,
				      .ctx = &seqs[i]};

		fill_ids(prompt, n_prompt, op->vocab, text++);
		bench_check(infer_add(op->f, &q, NULL, &e), &e);
	}
	bench_check(infer_run(op->f, NULL, NULL, &e), &e);
	infer_clear(op->f);
	free(seqs);
	free(prompt);
	free(w.begun);
	return (double)w.steps * batch / (w.end - w.start);
}

/* GB/s of a plain read, what one sequence is bounded by; not asked for more of them. */
static double reading(int batch, struct kern_pool *pool)
{
	return batch == 1 ? limits_read(pool, PROBE_BYTES, PROBE_S) : 0;
}

void bench_decode(const struct bench_args *a, struct kern_pool *pool)
{
	int batches[16], prompt = bench_int(a, "prompt", 128), steps = bench_int(a, "steps", 48);
	int n = bench_list(a, "batches", "1,4,16,64", batches, 16);
	int reps = bench_int(a, "reps", 1), largest = 1;
	bool shared = bench_int(a, "shared", 0) != 0;
	struct opened op;

	bench_known(a, "threads dir format prompt steps batches shared reps");
	for (int i = 0; i < n; i++)
		largest = batches[i] > largest ? batches[i] : largest;
	op = open_engine(
		a, pool,
		(struct infer_opts){.max_batch = largest,
				    .chunk = 1024,
				    .kv_tokens = (int64_t)largest * (prompt + steps + 64)});
	for (int i = 0; i < n; i++) {
		struct beside best = {0};

		for (int r = 0; r < reps; r++) {
			double before = reading(batches[i], pool);
			double rate = decode_rate(&op, batches[i], prompt, steps, shared);

			beside_keep(&best, rate, before, reading(batches[i], pool));
		}
		printf("decode_%d %.1f\n", batches[i], best.rate);
		if (best.limit > 0)
			printf("read_%d %.1f\n", batches[i], best.limit);
	}
	close_engine(&op);
}

void bench_prefill(const struct bench_args *a, struct kern_pool *pool)
{
	int n = bench_int(a, "length", 512), reps = bench_int(a, "reps", 4);
	int32_t *prompt = mem_array((size_t)n, sizeof *prompt);
	struct opened op;
	struct err e = {0};
	struct beside best = {0};

	bench_known(a, "threads dir format length reps");
	op = open_engine(
		a, pool,
		(struct infer_opts){.chunk = n, .max_batch = 1, .kv_tokens = 4 * (n + 64)});
	for (int i = 0; i <= reps; i++) { /* One more: the first warms up. */
		struct infer_req q = {.prompt = prompt,
				      .n_prompt = n,
				      .sampling = {0, 1, 0},
				      .max_new = 1,
				      .n = 1,
				      .name = {1, RNG_TEST, 0, (uint64_t)i, 0}};
		double t, before = limits_arith(pool, op.format, PROBE_S);

		fill_ids(prompt, n, op.vocab, 1000 + (uint32_t)i);
		bench_check(infer_add(op.f, &q, NULL, &e), &e);
		t = bench_now_s();
		bench_check(infer_run(op.f, NULL, NULL, &e), &e);
		t = bench_now_s() - t;
		infer_clear(op.f);
		if (i > 0)
			beside_keep(&best, n / t, before,
				    limits_arith(pool, op.format, PROBE_S));
	}
	printf("prefill_%d %.1f\npeak_%d %.1f\n", n, best.rate, n, best.limit);
	close_engine(&op);
	free(prompt);
}

/* --- N candidates, three judgements of each ----------------------------------------------------
 */

#define CANDIDATES 4
#define JUDGEMENTS 3

struct work {
	struct opened op;
	int prompts, prompt, answer, verdict; /* lengths in tokens */
	int head, tail;			      /* the judge template before and behind */
	int32_t *ids;
};

static void ask(struct work *w, int n_ids, int max_new, int n, uint64_t item)
{
	struct infer_req q = {.prompt = w->ids,
			      .n_prompt = n_ids,
			      .sampling = {1, 1, 0},
			      .max_new = max_new,
			      .n = n,
			      .name = {1, RNG_TEST, 0, item, 0}};
	struct err e = {0};

	bench_check(infer_add(w->op.f, &q, NULL, &e), &e);
}

static void run_all(struct work *w)
{
	struct err e = {0};

	bench_check(infer_run(w->op.f, NULL, NULL, &e), &e);
}

/* Seconds of both stages. The answers judged are other random ids than those drawn: the same work,
 * and the same for every peer. */
static double run_work(struct work *w)
{
	double start = bench_now_s();

	for (int p = 0; p < w->prompts; p++) {
		fill_ids(w->ids, w->prompt, w->op.vocab, 5000 + (uint32_t)p);
		ask(w, w->prompt, w->answer, CANDIDATES, (uint64_t)p);
	}
	run_all(w);
	infer_clear(w->op.f);
	for (int p = 0; p < w->prompts * CANDIDATES; p++) {
		int behind = w->head + w->prompt + w->answer;

		fill_ids(w->ids, w->head, w->op.vocab, 1);
		fill_ids(w->ids + w->head, w->prompt, w->op.vocab, 5000 + (uint32_t)p / CANDIDATES);
		fill_ids(w->ids + w->head + w->prompt, w->answer, w->op.vocab, 9000 + (uint32_t)p);
		fill_ids(w->ids + behind, w->tail, w->op.vocab, 2);
		ask(w, behind + w->tail, w->verdict, JUDGEMENTS, 100000 + (uint64_t)p);
	}
	run_all(w);
	infer_clear(w->op.f);
	return bench_now_s() - start;
}

/* The machine hands out memory before the clock runs: the server clears its cache as well. */
static void touch_cache(struct infer *f, int blocks)
{
	size_t layer = f->kv.bytes / (size_t)f->kv.n_layers, used = (size_t)blocks * f->kv.stride;

	used = used < layer ? used : layer;
	for (size_t at = 0; at < f->kv.bytes; at += layer) {
		f->kern->zero(f->pool, f->kv.k + at, used);
		f->kern->zero(f->pool, f->kv.v + at, used);
	}
}

/* Seconds of all processors for this program. */
static double own_time(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void bench_workload(const struct bench_args *a, struct kern_pool *pool)
{
	struct work w = {.prompts = bench_int(a, "prompts", 4),
			 .head = bench_int(a, "head", 300),
			 .tail = bench_int(a, "tail", 110),
			 .prompt = bench_int(a, "prompt", 64),
			 .answer = bench_int(a, "answer", 250),
			 .verdict = bench_int(a, "verdict", 100)};
	int context = w.head + w.prompt + w.answer + w.tail + w.verdict;
	const struct infer_stats *s;
	double seconds, processor;

	bench_known(a,
		    "threads dir format prompts head tail prompt answer verdict share batch cache");
	w.ids = mem_array((size_t)context, sizeof *w.ids);
	w.op = open_engine(a, pool,
			   (struct infer_opts){.max_batch = bench_int(a, "batch", 0),
					       .no_share = bench_int(a, "share", 1) == 0,
					       .kv_tokens = bench_int(a, "cache", 0)});
	touch_cache(w.op.f, w.prompts * CANDIDATES * JUDGEMENTS * (context / KERN_PAGE + 1));
	processor = own_time();
	seconds = run_work(&w);
	processor = own_time() - processor;
	s = infer_stats(w.op.f);
	printf("seconds %.3f\nprocessor %.3f\nsampled %lld\nprefilled %lld\nsampled_per_s %.1f\n",
	       seconds, processor, (long long)s->sampled_tokens, (long long)s->prefill_tokens,
	       (double)s->sampled_tokens / seconds);
	close_engine(&w.op);
	free(w.ids);
}
