#include "base/jsonl.h"
#include "base/jsonx.h"
#include "tests/test.h"
#include "worker/method/seed.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct judge_template tmpl;

static void open_seed(struct seed *s, enum seed_role role)
{
	struct err e = {0};

	if (!tmpl.text)
		CHECK_RC(judge_template_named("additive-5", &tmpl, &e), RC_OK);
	seed_open(s, role, "en", &tmpl);
}

static enum rc take(struct seed *s, const char *text, struct err *e)
{
	json_t *row = json_loads(text, JSON_DECODE_ANY, NULL);
	enum rc rc;

	CHECK(row != NULL);
	rc = seed_take(s, SEED_AUTO, row, e);
	json_decref(row);
	return rc;
}

static void take_ok(struct seed *s, const char *text)
{
	struct err e = {0};

	CHECK_RC(take(s, text, &e), RC_OK);
}

static void take_file(struct seed *s, const char *path)
{
	struct err e = {0};
	struct jsonl *r;
	json_t *row;

	CHECK_RC(jsonl_open(path, &r, &e), RC_OK);
	for (;;) {
		CHECK_RC(jsonl_next(r, &row, &e), RC_OK);
		if (!row)
			break;
		CHECK_RC(seed_take(s, SEED_AUTO, row, &e), RC_OK);
		json_decref(row);
	}
	jsonl_close(r);
	seed_finish(s);
}

static int ordered_pairs(const json_t *rows)
{
	const json_t *row;
	size_t i;
	int n = 0;

	json_array_foreach(rows, i, row) {
		json_t *list = json_object_get(row, "replies");
		for (size_t a = 0; a < json_array_size(list); a++)
			for (size_t b = 0; b < a; b++)
				n += jx_get_i64(json_array_get(list, a), "rank", -1) !=
				     jx_get_i64(json_array_get(list, b), "rank", -1);
	}
	return n;
}

void test_method_seed__open_assistant_trees(void)
{
	const char *path = test_data("datasets/oasst_trees/en_100_tree.jsonl");
	struct seed s;

	open_seed(&s, SEED_EFT);
	take_file(&s, path);
	CHECK_EQ(s.read, 100);
	CHECK_EQ(json_array_size(s.rows), 212);
	CHECK_EQ(ordered_pairs(s.rows), 754);
	seed_release(&s);
	open_seed(&s, SEED_IFT);
	take_file(&s, path);
	CHECK_EQ(json_array_size(s.rows), 99);
	CHECK_EQ(s.skipped[SEED_SKIP_UNRANKED], 1);
	seed_release(&s);
}

void test_method_seed__scored_rows(void)
{
	struct seed s;

	open_seed(&s, SEED_EVAL);
	take_file(&s, test_data("datasets/oasst2_eft/00_eft.jsonl"));
	CHECK_EQ(s.read, 2834);
	/* 799 prompts; 56 replies have no score, which leaves one prompt with a single scored
	 * reply. */
	CHECK_EQ(json_array_size(s.rows), 798);
	CHECK_EQ(s.skipped[SEED_SKIP_UNRANKED], 56 + 1);
	seed_release(&s);
}

void test_method_seed__judge_rows_and_pairs(void)
{
	struct seed s;

	open_seed(&s, SEED_EFT);
	take_file(&s, test_data("datasets/oasst2_eft/02.1_eft_selected_prepared_dataset.jsonl"));
	CHECK_EQ(json_array_size(s.rows), 1166);
	take_file(&s, test_data("datasets/oasst2_eft/05.2_preferences_pairs.jsonl"));
	CHECK_EQ((int64_t)json_array_size(s.rows) + s.skipped[SEED_SKIP_EMPTY], 1166 + 583);
	seed_release(&s);
	open_seed(&s, SEED_IFT);
	take_file(&s, test_data("datasets/self_instruct_seed_tasks.jsonl"));
	CHECK_EQ(json_array_size(s.rows), 175);
	seed_release(&s);
	open_seed(&s, SEED_TEST);
	take_file(&s, test_data("datasets/mt_bench/question.jsonl"));
	CHECK_EQ(json_array_size(s.rows), 80);
	seed_release(&s);
}

static const char tree[] =
	"{\"message_tree_id\":\"t\",\"tree_state\":\"%s\",\"prompt\":{\"message_id\":\"m\","
	"\"role\":"
	"\"prompter\",\"lang\":\"%s\",\"deleted\":%s,\"text\":\"Why?\",\"replies\":["
	"{\"role\":\"assistant\",\"lang\":\"en\",\"rank\":1,\"text\":\"worse\",\"replies\":[]},"
	"{\"role\":\"assistant\",\"lang\":\"en\",\"rank\":0,\"text\":\"best\",\"replies\":["
	"{\"role\":\"prompter\",\"lang\":\"en\",\"message_id\":\"m2\",\"text\":\"And?\","
	"\"replies\":["
	"{\"role\":\"assistant\",\"rank\":0,\"text\":\"x\"},{\"role\":\"assistant\",\"rank\":1,"
	"\"text\":\"y\"},"
	"{\"role\":\"assistant\",\"rank\":2,\"text\":\"z\",\"deleted\":true}]}]},"
	"{\"role\":\"assistant\",\"lang\":\"en\",\"rank\":null,\"text\":\"unranked\"}]}}";

void test_method_seed__rules_of_the_trees(void)
{
	struct seed s;
	char text[2048];
	json_t *row;

	open_seed(&s, SEED_IFT);
	snprintf(text, sizeof text, tree, "ready_for_export", "en", "false");
	take_ok(&s, text);
	snprintf(text, sizeof text, tree, "halted_by_moderator", "en", "false");
	take_ok(&s, text);
	snprintf(text, sizeof text, tree, "ready_for_export", "de", "false");
	take_ok(&s, text);
	snprintf(text, sizeof text, tree, "ready_for_export", "en", "true");
	take_ok(&s, text);
	CHECK_EQ(json_array_size(s.rows), 1);
	row = json_array_get(s.rows, 0);
	CHECK_STR(jx_get_str(row, "response", ""), "best");
	CHECK_STR(jx_get_str(row, "id", ""), "m");
	CHECK_EQ(s.skipped[SEED_SKIP_STATE], 1);
	CHECK_EQ(s.skipped[SEED_SKIP_LANG], 1);
	CHECK_EQ(s.skipped[SEED_SKIP_DELETED], 1);
	seed_release(&s);
	open_seed(&s, SEED_EFT);
	snprintf(text, sizeof text, tree, "ready_for_export", "en", "false");
	take_ok(&s, text);
	CHECK_EQ(json_array_size(s.rows), 2);
	row = json_array_get(s.rows, 1);
	CHECK_STR(jx_get_str(row, "prompt", ""), "Why?\n\nAssistant: best\n\nUser: And?");
	CHECK_STR(jx_get_str(row, "thread", ""), "Why?");
	CHECK_EQ(json_array_size(json_object_get(row, "replies")), 2);
	seed_release(&s);
}

void test_method_seed__refusals_name_the_field(void)
{
	static const struct {
		enum seed_role role;
		const char *row, *needle;
	} t[] = {
		{SEED_IFT, "[1]", "JSON object"},
		{SEED_IFT, "{\"text\":\"x\"}", "no prompt"},
		{SEED_IFT, "{\"prompt\":\"x\"}", "no response"},
		{SEED_IFT, "{\"prompt\":7,\"response\":\"x\"}", "\"prompt\""},
		{SEED_EVAL, "{\"prompt\":\"x\",\"replies\":7}", "replies"},
		{SEED_EVAL, "{\"prompt\":\"x\",\"replies\":[{\"text\":\"a\",\"rank\":-1}]}",
		 "replies[0]"},
		{SEED_EVAL, "{\"prompt\":\"x\",\"response\":\"y\"}", "replies"},
		{SEED_EFT, "{\"messages\":[]}", "cannot serve as eft"},
		{SEED_TEST, "{\"prompt\":{\"text\":3}}", "text"},
		{SEED_IFT, "{\"messages\":[{\"role\":\"user\"}]}", "messages[0]"},
	};

	for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
		struct seed s;
		struct err e = {0};
		open_seed(&s, t[i].role);
		CHECK_RC(take(&s, t[i].row, &e), RC_INVALID);
		if (!strstr(e.text, t[i].needle))
			CHECK_STR(e.text, t[i].needle);
		seed_release(&s);
	}
}

void test_method_seed__judge_rows_must_carry_their_score(void)
{
	struct seed s;

	open_seed(&s, SEED_EFT);
	take_ok(&s, "{\"prompt\":\"J1\",\"response\":\"Fine. Score: 4\",\"score\":4}");
	take_ok(&s, "{\"prompt\":\"J2\",\"response\":\"Fine. Score: 4\",\"score\":3}");
	take_ok(&s, "{\"prompt\":\"J3\",\"response\":\"Fine.\",\"score\":3}");
	take_ok(&s, "{\"prompt\":\"J4\",\"completion\":\"Score: 2\"}");
	CHECK_EQ(json_array_size(s.rows), 2);
	CHECK_EQ(s.skipped[SEED_SKIP_MISMATCH], 1);
	CHECK_EQ(s.skipped[SEED_SKIP_UNSCORED], 1);
	seed_release(&s);
}

void test_method_seed__extra_fields_travel_with_prompts(void)
{
	struct seed s;
	json_t *row;

	open_seed(&s, SEED_TEST);
	take_ok(&s, "{\"id\":7,\"prompt\":\"Q\",\"answer\":\"42\",\"meta\":{\"kind\":\"sum\"}}");
	row = json_array_get(s.rows, 0);
	CHECK_STR(jx_get_str(row, "id", ""), "7");
	CHECK_STR(jx_get_str(json_object_get(row, "meta"), "answer", ""), "42");
	CHECK_STR(jx_get_str(json_object_get(row, "meta"), "kind", ""), "sum");
	seed_release(&s);
}

static int has_prompt(const json_t *rows, const char *prompt)
{
	const json_t *row;
	size_t i;
	int n = 0;

	json_array_foreach(rows, i, row) n +=
		seed_key(jx_get_str(row, "thread", jx_get_str(row, "prompt", ""))) ==
		seed_key(prompt);
	return n;
}

void test_method_seed__splits_are_disjoint(void)
{
	struct seed l[SEED_N_ROLES];
	char text[256];
	int in_ift = 0, in_eft = 0;

	for (int r = 0; r < SEED_N_ROLES; r++)
		open_seed(&l[r], (enum seed_role)r);
	for (int i = 0; i < 400; i++) {
		snprintf(text, sizeof text, "{\"prompt\":\"Prompt  %d\",\"response\":\"a\"}", i);
		take_ok(&l[SEED_IFT], text);
		take_ok(&l[SEED_IFT], text);
		snprintf(text, sizeof text,
			 "{\"prompt\":\"prompt %d\",\"replies\":[{\"text\":\"a\",\"rank\":0},"
			 "{\"text\":\"b\",\"rank\":1}]}",
			 i);
		take_ok(&l[SEED_EFT], text);
		if (i < 50)
			take_ok(&l[SEED_EVAL], text);
		snprintf(text, sizeof text, "{\"prompt\":\"PROMPT %d \"}", i);
		if (i < 20)
			take_ok(&l[SEED_TEST], text);
		take_ok(&l[SEED_PROMPTS], text);
	}
	seed_split(l, 5, 100);
	CHECK_EQ(json_array_size(l[SEED_TEST].rows), 20);
	CHECK_EQ(json_array_size(l[SEED_EVAL].rows), 30);
	CHECK_EQ(json_array_size(l[SEED_IFT].rows), 100);
	CHECK_EQ(l[SEED_IFT].skipped[SEED_SKIP_REPEATED], 400);
	for (int i = 0; i < 400; i++) {
		int a, b, c;
		snprintf(text, sizeof text, "prompt %d", i);
		a = has_prompt(l[SEED_IFT].rows, text);
		b = has_prompt(l[SEED_EFT].rows, text);
		c = has_prompt(l[SEED_EVAL].rows, text);
		CHECK(a + b + c <= 1);
		CHECK(i >= 50 || (a == 0 && b == 0));
		CHECK_EQ(has_prompt(l[SEED_PROMPTS].rows, text), i >= 50);
		in_ift += a;
		in_eft += b;
	}
	CHECK_EQ(in_ift, 100);
	CHECK(in_eft > 130 && in_eft < 220);
	for (int r = 0; r < SEED_N_ROLES; r++)
		seed_release(&l[r]);
}

void test_method_seed__ids_are_unique(void)
{
	struct seed l[SEED_N_ROLES] = {0};

	open_seed(&l[SEED_IFT], SEED_IFT);
	take_ok(&l[SEED_IFT], "{\"id\":\"x\",\"prompt\":\"a\",\"response\":\"b\"}");
	take_ok(&l[SEED_IFT], "{\"id\":\"x\",\"prompt\":\"c\",\"response\":\"d\"}");
	take_ok(&l[SEED_IFT], "{\"prompt\":\"e\",\"response\":\"f\"}");
	seed_split(l, 1, 0);
	CHECK_STR(jx_get_str(json_array_get(l[0].rows, 0), "id", ""), "x");
	CHECK_STR(jx_get_str(json_array_get(l[0].rows, 1), "id", ""), "x-2");
	CHECK_EQ(strlen(jx_get_str(json_array_get(l[0].rows, 2), "id", "")), 16);
	seed_release(&l[SEED_IFT]);
}

/* Every row with the same id must not cost the square of their number. */
void test_method_seed__many_equal_ids(void)
{
	struct seed l[SEED_N_ROLES] = {0};
	char text[128];

	open_seed(&l[SEED_IFT], SEED_IFT);
	for (int i = 0; i < 50000; i++) {
		snprintf(text, sizeof text, "{\"id\":\"x\",\"prompt\":\"p%d\",\"response\":\"b\"}", i);
		take_ok(&l[SEED_IFT], text);
	}
	seed_split(l, 1, 0);
	CHECK_EQ(json_array_size(l[0].rows), 50000);
	CHECK_STR(jx_get_str(json_array_get(l[0].rows, 49999), "id", ""), "x-50000");
	seed_release(&l[SEED_IFT]);
}

void test_method_seed__hold_out_keeps_conversations_together(void)
{
	struct seed s;
	bool eval[212];
	const json_t *row, *other;
	size_t i, k;
	int n = 0;

	open_seed(&s, SEED_EFT);
	take_file(&s, test_data("datasets/oasst_trees/en_100_tree.jsonl"));
	seed_hold_out(s.rows, 1, 0.25, eval);
	json_array_foreach(s.rows, i, row) {
		n += eval[i];
		json_array_foreach(s.rows, k, other) {
			const char *a = jx_get_str(row, "thread", jx_get_str(row, "prompt", ""));
			const char *b =
				jx_get_str(other, "thread", jx_get_str(other, "prompt", ""));
			CHECK(strcmp(a, b) != 0 || eval[i] == eval[k]);
		}
	}
	CHECK(n > 20 && n < 90);
	seed_release(&s);
}

/* A user's own prompts: no word count, no script, no language decides over them. */
void test_method_seed__own_prompts_in_any_script_stay(void)
{
	struct seed l[SEED_N_ROLES] = {{0}};

	open_seed(&l[SEED_PROMPTS], SEED_PROMPTS);
	take_ok(&l[SEED_PROMPTS], "{\"prompt\":\"主题：明月 体裁：五绝\\n\"}");
	take_ok(&l[SEED_PROMPTS], "{\"prompt\":\"主题：秋山 体裁：五绝\\n\"}");
	take_ok(&l[SEED_PROMPTS], "{\"prompt\":\"Hi\"}");
	seed_split(l, 1, 0);
	CHECK_EQ(json_array_size(l[SEED_PROMPTS].rows), 3);
	CHECK_STR(jx_get_str(json_array_get(l[SEED_PROMPTS].rows, 0), "prompt", ""),
		  "主题：明月 体裁：五绝\n");
	for (int i = 0; i < SEED_N_SKIPS; i++)
		CHECK_EQ(l[SEED_PROMPTS].skipped[i], 0);
	seed_release(&l[SEED_PROMPTS]);
}
