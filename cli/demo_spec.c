#include "cli/demo_parts.h"

#include "cli/world.h"

const struct demo_plan demo_full = {
	.sizes = {.ift = 3200, .eft = 6400, .eval = 541, .pool = 3000, .test = 200, .ranked = 541},
	.sft_steps = 5000,
	.baseline = true,
	.prompts = 1500,
	.iterations = 2,
	.dpo_epochs = 3,
	.shard_size = 300,
	.chunk = 50,
	.dpo_shard_steps = 60,
	.save_every_steps = 20,
};

const struct demo_plan demo_quick = {
	.sizes = {.ift = 3200, .eft = 8000, .eval = 200, .pool = 1000, .test = 200, .ranked = 200},
	.sft_steps = 3000,
	.prompts = 500,
	.iterations = 1,
	.dpo_epochs = 3,
	.shard_size = 500, /* Long enough for a kill in the middle of generating. */
	.chunk = 25,
	.dpo_shard_steps = 40,
	.save_every_steps = 10,
};

const struct demo_plan demo_tiny = {
	.sizes = {.ift = 400, .eft = 400, .eval = 16, .pool = 96, .test = 12, .ranked = 48},
	.sft_steps = 160,
	.prompts = 48,
	.iterations = 2,
	.dpo_epochs = 2,
	.shard_size = 24,
	.chunk = 6,
	.dpo_shard_steps = 3,
	.save_every_steps = 8,
};

static json_t *source(const char *dir, const char *name, const char *format)
{
	return json_pack("[{s:o, s:s}]", "path", json_sprintf("%s/%s.jsonl", dir, name), "format", format);
}

static json_t *data_section(const char *dir)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:i}", "ift", source(dir, "ift", "pairs"), "eft",
			 source(dir, "eft", "judge"), "eval", source(dir, "eval", "ranked"), "prompts",
			 source(dir, "prompts", "auto"), "test", source(dir, "test", "auto"), "ift_max",
			 1000000);
}

static json_t *judge_section(void)
{
	return json_pack("{s:s, s:{s:s, s:s, s:s, s:i, s:i, s:b}, s:i, s:i, s:f, s:f, s:i}", "kind",
			 "model", "template", "name", "packing-5", "text", world_judge_template,
			 "pattern", "score", "min", 0, "max", WORLD_ASKED, "integer", 1, "samples", 3,
			 "min_valid", 2, "temperature", 0.7, "top_p", 0.9, "max_new_tokens", 64);
}

json_t *demo_spec(const struct demo_plan *p, const char *dir, const char *pawl, uint64_t seed)
{
	json_t *spec = json_object();

	json_object_set_new(spec, "name", json_string("demo"));
	json_object_set_new(spec, "seed", json_integer((json_int_t)seed));
	json_object_set_new(spec, "iterations", json_integer(p->iterations));
	json_object_set_new(spec, "base_model", json_sprintf("%s/base", dir));
	json_object_set_new(spec, "template", json_string("chatml"));
	json_object_set_new(spec, "data", data_section(dir));
	json_object_set_new(spec, "sft",
			    json_pack("{s:f, s:f, s:s, s:i, s:i, s:i, s:i, s:f, s:b, s:i, s:i}", "lr", 2e-3,
				      "lr_min", 2e-4, "schedule", "cosine", "warmup_steps", 100, "batch", 16,
				      "epochs", 1000, "max_steps", p->sft_steps, "weight_decay", 0.01,
				      "baseline", p->baseline, "max_length", 256, "save_every_steps",
				      p->save_every_steps * 5));
	json_object_set_new(spec, "eft", json_pack("{s:s}", "mode", "given"));
	json_object_set_new(spec, "prompts",
			    json_pack("{s:s, s:i, s:f}", "generator", "file", "count", p->prompts,
				      "rouge_max", 1.0));
	json_object_set_new(spec, "generate",
			    json_pack("{s:i, s:f, s:f, s:i, s:i, s:i}", "n", 4, "temperature", 1.0, "top_p",
				      1.0, "max_new_tokens", 48, "shard_size", p->shard_size, "chunk",
				      p->chunk));
	json_object_set_new(spec, "judge", judge_section());
	json_object_set_new(spec, "dpo",
			    json_pack("{s:f, s:f, s:f, s:s, s:i, s:i, s:i, s:i, s:f, s:f, s:i}", "beta",
				      0.1, "lr", 3e-4, "lr_min", 3e-5, "schedule", "cosine", "batch", 16,
				      "epochs", p->dpo_epochs, "shard_steps", p->dpo_shard_steps,
				      "save_every_steps", p->save_every_steps,
				      "nll_coef", 0.5, "sft_replay", 0.25, "max_length", 256));
	json_object_set_new(spec, "eval",
			    json_pack("{s:i, s:f, s:f, s:i, s:{s:[s, s, s]}, s:{s:s, s:[s, s, s]}}",
				      "max_new_tokens", 48, "temperature", 1.0, "top_p", 1.0,
				      "judge_samples", 3, "scorer", "command", pawl, "demo", "score",
				      "head_to_head", "judge", "command", "command", pawl, "demo",
				      "compare"));
	return spec;
}
