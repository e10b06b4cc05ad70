/* The run specification: defaults, bounds, unknown fields, rules over several fields. */
#include "base/jsonx.h"
#include "base/str.h"
#include "queue/spec.h"
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

static struct err e;

static json_t *text(const char *s)
{
	json_t *v = json_loads(s, 0, NULL);

	CHECK(v != NULL);
	return v;
}

#define GOOD "\"base_model\":\"/m\",\"data\":{\"ift\":[\"/ift.jsonl\"]}"

/* Normalises; the one error must be at `pointer` and mention `word`. */
static void refused(const char *spec, const char *pointer, const char *word)
{
	struct spec_errors errs;
	json_t *in = text(spec), *out;

	CHECK_RC(spec_normalise(in, &out, &errs, &e), RC_INVALID);
	CHECK(out == NULL);
	CHECK_EQ(json_array_size(errs.items), 1);
	CHECK_STR(jx_get_str(json_array_get(errs.items, 0), "pointer", ""), pointer);
	CHECK(strstr(jx_get_str(json_array_get(errs.items, 0), "detail", ""), word) != NULL);
	spec_errors_release(&errs);
	json_decref(in);
}

void test_spec__defaults_fill_what_is_absent_and_the_result_is_a_fixed_point(void)
{
	struct spec_errors errs;
	json_t *in = text("{" GOOD ",\"seed\":9,\"dpo\":{\"lr\":0.01}}"), *one, *two;

	CHECK_RC(spec_normalise(in, &one, &errs, &e), RC_OK);
	spec_errors_release(&errs);
	CHECK_RC(spec_normalise(one, &two, &errs, &e), RC_OK);
	CHECK_STR(jx_text(one), jx_text(two));
	CHECK_EQ(jx_get_i64(one, "seed", 0), 9);
	CHECK_EQ(jx_get_i64(one, "iterations", 0), 2);
	CHECK_NEAR(jx_get_f64(json_object_get(one, "sft"), "lr", 0), 5.5e-6, 0);
	CHECK_NEAR(jx_get_f64(json_object_get(one, "dpo"), "lr_min", 0), 0.001, 1e-12);
	CHECK_STR(
		jx_get_str(json_array_get(json_object_get(json_object_get(one, "data"), "ift"), 0),
			   "format", ""),
		"auto");
	CHECK(json_is_null(json_object_get(json_object_get(one, "eval"), "scorer")));
	spec_errors_release(&errs);
	json_decref(in);
	json_decref(one);
	json_decref(two);
}

void test_spec__one_wrong_field_is_named(void)
{
	refused("{" GOOD ",\"dop\":{}}", "/dop", "unknown field");
	refused("{" GOOD ",\"dpo\":{\"bata\":1}}", "/dpo/bata", "unknown field");
	refused("{" GOOD ",\"dpo\":3}", "/dpo", "expected an object");
	refused("{" GOOD ",\"dpo\":{\"beta\":\"high\"}}", "/dpo/beta", "expected a number");
	refused("{" GOOD ",\"dpo\":{\"beta\":-1}}", "/dpo/beta", "outside");
	refused("{" GOOD ",\"seed\":1.5}", "/seed", "whole number");
	refused("{" GOOD ",\"seed\":-1}", "/seed", "outside");
	refused("{" GOOD ",\"template\":\"klingon\"}", "/template", "klingon");
	refused("{" GOOD ",\"reuse\":1}", "/reuse", "true or false");
	refused("{" GOOD ",\"judge\":{\"template\":\"x\"}}", "/judge/template",
		"not a known template");
	refused("{" GOOD ",\"judge\":{\"template\":{\"text\":\"t\"}}}", "/judge/template",
		"pattern");
	refused("{" GOOD ",\"judge\":{\"command\":[1]}}", "/judge/command/0", "expected text");
	refused("{\"base_model\":\"/m\",\"data\":{\"ift\":[{\"path\":\"rel\"}]}}", "/data/ift/0",
		"begins with /");
	refused("{\"base_model\":\"/m\",\"data\":{\"ift\":[{\"path\":\"/x\",\"format\":\"csv\"}]}}",
		"/data/ift/0", "csv");
	refused("[]", "", "expected an object");
}

void test_spec__fields_must_fit_each_other(void)
{
	refused("{\"data\":{\"ift\":[\"/x\"]}}", "/base_model", "folder");
	refused("{\"base_model\":\"/m\"}", "/data/ift", "at least one file");
	refused("{" GOOD ",\"judge\":{\"kind\":\"command\"}}", "/judge/command", "needs one");
	refused("{" GOOD ",\"judge\":{\"samples\":1}}", "/judge/min_valid", "more than");
	refused("{" GOOD ",\"prompts\":{\"generator\":\"file\"}}", "/data/prompts",
		"needs at least one");
	refused("{" GOOD ",\"prompts\":{\"generator\":\"fixed\"}}", "/prompts/model",
		"needs a folder");
	refused("{\"base_model\":\"/m\",\"data\":{\"ift\":[\"/x\"],\"eft\":[\"/"
		"y\"]},\"sft\":{\"baseline\":false}}",
		"/eft/mode", "baseline");
	refused("{" GOOD ",\"sft\":{\"lr\":0.1,\"lr_min\":0.2}}", "/sft/lr_min", "more than lr");
}

static bool takes(const char *spec)
{
	struct spec_errors errs;
	json_t *in = text(spec), *out = NULL;
	bool ok = spec_normalise(in, &out, &errs, &e) == RC_OK;

	spec_errors_release(&errs);
	json_decref(in);
	json_decref(out);
	return ok;
}

/* worker/model/lora.c takes every one of these words, see test_lora.c. */
void test_spec__an_adapters_layers_are_checked_before_the_run(void)
{
	CHECK(takes("{" GOOD ",\"sft\":{\"lora_r\":8,\"lora_targets\":\"q_proj,v_proj\"}}"));
	CHECK(takes("{" GOOD ",\"dpo\":{\"lora_r\":8,\"lora_targets\":\"k_proj,o_proj,gate_proj,"
		    "up_proj,down_proj\"}}"));
	CHECK(takes("{" GOOD ",\"dpo\":{\"lora_targets\":\"all-linear\"}}"));
	refused("{" GOOD ",\"sft\":{\"lora_targets\":\"q_proj,w_proj\"}}", "/sft/lora_targets",
		"\"w_proj\" is not one of all-linear|q_proj");
	refused("{" GOOD ",\"dpo\":{\"lora_targets\":\"q_proj,\"}}", "/dpo/lora_targets",
		"\"\" is not");
	refused("{" GOOD ",\"dpo\":{\"lora_targets\":\"\"}}", "/dpo/lora_targets", "\"\" is not");
	refused("{" GOOD ",\"dpo\":{\"lora_targets\":\"embed_tokens_that_are_much_longer_than_a_"
		"name\"}}",
		"/dpo/lora_targets", "embed_tokens");
	refused("{" GOOD ",\"dpo\":{\"lora_r\":-1}}", "/dpo/lora_r", "outside");
	refused("{" GOOD ",\"dpo\":{\"lora_alpha\":0}}", "/dpo/lora_alpha", "outside");
}

void test_spec__all_errors_come_at_once(void)
{
	struct spec_errors errs;
	json_t *in = text("{\"seed\":-1,\"x\":1,\"dpo\":{\"beta\":0}}"), *out;

	CHECK_RC(spec_normalise(in, &out, &errs, &e), RC_INVALID);
	CHECK_EQ(json_array_size(errs.items), 3);
	spec_errors_release(&errs);
	json_decref(in);
}

void test_spec__the_form_knows_every_field(void)
{
	json_t *d = spec_defaults(), *f;
	size_t i;

	CHECK(json_array_size(json_object_get(d, "fields")) > 80);
	CHECK(json_array_size(json_object_get(d, "sections")) >= 10);
	json_array_foreach(json_object_get(d, "fields"), i, f)
	{
		CHECK(jx_get_str(f, "help", "")[0] != '\0');
		CHECK(jx_get_str(f, "pointer", "")[0] == '/');
		CHECK(json_object_get(f, "default") != NULL);
	}
	CHECK_EQ(jx_get_i64(json_object_get(json_object_get(d, "defaults"), "generate"), "n", 0),
		 4);
	json_decref(d);
}

void test_spec__a_name_from_outside_cannot_break_the_answer(void)
{
	struct spec_errors errs;
	char name[5000];
	json_t *in = text("{" GOOD "}"), *out;

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	json_object_set_new(in, name, json_true());
	json_object_set_new(in, "", json_true());
	json_object_set_new(in, "a/b\"\xc3\xa4", json_object());
	CHECK_RC(spec_normalise(in, &out, &errs, &e), RC_INVALID);
	CHECK_EQ(json_array_size(errs.items), 3);
	spec_errors_release(&errs);
	json_decref(in);
}

static json_t *taken(const char *spec)
{
	struct spec_errors errs;
	json_t *in = text(spec), *one, *two;

	CHECK_RC(spec_normalise(in, &one, &errs, &e), RC_OK);
	spec_errors_release(&errs);
	CHECK_RC(spec_normalise(one, &two, &errs, &e), RC_OK);
	CHECK(json_equal(one, two));
	spec_errors_release(&errs);
	json_decref(two);
	json_decref(in);
	return one;
}

void test_spec__a_list_of_stages_says_how_many_iterations(void)
{
	json_t *s = taken("{" GOOD ",\"stages\":[\"sft\",\"spin\",\"positive\"]}");

	CHECK_EQ(jx_get_i64(s, "iterations", 0), 2); /* the first sft is M1's */
	json_decref(s);
	s = taken("{" GOOD ",\"stages\":[\"sft\",\"sft\"]}");
	CHECK_EQ(jx_get_i64(s, "iterations", 0), 1);
	json_decref(s);
	refused("{" GOOD ",\"stages\":[\"spin\"],\"iterations\":3}", "/iterations", "stages has 1");
	refused("{" GOOD ",\"stages\":[\"juggle\"]}", "/stages", "juggle");
	refused("{" GOOD ",\"stages\":[\"external\"]}", "/external/command", "needs one");
}

void test_spec__judges_and_variants_are_checked_before_hours_are_spent(void)
{
	json_t *s = taken("{" GOOD ",\"pair\":{\"length_control\":[0,0,0.1]}}");

	CHECK_EQ(json_array_size(json_object_get(json_object_get(s, "pair"), "length_control")), 3);
	json_decref(s);
	refused("{" GOOD ",\"pair\":{\"length_control\":[0,0.6]}}", "/pair/length_control", "outside");
	refused("{" GOOD ",\"judge\":{\"kind\":\"http\"}}", "/judge/http/url", "http://");
	refused("{" GOOD ",\"judge\":{\"kind\":\"checkpoint\"}}", "/judge/checkpoint", "folder");
	refused("{" GOOD ",\"judge\":{\"template\":\"guess\"}}", "/judge/template", "mt-single-v1");
	refused("{" GOOD ",\"dpo\":{\"reference\":\"path\"}}", "/dpo/reference_model", "folder");
	refused("{" GOOD ",\"dpo\":{\"early_stop\":true}}", "/dpo/early_stop", "test prompts");
	refused("{" GOOD ",\"pair\":{\"cross\":\"rejected_past\"}}", "/pair/cross", "generate.past");
	refused("{" GOOD ",\"pair\":{\"consistency\":true},\"dpo\":{\"loss\":\"ipo\"}}", "/pair/consistency",
		"sigmoid");
	refused("{" GOOD ",\"eval\":{\"matrix\":true}}", "/eval/head_to_head/judge", "need one");
	refused("{" GOOD ",\"protegi\":{\"run\":true}}", "/data/eft", "ranked judge data");
}

#define RANKED "\"base_model\":\"/m\",\"data\":{\"ift\":[\"/x\"],\"eft\":[\"/y\"]}"

void test_spec__a_search_for_a_judge_prompt_needs_data_and_a_writer(void)
{
	json_t *s = taken("{" RANKED ",\"protegi\":{\"run\":true,\"bandit\":\"sr\"}}");

	CHECK_EQ(jx_get_i64(json_object_get(s, "protegi"), "beam", 0), 4);
	json_decref(s);
	refused("{" RANKED ",\"eft\":{\"mode\":\"given\"},\"protegi\":{\"run\":true}}", "/data/eval",
		"held-out");
	refused("{" RANKED ",\"protegi\":{\"run\":true,\"writer\":{\"kind\":\"command\"}}}",
		"/protegi/writer/command", "needs one");
	refused("{" RANKED ",\"protegi\":{\"run\":true,\"writer\":{\"kind\":\"http\"}}}",
		"/protegi/writer/http/url", "http://");
	refused("{" RANKED ",\"protegi\":{\"run\":true,\"writer\":{\"kind\":\"checkpoint\"}}}",
		"/protegi/writer/checkpoint", "folder");
	refused("{" RANKED ",\"engine\":{\"ranks\":2},\"protegi\":{\"run\":true,\"writer\":{\"kind\":"
		"\"command\",\"command\":[\"x\"]}}}", "/protegi/writer/kind", "ranks");
	refused("{" RANKED ",\"protegi\":{\"bandit\":\"luck\"}}", "/protegi/bandit", "not one of");
}
