/* The promise that makes every result of generation reproducible: a sequence has the same tokens
 * and the same bits of log-probability alone and among 64, with 1, 2 or 4 threads, for every table
 * of operations of this machine, every format of weights and every kind of model.
 */
#include "base/str.h"
#include "tests/kern_util.h"
#include "worker/model/infer.h"

#define BATCH 64
#define WATCHED 8 /* of the batch, those compared one by one */
#define PROMPT_MAX 40
#define NEW_MAX 14
#define VOCAB 139

static struct err e;

static const struct kind {
	const char *name;
	bool tied, bias;
	int window, heads, kv_heads;
} kinds[] = {
	{"tied, grouped heads", true, false, 0, 4, 2},
	{"untied, sliding window", false, false, 11, 4, 1},
	{"attention bias", true, true, 0, 2, 2},
};

static struct model *make_model(const struct kind *k)
{
	struct model_config cfg = {.vocab = VOCAB,
				   .dim = 64,
				   .n_layers = 2,
				   .n_heads = k->heads,
				   .n_kv_heads = k->kv_heads,
				   .head_dim = 64 / k->heads,
				   .ffn_dim = 96,
				   .max_pos = 64,
				   .rope_theta = 10000,
				   .rms_eps = 1e-5f,
				   .tied = k->tied,
				   .qkv_bias = k->bias,
				   .sliding_window = k->window,
				   .bos_id = 1,
				   .pad_id = -1,
				   .eos_ids = {2},
				   .n_eos = 1};
	struct model *m;
	uint32_t seed = 9;

	str_copy(cfg.arch, sizeof cfg.arch, k->bias ? "qwen2" : "llama");
	CHECK_RC(model_new(&cfg, &m, &e), RC_OK);
	model_init(m, 7);
	/* Sharper, so that small differences would show; and biases that are not zero. */
	for (size_t i = 0; i < m->n_params; i++)
		m->params[i] = 4 * m->params[i] + 0.05f * number(&seed);
	return m;
}

/* Lengths, settings and beginnings differ from request to request; every third has a beginning of
 * two blocks in common with others, and every fourth is drawn greedily. */
static struct infer_req request(int i, int32_t prompt[PROMPT_MAX])
{
	struct infer_req q = {
		.prompt = prompt,
		.n_prompt = i % 3 ? 1 + (i * 11) % 30 : 33 + i % 7,
		.sampling = {i % 4 ? 0.9f : 0.0f, i % 5 ? 1.0f : 0.8f, i % 7 ? 0 : 9},
		.max_new = NEW_MAX - i % 5,
		.name = {.seed = 3, .stage = RNG_TEST, .iter = 2, .item = (uint64_t)i, .sample = 0},
		.n = 1,
	};

	for (int k = 0; k < q.n_prompt; k++)
		prompt[k] = i % 3 == 0 && k < 32 ? 5 + k : (i * 37 + k * 29) % VOCAB;
	return q;
}

static int watched(int i)
{
	return i * (BATCH / WATCHED) + i % 3; /* Spread over the batch, each kind of request. */
}

/* What one sequence came to. */
struct answer {
	int n_prompt, n; /* tokens of the whole text */
	int32_t ids[PROMPT_MAX + NEW_MAX];
	double logp;
	float each[NEW_MAX]; /* of the same tokens, scored afterwards */
};

/* The answer to request i, which is number `index` of the engine; and what scoring says of it. */
static void take(struct infer *f, int i, int index, struct answer *a)
{
	struct infer_result r = infer_result(f, index, 0);
	int32_t prompt[PROMPT_MAX];
	struct infer_req q = request(i, prompt);

	memset(a, 0, sizeof *a);
	a->n_prompt = q.n_prompt;
	a->n = q.n_prompt + r.n_tokens;
	a->logp = r.logp;
	CHECK(r.finish == INFER_LENGTH && r.n_tokens == q.max_new);
	memcpy(a->ids, prompt, (size_t)q.n_prompt * sizeof *prompt);
	memcpy(a->ids + q.n_prompt, r.tokens, (size_t)r.n_tokens * sizeof *r.tokens);
}

static void score(struct infer *f, struct answer *a)
{
	double sum = 0;

	CHECK_RC(infer_score(f, a->ids, a->n, a->n_prompt, a->each, &e), RC_OK);
	for (int k = 0; k < a->n - a->n_prompt; k++)
		sum += (double)a->each[k];
	CHECK(memcmp(&sum, &a->logp, sizeof sum) == 0);
}

static struct infer *engine(const struct model *m, const struct kern *k, struct kern_pool *pool,
			    struct infer_opts o)
{
	struct infer *f;

	CHECK_RC(infer_new(m, k, pool, &o, &f, &e), RC_OK);
	return f;
}

/* One after the other, in the smallest of chunks, on one thread. */
static void alone(const struct model *m, const struct kern *k, enum kern_format w,
		  struct answer out[WATCHED])
{
	struct kern_pool *pool = kern_pool_new(1);
	struct infer *f = engine(m, k, pool,
				 (struct infer_opts){.weights = w,
						     .kv_tokens = 256,
						     .max_batch = 1,
						     .chunk = 5,
						     .no_share = true});

	for (int i = 0; i < WATCHED; i++) {
		int32_t prompt[PROMPT_MAX];
		struct infer_req q = request(watched(i), prompt);

		CHECK_RC(infer_add(f, &q, NULL, &e), RC_OK);
		CHECK_RC(infer_run(f, NULL, NULL, &e), RC_OK);
		take(f, watched(i), 0, &out[i]);
		score(f, &out[i]);
		infer_clear(f);
	}
	infer_free(f);
	kern_pool_free(pool);
}

static void among(const struct model *m, const struct kern *k, enum kern_format w, int threads,
		  struct answer out[WATCHED])
{
	struct kern_pool *pool = kern_pool_new(threads);
	struct infer *f =
		engine(m, k, pool,
		       (struct infer_opts){
			       .weights = w, .kv_tokens = 8192, .max_batch = BATCH, .chunk = 4096});

	for (int i = 0; i < BATCH; i++) {
		int32_t prompt[PROMPT_MAX];
		struct infer_req q = request(i, prompt);

		CHECK_RC(infer_add(f, &q, NULL, &e), RC_OK);
	}
	CHECK_RC(infer_run(f, NULL, NULL, &e), RC_OK);
	/* All at once: there are no more passes than the longest answer alone would need. */
	CHECK(infer_stats(f)->passes <= NEW_MAX + 2);
	CHECK(infer_stats(f)->reused_tokens > 0);
	for (int i = 0; i < WATCHED; i++)
		take(f, watched(i), watched(i), &out[i]);
	infer_clear(f);
	for (int i = 0; i < WATCHED; i++)
		score(f, &out[i]);
	infer_free(f);
	kern_pool_free(pool);
}

static void compare(const struct answer *a, const struct answer *b, const char *what)
{
	for (int i = 0; i < WATCHED; i++)
		if (memcmp(&a[i], &b[i], sizeof *a) != 0) {
			printf("%s: request %d: logp %.17g and %.17g\n", what, watched(i),
			       a[i].logp, b[i].logp);
			test_fail(__FILE__, __LINE__, "results differ in their bits");
		}
}

static void exact(const struct kern *k, enum kern_format w)
{
	static const int threads[] = {1, 2, 4};
	struct answer *one = calloc(WATCHED, sizeof *one), *many = calloc(WATCHED, sizeof *many);

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		struct model *m = make_model(&kinds[i]);

		alone(m, k, w, one);
		for (size_t t = 0; t < 3; t++) {
			among(m, k, w, threads[t], many);
			compare(one, many, kinds[i].name);
		}
		model_free(m);
	}
	free(one);
	free(many);
}

void test_infer_exact__f32_alone_and_among_64(void)
{
	EACH_BACKEND(k)
	exact(k, KERN_F32);
}

void test_infer_exact__bf16_alone_and_among_64(void)
{
	EACH_BACKEND(k)
	exact(k, KERN_BF16);
}

void test_infer_exact__q8_alone_and_among_64(void)
{
	EACH_BACKEND(k)
	exact(k, KERN_Q8);
}

/* A worker that has the instructions for BF16 and one that has not give the same float32 results.
 */
void test_infer_exact__f32_is_the_same_on_both_tables_of_avx512(void)
{
	const struct kern *a = kern_cpu_named("avx512"), *b = kern_cpu_named("avx512bf16");
	struct answer *x = calloc(WATCHED, sizeof *x), *y = calloc(WATCHED, sizeof *y);
	struct model *m = make_model(&kinds[0]);

	if (a && b) {
		among(m, a, KERN_F32, 2, x);
		among(m, b, KERN_F32, 2, y);
		compare(x, y, "avx512 and avx512bf16");
	}
	model_free(m);
	free(x);
	free(y);
}
