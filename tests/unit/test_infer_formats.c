/* What a format of weights costs on real models: the loss on text like that they were trained on.
 * The bound is three times what was measured. */
#include "base/buf.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "tests/kern_util.h"
#include "tests/twin.h"
#include "worker/model/infer.h"
#include "worker/model/token.h"

#define POEMS 150
#define TEXT_MAX 400

static struct err e;

struct texts {
	int32_t ids[POEMS][TEXT_MAX];
	int n[POEMS], from[POEMS], count; /* tokens, of which the first `from` are given */
};

static const char *model_dir(const char *name)
{
	static char dir[512];

	str_fmt(dir, sizeof dir, "models/%s/config.json", name);
	str_copy(dir, sizeof dir, test_data(dir));
	*strrchr(dir, '/') = 0;
	return dir;
}

static void add_text(struct texts *t, const struct tokenizer *tok, const char *given,
		     const char *text)
{
	struct tokens a = TOKENS_INIT, b = TOKENS_INIT;
	struct buf whole = BUF_INIT;
	int32_t *ids = t->ids[t->count];

	buf_puts(&whole, given);
	buf_puts(&whole, text);
	CHECK_RC(tokenizer_encode(tok, given, strlen(given), 0, &a, &e), RC_OK);
	CHECK_RC(tokenizer_encode(tok, whole.data, whole.len, 0, &b, &e), RC_OK);
	CHECK(b.n + 1 <= TEXT_MAX && b.n > a.n);
	ids[0] = 1; /* the BOS of both models */
	memcpy(ids + 1, b.ids, b.n * sizeof *ids);
	t->n[t->count] = (int)b.n + 1;
	t->from[t->count++] = (int)a.n + 1;
	tokens_release(&a);
	tokens_release(&b);
	buf_release(&whole);
}

/* The model in that format; no table of the CPU's has FP8: floats that are what the weights stand for. */
static struct infer *opened(const char *name, enum kern_format w, struct kern_pool *pool)
{
	struct infer_opts o = {.weights = w == KERN_FP8 ? KERN_F32 : w, .kv_tokens = 1024};
	struct model *m = NULL;
	struct infer *f = NULL;

	if (w != KERN_FP8) {
		CHECK_RC(infer_open(model_dir(name), kern_cpu(), pool, &o, &f, &e), RC_OK);
		return f;
	}
	CHECK_RC(model_load(model_dir(name), &m, &e), RC_OK);
	twin_round_fp8(m);
	CHECK_RC(infer_new(m, kern_cpu(), pool, &o, &f, &e), RC_OK);
	model_free(m);
	return f;
}

/* Mean loss per token. */
static double loss_in(const char *name, enum kern_format w, const struct texts *t)
{
	struct kern_pool *pool = kern_pool_new(2);
	struct infer *f = opened(name, w, pool);
	double sum = 0, n = 0;
	float logp[TEXT_MAX];

	for (int i = 0; i < t->count; i++) {
		CHECK_RC(infer_score(f, t->ids[i], t->n[i], t->from[i], logp, &e), RC_OK);
		for (int k = 0; k < t->n[i] - t->from[i]; k++)
			sum -= (double)logp[k];
		n += t->n[i] - t->from[i];
	}
	infer_free(f);
	kern_pool_free(pool);
	return sum / n;
}

/* Poems of four lines of five of its corpus, after a prompt as it was trained with. */
static void poems(struct texts *t)
{
	json_t *all = NULL, *row;
	struct tokenizer *tok;
	size_t i;

	CHECK_RC(jx_load(test_data("datasets/poetry_corpus_zh.json"), 1 << 24, &all, &e), RC_OK);
	CHECK_RC(tokenizer_load(model_dir("poem_zh_750K"), &tok, &e), RC_OK);
	json_array_foreach(all, i, row)
	{
		const char *text = jx_get_str(row, "content", "");
		char given[200];

		/* 24 characters of three bytes: 20 and 4 marks */
		if (strlen(text) != 72 || i % 3 || t->count == POEMS)
			continue;
		str_fmt(given, sizeof given, "主题：%s 体裁：五绝\n", jx_get_str(row, "title", ""));
		add_text(t, tok, given, text);
	}
	CHECK(t->count >= 50);
	tokenizer_free(tok);
	json_decref(all);
}

/* The two stories its description shows. */
static void stories(struct texts *t)
{
	struct tokenizer *tok;
	struct buf md = BUF_INIT;

	CHECK_RC(fs_read(test_data("models/stories260K/stories260K.md"), 1 << 20, &md, &e), RC_OK);
	CHECK_RC(tokenizer_load(model_dir("stories260K"), &tok, &e), RC_OK);
	for (char *at = md.data; (at = strstr(at, "\nOnce upon a time")); at++) {
		char *end = strstr(at, "\n```"), kept = *end;

		*end = 0;
		add_text(t, tok, "Once", at + 1 + strlen("Once"));
		*end = kept;
	}
	CHECK_EQ(t->count, 2);
	tokenizer_free(tok);
	buf_release(&md);
}

static void check_cost(const char *name, const struct texts *t, enum kern_format w,
		       const char *format, double most)
{
	double exact = loss_in(name, KERN_F32, t), got = loss_in(name, w, t);

	printf("# %s: loss per token %.4f in F32, %.4f in %s: perplexity %+.2f %%\n", name, exact,
	       got, format, 100 * (exp(got - exact) - 1));
	CHECK(fabs(got - exact) < most && got != exact);
}

void test_infer_formats__poems(void)
{
	static struct texts t;

	poems(&t);
	check_cost("poem_zh_750K", &t, KERN_BF16, "BF16", 0.0015);
	check_cost("poem_zh_750K", &t, KERN_Q8, "Q8", 0.0015);
	check_cost("poem_zh_750K", &t, KERN_FP8, "FP8", 0.04);
}

/* Its feed-forward width of 172 is no multiple of 32, so Q8 cannot hold it. */
void test_infer_formats__stories(void)
{
	static struct texts t;
	struct infer_opts o = {.weights = KERN_Q8};
	struct kern_pool *pool = kern_pool_new(1);
	struct infer *f = NULL;

	stories(&t);
	check_cost("stories260K", &t, KERN_BF16, "BF16", 0.0015);
	check_cost("stories260K", &t, KERN_FP8, "FP8", 0.04);
	CHECK_RC(infer_open(model_dir("stories260K"), kern_cpu(), pool, &o, &f, &e),
		 RC_UNSUPPORTED);
	kern_pool_free(pool);
}
