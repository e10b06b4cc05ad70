/* A judge that meets its own answers: beside people's best, and beside what a scorer says of both. */
#include "base/jsonx.h"
#include "base/mem.h"
#include "tests/talking_model.h"
#include "worker/stage.h"
#include "worker/stages/health_self.h"

#include <math.h>
#include <string.h>

static struct err e;

void test_health_self__the_best_reply(void)
{
	json_t *v = json_loads("[{\"rank\":2},{\"rank\":0},{\"rank\":0}]", 0, NULL);

	CHECK_EQ(health_self_best(v), 1); /* the first of equals */
	json_array_clear(v);
	CHECK_EQ(health_self_best(v), -1);
	json_decref(v);
}

void test_health_self__its_sentence(void)
{
	struct health_limits limits = {.parse_fail = 1, .pile = 1, .position = 1, .length = 1,
				       .verbosity = 1, .self = 0.3};
	struct buf out = BUF_INIT;
	struct health h;

	health_init(&h);
	h.own = 20;
	h.self_win = 0.9;
	h.self_true = 0.7; /* It is better, and knows. */
	CHECK(!health_alarms(&h, &limits, &out));
	h.self_true = NAN; /* Nobody knows. */
	CHECK(!health_alarms(&h, &limits, &out));
	h.self_true = 0.5;
	CHECK(health_alarms(&h, &limits, &out));
	CHECK_STR(out.data, "it scores its own answers above people's best in 90 % of the prompts, "
			    "where 50 % are better");
	h.own = 9; /* too few */
	CHECK(!health_alarms(&h, &limits, &out));
	buf_release(&out);
}

/* --- the stage ------------------------------------------------------------------------------- */

#define S(k, w) {"\xc4\xa0Score:\xc4\xa0" k ".", w}
static const struct said verdicts[] = {S("1", 1), S("3", 1), S("5", 1)};

/* Figures of a job whose scorer is the shell command `scorer`. */
static json_t *health_of(const char *scorer, const char *judge)
{
	const char *dir = test_tmpdir();
	struct buf b = BUF_INIT;
	struct stage_ctx ctx;
	json_t *m;

	put_model(dir, verdicts, 3, 16, 1);
	for (int i = 0; i < 24; i++)
		buf_printf(&b,
			   "{\"id\":\"q%d\",\"prompt\":\"Question %d\",\"replies\":[{\"text\":\"worse\","
			   "\"rank\":1},{\"text\":\"better\",\"rank\":0}]}\n", i, i);
	put_file(dir, "in/eval/data.jsonl", b.data);
	buf_clear(&b);
	buf_printf(&b,
		   "{\"id\":\"r.0.health.1.0\",\"stage\":\"health\",\"iter\":0,\"seed\":\"7\",\"spec\":{"
		   "\"template\":\"plain\",\"judge\":{%s\"max_new_tokens\":30,\"temperature\":1,\"top_p\":1,"
		   "\"chunk\":7},\"eval\":{\"judge_samples\":2,\"max_new_tokens\":8%s%s%s},"
		   "\"health\":{\"pile_max\":1,\"parse_fail_max\":1,\"verbosity_max\":1}}}",
		   judge, scorer ? ",\"scorer\":{\"command\":[\"sh\",\"-c\",\"" : "", scorer ? scorer : "",
		   scorer ? "\"]}" : "");
	put_file(dir, "job.json", b.data);
	buf_release(&b);
	CHECK_RC(stage_ctx_open(&ctx, dir, -1, 1, &e), RC_OK);
	CHECK_RC(stage_ctx_run(&ctx, &e), RC_OK);
	m = json_incref(ctx.metrics);
	stage_ctx_close(&ctx);
	return m;
}

/* The scorer's word on lines like {"kind":"own", ...}. */
#define SCORE(own, best) \
	"while read -r l; do case $l in *'kind\\\":\\\"own'*) echo '{\\\"score\\\":" own "}';; *) echo " \
	"'{\\\"score\\\":" best "}';; esac; done"

void test_health_self__beside_the_truth(void)
{
	json_t *m = health_of(SCORE("0", "5"), "");
	double win = jx_get_f64(m, "health.self_win", -1);

	CHECK_EQ(jx_get_i64(m, "health.own", -1), 24);
	CHECK(win > 0.3 && win < 0.7); /* It scores at random. */
	CHECK_NEAR(jx_get_f64(m, "health.self_true", -1), 0, 0);
	CHECK_NEAR(jx_get_f64(m, "health.self_gain", -1), win, 1e-12);
	CHECK(strstr(jx_get_str(m, "alarm", ""), "it scores its own answers above") != NULL);
	/* Its own answers are no part of the other figures: two replies, two judgements each. */
	CHECK_EQ(jx_get_i64(m, "health.judgements", -1), 24 * 2 * 2);
	json_decref(m);
	m = health_of(SCORE("5", "0"), "");
	CHECK_NEAR(jx_get_f64(m, "health.self_win", -1), win, 1e-12);
	CHECK_NEAR(jx_get_f64(m, "health.self_true", -1), 1, 0);
	CHECK(json_object_get(m, "alarm") == NULL);
	json_decref(m);
}

void test_health_self__where_nobody_knows(void)
{
	json_t *m = health_of(NULL, "");

	CHECK_EQ(jx_get_i64(m, "health.own", -1), 24);
	CHECK(json_is_null(json_object_get(m, "health.self_true")));
	json_decref(m);
	m = health_of("exit 3", ""); /* no truth of these prompts: the job goes on */
	CHECK(json_is_null(json_object_get(m, "health.self_true")));
	CHECK(json_is_number(json_object_get(m, "health.self_win")));
	json_decref(m);
	/* A program that judges has no answers of its own. */
	m = health_of(NULL, "\"kind\":\"command\",\"command\":[\"sh\",\"-c\",\"while read -r l; do echo "
			    "'{\\\"score\\\":3}'; done\"],");
	CHECK_EQ(jx_get_i64(m, "health.own", -1), 0);
	json_decref(m);
}
