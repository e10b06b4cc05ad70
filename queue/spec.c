#include "queue/spec.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "queue/internal.h"
#include "queue/limits.h"
#include "queue/states.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum field_type { STRING, INT, NUMBER, BOOL, FILES, ARGV, TEMPLATE, NUMBERS };

#define NUMBERS_MAX 50 /* as many as there can be iterations */

/* As worker/method/templates has them; a test compares the two. */
#define TEMPLATES                                                                                     \
	"additive-5|choice-1-5|single-1-10|reference-1-10|cot-5|few-shot-5|safety-5|mt-single-v1|"     \
	"mt-single-math-v1|mt-single-v1-multi-turn|mt-single-math-v1-multi-turn|mt-pair-v2|"           \
	"mt-pair-math-v1|mt-pair-v2-multi-turn|mt-pair-math-v1-multi-turn|pair-renamed|pair-few-shot"

static const struct field {
	const char *pointer;
	enum field_type type;
	const char *dflt;
	double min, max;
	const char *choices;
	const char *help;
} fields[] = {
#define FIELD(pointer, type, dflt, min, max, choices, help) \
	{pointer, type, dflt, min, max, choices, help},
#include "queue/spec_fields.def"
};
#define N_FIELDS (sizeof(fields) / sizeof(*fields))

static const struct {
	const char *name, *title;
} sections[] = {
#define SECTION(name, title) {name, title},
#define FIELD(pointer, type, dflt, min, max, choices, help)
#include "queue/spec_fields.def"
};

void spec_errors_release(struct spec_errors *s)
{
	json_decref(s->items);
	s->items = NULL;
}

static void __attribute__((format(printf, 3, 4)))
complain(struct spec_errors *s, const char *pointer, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (json_array_size(s->items) >= SPEC_ERRORS_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	char *clean = utf8_scrub(text, strlen(text));
	json_array_append_new(s->items, json_pack("{s:s, s:s}", "pointer", pointer, "detail", clean));
	free(clean);
}

/* --- paths in the document --------------------------------------------------------------------- */

/* Value at a pointer of plain words, borrowed; NULL when absent. */
static json_t *at(const json_t *doc, const char *pointer)
{
	json_t *v = (json_t *)doc;
	char key[64];

	while (v && *pointer == '/') {
		size_t n = strcspn(++pointer, "/");
		str_fmt(key, sizeof(key), "%.*s", (int)n, pointer);
		v = json_object_get(v, key);
		pointer += n;
	}
	return v;
}

/* Puts `value` (taken) at the pointer, making objects on the way. */
static void put(json_t *doc, const char *pointer, json_t *value)
{
	char key[64];

	for (;;) {
		size_t n = strcspn(++pointer, "/");
		json_t *next;
		str_fmt(key, sizeof(key), "%.*s", (int)n, pointer);
		pointer += n;
		if (!*pointer) {
			json_object_set_new(doc, key, value);
			return;
		}
		next = json_object_get(doc, key);
		if (!json_is_object(next)) {
			next = json_object();
			json_object_set_new(doc, key, next);
		}
		doc = next;
	}
}

static const struct field *field_at(const char *pointer)
{
	for (size_t i = 0; i < N_FIELDS; i++)
		if (!strcmp(fields[i].pointer, pointer))
			return &fields[i];
	return NULL;
}

static bool is_section(const char *pointer)
{
	size_t n = strlen(pointer);

	for (size_t i = 0; i < N_FIELDS; i++)
		if (!strncmp(fields[i].pointer, pointer, n) && fields[i].pointer[n] == '/')
			return true;
	return false;
}

/* --- one value --------------------------------------------------------------------------------- */

static bool chosen(const char *choices, const char *value)
{
	size_t len = strlen(value), n;

	if (!*choices)
		return true;
	for (; *choices; choices += n + (choices[n] == '|')) {
		n = strcspn(choices, "|");
		if (n == len && !memcmp(choices, value, n))
			return true;
	}
	return false;
}

static json_t *take_string(const struct field *f, const json_t *v, struct spec_errors *s)
{
	const char *text = json_string_value(v);

	if (!text)
		complain(s, f->pointer, "expected text");
	else if (!chosen(f->choices, text))
		complain(s, f->pointer, "\"%.40s\" is not one of %s", text, f->choices);
	else if (strlen(text) > (size_t)f->max && !*f->choices)
		complain(s, f->pointer, "%zu characters, the limit is %.0f", strlen(text), f->max);
	else
		return json_string(text);
	return NULL;
}

static json_t *take_int(const struct field *f, const json_t *v, struct spec_errors *s)
{
	double x = json_number_value(v);

	if (!json_is_number(v) || floor(x) != x)
		complain(s, f->pointer, "expected a whole number");
	else if (!(x >= f->min && x <= f->max))
		complain(s, f->pointer, "%.17g is outside %.0f to %.0f", x, f->min, f->max);
	else
		return json_integer((json_int_t)x);
	return NULL;
}

static json_t *take_number(const struct field *f, const json_t *v, struct spec_errors *s)
{
	double x = json_number_value(v);

	if (!json_is_number(v))
		complain(s, f->pointer, "expected a number");
	else if (!(x >= f->min && x <= f->max))
		complain(s, f->pointer, "%.17g is outside %g to %g", x, f->min, f->max);
	else
		return json_real(x);
	return NULL;
}

static json_t *take_bool(const struct field *f, const json_t *v, struct spec_errors *s)
{
	if (!json_is_boolean(v)) {
		complain(s, f->pointer, "expected true or false");
		return NULL;
	}
	return json_boolean(json_is_true(v));
}

/* "path" alone, or {"path","format"}. */
static json_t *take_file(const struct field *f, const char *pointer, const json_t *v,
			 struct spec_errors *s)
{
	const char *path = json_is_string(v) ? json_string_value(v) : jx_get_str(v, "path", NULL);
	const char *format = jx_get_str(v, "format", "auto");
	static const char *const known[] = {"path", "format", NULL};
	struct err e;

	if (!path || path[0] != '/' || strlen(path) > 4096)
		complain(s, pointer, "expected a \"path\" that begins with /");
	else if (!chosen(f->choices, format))
		complain(s, pointer, "format \"%.40s\" is not one of %s", format, f->choices);
	else if (json_is_object(v) && jx_only(v, known, &e))
		complain(s, pointer, "%s", e.text);
	else
		return json_pack("{s:s, s:s}", "path", path, "format", format);
	return NULL;
}

static json_t *take_list(const struct field *f, const json_t *v, struct spec_errors *s)
{
	json_t *out = json_array(), *item, *taken;
	char pointer[128];
	size_t i;

	if (!json_is_array(v))
		complain(s, f->pointer, "expected a list");
	else if (json_array_size(v) > (size_t)f->max)
		complain(s, f->pointer, "%zu entries, the limit is %.0f", json_array_size(v), f->max);
	json_array_foreach(v, i, item) {
		str_fmt(pointer, sizeof(pointer), "%s/%zu", f->pointer, i);
		taken = NULL;
		if (f->type == FILES)
			taken = take_file(f, pointer, item, s);
		else if (json_is_string(item) && json_string_length(item) < 4096)
			taken = json_incref(item);
		else
			complain(s, pointer, "expected text");
		if (taken)
			json_array_append_new(out, taken);
	}
	return out;
}

static json_t *template_object(const struct field *f, const json_t *v, struct spec_errors *s)
{
	static const char *const known[] = {"name",    "text",	 "pattern", "min",  "max",
					    "integer", "system", "version", "form", NULL};
	const char *text, *pattern = "score", *form = jx_get_str(v, "form", "score");
	double min = 0, max = 5;
	struct err e;

	if (jx_only(v, known, &e) || jx_str(v, "text", &text, &e) ||
	    (strcmp(form, "pair") != 0 && jx_str(v, "pattern", &pattern, &e)) ||
	    jx_f64(v, "min", -1e9, 1e9, &min, &e) || jx_f64(v, "max", -1e9, 1e9, &max, &e))
		complain(s, f->pointer, "%s", e.text);
	else if (!chosen("score|pair", form))
		complain(s, f->pointer, "\"form\" is \"%.40s\", expected score or pair", form);
	else if (!*text || strlen(text) > 100000)
		complain(s, f->pointer, "\"text\" must have 1 to 100000 characters");
	else if (!*pattern || strlen(pattern) > 1000)
		complain(s, f->pointer, "\"pattern\" must have 1 to 1000 characters");
	else if (min >= max)
		complain(s, f->pointer, "\"min\" must be below \"max\"");
	else {
		json_t *out = json_pack("{s:s, s:s, s:s, s:f, s:f, s:b}", "name",
					jx_get_str(v, "name", "custom"), "text", text, "pattern", pattern,
					"min", min, "max", max, "integer",
					(int)jx_get_bool(v, "integer", true));
		/* What is rare is written only where it is given. */
		for (const char *const *k = known + 6; *k; k++)
			if (json_object_get(v, *k))
				json_object_set(out, *k, json_object_get(v, *k));
		return out;
	}
	return NULL;
}

/* A known name, or {"name","text","pattern","min","max","integer"} and what else there may be. */
static json_t *take_template(const struct field *f, const json_t *v, struct spec_errors *s)
{
	if (json_is_object(v))
		return template_object(f, v, s);
	if (!json_is_string(v))
		complain(s, f->pointer, "expected a name, or an object with text, pattern, min and max");
	else if (!chosen(TEMPLATES, json_string_value(v)))
		complain(s, f->pointer, "\"%.40s\" is not a known template (" TEMPLATES ")",
			 json_string_value(v));
	else
		return json_string(json_string_value(v));
	return NULL;
}

static json_t *take_numbers(const struct field *f, const json_t *v, struct spec_errors *s)
{
	json_t *out, *item, *taken;
	size_t i;

	if (!json_is_array(v))
		return take_number(f, v, s);
	if (json_array_size(v) < 1 || json_array_size(v) > NUMBERS_MAX) {
		complain(s, f->pointer, "%zu numbers, expected 1 to %d", json_array_size(v), NUMBERS_MAX);
		return NULL;
	}
	out = json_array();
	json_array_foreach(v, i, item)
	{
		taken = take_number(f, item, s);
		if (taken)
			json_array_append_new(out, taken);
	}
	return out;
}

static json_t *(*const takers[])(const struct field *, const json_t *, struct spec_errors *) = {
	[STRING] = take_string, [INT] = take_int, [NUMBER] = take_number, [BOOL] = take_bool,
	[FILES] = take_list, [ARGV] = take_list, [TEMPLATE] = take_template, [NUMBERS] = take_numbers,
};

/* --- the whole --------------------------------------------------------------------------------- */

/* Every member must be a field or a section of fields; null counts as absent. */
static void check_known(const json_t *doc, const char *prefix, struct spec_errors *s)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)doc, key, v) {
		char pointer[160];
		/* A name too long to be one of ours is cut in the message. */
		str_fmt(pointer, sizeof(pointer), "%s/%.80s", prefix, key);
		if (field_at(pointer) || (json_is_null(v) && is_section(pointer)))
			continue;
		if (!is_section(pointer))
			complain(s, pointer, "unknown field");
		else if (json_is_object(v))
			check_known(v, pointer, s);
		else
			complain(s, pointer, "expected an object");
	}
}

static json_t *field_default(const struct field *f)
{
	json_t *v = json_loads(f->dflt, JSON_DECODE_ANY, NULL), *real;

	if (f->type != NUMBER && f->type != NUMBERS)
		return v;
	real = json_real(json_number_value(v));
	json_decref(v);
	return real;
}

static const char *text_at(const json_t *spec, const char *pointer)
{
	const char *text = json_string_value(at(spec, pointer));

	return text ? text : "";
}

static bool is_at(const json_t *spec, const char *pointer, const char *want)
{
	return !strcmp(text_at(spec, pointer), want);
}

static bool empty_at(const json_t *spec, const char *pointer)
{
	return json_array_size(at(spec, pointer)) == 0;
}

static double number_at(const json_t *spec, const char *pointer)
{
	return json_number_value(at(spec, pointer));
}

/* Names with commas between them, as worker/model/lora.h takes them: a run must not fail hours
 * later for a letter. */
static void check_targets(const json_t *spec, const char *pointer, struct spec_errors *s)
{
	static const char names[] = "all-linear|q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|"
				    "down_proj";
	char word[32];
	size_t n;

	for (const char *p = text_at(spec, pointer);; p += n + 1) {
		n = strcspn(p, ",");
		str_fmt(word, sizeof(word), "%.*s",
			(int)(n < sizeof(word) ? n : sizeof(word) - 1), p);
		if (!chosen(names, word)) {
			complain(s, pointer, "\"%s\" is not one of %s", word, names);
			return;
		}
		if (!p[n])
			return;
	}
}

static void check_pools(const json_t *spec, struct spec_errors *s)
{
	const json_t *p;
	size_t i;

	json_array_foreach(at(spec, "/pools"), i, p) {
		const char *text = json_string_value(p), *eq = strchr(text, '=');
		char stage[STAGE_NAME_MAX] = "";

		if (eq && (size_t)(eq - text) < sizeof(stage))
			str_fmt(stage, sizeof(stage), "%.*s", (int)(eq - text), text);
		if (!stage_known(stage))
			complain(s, "/pools", "\"%s\": expected stage=pool, as dpo=h100", text);
		else if (!word_valid(eq + 1, POOL_NAME_MAX))
			complain(s, "/pools", "\"%s\": expected a short word as the pool's name", text);
	}
}

static void check_url(const json_t *spec, const char *pointer, struct spec_errors *s)
{
	if (!str_starts(text_at(spec, pointer), "http://") &&
	    !str_starts(text_at(spec, pointer), "https://"))
		complain(s, pointer, "an endpoint needs an address that begins with http:// or https://");
}

static bool has_stage(const json_t *spec, const char *name)
{
	const json_t *v;
	size_t i;

	json_array_foreach(at(spec, "/stages"), i, v) if (!strcmp(json_string_value(v), name)) return true;
	return false;
}

static void check_external(const json_t *spec, struct spec_errors *s)
{
	if (is_at(spec, "/external/kind", "command") && empty_at(spec, "/external/command"))
		complain(s, "/external/command", "a judge of kind \"command\" needs one");
	if (is_at(spec, "/external/kind", "http"))
		check_url(spec, "/external/http/url", s);
	if (is_at(spec, "/external/kind", "checkpoint") &&
	    text_at(spec, "/external/checkpoint")[0] != '/')
		complain(s, "/external/checkpoint", "a judge of kind \"checkpoint\" needs a folder that "
						    "begins with /");
}

static void check_variants(const json_t *spec, struct spec_errors *s)
{
	const json_t *v;
	size_t i;

	json_array_foreach(at(spec, "/stages"), i, v) if (!chosen("self_reward|external|spin|positive|sft",
								    json_string_value(v)))
		complain(s, "/stages", "\"%.40s\" is not one of self_reward, external, spin, positive, sft",
			 json_string_value(v));
	if (has_stage(spec, "external"))
		check_external(spec, s);
	if (is_at(spec, "/dpo/reference", "path") && text_at(spec, "/dpo/reference_model")[0] != '/')
		complain(s, "/dpo/reference_model", "the reference \"path\" needs a folder that begins "
						    "with /");
	if (is_at(spec, "/pair/cross", "rejected_past") && is_at(spec, "/generate/past", "none"))
		complain(s, "/pair/cross", "\"rejected_past\" needs another model that answers: set "
					   "generate.past");
	if (json_is_true(at(spec, "/pair/consistency")) &&
	    (!is_at(spec, "/judge/kind", "model") || !is_at(spec, "/dpo/loss", "sigmoid")))
		complain(s, "/pair/consistency", "needs a judge of kind \"model\" and the loss \"sigmoid\"");
	if ((json_is_true(at(spec, "/eval/matrix")) || json_is_true(at(spec, "/eval/reference_answers"))) &&
	    is_at(spec, "/eval/head_to_head/judge", "none"))
		complain(s, "/eval/head_to_head/judge", "eval.matrix and eval.reference_answers need one");
	if (json_is_true(at(spec, "/dpo/early_stop")) &&
	    (empty_at(spec, "/data/test") || is_at(spec, "/eval/head_to_head/judge", "none")))
		complain(s, "/dpo/early_stop", "needs test prompts and a judge of eval.head_to_head");
}

static void check_protegi(const json_t *spec, struct spec_errors *s)
{
	bool tools = !is_at(spec, "/protegi/writer/kind", "model") || !is_at(spec, "/judge/kind", "model");

	if (!json_is_true(at(spec, "/protegi/run")))
		return;
	if (empty_at(spec, "/data/eft"))
		complain(s, "/data/eft", "protegi.run needs ranked judge data to search on");
	if (is_at(spec, "/eft/mode", "given") && empty_at(spec, "/data/eval"))
		complain(s, "/data/eval", "protegi.run needs held-out ranked data: with given judgements all "
					  "ranked rows are held out otherwise");
	if (is_at(spec, "/protegi/writer/kind", "command") && empty_at(spec, "/protegi/writer/command"))
		complain(s, "/protegi/writer/command", "a writer of kind \"command\" needs one");
	if (is_at(spec, "/protegi/writer/kind", "checkpoint") &&
	    text_at(spec, "/protegi/writer/checkpoint")[0] != '/')
		complain(s, "/protegi/writer/checkpoint",
			 "a writer of kind \"checkpoint\" needs a folder that begins with /");
	if (is_at(spec, "/protegi/writer/kind", "http"))
		check_url(spec, "/protegi/writer/http/url", s);
	if (number_at(spec, "/engine/ranks") > 1 && tools)
		complain(s, "/protegi/writer/kind",
			 "with several ranks judge and writer must be of kind \"model\": what others "
			 "answer differs from rank to rank");
}

/* A list of stages says how many iterations there are. Its first "sft" is that of M1. */
static void count_stages(const json_t *in, json_t *spec, struct spec_errors *s)
{
	json_t *list = at(spec, "/stages"), *given = at(in, "/iterations");
	size_t n = json_array_size(list);

	if (n == 0)
		return;
	if (!strcmp(json_string_value(json_array_get(list, 0)), "sft") &&
	    !(json_is_integer(given) && json_integer_value(given) == (json_int_t)n))
		json_array_remove(list, 0), n--;
	if (json_is_integer(given) && json_integer_value(given) != (json_int_t)n)
		complain(s, "/iterations", "%lld, but stages has %zu besides that of M1",
			 (long long)json_integer_value(given), n);
	else if (n > 50)
		complain(s, "/stages", "%zu iterations, at most 50", n);
	else
		json_object_set_new(spec, "iterations", json_integer((json_int_t)n));
}

/* Rules that need more than one field. Runs on a document whose single fields are right. */
static void check_together(const json_t *spec, struct spec_errors *s)
{
	if (text_at(spec, "/base_model")[0] != '/')
		complain(s, "/base_model", "expected a folder that begins with /");
	if (empty_at(spec, "/data/ift"))
		complain(s, "/data/ift", "at least one file is needed");
	if (is_at(spec, "/eft/mode", "build") && !empty_at(spec, "/data/eft") &&
	    !json_is_true(at(spec, "/sft/baseline")))
		complain(s, "/eft/mode", "\"build\" needs the baseline model: set sft.baseline");
	if (is_at(spec, "/prompts/generator", "file") && empty_at(spec, "/data/prompts") &&
	    number_at(spec, "/iterations") > 0)
		complain(s, "/data/prompts", "the prompt generator \"file\" needs at least one file");
	if (is_at(spec, "/prompts/generator", "fixed") && text_at(spec, "/prompts/model")[0] != '/')
		complain(s, "/prompts/model", "the prompt generator \"fixed\" needs a folder that begins "
					      "with /");
	if (number_at(spec, "/prompts/min_words") > number_at(spec, "/prompts/max_words"))
		complain(s, "/prompts/min_words", "more than max_words");
	if (is_at(spec, "/judge/kind", "command") && empty_at(spec, "/judge/command"))
		complain(s, "/judge/command", "a judge of kind \"command\" needs one");
	if (is_at(spec, "/judge/kind", "checkpoint") && text_at(spec, "/judge/checkpoint")[0] != '/')
		complain(s, "/judge/checkpoint", "a judge of kind \"checkpoint\" needs a folder that "
						 "begins with /");
	if (is_at(spec, "/judge/kind", "http"))
		check_url(spec, "/judge/http/url", s);
	check_variants(spec, s);
	check_protegi(spec, s);
	if (is_at(spec, "/eval/head_to_head/judge", "http"))
		check_url(spec, "/eval/head_to_head/http/url", s);
	if (is_at(spec, "/eval/head_to_head/judge", "command") &&
	    empty_at(spec, "/eval/head_to_head/command"))
		complain(s, "/eval/head_to_head/command", "a judge of kind \"command\" needs one");
	if (number_at(spec, "/judge/min_valid") > number_at(spec, "/judge/samples"))
		complain(s, "/judge/min_valid", "more than the samples taken");
	if (number_at(spec, "/sft/lr_min") > number_at(spec, "/sft/lr"))
		complain(s, "/sft/lr_min", "more than lr");
	if (number_at(spec, "/dpo/lr_min") > number_at(spec, "/dpo/lr"))
		complain(s, "/dpo/lr_min", "more than lr");
	check_pools(spec, s);
	check_targets(spec, "/sft/lora_targets", s);
	check_targets(spec, "/dpo/lora_targets", s);
	if (number_at(spec, "/lease_ms") > 0 && number_at(spec, "/lease_ms") < LEASE_MS_MIN)
		complain(s, "/lease_ms", "expected 0, or at least %d", LEASE_MS_MIN);
}

/* The defaults of lr_min fit the default lr; with another lr its tenth is meant. */
static json_t *follow(const json_t *in, const struct field *f)
{
	bool sft = !strcmp(f->pointer, "/sft/lr_min"), dpo = !strcmp(f->pointer, "/dpo/lr_min");
	const json_t *lr = sft || dpo ? at(in, sft ? "/sft/lr" : "/dpo/lr") : NULL;

	if (!json_is_number(lr))
		return field_default(f);
	return json_real(json_number_value(lr) * (sft ? 0.2 : 0.1));
}

enum rc spec_normalise(const json_t *in, json_t **out, struct spec_errors *errs, struct err *e)
{
	json_t *spec = json_object(), *v, *taken;

	*out = NULL;
	errs->items = json_array();
	if (!json_is_object(in))
		complain(errs, "", "expected an object");
	else
		check_known(in, "", errs);
	for (size_t i = 0; i < N_FIELDS; i++) {
		v = at(in, fields[i].pointer);
		taken = !v || json_is_null(v) ? follow(in, &fields[i])
					      : takers[fields[i].type](&fields[i], v, errs);
		if (taken)
			put(spec, fields[i].pointer, taken);
	}
	if (json_array_size(errs->items) == 0)
		count_stages(in, spec, errs);
	if (json_array_size(errs->items) == 0)
		check_together(spec, errs);
	if (empty_at(spec, "/eval/scorer/command"))
		json_object_set_new(at(spec, "/eval"), "scorer", json_null());
	if (json_array_size(errs->items) > 0) {
		const json_t *first = json_array_get(errs->items, 0);
		json_decref(spec);
		return err_set(e, RC_INVALID, "%s: %s", jx_get_str(first, "pointer", ""),
			       jx_get_str(first, "detail", ""));
	}
	*out = spec;
	return RC_OK;
}

/* --- the form ---------------------------------------------------------------------------------- */

static json_t *choices_json(const char *choices)
{
	json_t *list = json_array();
	size_t n;

	for (; *choices; choices += n + (choices[n] == '|')) {
		n = strcspn(choices, "|");
		json_array_append_new(list, json_stringn(choices, n));
	}
	return list;
}

static json_t *field_json(const struct field *f)
{
	static const char *const names[] = {
		[STRING] = "string", [INT] = "int", [NUMBER] = "number", [BOOL] = "bool",
		[FILES] = "files", [ARGV] = "list", [TEMPLATE] = "object", [NUMBERS] = "number",
	};
	bool required = f->min >= 1 && (f->type == STRING || f->type == FILES);

	return json_pack("{s:s, s:s, s:o, s:f, s:f, s:o, s:b, s:s}", "pointer", f->pointer, "type",
			 names[f->type], "default", field_default(f), "min", f->min, "max", f->max,
			 "choices", choices_json(f->choices), "required", (int)required, "help",
			 f->help);
}

json_t *spec_defaults(void)
{
	json_t *defaults = json_object(), *list = json_array(), *titles = json_array();

	for (size_t i = 0; i < N_FIELDS; i++) {
		put(defaults, fields[i].pointer, field_default(&fields[i]));
		json_array_append_new(list, field_json(&fields[i]));
	}
	for (size_t i = 0; i < sizeof(sections) / sizeof(*sections); i++)
		json_array_append_new(titles, json_pack("{s:s, s:s}", "name", sections[i].name, "title",
							sections[i].title));
	return json_pack("{s:o, s:o, s:o}", "defaults", defaults, "fields", list, "sections", titles);
}
