/* The prompts of an iteration. None was a prompt of an earlier iteration.
 *
 * in   prompts (the pool of data.prompts, when given), ift (seeds), earlier.<t> (prompts of the
 *      iterations before), model (generator "current"; "fixed" without prompts.model)
 * out  prompts {"id","prompt","meta"}
 *
 * Generator "file": the next `count` of the pool, in its order. "fixed" and "current":
 * Self-Instruct (worker/method/selfinstruct.h) with a model named in the spec, or with the model in
 * training. Requests are made in rounds of a fixed size; the examples shown in a round are drawn
 * from what was accepted before it, and answers are taken up in the order of their requests, so the
 * result does not depend on batching or on interruptions. A round is the unit of progress. Streams:
 * (seed, RNG_PROMPTS, t, item = request): sample 0 the answer, sample 1 the examples.
 */
#include "worker/stages/stages.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/method/seed.h"
#include "worker/method/selfinstruct.h"
#include "worker/stage.h"
#include "worker/stages/textgen.h"

#include <stdlib.h>
#include <string.h>

#define PROMPTS_ROWS_MAX (4u << 20)
#define PROMPTS_ROUND 16

struct texts {
	char **v; /* owned, and each of them */
	size_t n, cap;
};

struct prompts {
	struct stage_ctx *ctx;
	const json_t *c; /* spec.prompts */
	int64_t count, requests_max, next; /* next: first request of the coming round */
	struct texts seeds, machine;       /* what examples are drawn from */
	json_t *used;                      /* {key of a prompt used before: true} */
	struct stage_rows rows;
	/* generators */
	struct si_rules rules;
	struct si_pool *pool;
	struct textgen *gen;
	struct textgen_sampling sampling;
	int shots_seed, shots_machine;
	int64_t reasons[SI_N_REASONS], too_long;
	int64_t asked, computed; /* comparisons of the attempts before */
};

static void texts_add(struct texts *t, const char *text)
{
	if (t->n == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 256;
		t->v = mem_grow(t->v, t->cap, sizeof(*t->v));
	}
	t->v[t->n++] = mem_str(text);
}

static void texts_release(struct texts *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->v[i]);
	free(t->v);
}

/* --- what is known already ------------------------------------------------------------------- */

static void key_text(const char *prompt, char out[24])
{
	str_fmt(out, 24, "%016llx", (unsigned long long)seed_key(prompt));
}

static bool was_used(const struct prompts *p, const char *prompt)
{
	char key[24];

	key_text(prompt, key);
	return json_object_get(p->used, key) != NULL;
}

static void use(struct prompts *p, const char *prompt)
{
	char key[24];

	key_text(prompt, key);
	json_object_set_new(p->used, key, json_true());
}

/* Every iteration's prompts come in under earlier.<t>. */
static enum rc load_earlier(struct prompts *p, struct err *e)
{
	char **roles = NULL;
	json_t *rows, *row;
	size_t n = 0, k;
	enum rc rc = stage_in_roles(p->ctx, "earlier.", &roles, &n, e);

	for (size_t i = 0; rc == RC_OK && i < n; i++) {
		if ((rc = stage_in_rows(p->ctx, roles[i], PROMPTS_ROWS_MAX, &rows, e)) != RC_OK)
			break;
		json_array_foreach(rows, k, row) {
			use(p, jx_get_str(row, "prompt", ""));
			texts_add(&p->machine, jx_get_str(row, "prompt", ""));
		}
		json_decref(rows);
	}
	fs_list_free(roles);
	return rc;
}

static enum rc load_pool(struct prompts *p, json_t **out, struct err *e)
{
	*out = NULL;
	return stage_in(p->ctx, "prompts")
		       ? stage_in_rows(p->ctx, "prompts", PROMPTS_ROWS_MAX, out, e)
		       : RC_OK;
}

/* --- generator "file" ------------------------------------------------------------------------ */

/* The first iteration says at once when the pool cannot last for all. */
static enum rc check_supply(const struct prompts *p, const json_t *pool, int64_t fresh,
			    struct err *e)
{
	int64_t last = jx_get_i64(p->ctx->spec, "iterations", 1);
	int64_t rounds = last >= p->ctx->iter ? last - p->ctx->iter + 1 : 1;

	rounds = jx_get_i64(p->ctx->params, "rounds", rounds);

	if (fresh >= p->count * rounds)
		return RC_OK;
	return err_set(e, RC_INVALID,
		       "data.prompts has %lld unused prompts of %zu, but prompts.count is %lld for "
		       "each of %lld "
		       "iterations: give more prompts, or lower prompts.count to %lld",
		       (long long)fresh, json_array_size(pool), (long long)p->count,
		       (long long)rounds, (long long)(fresh / rounds));
}

static enum rc from_file(struct prompts *p, struct err *e)
{
	json_t *pool, *row;
	int64_t fresh = 0;
	size_t i;
	enum rc rc = load_pool(p, &pool, e);

	if (rc == RC_OK && !pool)
		rc = err_set(e, RC_INVALID,
			     "prompts.generator is \"file\", but data.prompts names none");
	json_array_foreach(pool, i, row)
		fresh += !was_used(p, jx_get_str(row, "prompt", ""));
	if (rc == RC_OK)
		rc = check_supply(p, pool, fresh, e);
	if (rc == RC_OK)
		rc = stage_rows_open(p->ctx, "prompts", &p->rows, e);
	json_array_foreach(pool, i, row) {
		if (rc != RC_OK || p->rows.n >= p->count)
			break;
		if (!was_used(p, jx_get_str(row, "prompt", ""))) {
			use(p, jx_get_str(row, "prompt", ""));
			rc = stage_rows_add(&p->rows, row, e);
		}
	}
	json_decref(pool);
	if (rc != RC_OK)
		return rc;
	stage_progress(p->ctx, p->rows.n, p->count, "prompts");
	stage_final(p->ctx, "prompts.rows", json_integer(p->rows.n));
	return stage_rows_finish(&p->rows, json_pack("{s:s}", "generator", "file"), e);
}

/* --- examples -------------------------------------------------------------------------------- */

/* `want` different texts of a list, appended to shots. */
static int draw(const struct texts *t, int want, struct rng *r, const char **shots)
{
	uint32_t taken[SI_SHOTS_MAX];
	int n = 0;

	while (n < want && (size_t)n < t->n) {
		uint32_t at = rng_below(r, (uint32_t)t->n);
		bool again = false;
		for (int i = 0; i < n; i++)
			again |= taken[i] == at;
		if (!again) {
			taken[n] = at;
			shots[n++] = t->v[at];
		}
	}
	return n;
}

/* Machine-made ones as far as there are any, seeds for the rest, shuffled. */
static void make_request(const struct prompts *p, int64_t request, struct buf *out)
{
	const char *shots[SI_SHOTS_MAX], *mixed[SI_SHOTS_MAX];
	uint32_t order[SI_SHOTS_MAX];
	struct rng r;
	int n, total = p->shots_seed + p->shots_machine;

	rng_open(&r, p->ctx->seed, RNG_PROMPTS, (uint32_t)p->ctx->iter, (uint64_t)request, 1);
	n = draw(&p->machine, p->shots_machine, &r, shots);
	n += draw(&p->seeds, total - n, &r, shots + n);
	for (int i = 0; i < n; i++)
		order[i] = (uint32_t)i;
	rng_shuffle(&r, order, (uint32_t)n);
	for (int i = 0; i < n; i++)
		mixed[i] = shots[order[i]];
	si_request(mixed, n, out);
}

/* --- answers --------------------------------------------------------------------------------- */

static enum rc accept(struct prompts *p, const char *text, int64_t request, double similarity,
		      struct err *e)
{
	json_t *row = json_pack("{s:o, s:s, s:{s:s, s:I, s:f}}", "id",
				json_sprintf("%d-%05lld", p->ctx->iter, (long long)p->rows.n),
				"prompt", text, "meta", "source", "generated", "request",
				(json_int_t)request, "similarity", similarity);
	enum rc rc = stage_rows_add(&p->rows, row, e);

	json_decref(row);
	texts_add(&p->machine, text);
	return rc;
}

static enum rc take_answer(struct prompts *p, int64_t request, const struct textgen_result *r,
			   struct err *e)
{
	char *items[SI_ITEMS_MAX];
	size_t len = strlen(r->text), cut = si_cut(r->text, len);
	enum rc rc = RC_OK;
	int n;

	if (r->too_long || (!r->stopped && cut == len)) {
		p->too_long += r->too_long;
		p->reasons[SI_UNFINISHED]++;
		return RC_OK;
	}
	n = si_split(r->text, cut, items);
	for (int i = 0; i < n; i++) {
		if (rc == RC_OK && p->rows.n < p->count) {
			char *text = si_clean(&p->rules, items[i]);
			double f;
			enum si_reason why = si_pool_try(p->pool, text, &f);
			p->reasons[why]++;
			if (why == SI_OK)
				rc = accept(p, text, request, f, e);
			free(text);
		}
		free(items[i]);
	}
	return rc;
}

/* --- rounds ---------------------------------------------------------------------------------- */

static json_t *reasons_json(const struct prompts *p)
{
	json_t *v = json_object();

	for (int i = 0; i < SI_N_REASONS; i++)
		json_object_set_new(v, si_reason_text((enum si_reason)i),
				    json_integer(p->reasons[i]));
	return v;
}

static json_t *state_json(const struct prompts *p)
{
	int64_t computed, asked;

	si_pool_stats(p->pool, &computed, &asked);
	return json_pack("{s:I, s:I, s:o, s:I, s:I}", "requests", (json_int_t)p->next, "too_long",
			 (json_int_t)p->too_long, "reasons", reasons_json(p), "comparisons",
			 (json_int_t)(p->asked + asked), "computed", (json_int_t)(p->computed + computed));
}

static enum rc one_round(struct prompts *p, struct err *e)
{
	int64_t end = p->next + PROMPTS_ROUND < p->requests_max ? p->next + PROMPTS_ROUND
								: p->requests_max;
	enum rc rc = RC_OK;
	int index;

	textgen_clear(p->gen);
	for (int64_t i = p->next; rc == RC_OK && i < end; i++) {
		struct buf ask = BUF_INIT;
		make_request(p, i, &ask);
		struct textgen_req q = {.prompt = ask.data,
					.raw = true,
					.sampling = p->sampling,
					.stage = RNG_PROMPTS,
					.iter = (uint32_t)p->ctx->iter,
					.item = (uint64_t)i,
					.n = 1,
					.stop_text = "\n\n"};
		rc = textgen_add(p->gen, &q, &index, e);
		buf_release(&ask);
	}
	if (rc == RC_OK)
		rc = textgen_run(p->gen, e);
	for (int64_t i = p->next; rc == RC_OK && i < end; i++)
		rc = take_answer(p, i, textgen_result(p->gen, (int)(i - p->next), 0), e);
	if (rc != RC_OK)
		return rc;
	p->next = end;
	stage_progress(p->ctx, p->rows.n, p->count, "prompts");
	return stage_rows_mark(&p->rows, state_json(p), e);
}

/* Pool and examples as they stood when the checkpoint was made. */
static enum rc restore(struct prompts *p, struct err *e)
{
	const json_t *reasons = json_object_get(p->rows.state, "reasons");
	json_t *rows, *row;
	size_t i;
	enum rc rc;

	p->next = jx_get_i64(p->rows.state, "requests", 0);
	p->too_long = jx_get_i64(p->rows.state, "too_long", 0);
	p->asked = jx_get_i64(p->rows.state, "comparisons", 0);
	p->computed = jx_get_i64(p->rows.state, "computed", 0);
	for (int k = 0; k < SI_N_REASONS; k++)
		p->reasons[k] = jx_get_i64(reasons, si_reason_text((enum si_reason)k), 0);
	if (p->rows.n == 0)
		return RC_OK;
	if ((rc = stage_rows_load(&p->rows, &rows, e)) != RC_OK)
		return rc;
	json_array_foreach(rows, i, row) {
		si_pool_seed(p->pool, jx_get_str(row, "prompt", ""));
		texts_add(&p->machine, jx_get_str(row, "prompt", ""));
	}
	json_decref(rows);
	return RC_OK;
}

static enum rc load_seeds(struct prompts *p, struct err *e)
{
	json_t *rows, *row;
	size_t i;
	enum rc rc = load_pool(p, &rows, e);

	json_array_foreach(rows, i, row)
		texts_add(&p->seeds, jx_get_str(row, "prompt", ""));
	json_decref(rows);
	rows = NULL;
	if (rc == RC_OK && stage_in(p->ctx, "ift"))
		rc = stage_in_rows(p->ctx, "ift", PROMPTS_ROWS_MAX, &rows, e);
	json_array_foreach(rows, i, row)
		texts_add(&p->seeds, jx_get_str(row, "prompt", ""));
	json_decref(rows);
	if (rc == RC_OK && p->seeds.n == 0)
		rc = err_set(
			e, RC_INVALID,
			"prompts: no seed prompts to show (data.ift and data.prompts are empty)");
	return rc;
}

static enum rc open_generator(struct prompts *p, bool fixed, struct err *e)
{
	const char *named = fixed ? jx_get_str(p->c, "model", "") : "";
	const char *dir = *named ? named : stage_in(p->ctx, "model");
	const char *lang = jx_get_str(stage_section(p->ctx, "data"), "lang", "en");
	const char *mode = jx_get_str(p->c, "rouge_mode", "auto");
	int total;

	p->rules = si_rules_default;
	p->rules.min_words = (int)jx_get_i64(p->c, "min_words", 4);
	p->rules.max_words = (int)jx_get_i64(p->c, "max_words", 150);
	p->rules.rouge_max = jx_get_f64(p->c, "rouge_max", 0.7);
	p->rules.any_script = strcmp(lang, "en") != 0;
	if (strcmp(mode, "auto") != 0)
		p->rules.any_script = strcmp(mode, "unicode") == 0;
	p->rules.capitalize = jx_get_bool(p->c, "capitalize", false);
	p->shots_seed = (int)jx_get_i64(p->c, "shots_seed", 6);
	p->shots_machine = (int)jx_get_i64(p->c, "shots_machine", 2);
	p->requests_max = jx_get_i64(p->c, "max_requests", 10000);
	p->sampling = (struct textgen_sampling){
		.temperature = (float)jx_get_f64(p->c, "temperature", 0.6),
		.top_p = (float)jx_get_f64(p->c, "top_p", 0.9),
		.max_new = (int)jx_get_i64(p->c, "max_new_tokens", 512),
	};
	total = p->shots_seed + p->shots_machine;
	if (p->shots_seed < 0 || p->shots_machine < 0 || total < 1 || total > SI_SHOTS_MAX)
		return err_set(e, RC_INVALID, "prompts: %d + %d examples, expected 1 to %d",
			       p->shots_seed, p->shots_machine, SI_SHOTS_MAX);
	if (!dir)
		return err_set(e, RC_INVALID,
			       "prompts: input model is missing, and prompts.model names none");
	if (*named && !fs_exists(named))
		return err_set(e, RC_NOTFOUND,
			       "prompts.model: there is no folder %s on this worker", named);
	return textgen_open(p->ctx, dir, jx_get_str(p->ctx->spec, "template", "plain"), &p->gen, e);
}

static enum rc finish(struct prompts *p, const char *generator, struct err *e)
{
	json_t *meta = state_json(p);
	char name[64];

	for (int i = 0; i < SI_N_REASONS; i++) {
		str_fmt(name, sizeof(name), "prompts.%s", si_reason_text((enum si_reason)i));
		stage_final(p->ctx, name, json_integer(p->reasons[i]));
	}
	int64_t asked = jx_get_i64(meta, "comparisons", 0);
	stage_final(p->ctx, "prompts.comparisons", json_integer(asked));
	stage_final(p->ctx, "prompts.comparisons_avoided",
		    json_integer(asked - jx_get_i64(meta, "computed", 0)));
	stage_final(p->ctx, "prompts.rows", json_integer(p->rows.n));
	stage_final(p->ctx, "prompts.requests", json_integer(p->next));
	textgen_report(p->gen);
	if (p->rows.n == 0) {
		char *text = jx_text(meta);
		enum rc rc = err_set(e, RC_INVALID,
				     p->too_long == p->next
					     ? "prompts: the examples alone fill the model's "
					       "context of %d tokens; show fewer: %s"
					     : "prompts: none accepted (context %d tokens): %s",
				     textgen_context(p->gen), text);
		free(text);
		json_decref(meta);
		return rc;
	}
	if (p->rows.n < p->count)
		log_warn("prompts", "fewer than asked", "rows=%lld count=%lld requests=%lld",
			 (long long)p->rows.n, (long long)p->count, (long long)p->next);
	json_object_set_new(meta, "generator", json_string(generator));
	textgen_meta(p->gen, meta);
	return stage_rows_finish(&p->rows, meta, e);
}

static enum rc from_model(struct prompts *p, const char *generator, struct err *e)
{
	enum rc rc = open_generator(p, strcmp(generator, "fixed") == 0, e);

	if (rc == RC_OK)
		rc = load_seeds(p, e);
	if (rc != RC_OK)
		return rc;
	p->pool = si_pool_new(&p->rules);
	for (size_t i = 0; i < p->seeds.n; i++)
		si_pool_seed(p->pool, p->seeds.v[i]);
	for (size_t i = 0; i < p->machine.n; i++)
		si_pool_seed(p->pool, p->machine.v[i]);
	if ((rc = stage_rows_open(p->ctx, "prompts", &p->rows, e)) == RC_OK)
		rc = restore(p, e);
	while (rc == RC_OK && p->rows.n < p->count && p->next < p->requests_max)
		rc = one_round(p, e);
	return rc == RC_OK ? finish(p, generator, e) : rc;
}

enum rc stage_prompts(struct stage_ctx *ctx, struct err *e)
{
	struct prompts p = {.ctx = ctx, .c = stage_section(ctx, "prompts"), .rows = {.fd = -1}};
	const char *generator = jx_get_str(p.c, "generator", "file");
	enum rc rc;

	p.used = json_object();
	p.count = jx_get_i64(p.c, "count", 1000);
	if (p.count < 1)
		rc = err_set(e, RC_INVALID, "prompts.count is %lld, expected at least 1",
			     (long long)p.count);
	else if ((rc = load_earlier(&p, e)) != RC_OK)
		;
	else if (strcmp(generator, "file") == 0)
		rc = from_file(&p, e);
	else if (strcmp(generator, "fixed") == 0 || strcmp(generator, "current") == 0)
		rc = from_model(&p, generator, e);
	else
		rc = err_set(e, RC_INVALID,
			     "prompts.generator \"%s\": expected fixed, current or file",
			     generator);
	stage_rows_release(&p.rows);
	si_pool_free(p.pool);
	textgen_close(p.gen);
	texts_release(&p.seeds);
	texts_release(&p.machine);
	json_decref(p.used);
	return rc;
}
