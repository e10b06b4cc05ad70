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
