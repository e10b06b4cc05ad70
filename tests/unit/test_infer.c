#include "tests/test.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/str.h"
#include "kernels/kernels.h"
#include "worker/model/infer.h"
#include "worker/model/template.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct err e;

/* A model with random weights, of the demo's shape unless asked to be smaller. */
static struct model *random_model(int dim, int layers, int max_pos)
{
	struct model_config cfg = {.arch = "llama", .vocab = 900, .dim = dim, .n_layers = layers,
				   .n_heads = 8, .n_kv_heads = 4, .head_dim = dim / 8,
				   .ffn_dim = dim * 5 / 2, .max_pos = max_pos, .rope_theta = 10000,
				   .rms_eps = 1e-5f, .bos_id = 1, .pad_id = -1, .eos_ids = {2},
				   .n_eos = 1};
	struct model *m;

	CHECK_RC(model_new(&cfg, &m, &e), RC_OK);
	model_init(m, 5);
	for (size_t i = 0; i < m->n_params; i++) /* Sharper, so that answers differ and end. */
		m->params[i] *= 4;
	return m;
}

static struct infer *new_infer(const struct model *m, struct kern_pool *pool, struct infer_opts o)
{
	struct infer *f;

	CHECK_RC(infer_new(m, kern_cpu(), pool, &o, &f, &e), RC_OK);
	return f;
}

/* The i-th of many different requests. */
static struct infer_req some_req(int i, int32_t *prompt)
{
	static const int32_t stops[] = {2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
	struct infer_req q = {
		.prompt = prompt,
		.n_prompt = 3 + (i * 7) % 50,
		.sampling = {i % 5 ? 1.0f : 0.0f, i % 3 ? 1.0f : 0.9f, i % 4 ? 0 : 20},
		.max_new = 5 + (i * 13) % 40,
		.stops = stops,
		.n_stops = 11,
		.name = {.seed = 11, .stage = RNG_TEST, .iter = 1, .item = (uint64_t)i, .sample = 0},
		.n = 1 + i % 3,
	};

	for (int k = 0; k < q.n_prompt; k++) /* Half of them begin alike. */
		prompt[k] = k < 40 && i % 2 ? 100 + k : (i * 31 + k * 17) % 900;
	return q;
}

struct answers {
	struct buf text; /* tokens, finish and bits of logp of every answer */
};

static void note(struct answers *a, struct infer_result r)
{
	buf_append(&a->text, r.tokens, (size_t)r.n_tokens * sizeof(*r.tokens));
	buf_append(&a->text, &r.finish, sizeof(r.finish));
	buf_append(&a->text, &r.logp, sizeof(r.logp));
}

static void note_all(struct answers *a, struct infer *f, int n)
{
	for (int i = 0; i < n; i++)
		for (int s = 0; s < 1 + i % 3; s++) {
			CHECK(infer_result(f, i, s).finish != INFER_UNDONE);
			note(a, infer_result(f, i, s));
		}
}

#define REQS 48

/* Answers of the same requests through an engine with these settings. */
static void answer(const struct model *m, int threads, struct infer_opts o, bool alone,
		   struct answers *a, struct infer_stats *stats)
{
	struct kern_pool *pool = kern_pool_new(threads);
	struct infer *f = new_infer(m, pool, o);
	int32_t prompt[64];

	for (int i = 0; i < REQS; i++) {
		struct infer_req q = some_req(i, prompt);
		CHECK_RC(infer_add(f, &q, NULL, &e), RC_OK);
		if (!alone)
			continue;
		CHECK_RC(infer_run(f, NULL, NULL, &e), RC_OK);
		for (int s = 0; s < q.n; s++)
			note(a, infer_result(f, 0, s));
		infer_clear(f);
	}
	CHECK_RC(infer_run(f, NULL, NULL, &e), RC_OK);
	if (!alone)
		note_all(a, f, REQS);
	*stats = *infer_stats(f);
	infer_free(f);
	kern_pool_free(pool);
}

static void check_same(const struct answers *a, const struct answers *b)
{
	CHECK_EQ(a->text.len, b->text.len);
	CHECK(!memcmp(a->text.data, b->text.data, a->text.len));
}

static void same_in_every_way(enum kern_format weights)
{
	static const struct {
		const char *what;
		int threads;
		struct infer_opts o;
	} ways[] = {
		{"batch of 64", 1, {.kv_tokens = 4096, .max_batch = 64, .chunk = 256}},
		{"two threads", 2, {.kv_tokens = 4096, .max_batch = 64, .chunk = 256}},
		{"chunks of 7", 3, {.kv_tokens = 4096, .max_batch = 64, .chunk = 7}},
		{"batch of 3", 2, {.kv_tokens = 4096, .max_batch = 3, .chunk = 64}},
		{"tight memory", 2, {.kv_tokens = 160, .max_batch = 16, .chunk = 64}},
		{"nothing shared", 4, {.kv_tokens = 4096, .max_batch = 64, .no_share = true}},
	};
	struct model *m = random_model(64, 2, 128);
	struct answers alone = {BUF_INIT};
	struct infer_stats st;

	answer(m, 1, (struct infer_opts){weights, .kv_tokens = 4096, .max_batch = 1, .chunk = 64}, true,
	       &alone, &st);
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		struct answers a = {BUF_INIT};
		struct infer_opts o = ways[i].o;
		o.weights = weights;
		answer(m, ways[i].threads, o, false, &a, &st);
		printf("%s: %lld sampled, %lld prefilled of %lld, %lld reused, %lld passes, %lld "
		       "preempted, peak %d of %d blocks\n", ways[i].what, (long long)st.sampled_tokens,
		       (long long)st.prefill_tokens, (long long)st.prompt_tokens,
		       (long long)st.reused_tokens, (long long)st.passes, (long long)st.preempted,
		       st.blocks_peak, st.blocks);
		check_same(&alone, &a);
		if (i == 4)
			CHECK(st.preempted > 0);
		if (i == 5)
			CHECK_EQ(st.reused_tokens, 0);
		buf_release(&a.text);
	}
	buf_release(&alone.text);
	model_free(m);
}

void test_infer__batch_threads_chunks_and_memory_change_nothing(void)
{
	same_in_every_way(KERN_F32);
}

void test_infer__bf16_batch_threads_chunks_and_memory_change_nothing(void)
{
	same_in_every_way(KERN_BF16);
}

void test_infer__q8_batch_threads_chunks_and_memory_change_nothing(void)
{
	same_in_every_way(KERN_Q8);
}

/* Streamed from files or packed from memory: the same engine. Its plan is known before. */
void test_infer__a_directory_gives_what_its_model_gives(void)
{
	struct model *m = random_model(64, 2, 128);
	struct kern_pool *pool = kern_pool_new(2);
	int32_t ids[] = {1, 5, 9, 33, 2, 17};
	size_t n = 6 * (size_t)m->cfg.vocab;
	float *a = calloc(n, sizeof *a), *b = calloc(n, sizeof *b);
	struct infer *f;
	char dir[256];

	snprintf(dir, sizeof dir, "%s/model", test_tmpdir());
	CHECK_RC(model_save(m, dir, &e), RC_OK);
	for (int w = KERN_F32; w <= KERN_Q8; w++) {
		struct infer_opts o = {.weights = (enum kern_format)w, .kv_tokens = 256};
		size_t total = infer_plan(&m->cfg, kern_cpu(), 2, &o).total;

		f = new_infer(m, pool, o);
		CHECK_RC(infer_logits(f, ids, 6, a, &e), RC_OK);
		infer_free(f);
		o.memory_max = total;
		CHECK_RC(infer_open(dir, kern_cpu(), pool, &o, &f, &e), RC_OK);
		CHECK_RC(infer_logits(f, ids, 6, b, &e), RC_OK);
		CHECK(memcmp(a, b, n * sizeof *a) == 0);
		infer_free(f);
		o.memory_max = total - 1;
		CHECK_RC(infer_open(dir, kern_cpu(), pool, &o, &f, &e), RC_NOMEM);
		puts(e.text);
		CHECK(strstr(e.text, "MiB") != NULL);
	}
	free(a);
	free(b);
	kern_pool_free(pool);
	model_free(m);
}

/* N samples and identical prompts are computed once. */
void test_infer__prompts_are_shared(void)
{
	struct model *m = random_model(64, 2, 512);
	struct kern_pool *pool = kern_pool_new(2);
	struct infer_opts o = {.kv_tokens = 8192, .max_batch = 64, .chunk = 128};
	struct infer *f = new_infer(m, pool, o);
	int32_t prompt[320];

	for (int i = 0; i < 320; i++)
		prompt[i] = i % 800;
	for (int pass = 0; pass < 3; pass++) { /* Like the three judgements of one answer. */
		struct infer_req q = {.prompt = prompt, .n_prompt = 310, .sampling = {1, 1, 0},
				      .max_new = 4, .n = 4,
				      .name = {1, RNG_TEST, 0, (uint64_t)pass, 0}};
		CHECK_RC(infer_add(f, &q, NULL, &e), RC_OK);
	}
	CHECK_RC(infer_run(f, NULL, NULL, &e), RC_OK);
	printf("prefilled %lld of %lld\n", (long long)infer_stats(f)->prefill_tokens,
	       (long long)(4 * infer_stats(f)->prompt_tokens));
	CHECK(infer_stats(f)->prefill_tokens <= 310 + 2 * 16);
	infer_free(f);
	kern_pool_free(pool);
	model_free(m);
}

void test_infer__overflow_is_refused_with_numbers(void)
{
	struct model *m = random_model(64, 1, 64);
	struct kern_pool *pool = kern_pool_new(1);
	struct infer_opts o = {.kv_tokens = 0, .max_batch = 4, .chunk = 16};
	struct infer *f = new_infer(m, pool, o);
	int32_t prompt[100] = {0};
	struct infer_req q = {.prompt = prompt, .n_prompt = 70, .sampling = {0, 1, 0}, .max_new = 10,
			      .n = 1};
	int index;

	CHECK_RC(infer_add(f, &q, &index, &e), RC_INVALID);
	CHECK(strstr(e.text, "70 tokens") && strstr(e.text, "holds 64"));
	q.n_prompt = 60;
	CHECK_RC(infer_add(f, &q, &index, &e), RC_OK); /* Room for four. */
	CHECK_RC(infer_run(f, NULL, NULL, &e), RC_OK);
	CHECK_EQ(infer_result(f, index, 0).n_tokens, 4);
	CHECK_EQ(infer_result(f, index, 0).finish, INFER_LENGTH);
	prompt[2] = 900;
	CHECK_RC(infer_add(f, &q, &index, &e), RC_INVALID);
	infer_free(f);
	kern_pool_free(pool);
	model_free(m);
}

static bool stop_after(void *ctx)
{
	return --*(int *)ctx < 0;
}

void test_infer__stops_and_goes_on(void)
{
	struct model *m = random_model(64, 2, 128);
	struct kern_pool *pool = kern_pool_new(1);
	struct infer_opts o = {.kv_tokens = 4096, .max_batch = 16, .chunk = 32};
	struct infer *f = new_infer(m, pool, o);
	struct answers whole = {BUF_INIT}, parts = {BUF_INIT};
	struct infer_stats st;
	int32_t prompt[64];
	int left, stopped = 0;
	enum rc rc;

	answer(m, 1, o, false, &whole, &st);
	for (int i = 0; i < REQS; i++) {
		struct infer_req q = some_req(i, prompt);
		CHECK_RC(infer_add(f, &q, NULL, &e), RC_OK);
	}
	do {
		left = 5;
		rc = infer_run(f, stop_after, &left, &e);
		stopped += rc == RC_CANCELLED;
	} while (rc == RC_CANCELLED);
	CHECK_RC(rc, RC_OK);
	CHECK(stopped > 3);
	note_all(&parts, f, REQS);
	check_same(&whole, &parts);
	buf_release(&whole.text);
	buf_release(&parts.text);
	infer_free(f);
	kern_pool_free(pool);
	model_free(m);
}

/* By the definition, without shortcuts: the length at which it goes round, or n. */
static int round_at(const int32_t *t, int n, int times)
{
	for (int len = INFER_REPEAT_LEAST; len <= n; len++)
		for (int piece = 1; piece <= INFER_REPEAT_PIECE; piece++) {
			int tail = times * piece > INFER_REPEAT_LEAST ? times * piece : INFER_REPEAT_LEAST;
			bool same = tail <= len && piece < len;

			for (int i = len - 1; same && i >= len - tail + piece; i--)
				same = t[i] == t[i - piece];
			if (same)
				return len;
		}
	return n;
}

/* Without attention a token depends on the last one alone, so that greedy answers come round. */
void test_infer__answers_that_go_round_are_ended(void)
{
	enum { LONG = 200 };
	struct model *m = random_model(64, 2, 512);
	struct kern_pool *pool = kern_pool_new(1);
	struct infer_opts o = {.kv_tokens = 4096, .max_batch = 16, .chunk = 32};
	struct infer *f;
	int32_t prompt[64];
	int ended = 0;

	for (int l = 0; l < m->cfg.n_layers; l++)
		memset(m->params + m->layers[l].wo, 0, 64 * 64 * sizeof(float));
	f = new_infer(m, pool, o);

	for (int i = 0; i < 10; i++) {
		struct infer_req q = some_req(i, prompt);
		struct infer_result whole, cut;
		int want;

		q.sampling = (struct sampling){0, 1, 0};
		q.max_new = LONG;
		q.n_stops = 0;
		q.n = 1;
		CHECK_RC(infer_add(f, &q, NULL, &e), RC_OK);
		q.stop_repeats = 2 + i % 4;
		CHECK_RC(infer_add(f, &q, NULL, &e), RC_OK);
		CHECK_RC(infer_run(f, NULL, NULL, &e), RC_OK);
		whole = infer_result(f, 0, 0);
		cut = infer_result(f, 1, 0);
		want = round_at(whole.tokens, whole.n_tokens, q.stop_repeats);
		CHECK_EQ(whole.n_tokens, LONG);
		CHECK_EQ(cut.n_tokens, want);
		CHECK_EQ(cut.finish, INFER_LENGTH);
		CHECK(memcmp(cut.tokens, whole.tokens, (size_t)want * sizeof *cut.tokens) == 0);
		ended += want < LONG;
		infer_clear(f);
	}
	CHECK(ended > 0);
	prompt[0] = 1;
	struct infer_req once = {.prompt = prompt, .n_prompt = 1, .sampling = {0, 1, 0}, .max_new = 4,
				 .n = 1, .stop_repeats = 1};
	CHECK_RC(infer_add(f, &once, NULL, &e), RC_INVALID);
	infer_free(f);
	kern_pool_free(pool);
	model_free(m);
}

/* The sum of log-probabilities of an answer is what scoring the whole text says. */
static void replay(enum kern_format weights)
{
	struct model *m = random_model(64, 2, 128);
	struct kern_pool *pool = kern_pool_new(2);
	struct infer_opts o = {weights, .kv_tokens = 4096, .max_batch = 16, .chunk = 32};
	struct infer *f = new_infer(m, pool, o);
	int32_t prompt[64], text[128];
	float logp[128];

	for (int i = 0; i < REQS; i++) {
		struct infer_req q = some_req(i, prompt);
		CHECK_RC(infer_add(f, &q, NULL, &e), RC_OK);
		CHECK_RC(infer_run(f, NULL, NULL, &e), RC_OK);
		struct infer_result r = infer_result(f, 0, 0);
		int n = q.n_prompt + r.n_tokens;
		double sum = 0;
		memcpy(text, prompt, (size_t)q.n_prompt * sizeof(*text));
		memcpy(text + q.n_prompt, r.tokens, (size_t)r.n_tokens * sizeof(*text));
		CHECK_RC(infer_score(f, text, n, q.n_prompt, logp, &e), RC_OK);
		for (int k = 0; k < r.n_tokens; k++)
			sum += (double)logp[k];
		CHECK_NEAR(r.logp, sum, 0); /* Bit by bit: the same products, the same sums. */
		infer_clear(f);
	}
	infer_free(f);
	kern_pool_free(pool);
	model_free(m);
}

void test_infer__logp_is_replayed(void)
{
	replay(KERN_F32);
	replay(KERN_BF16);
	replay(KERN_Q8);
}

/* --- real models ------------------------------------------------------------------------------ */

struct real {
	struct model *m;
	struct tokenizer *tok;
	struct kern_pool *pool;
	struct infer *f;
};

static struct real open_real(const char *name, struct infer_opts o)
{
	char dir[512];
	struct real r;

	str_fmt(dir, sizeof(dir), "models/%s/config.json", name);
	str_copy(dir, sizeof(dir), test_data(dir));
	*strrchr(dir, '/') = 0;
	CHECK_RC(model_load(dir, &r.m, &e), RC_OK);
	CHECK_RC(tokenizer_load(dir, &r.tok, &e), RC_OK);
	r.pool = kern_pool_new(0);
	r.f = new_infer(r.m, r.pool, o);
	return r;
}

static void close_real(struct real *r)
{
	infer_free(r->f);
	kern_pool_free(r->pool);
	tokenizer_free(r->tok);
	model_free(r->m);
}

static void check_oracle(const char *name)
{
	struct real r = open_real(name, (struct infer_opts){.kv_tokens = 1024, .max_batch = 8, .chunk = 37});
	struct buf b = BUF_INIT;
	char path[512];
	int32_t head[2];
	double worst = 0;

	str_fmt(path, sizeof(path), "models/%s/oracle_logits.bin", name);
	CHECK_RC(fs_read(test_data(path), 1 << 26, &b, &e), RC_OK);
	memcpy(head, b.data, sizeof(head));
	size_t n = (size_t)head[0], vocab = (size_t)head[1];
	int32_t *ids = malloc(n * sizeof(*ids));
	float *want = malloc(n * vocab * sizeof(*want)), *got = malloc(n * vocab * sizeof(*got));
	memcpy(ids, b.data + 8, n * sizeof(*ids));
	memcpy(want, b.data + 8 + n * 4, n * vocab * sizeof(*want));
	CHECK_RC(infer_logits(r.f, ids, (int)n, got, &e), RC_OK);
	for (size_t i = 0; i < n * vocab; i++)
		worst = fmax(worst, fabs((double)got[i] - (double)want[i]));
	printf("%s: %zu positions, largest difference %.2g\n", name, n, worst);
	CHECK(worst < 1e-4);
	free(ids);
	free(want);
	free(got);
	buf_release(&b);
	close_real(&r);
}

void test_infer__stories_logits_are_the_oracles(void)
{
	check_oracle("stories260K");
}

void test_infer__poem_logits_are_the_oracles(void)
{
	check_oracle("poem_zh_750K");
}

void test_infer__stories_greedy_text_is_the_published_one(void)
{
	struct real r = open_real("stories260K", (struct infer_opts){0});
	struct buf md = BUF_INIT, text = BUF_INIT;
	int32_t bos = 1;
	struct infer_req q = {.prompt = &bos, .n_prompt = 1, .sampling = {0, 1, 0}, .max_new = 256,
			      .stops = &bos, .n_stops = 1, .n = 1};
	int index;

	CHECK_RC(fs_read(test_data("models/stories260K/stories260K.md"), 1 << 20, &md, &e), RC_OK);
	char *want = strstr(md.data, "-t 0.0\n");
	CHECK(want);
	want += 7;
	*strstr(want, "\n```") = 0;
	CHECK_RC(infer_add(r.f, &q, &index, &e), RC_OK);
	CHECK_RC(infer_run(r.f, NULL, NULL, &e), RC_OK);
	struct infer_result a = infer_result(r.f, index, 0);
	tokenizer_decode_text(r.tok, a.tokens, (size_t)a.n_tokens, 0, &text);
	CHECK(text.len >= strlen(want));
	text.data[strlen(want)] = 0;
	CHECK_STR(text.data, want);
	buf_release(&md);
	buf_release(&text);
	close_real(&r);
}

/* Four lines of five characters, with or without punctuation at their ends. */
static bool is_quatrain(const char *s, size_t len)
{
	static const char *const marks[] = {"，", "。", "！", "？", "、", "；", "：", "\n", " "};
	int lines = 0, chars = 0;
	bool mark;

	for (size_t i = 0; i < len;) {
		uint32_t cp;
		int n = utf8_decode(s + i, len - i, &cp);
		mark = false;
		for (size_t k = 0; k < sizeof(marks) / sizeof(*marks); k++)
			mark = mark || (strlen(marks[k]) == (size_t)n && !memcmp(s + i, marks[k], (size_t)n));
		if (!mark)
			chars++;
		else if (chars) {
			if (chars != 5)
				return false;
			lines++;
			chars = 0;
		}
		i += (size_t)n;
	}
	return lines + (chars == 5) == 4 && (chars == 0 || chars == 5);
}

void test_infer__poem_answers_the_prompt(void)
{
	struct real r = open_real("poem_zh_750K", (struct infer_opts){0});
	struct template *t;
	struct tokens prompt = TOKENS_INIT;
	struct infer_req q = {.sampling = {1, 1, 0}, .max_new = 100, .n = 200,
			      .name = {.seed = 1, .stage = RNG_TEST}};
	int good = 0;

	CHECK_RC(template_open("plain", r.tok, &t, &e), RC_OK);
	CHECK_RC(template_prompt(t, NULL, "主题：明月 体裁：五绝\n", &prompt, &e), RC_OK);
	q.prompt = prompt.ids;
	q.n_prompt = (int)prompt.n;
	q.stops = template_stops(t, &q.n_stops);
	CHECK_RC(infer_add(r.f, &q, NULL, &e), RC_OK);
	CHECK_RC(infer_run(r.f, NULL, NULL, &e), RC_OK);
	for (int i = 0; i < 200; i++) {
		struct infer_result a = infer_result(r.f, 0, i);
		struct buf text = BUF_INIT;
		template_text(t, a.tokens, (size_t)a.n_tokens, &text);
		bool ok = a.finish == INFER_STOP && is_quatrain(text.data ? text.data : "", text.len);
		if (i < 3)
			printf("%s\n", text.data);
		good += ok;
		buf_release(&text);
	}
	printf("%.1f %% of 200 are quatrains\n", good / 2.0);
	CHECK(good >= 150 && good <= 190);
	template_free(t);
	tokens_release(&prompt);
	close_real(&r);
}
