/* The work generation is for: candidates of prompts, three judgements of each under one template.
 * Texts share hundreds of tokens then; what comes out is, bit by bit, what each gives alone.
 */
#include "tests/kern_util.h"
#include "worker/model/infer.h"

enum {
	PROMPTS = 3,
	CANDIDATES = 3,
	JUDGED = PROMPTS * CANDIDATES,
	PASSES = 3,
	HEAD = 101,
	PROMPT = 37,
	ANSWER = 70,
	TAIL = 21,
	TEXT = HEAD + PROMPT + ANSWER + TAIL,
	VERDICT = 12,
	VOCAB = 139
};

static struct err e;

static struct model *make_model(int window)
{
	struct model_config cfg = {.arch = "llama",
				   .vocab = VOCAB,
				   .dim = 64,
				   .n_layers = 2,
				   .n_heads = 4,
				   .n_kv_heads = 2,
				   .head_dim = 16,
				   .ffn_dim = 96,
				   .max_pos = TEXT + VERDICT,
				   .rope_theta = 10000,
				   .rms_eps = 1e-5f,
				   .tied = true,
				   .sliding_window = window,
				   .bos_id = 1,
				   .pad_id = -1,
				   .eos_ids = {2},
				   .n_eos = 1};
	struct model *m;

	CHECK_RC(model_new(&cfg, &m, &e), RC_OK);
	model_init(m, 11);
	for (size_t i = 0; i < m->n_params; i++)
		m->params[i] *= 5; /* sharper, so that small differences show */
	return m;
}

static int fill(int32_t *ids, int n, uint32_t which)
{
	uint32_t seed = which * 2654435761u + 3;

	for (int i = 0; i < n; i++) {
		seed = seed * 1664525u + 1013904223u;
		ids[i] = 3 + (int32_t)((seed >> 8) % (VOCAB - 3));
	}
	return n;
}

/* Candidate c of all: the text its judge reads. */
static void judge_text(int c, int32_t ids[TEXT])
{
	int n = fill(ids, HEAD, 1);

	n += fill(ids + n, PROMPT, 10 + (uint32_t)c / CANDIDATES);
	n += fill(ids + n, ANSWER, 100 + (uint32_t)c);
	fill(ids + n, TAIL, 2);
}

static struct infer_req request(int c, int passes, const int32_t *ids)
{
	return (struct infer_req){.prompt = ids,
				  .n_prompt = TEXT,
				  .sampling = {0.9f, 1, 0},
				  .max_new = VERDICT - c % 3, /* they do not end together */
				  .name = {.seed = 5, .stage = RNG_TEST, .item = (uint64_t)c},
				  .n = passes};
}

struct verdict {
	int n;
	int32_t ids[VERDICT];
	double logp;
};

static void take(struct infer *f, int index, int pass, struct verdict *v)
{
	struct infer_result r = infer_result(f, index, pass);

	memset(v, 0, sizeof *v);
	CHECK(r.finish == INFER_LENGTH && r.n_tokens <= VERDICT);
	v->n = r.n_tokens;
	v->logp = r.logp;
	memcpy(v->ids, r.tokens, (size_t)r.n_tokens * sizeof *r.tokens);
}

/* Every judgement of text c. */
static void ask(struct infer *f, int c)
{
	int32_t ids[TEXT];
	struct infer_req q;

	judge_text(c, ids);
	q = request(c, PASSES, ids);
	CHECK_RC(infer_add(f, &q, NULL, &e), RC_OK);
}

static void alone(const struct model *m, const struct kern *k, enum kern_format w,
		  struct verdict out[JUDGED][PASSES])
{
	struct infer_opts o = {.weights = w, .max_batch = 1, .chunk = 64, .kv_tokens = 256};
	struct kern_pool *pool = kern_pool_new(1);
	struct infer *f;

	o.no_share = true;
	CHECK_RC(infer_new(m, k, pool, &o, &f, &e), RC_OK);
	for (int c = 0; c < JUDGED; c++) {
		ask(f, c);
		CHECK_RC(infer_run(f, NULL, NULL, &e), RC_OK);
		for (int p = 0; p < PASSES; p++)
			take(f, 0, p, &out[c][p]);
		infer_clear(f);
	}
	infer_free(f);
	kern_pool_free(pool);
}

/* All of them in one batch; how often answers gave their blocks back. */
static int64_t together(const struct model *m, const struct kern *k, int threads,
			struct infer_opts o, struct verdict out[JUDGED][PASSES])
{
	struct kern_pool *pool = kern_pool_new(threads);
	struct infer *f;
	int64_t preempted;

	CHECK_RC(infer_new(m, k, pool, &o, &f, &e), RC_OK);
	for (int c = 0; c < JUDGED; c++)
		ask(f, c);
	CHECK_RC(infer_run(f, NULL, NULL, &e), RC_OK);
	for (int c = 0; c < JUDGED; c++)
		for (int p = 0; p < PASSES; p++)
			take(f, c, p, &out[c][p]);
	preempted = infer_stats(f)->preempted;
	/* Whole blocks are shared: of the head all six, of head and prompt the first eight. */
	if (preempted == 0)
		CHECK(infer_stats(f)->prefill_tokens ==
		      TEXT + (PROMPTS - 1) * (TEXT - 96) + (JUDGED - PROMPTS) * (TEXT - 128));
	infer_free(f);
	kern_pool_free(pool);
	return preempted;
}

static void compare(struct verdict a[JUDGED][PASSES], struct verdict b[JUDGED][PASSES])
{
	for (int c = 0; c < JUDGED; c++)
		for (int p = 0; p < PASSES; p++)
			if (memcmp(&a[c][p], &b[c][p], sizeof a[c][p]) != 0) {
				printf("# candidate %d, judgement %d: logp %.17g and %.17g\n", c, p,
				       a[c][p].logp, b[c][p].logp);
				test_fail(__FILE__, __LINE__, "results differ in their bits");
			}
}

static void work(const struct kern *k, enum kern_format w, int window)
{
	static struct verdict one[JUDGED][PASSES], all[JUDGED][PASSES];
	struct infer_opts o = {.weights = w, .max_batch = 64, .chunk = 512, .kv_tokens = 4096};
	struct model *m = make_model(window);

	alone(m, k, w, one);
	for (int threads = 1; threads <= 3; threads++) {
		CHECK(together(m, k, threads, o, all) == 0);
		compare(one, all);
	}
	o.chunk = 50;
	CHECK(together(m, k, 2, o, all) == 0);
	compare(one, all);
	o.kv_tokens = 640; /* Not enough for all of them. */
	CHECK(together(m, k, 2, o, all) > 0);
	compare(one, all);
	model_free(m);
}

void test_infer_work__judgements_are_what_they_are_alone(void)
{
	EACH_BACKEND(k)
	for (int w = KERN_F32; w <= KERN_Q8; w++)
		work(k, (enum kern_format)w, 0);
}

void test_infer_work__judgements_under_a_window_too(void)
{
	EACH_BACKEND(k)
	for (int w = KERN_F32; w <= KERN_BF16; w++)
		work(k, (enum kern_format)w, 75);
}
