/* Which settings decide whether an earlier result is taken: those the stage reads, no others. */
#include "tests/test.h"

#include "base/jsonx.h"
#include "server/index.h"

#include <string.h>

static void key_of(const char *stage, const char *spec, char out[65])
{
	json_t *s = json_loads(spec, 0, NULL), *job = json_pack("{s:s, s:i}", "stage", stage, "iter", 1);

	CHECK(s != NULL);
	reuse_key(s, job, "cpu", "code", out);
	json_decref(s);
	json_decref(job);
}

static bool matters(const char *stage, const char *a, const char *b)
{
	char x[65], y[65];

	key_of(stage, a, x);
	key_of(stage, b, y);
	CHECK(x[0] && y[0]);
	return strcmp(x, y) != 0;
}

void test_reuse__the_training_format_decides_for_training_alone(void)
{
	static const char *const others[] = {"eft", "prompts", "generate", "judge", "pair", "eval"};
	const char *f32 = "{\"engine\":{\"train\":\"f32\"}}", *bf16 = "{\"engine\":{\"train\":\"bf16\"}}";

	CHECK(matters("sft", f32, bf16));
	CHECK(matters("dpo", f32, bf16));
	CHECK(!matters("dpo", f32, "{\"engine\":{\"train\":\"f32\",\"nothing\":1}}"));
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		CHECK(!matters(others[i], f32, bf16));
}

void test_reuse__the_weights_of_generation_decide_for_generation_alone(void)
{
	static const char *const these[] = {"eft", "prompts", "generate", "judge", "eval"};
	static const char *const others[] = {"sft", "pair", "dpo"};
	const char *f32 = "{\"engine\":{\"weights\":\"f32\",\"train\":\"f32\"}}";
	const char *q8 = "{\"engine\":{\"weights\":\"q8\",\"train\":\"f32\"}}";

	for (size_t i = 0; i < sizeof these / sizeof *these; i++)
		CHECK(matters(these[i], f32, q8));
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		CHECK(!matters(others[i], f32, q8));
}

void test_reuse__sections_decide_for_their_stages(void)
{
	CHECK(matters("dpo", "{\"dpo\":{\"ld_alpha\":1}}", "{\"dpo\":{\"ld_alpha\":0.5}}"));
	CHECK(!matters("sft", "{\"dpo\":{\"ld_alpha\":1}}", "{\"dpo\":{\"ld_alpha\":0.5}}"));
}

void test_reuse__other_losses_and_rates_find_the_same_reference(void)
{
	CHECK(!matters("reference", "{\"dpo\":{\"beta\":0.1,\"lr\":1e-5}}",
		       "{\"dpo\":{\"beta\":0.3,\"lr\":1e-6,\"loss\":\"ipo\"}}"));
	CHECK(matters("reference", "{\"dpo\":{\"max_length\":256}}", "{\"dpo\":{\"max_length\":512}}"));
	CHECK(matters("reference", "{\"dpo\":{\"ld_alpha\":1}}", "{\"dpo\":{\"ld_alpha\":0.5}}"));
	CHECK(matters("reference", "{\"template\":\"plain\"}", "{\"template\":\"chatml\"}"));
	CHECK(matters("reference", "{\"engine\":{\"train\":\"f32\"}}",
		      "{\"engine\":{\"train\":\"bf16\"}}"));
}

void test_reuse__off_or_with_a_command_there_is_no_key(void)
{
	char key[65];

	key_of("dpo", "{\"reuse\":false}", key);
	CHECK(!key[0]);
	key_of("judge", "{\"judge\":{\"command\":[\"x\"]}}", key);
	CHECK(!key[0]);
}
