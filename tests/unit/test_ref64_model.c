/* Logits and log-probabilities of both bodies of the engine against the reference in double. */
#include "base/str.h"
#include "tests/kern_util.h"
#include "tests/ref64.h"
#include "tests/ref64_toys.h"
#include "worker/model/infer.h"
#include "worker/model/llama.h"

#define LEN 90 /* several blocks of a cache, windows passed */

static struct err e;

static void some_ids(int32_t *ids, int n, int vocab, uint32_t seed)
{
	for (int i = 0; i < n; i++)
		ids[i] = toy_int(&seed, 0, vocab - 1);
}

/* Largest distance as a share of the largest logit. */
static double far_logits(const float *got, const double *want, size_t n)
{
	double far = 0, top = 0;

	for (size_t i = 0; i < n; i++) {
		far = fmax(far, fabs((double)got[i] - want[i]));
		top = fmax(top, fabs(want[i]));
	}
	return far / top;
}

static double far_logp(const float *got, const double *want, int n)
{
	double far = 0;

	for (int i = 0; i < n; i++)
		far = fmax(far, fabs((double)got[i] - want[i]) / fmax(1, fabs(want[i])));
	return far;
}

/* What the two bodies say of one text. */
struct said {
	float *logits;	 /* [LEN][vocab] owned */
	float logp[LEN]; /* of every token but the first */
	double worst_logits, worst_logp;
};

static void ask_llama(const struct model *m, const struct kern *k, struct kern_pool *pool,
		      const int32_t *ids, struct said *s)
{
	struct llama_opts o = {.max_tokens = 2 * LEN + 40, .forward_only = true};
	struct llama *l = NULL;
	struct pack p;
	uint8_t hit[2 * LEN];
	float logp[2 * LEN];

	CHECK_RC(llama_new(m, k, pool, &o, &l, &e), RC_OK);
	CHECK_RC(pack_new(2 * LEN + 40, 4, &p, &e), RC_OK);
	pack_add(&p, 0, ids, LEN, ids, 1);
	CHECK_RC(llama_logits(l, &p, s->logits, &e), RC_OK);
	pack_clear(&p);
	pack_add(&p, 0, ids, 1, ids + 1, LEN - 1);
	llama_forward(l, &p, NULL, s->logp, hit);
	/* In other company it has the same bits. */
	for (int from = 1; from < LEN; from += 29) {
		pack_clear(&p);
		pack_add(&p, 1, ids + 3, from % 7 + 1, ids + 9, 1);
		if (m->cfg.sliding_window == 0)
			pack_add_pair(&p, 2, ids + 5, 3, ids + from, 1, ids + 20, 4);
		pack_add(&p, 3, ids, from, ids + from, LEN - from);
		llama_forward(l, &p, NULL, logp, hit);
		check_same(logp + p.answer[p.n_answers - 1], s->logp + from - 1,
			   (size_t)(LEN - from));
	}
	pack_release(&p);
	llama_free(l);
}

static void ask_infer(const struct model *m, const struct kern *k, struct kern_pool *pool,
		      enum kern_format w, const int32_t *ids, struct said *s)
{
	struct infer_opts o = {.weights = w, .kv_tokens = 512, .chunk = 13};
	struct infer *f = NULL;

	CHECK_RC(infer_new(m, k, pool, &o, &f, &e), RC_OK);
	CHECK_RC(infer_logits(f, ids, LEN, s->logits, &e), RC_OK);
	CHECK_RC(infer_score(f, ids, LEN, 1, s->logp, &e), RC_OK);
	infer_free(f);
}

static void judge(const struct ref64 *r, const int32_t *ids, struct said *s)
{
	size_t n = (size_t)LEN * (size_t)r->c.vocab;
	double *logits = calloc(n, sizeof *logits), logp[LEN];

	ref64_logits(r, ids, LEN, logits);
	ref64_score(r, ids, 1, ids + 1, LEN - 1, logp);
	s->worst_logits = far_logits(s->logits, logits, n);
	s->worst_logp = far_logp(s->logp, logp, LEN - 1);
	free(logits);
}

static void check_both_bodies(const struct kern *k, const struct toy_kind *kind)
{
	struct kern_pool *pool = kern_pool_new(2);
	struct model *m = toy_model(&kind->c, 17);
	struct ref64 *r = ref64_new(m);
	struct said s = {.logits = calloc((size_t)(LEN * kind->c.vocab), sizeof(float))};
	int32_t ids[LEN];

	some_ids(ids, LEN, kind->c.vocab, 3);
	for (int body = 0; body < 2; body++) {
		if (body == 0)
			ask_llama(m, k, pool, ids, &s);
		else
			ask_infer(m, k, pool, KERN_F32, ids, &s);
		judge(r, ids, &s);
		printf("# %s, %s, %s: logits %.1e, logp %.1e\n", k->name, kind->name,
		       body ? "generation" : "training", s.worst_logits, s.worst_logp);
		CHECK(s.worst_logits < 1e-5);
		CHECK(s.worst_logp < 1e-5);
	}
	free(s.logits);
	ref64_free(r);
	model_free(m);
	kern_pool_free(pool);
}

void test_ref64_model__both_bodies_in_f32(void)
{
	EACH_BACKEND(k)
	for (size_t i = 0; i < n_toy_kinds; i++)
		check_both_bodies(k, &toy_kinds[i]);
}

/* In a format, the engine has the logits of the reference that rounds as the format does, unless a
 * difference in the eighth digit lets a number fall to the other side between two that the format
 * has: then they are as far off as the format's steps are wide. Short texts see few of those. */
#define TEXTS 20
#define TEXT_LEN 4

struct shares {
	double same, exact, alike; /* share of tokens; distance from either reference */
};

static struct shares compare_format(const struct model *m, const struct kern *k, enum kern_format w)
{
	struct kern_pool *pool = kern_pool_new(2);
	struct ref64 *r = ref64_new(m);
	struct infer_opts o = {.weights = w, .kv_tokens = 64};
	size_t vocab = (size_t)m->cfg.vocab;
	float *got = calloc(TEXT_LEN * vocab, sizeof *got);
	double *want = calloc(TEXT_LEN * vocab, sizeof *want);
	struct infer *f = NULL;
	struct shares s = {0, 0, 0};
	int32_t ids[TEXT_LEN];

	CHECK_RC(infer_new(m, k, pool, &o, &f, &e), RC_OK);
	for (uint32_t text = 0; text < TEXTS; text++) {
		some_ids(ids, TEXT_LEN, m->cfg.vocab, text * 2654435761u);
		CHECK_RC(infer_logits(f, ids, TEXT_LEN, got, &e), RC_OK);
		r->format = KERN_F32;
		r->round_cache = false;
		ref64_logits(r, ids, TEXT_LEN, want);
		s.exact = fmax(s.exact, far_logits(got, want, TEXT_LEN * vocab));
		r->format = w;
		r->round_cache = true;
		ref64_logits(r, ids, TEXT_LEN, want);
		s.alike = fmax(s.alike, far_logits(got, want, TEXT_LEN * vocab));
		for (size_t t = 0; t < TEXT_LEN; t++)
			s.same += far_logits(got + t * vocab, want + t * vocab, vocab) < 1e-5;
	}
	s.same /= TEXTS * TEXT_LEN;
	infer_free(f);
	ref64_free(r);
	kern_pool_free(pool);
	free(got);
	free(want);
	return s;
}

/* `step`: what the format may cost at most, as a share of the largest logit. */
static void check_format(const struct kern *k, enum kern_format w, double step)
{
	for (size_t i = 0; i < n_toy_kinds; i++) {
		struct model *m = toy_model(&toy_kinds[i].c, 17);
		struct shares s = compare_format(m, k, w);

		printf("# %s, %s: %.1e off the exact logits; %.0f %% of those rounded alike, "
		       "the others at most %.1e off\n",
		       k->name, toy_kinds[i].name, s.exact, 100 * s.same, s.alike);
		CHECK(s.same >= 0.6);
		CHECK(s.alike < step && s.exact < step && s.exact > 1e-3);
		model_free(m);
	}
}

void test_ref64_model__generation_in_bf16(void)
{
	EACH_BACKEND(k)
	check_format(k, KERN_BF16, 3e-2);
}

void test_ref64_model__generation_in_q8(void)
{
	EACH_BACKEND(k)
	check_format(k, KERN_Q8, 1e-1);
}
