/* The stage `pair` in the iterations that are not plain self-rewarding: perfect answers, answers of
 * another model, labels softened by what the model before said, judges that must not be mixed.
 */
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "tests/talking_model.h"
#include "worker/stage.h"
#include "worker/train/dpo.h"

static char dir[512];
static struct err e;

/* inputs: the text of the "inputs" member. */
static enum rc pair(struct stage_ctx *ctx, const char *params, const char *spec, const char *inputs)
{
	char *text = mem_printf("{\"id\":\"r.1.pair.0.0\",\"stage\":\"pair\",\"iter\":1,\"seed\":\"7\","
				"\"params\":%s,\"spec\":%s,\"inputs\":%s}", params, spec, inputs);

	put_file(dir, "job.json", text);
	free(text);
	CHECK_RC(stage_ctx_open(ctx, dir, -1, 1, &e), RC_OK);
	return stage_ctx_run(ctx, &e);
}

static json_t *out_rows(const char *role)
{
	char path[1024];
	json_t *rows = json_array();

	str_fmt(path, sizeof path, "%s/out/%s/data.jsonl", dir, role);
	CHECK_RC(stage_read_rows(path, 1000, rows, &e), RC_OK);
	return rows;
}

#define C(i, text, tok) "{\"index\":" #i ",\"text\":\"" text "\",\"tokens\":[" tok ",2],\"finish\":\"stop\"}"
#define PAST(i, text, tok) \
	"{\"index\":" #i ",\"text\":\"" text "\",\"tokens\":[" tok ",2],\"finish\":\"stop\"," \
	"\"source_model\":\"past\"}"

static void judged(const char *role, const char *id, int a, int b, int c, int d)
{
	char name[128], *text;

	str_fmt(name, sizeof name, "in/%s/data.jsonl", role);
	text = mem_printf("{\"id\":\"%s\",\"pass\":0,\"items\":[{\"index\":0,\"score\":%d},"
			  "{\"index\":1,\"score\":%d},{\"index\":2,\"score\":%d},"
			  "{\"index\":3,\"score\":%d}]}\n", id, a, b, c, d);
	put_file(dir, name, text);
	free(text);
}

static void begin(void)
{
	str_copy(dir, sizeof dir, test_tmpdir());
	put_file(dir, "in/responses.0/data.jsonl",
		 "{\"id\":\"p\",\"prompt\":\"P\",\"prompt_tokens\":[1],\"candidates\":[" C(0, "a", "5")
		 "," C(1, "b", "6") "," PAST(2, "c", "7") "," PAST(3, "d", "8") "]}\n");
}

#define JUDGE "{\"judge\":{\"min_valid\":1}"

void test_pair_variants__perfect_answers(void)
{
	struct stage_ctx ctx;
	json_t *rows;

	begin();
	judged("judgements.0.0", "p", 5, 4, 5, 0);
	CHECK_RC(pair(&ctx, "{\"kind\":\"positive\"}", JUDGE "}", "[]"), RC_OK);
	stage_ctx_close(&ctx);
	rows = out_rows("positives");
	CHECK_EQ(json_array_size(rows), 2);
	CHECK_STR(jx_get_str(json_array_get(rows, 0), "response", ""), "a");
	CHECK_EQ(json_array_size(json_object_get(json_array_get(rows, 1), "tokens")), 2);
	CHECK_EQ(json_integer_value(json_array_get(
			 json_object_get(json_array_get(rows, 1), "tokens"), 0)), 7);
	json_decref(rows);
}

static void one_pair(const char *params, const char *spec, const char *chosen, const char *rejected)
{
	struct stage_ctx ctx;
	json_t *rows, *row;

	CHECK_RC(pair(&ctx, params, spec, "[]"), RC_OK);
	stage_ctx_close(&ctx);
	rows = out_rows("pairs");
	CHECK_EQ(json_array_size(rows), chosen != NULL);
	row = json_array_get(rows, 0);
	if (chosen) {
		CHECK_STR(jx_get_str(json_object_get(row, "chosen"), "text", ""), chosen);
		CHECK_STR(jx_get_str(json_object_get(row, "rejected"), "text", ""), rejected);
	}
	json_decref(rows);
}

void test_pair_variants__across_models(void)
{
	begin();
	judged("judgements.0.0", "p", 1, 4, 5, 2);
	one_pair("{}", JUDGE "}", "c", "a");
	one_pair("{}", JUDGE ",\"pair\":{\"cross\":\"rejected_past\"}}", "b", "d");
	judged("judgements.0.0", "p", 1, 2, 5, 3); /* the other model is better: nothing to learn */
	one_pair("{}", JUDGE ",\"pair\":{\"cross\":\"rejected_past\"}}", NULL, NULL);
}

static double label(void)
{
	struct stage_ctx ctx;
	json_t *rows;
	double v;

	CHECK_RC(pair(&ctx, "{}", JUDGE "}", "[]"), RC_OK);
	CHECK_NEAR(jx_get_f64(ctx.metrics, "pair.consistency", -1), 0.75, 0.2501);
	stage_ctx_close(&ctx);
	rows = out_rows("pairs");
	v = jx_get_f64(json_array_get(rows, 0), "label", -1);
	json_decref(rows);
	return v;
}

void test_pair_variants__labels_follow_the_agreement_of_two_judges(void)
{
	begin();
	judged("judgements.0.0", "p", 1, 2, 3, 4);
	judged("before.0.0", "p", 0, 1, 2, 5);
	CHECK_NEAR(label(), 1, 0);
	judged("before.0.0", "p", 2, 1, 3, 4); /* one of six the other way: tau 2/3 */
	CHECK_NEAR(label(), 5.0 / 6, 1e-12);
	judged("before.0.0", "p", 4, 3, 2, 1); /* reversed: no opinion, not the opposite one */
	CHECK_NEAR(label(), 0.5, 0);
	judged("before.0.0", "p", 3, 3, 3, 3); /* says nothing */
	CHECK_NEAR(label(), 0.5, 0);
	one_pair("{}", JUDGE "}", "d", "a"); /* what is chosen does not depend on it */
}

/* A doubt of d is the loss of cDPO at label smoothing d; at one half both directions weigh the same. */
void test_pair_variants__doubt_is_label_smoothing(void)
{
	struct dpo_settings s = dpo_settings_default();
	struct dpo_pair p = {.pi_c = -48, .pi_r = -63.5, .ref_c = -50, .ref_r = -60, .len_c = 20,
			     .len_r = 30, .all_c = -48};

	s.label_smoothing = 0.1;
	CHECK_NEAR(dpo_loss(&s, &p).loss, 0.510492, 1e-6);
	s.label_smoothing = 0.5;
	p.pi_c = -50;
	p.pi_r = -60;
	CHECK_NEAR(dpo_loss(&s, &p).loss, 0.693147, 1e-6);
	CHECK_NEAR(dpo_loss(&s, &p).d_pi_c, 0, 1e-15);
}

void test_pair_variants__judges_are_never_mixed(void)
{
	struct stage_ctx ctx;

	begin();
	judged("judgements.0.0", "p", 1, 2, 3, 4);
	judged("judgements.0.1", "p", 1, 2, 3, 4);
#define IN(role, judge, sha) \
	"{\"role\":\"" role "\",\"meta\":{\"judge\":{\"kind\":\"" judge "\"},\"templates\":{\"t\":\"" sha \
	"\"}}}"
	CHECK_RC(pair(&ctx, "{}", JUDGE "}", "[" IN("judgements.0.0", "http", "1") ","
		      IN("judgements.0.1", "http", "1") "]"), RC_OK);
	stage_ctx_close(&ctx);
	CHECK_RC(pair(&ctx, "{}", JUDGE "}", "[" IN("judgements.0.0", "http", "1") ","
		      IN("judgements.0.1", "command", "1") "]"), RC_INVALID);
	CHECK(strstr(e.text, "judgements.0.1 is by another judge") != NULL);
	stage_ctx_close(&ctx);
	CHECK_RC(pair(&ctx, "{}", JUDGE "}", "[" IN("judgements.0.0", "http", "1") ","
		      IN("judgements.0.1", "http", "2") "]"), RC_INVALID);
	CHECK(strstr(e.text, "another template") != NULL);
	stage_ctx_close(&ctx);
}

void test_pair_variants__the_judge_who_likes_length_is_seen(void)
{
	struct stage_ctx ctx;

	begin();
	put_file(dir, "in/responses.0/data.jsonl",
		 "{\"id\":\"p\",\"prompt\":\"P\",\"prompt_tokens\":[1],\"candidates\":["
		 C(0, "a", "5") "," C(1, "bb", "6,6") "," C(2, "ccc", "7,7,7") "," C(3, "d", "8,8,8,8")
		 "]}\n");
	judged("judgements.0.0", "p", 1, 2, 3, 4);
	CHECK_RC(pair(&ctx, "{}", JUDGE "}", "[]"), RC_OK);
	CHECK_NEAR(jx_get_f64(ctx.metrics, "health.length_score", 0), 1, 1e-12);
	stage_ctx_close(&ctx);
}

/* --- what people said ------------------------------------------------------------------------ */

#define ROW(id, prompt, chosen, rejected) \
	"{\"id\":\"" id "\",\"prompt\":\"" prompt "\",\"prompt_tokens\":[9],\"chosen\":{\"index\":0," \
	"\"text\":\"" chosen "\",\"tokens\":[5,2],\"score\":4.0},\"rejected\":{\"index\":1,\"text\":\"" \
	rejected "\",\"tokens\":[6,2],\"score\":1.0},\"margin\":3.0}"
#define SAID(action, iter, row) "{\"action\":\"" action "\",\"iter\":" #iter ",\"pair\":" row "}\n"

/* Runs the stage; figures are "<excluded>/<pinned>/<carried>/<kept>". */
static json_t *with_reviews(const char *reviews, const char *figures)
{
	struct stage_ctx ctx;
	char got[64];

	put_file(dir, "in/reviews/data.jsonl", reviews);
	CHECK_RC(pair(&ctx, "{}", JUDGE "}", "[]"), RC_OK);
	str_fmt(got, sizeof got, "%lld/%lld/%lld/%lld",
		(long long)jx_get_i64(ctx.metrics, "pair.excluded", -1),
		(long long)jx_get_i64(ctx.metrics, "pair.pinned", -1),
		(long long)jx_get_i64(ctx.metrics, "pair.carried", -1),
		(long long)jx_get_i64(ctx.metrics, "pair.kept", -1));
	CHECK_STR(got, figures);
	stage_ctx_close(&ctx);
	return out_rows("pairs");
}

static const char *text_at(const json_t *rows, size_t i, const char *which)
{
	return jx_get_str(json_object_get(json_array_get(rows, i), which), "text", "");
}

void test_pair_variants__people_exclude_a_pair(void)
{
	json_t *rows, *samples;

	begin();
	judged("judgements.0.0", "p", 1, 2, 3, 4); /* d against a */
	rows = with_reviews(SAID("exclude", 1, ROW("p", "P", "d", "a")), "1/0/0/0");
	CHECK_EQ(json_array_size(rows), 0);
	samples = out_rows("samples");
	CHECK_STR(jx_get_str(json_array_get(samples, 0), "drop", ""), "excluded");
	CHECK(json_is_null(json_object_get(json_array_get(samples, 0), "chosen")));
	json_decref(samples);
	json_decref(rows);
	/* Another pair of the prompt, the same one turned round, or of another prompt, is not meant. */
	rows = with_reviews(SAID("exclude", 1, ROW("p", "P", "a", "d"))
			    SAID("exclude", 1, ROW("p", "P", "d", "b"))
			    SAID("exclude", 1, ROW("p", "Q", "d", "a")), "0/0/0/1");
	CHECK_STR(text_at(rows, 0, "chosen"), "d");
	json_decref(rows);
}

void test_pair_variants__people_pin_a_pair(void)
{
	json_t *rows, *samples, *first;

	begin();
	judged("judgements.0.0", "p", 3, 3, 3, 3); /* all the same: the rule has no pair */
	rows = with_reviews(SAID("pin", 1, ROW("p", "P", "c", "b")), "0/1/0/1");
	CHECK_EQ(json_array_size(rows), 1);
	first = json_array_get(rows, 0);
	CHECK_STR(text_at(rows, 0, "chosen"), "c");
	CHECK(jx_get_bool(first, "pinned", false));
	CHECK_NEAR(jx_get_f64(first, "margin", 0), 3, 0); /* as it was when they saw it */
	samples = out_rows("samples");
	CHECK_EQ(jx_get_i64(json_array_get(samples, 0), "chosen", -1), 2);
	CHECK_EQ(jx_get_i64(json_array_get(samples, 0), "rejected", -1), 1);
	json_decref(samples);
	json_decref(rows);
	/* In place of another one the rule would take: one pair to a prompt. */
	judged("judgements.0.0", "p", 1, 2, 3, 4);
	rows = with_reviews(SAID("pin", 1, ROW("p", "P", "c", "b")), "0/1/0/1");
	CHECK_EQ(json_array_size(rows), 1);
	CHECK_STR(text_at(rows, 0, "rejected"), "b");
	json_decref(rows);
}

void test_pair_variants__pinned_pairs_are_carried_over(void)
{
	json_t *rows, *again;

	begin();
	judged("judgements.0.0", "p", 1, 2, 3, 4);
	/* Of earlier prompts, and of this one with an answer that nobody gave this time. */
	rows = with_reviews(SAID("pin", 1, ROW("q1", "Q", "x", "y"))
			    SAID("exclude", 1, ROW("q2", "R", "x", "y"))
			    SAID("pin", 1, ROW("p", "P", "d", "gone")), "0/0/2/1");
	CHECK_EQ(json_array_size(rows), 3);
	CHECK_STR(text_at(rows, 0, "chosen"), "d");
	CHECK_STR(jx_get_str(json_array_get(rows, 1), "id", ""), "q1");
	CHECK(jx_get_bool(json_array_get(rows, 1), "pinned", false));
	CHECK_EQ(json_array_size(json_object_get(json_array_get(rows, 1), "prompt_tokens")), 1);
	CHECK_STR(text_at(rows, 2, "rejected"), "gone");
	again = with_reviews(SAID("pin", 1, ROW("q1", "Q", "x", "y"))
			     SAID("exclude", 1, ROW("q2", "R", "x", "y"))
			     SAID("pin", 1, ROW("p", "P", "d", "gone")), "0/0/2/1");
	CHECK(json_equal(rows, again));
	json_decref(again);
	json_decref(rows);
}

void test_pair_variants__reviews_of_another_shape_are_refused(void)
{
	static const char *const bad[] = {
		SAID("keep", 1, ROW("p", "P", "a", "b")), "{\"action\":\"pin\"}\n",
		"{\"action\":\"pin\",\"pair\":{\"prompt\":\"P\",\"chosen\":\"a\",\"rejected\":{}}}\n",
		"{\"action\":\"pin\",\"pair\":{\"prompt\":\"P\",\"chosen\":{\"text\":\"a\"}}}\n"};
	struct stage_ctx ctx;

	begin();
	judged("judgements.0.0", "p", 1, 2, 3, 4);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		put_file(dir, "in/reviews/data.jsonl", bad[i]);
		CHECK_RC(pair(&ctx, "{}", JUDGE "}", "[]"), RC_INVALID);
		CHECK(strstr(e.text, "input reviews: row 1") != NULL);
		stage_ctx_close(&ctx);
	}
}
