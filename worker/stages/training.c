#include "worker/stages/training.h"

#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/model/shard.h"
#include "worker/stage.h"
#include "worker/stages/saving.h"

#include <limits.h>
#include <string.h>

#define ROWS_MAX (4u << 20)

/* --- open ------------------------------------------------------------------------------------ */

static enum rc read_adapter(struct training *t, struct err *e)
{
	const json_t *c = t->section;

	t->adapter.r = (int)jx_get_i64(c, "lora_r", 0);
	if (t->adapter.r == 0)
		return RC_OK;
	t->adapter.alpha = jx_get_f64(c, "lora_alpha", 16);
	t->adapter.dropout = jx_get_f64(c, "lora_dropout", 0);
	t->adapter.rslora = jx_get_bool(c, "lora_rslora", false);
	return lora_targets_parse(jx_get_str(c, "lora_targets", "all-linear"), &t->adapter.targets, e);
}

struct coll *training_tensor(const struct training *t)
{
	return t->ctx->divide_batches ? NULL : t->ctx->coll;
}

struct coll *training_data(const struct training *t)
{
	return t->ctx->divide_batches ? t->ctx->coll : NULL;
}

enum rc training_load(const struct training *t, const char *dir, bool frozen, struct model **out,
		      struct err *e)
{
	int rank = coll_rank(training_tensor(t)), n = coll_ranks(training_tensor(t));
	const char *base = jx_get_str(stage_section(t->ctx, "engine"), "base", "plain");
	bool eight = t->adapter.r > 0 && strcmp(base, "q8") == 0;
	bool packed = eight || !stage_kern(t->ctx)->host;

	return frozen && packed ? model_load_layout(dir, rank, n, out, e)
				: model_load_part(dir, rank, n, out, e);
}

enum rc training_open(struct training *t, struct stage_ctx *ctx, const char *section,
		      const char *role, struct err *e)
{
	*t = (struct training){.ctx = ctx, .section = stage_section(ctx, section), .role = role};
	t->format = jx_get_str(stage_section(ctx, "engine"), "train", "f32");
	t->resumed = stage_resume_dir(ctx, "state") != NULL;
	enum rc rc = read_adapter(t, e);
	if (rc == RC_OK)
		rc = stage_engine_open(
			ctx, strcmp(t->format, "bf16") == 0 ? KERN_BF16 : KERN_F32, e);
	if (rc != RC_OK)
		return rc;
	const char *dir = t->adapter.r > 0 ? NULL : stage_resume_dir(ctx, "model");
	if (!dir)
		dir = stage_in(ctx, role);
	if (!dir)
		return err_set(e, RC_INVALID, "%s: input %s is missing", ctx->stage, role);
	rc = training_load(t, dir, t->adapter.r > 0, &t->model, e);
	if (rc == RC_OK)
		rc = tokenizer_load(dir, &t->tok, e);
	if (rc == RC_OK && tokenizer_vocab(t->tok) > t->model->cfg.vocab)
		rc = err_set(e, RC_INVALID, "%s: the tokenizer has ids up to %d, the model only %d", dir,
			     tokenizer_vocab(t->tok) - 1, t->model->cfg.vocab);
	if (rc == RC_OK)
		rc = template_open(jx_get_str(ctx->spec, "template", "plain"), t->tok, &t->tmpl, e);
	return rc;
}

/* Masks of dropout: one name per stage, iteration and variant, the same in every DPO shard. */
static uint64_t mask_seed(const struct stage_ctx *ctx, const char *variant)
{
	char name[128];

	str_fmt(name, sizeof name, "%llu/%s/%d/%.40s", (unsigned long long)ctx->seed, ctx->stage,
		ctx->iter, variant);
	return stage_item(name);
}

static enum rc read_engine(const struct training *t, struct train_opts *o, struct err *e)
{
	const json_t *engine = stage_section(t->ctx, "engine");
	const char *base = jx_get_str(engine, "base", "plain");

	if (strcmp(t->format, "f32") != 0 && strcmp(t->format, "bf16") != 0)
		return err_set(e, RC_INVALID, "engine.train \"%s\": expected f32 or bf16", t->format);
	o->format = strcmp(t->format, "bf16") == 0 ? KERN_BF16 : KERN_F32;
	if (strcmp(base, "plain") != 0 && strcmp(base, "q8") != 0)
		return err_set(e, RC_INVALID, "engine.base \"%s\": expected plain or q8", base);
	if (t->adapter.r > 0 && strcmp(base, "q8") == 0)
		o->base = TRAIN_BASE_Q8;
	o->micro_tokens = (int)jx_get_i64(engine, "micro_tokens", TRAIN_MICRO_TOKENS);
	if (o->micro_tokens < 1)
		return err_set(e, RC_INVALID, "engine.micro_tokens %d: expected 1 or more",
			       o->micro_tokens);
	return RC_OK;
}

enum rc training_options(const struct training *t, int64_t total_steps, const char *variant,
			 struct train_opts *o, struct err *e)
{
	const json_t *c = t->section;

	*o = train_opts_default();
	enum rc rc = schedule_parse(jx_get_str(c, "schedule", "cosine"), &o->schedule.kind, e);
	if (rc != RC_OK)
		return rc;
	if (total_steps < 1 || total_steps > INT_MAX)
		return err_set(e, RC_INVALID, "%s: %lld steps", t->ctx->stage, (long long)total_steps);
	o->schedule.lr = jx_get_f64(c, "lr", o->schedule.lr);
	o->schedule.lr_min = jx_get_f64(c, "lr_min", o->schedule.lr_min);
	o->schedule.warmup_steps = (int)jx_get_i64(c, "warmup_steps", 0);
	o->schedule.total_steps = (int)total_steps;
	o->beta1 = jx_get_f64(c, "beta1", o->beta1);
	o->beta2 = jx_get_f64(c, "beta2", o->beta2);
	o->eps = jx_get_f64(c, "eps", o->eps);
	o->weight_decay = jx_get_f64(c, "weight_decay", o->weight_decay);
	o->clip_norm = jx_get_f64(c, "clip_norm", o->clip_norm);
	o->dropout = jx_get_f64(c, "dropout", 0);
	o->seed = mask_seed(t->ctx, variant);
	o->max_length = (int)jx_get_i64(c, "max_length", 1024);
	if (o->max_length > t->model->cfg.max_pos)
		o->max_length = t->model->cfg.max_pos;
	return read_engine(t, o, e);
}

/* The adapter of that state, or a new one. */
static enum rc open_adapter(struct training *t, const char *state_dir, uint64_t seed, struct err *e)
{
	struct lora *l = NULL;
	enum rc rc;

	if (t->adapter.r == 0)
		return RC_OK;
	if (!state_dir)
		return lora_new(&t->model->cfg, &t->adapter, seed, &t->lora, e);
	rc = lora_load(state_dir, &t->model->cfg, &l, e);
	if (rc == RC_OK && (l->s.r != t->adapter.r || l->s.targets != t->adapter.targets ||
			    l->s.alpha != t->adapter.alpha || l->s.rslora != t->adapter.rslora))
		rc = err_set(e, RC_INVALID, "the adapter has rank %d, alpha %g%s: expected %d, %g%s "
			     "on the same layers", l->s.r, l->s.alpha, l->s.rslora ? ", rslora" : "",
			     t->adapter.r, t->adapter.alpha, t->adapter.rslora ? ", rslora" : "");
	if (rc == RC_OK)
		l->s.dropout = t->adapter.dropout;
	t->lora = l;
	return rc;
}

enum rc training_start(struct training *t, const struct train_opts *opts, const char *state_dir,
		       int64_t first, struct err *e)
{
	json_t *cursor = NULL;
	const char *dir = t->resumed ? stage_resume_dir(t->ctx, "state") : state_dir;
	struct train_opts o = *opts;

	enum rc rc = open_adapter(t, dir, o.seed, e);
	o.lora = t->lora;
	o.tensor = training_tensor(t);
	o.data = training_data(t);
	if (rc == RC_OK)
		rc = trainer_new(t->model, stage_kern(t->ctx), stage_pool(t->ctx), &o, &t->trainer, e);
	t->step = first;
	t->saving = saving_new(t);
	if (rc != RC_OK || !dir)
		return rc;
	rc = trainer_load_state(t->trainer, dir, &cursor, e);
	if (rc == RC_OK)
		rc = jx_i64(cursor, "step", 0, INT_MAX, &t->step, e);
	json_decref(cursor);
	if (rc == RC_OK && t->resumed)
		log_info("stage", "resumed", "step=%lld", (long long)t->step);
	return rc == RC_OK ? RC_OK : err_wrap(e, "training state");
}

void training_close(struct training *t)
{
	saving_free(t->saving);
	if (t->trainer)
		trainer_free(t->trainer);
	lora_free(t->lora);
	if (t->tmpl)
		template_free(t->tmpl);
	if (t->tok)
		tokenizer_free(t->tok);
	if (t->model)
		model_free(t->model);
}

enum rc training_examples(struct training *t, const char *role, int max_length, struct examples *x,
			  struct err *e)
{
	json_t *rows;

	if (!stage_in(t->ctx, role))
		return RC_OK;
	enum rc rc = stage_in_rows(t->ctx, role, ROWS_MAX, &rows, e);
	if (rc != RC_OK)
		return rc;
	rc = examples_add_rows(x, rows, t->tmpl, max_length, e);
	json_decref(rows);
	return rc == RC_OK ? RC_OK : err_wrap(e, "input %s", role);
}

/* --- save ------------------------------------------------------------------------------------ */

enum rc training_save_model(const struct training *t, const char *dir, struct err *e)
{
	if (training_tensor(t))
		return shard_save(training_tensor(t), t->model, dir, e);
	return stage_is_first(t->ctx) ? model_save(t->model, dir, e) : RC_OK;
}

void training_base_name(const struct training *t, char out[SHA256_HEX_SIZE + 8])
{
	str_fmt(out, SHA256_HEX_SIZE + 8, "sha256:%s", stage_in_digest(t->ctx, t->role));
}

enum rc training_save_state(const struct training *t, const char *dir, struct err *e)
{
	json_t *cursor = json_pack("{s:I}", "step", (json_int_t)t->step);
	enum rc rc = trainer_save_state(t->trainer, dir, cursor, e);
	char base[SHA256_HEX_SIZE + 8];

	json_decref(cursor);
	training_base_name(t, base);
	if (rc == RC_OK && t->lora && training_tensor(t))
		rc = shard_save_lora(training_tensor(t), t->lora, &t->model->cfg, dir, base, e);
	else if (rc == RC_OK && t->lora && stage_is_first(t->ctx))
		rc = lora_save(t->lora, dir, base, e);
	return rc;
}

void training_step_begins(struct training *t)
{
	t->mark = clk_mono_s();
}

enum rc training_stepped(struct training *t, const struct train_metrics *m, bool preference,
			 int64_t from, int64_t to, struct err *e)
{
	bool stop = stage_should_stop(t->ctx);
	double seconds = clk_mono_s() - t->mark;
	json_t *told = train_metrics_json(m, preference);
	enum rc rc = RC_OK;

	t->step++;
	t->seconds += seconds;
	saving_stepped(t->saving, seconds, m->num_tokens);
	t->tokens += m->num_tokens;
	t->loss_sum += m->loss;
	t->accuracy_sum += preference ? m->accuracy : m->mean_token_accuracy;
	t->loss_n++;
	stage_tokens(t->ctx, (int64_t)m->num_tokens);
	json_object_set_new(told, "seconds", json_real(seconds));
	stage_metric(t->ctx, t->step, told);
	stage_progress(t->ctx, t->step - from, to - from, "steps");
	if (stop && t->step < to)
		rc = saving_last(t->saving, e);
	else if (!stop && saving_due(t->saving, to))
		rc = saving_begin(t->saving, e);
	if (rc == RC_OK && stop && t->step < to)
		rc = stage_stopped(t->ctx, e);
	return rc;
}

/* Of the whole tensors, also where this rank has a part of them. */
static json_int_t elements(const struct tensor_ref *t, int n)
{
	json_int_t sum = 0;

	for (int i = 0; i < n; i++)
		sum += (json_int_t)t[i].all_rows * (t[i].cols ? t[i].all_cols : 1);
	return sum;
}

static json_int_t trained_parameters(const struct training *t)
{
	return t->lora ? elements(t->lora->tensors, t->lora->n_tensors)
		       : elements(t->model->tensors, t->model->n_tensors);
}

static void report_means(struct training *t)
{
	if (t->loss_n == 0)
		return;
	stage_final(t->ctx, "train.mean_loss", json_real(t->loss_sum / (double)t->loss_n));
	stage_final(t->ctx, "train.mean_accuracy", json_real(t->accuracy_sum / (double)t->loss_n));
	stage_final(t->ctx, "train.steps", json_integer(t->step));
	if (t->seconds > 0)
		stage_final(t->ctx, "speed.tokens_per_s", json_real(t->tokens / t->seconds));
	stage_final(t->ctx, "train.parameters", json_integer(trained_parameters(t)));
	saving_report(t->saving);
}

/* The model with the adapter in its weights: those in memory, or one tensor after the other from the
 * files, whatever the ranks have of it. By a table of the CPU, whatever trained the adapter. */
static enum rc save_merged(struct training *t, const char *dir, struct err *e)
{
	const struct kern *k = stage_kern(t->ctx);
	struct kern_pool *threads = k->host ? NULL : kern_pool_new(t->ctx->threads);
	struct kern_pool *pool = threads ? threads : stage_pool(t->ctx);
	enum rc rc = RC_OK;

	k = threads ? kern_cpu() : k;
	if (t->model->params)
		lora_merge(t->lora, t->model, k, pool);
	else if (training_tensor(t))
		rc = shard_merge_save(training_tensor(t), t->lora, &t->model->cfg, t->model->dir, dir, k,
				      pool, e);
	else if (stage_is_first(t->ctx))
		rc = lora_merge_save(t->lora, t->model->dir, dir, k, pool, e);
	kern_pool_free(threads);
	return t->model->params ? training_save_model(t, dir, e) : rc;
}

enum rc training_finish(struct training *t, json_t *meta, struct err *e)
{
	char dir[PATH_MAX], sha[SHA256_HEX_SIZE];
	json_t *templates = json_object();

	if (template_sha256(template_name(t->tmpl), sha, NULL) == RC_OK)
		json_object_set_new(templates, template_name(t->tmpl), json_string(sha));
	json_object_set_new(meta, "templates", templates);
	json_object_set_new(meta, "precision", json_pack("{s:s}", "train", t->format));
	json_object_set_new(meta, "step", json_integer(t->step));
	json_object_set_new(meta, "parameters",
			    json_integer(elements(t->model->tensors, t->model->n_tensors)));
	enum rc rc = saving_wait(t->saving, e);
	if (rc == RC_OK)
		rc = trainer_pull(t->trainer, e);
	if (t->lora)
		json_object_set_new(meta, "lora",
				    json_pack("{s:i, s:f, s:s, s:f, s:b, s:I}", "r", t->adapter.r,
					      "alpha", t->adapter.alpha, "targets",
					      jx_get_str(t->section, "lora_targets", "all-linear"),
					      "dropout", t->adapter.dropout, "rslora",
					      (int)t->adapter.rslora, "parameters",
					      trained_parameters(t)));
	report_means(t);
	if (rc == RC_OK)
		rc = stage_output_begin(t->ctx, "model", dir, sizeof dir, e);
	if (rc == RC_OK)
		rc = t->lora ? save_merged(t, dir, e) : training_save_model(t, dir, e);
	if (rc == RC_OK)
		rc = stage_output_commit(t->ctx, "model", "checkpoint", json_deep_copy(meta), e);
	if (rc == RC_OK)
		rc = stage_output_begin(t->ctx, "state", dir, sizeof dir, e);
	if (rc == RC_OK)
		rc = stage_shared_dir(t->ctx, dir, sizeof dir, e);
	if (rc == RC_OK)
		rc = training_save_state(t, dir, e);
	if (rc == RC_OK)
		rc = stage_output_commit(t->ctx, "state", "train_state", json_incref(meta), e);
	json_decref(meta);
	return rc;
}
