#include "worker/stages/saving.h"

#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/model/shard.h"
#include "worker/stage.h"
#include "worker/stages/training.h"

#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PARTS_MAX 10
#define BESIDE_NICE 5 /* steps go before writing */
#define INTERVAL_MIN_S 5.0
#define INTERVAL_MAX_S 1800.0
#define STALL_SHARE 0.005 /* of the time, so that with the first ones it is less than 1 % */
#define COPY_RATE 1e9	 /* bytes/s, until it was measured */

struct saving {
	struct training *t;	   /* borrowed */
	struct trainer_copy *copy; /* owned; NULL: files are written before the steps go on */
	bool asked_copy, touching; /* touching: `thread` asks for its pages */
	bool waits;		   /* one is due and another in flight */
	/* in flight */
	bool running;
	_Atomic bool ended;
	pthread_t thread;
	struct stage_ckpt ckpt;
	json_t *cursor; /* owned */
	char model[PATH_MAX], state[PATH_MAX], rows[8][PATH_MAX];
	struct stage_part parts[PARTS_MAX];
	int n_parts;
	double begun_s, ended_s;
	enum rc rc;
	struct err e;
	/* figures */
	int64_t n, n_waited, bytes;
	int64_t step;		    /* of the last one begun */
	double stall_s, write_s;    /* sums over them */
	double free_s, free_tokens; /* steps with nothing in flight */
	double busy_s, busy_tokens; /* and with one */
};

struct saving *saving_new(struct training *t)
{
	struct saving *s = mem_new(sizeof *s);

	s->t = t;
	s->step = -1;
	return s;
}

/* --- when ------------------------------------------------------------------------------------ */

double saving_interval(double cost_s, double stall_s, double write_s, double loss_s)
{
	double x = sqrt(2 * loss_s * (cost_s > 0 ? cost_s : 0));

	x = fmax(x, stall_s / STALL_SHARE);
	x = fmin(fmax(x, INTERVAL_MIN_S), INTERVAL_MAX_S);
	return fmax(x, write_s); /* One in flight. */
}

/* Steps beside a checkpoint take longer: that counts as well as standing still. */
static double slowdown(const struct saving *s)
{
	if (s->free_tokens <= 0 || s->busy_tokens <= 0)
		return 0;
	return fmax(s->busy_s - s->busy_tokens * (s->free_s / s->free_tokens), 0);
}

static double cost_of_one(const struct saving *s)
{
	const struct training *t = s->t;
	size_t floats = t->lora ? t->lora->n_params : t->model->n_params;

	if (s->n > 0)
		return (s->stall_s + slowdown(s)) / (double)s->n;
	return 3.0 * (double)floats * sizeof(float) / COPY_RATE + 0.01;
}

static double loss_every(const struct saving *s)
{
	double x = jx_get_f64(s->t->ctx->job, "loss_every_s", 0);

	return x > 0 ? x : SAVING_LOSS_S;
}

static double interval(const struct saving *s)
{
	double n = s->n > 0 ? (double)s->n : 1;

	return saving_interval(cost_of_one(s), s->stall_s / n, s->write_s / n, loss_every(s));
}

static void *touch(void *copy)
{
	trainer_copy_touch(copy);
	return NULL;
}

static void end_touching(struct saving *s)
{
	if (s->touching)
		pthread_join(s->thread, NULL);
	s->touching = false;
}

/* After the first step, when all else has the memory it needs; kept to the end. */
static void ask_copy(struct saving *s)
{
	struct err e = {0};

	if (s->asked_copy)
		return;
	s->asked_copy = true;
	if (s->t->ctx->no_copies)
		return;
	enum rc rc = trainer_copy_new(s->t->trainer, &s->copy, &e);
	if (rc == RC_OK)
		s->touching = pthread_create(&s->thread, NULL, touch, s->copy) == 0;
	else if (rc != RC_UNSUPPORTED)
		log_info("stage", "checkpoints_stall", "reason=%s", e.text);
}

void saving_stepped(struct saving *s, double seconds, double tokens)
{
	ask_copy(s);
	double *sum = s->running ? &s->busy_s : &s->free_s;

	*sum += seconds;
	sum = s->running ? &s->busy_tokens : &s->free_tokens;
	*sum += tokens;
}

static bool turn(const struct saving *s)
{
	const struct training *t = s->t;
	int64_t every = jx_get_i64(t->section, "save_every_steps", 0);

	if (every > 0)
		return t->step % every == 0;
	return (double)(clk_mono_ms() - t->ctx->last_ckpt_ms) >= interval(s) * 1000;
}

bool saving_due(struct saving *s, int64_t to)
{
	bool asked = stage_checkpoint_due(s->t->ctx, INT64_MAX);

	if (s->t->step >= to)
		return false; /* The outputs say it all. */
	bool due = asked || s->waits || turn(s);
	bool now = stage_told(s->t->ctx, due && (!s->running || atomic_load(&s->ended)));
	s->n_waited += due && !now && !s->waits;
	s->waits = due && !now;
	return now;
}

/* --- what ------------------------------------------------------------------------------------ */

static enum rc fresh_dir(const struct stage_ctx *ctx, const char *name, char *out, size_t size,
			 struct err *e)
{
	str_fmt(out, size, "%s/work/%s", ctx->dir, name);
	enum rc rc = fs_remove_tree(out, e);
	return rc == RC_OK ? fs_mkdirs(out, e) : rc;
}

static enum rc make_parts(struct saving *s, struct err *e)
{
	struct stage_ctx *ctx = s->t->ctx;

	s->n_parts = 0;
	s->parts[s->n_parts++] = (struct stage_part){"state", "train_state", s->state};
	if (!s->t->lora)
		s->parts[s->n_parts++] = (struct stage_part){"model", "checkpoint", s->model};
	for (int i = 0; i < ctx->n_row_roles; i++) {
		str_fmt(s->rows[i], sizeof s->rows[i], "%s/work/rows-%s", ctx->dir,
			ctx->row_roles[i]);
		s->parts[s->n_parts++] =
			(struct stage_part){ctx->row_roles[i], "progress", s->rows[i]};
	}
	enum rc rc = fresh_dir(ctx, "ckpt-model", s->model, sizeof s->model, e);
	if (rc == RC_OK)
		rc = fresh_dir(ctx, "ckpt-state", s->state, sizeof s->state, e);
	return rc == RC_OK ? stage_shared_dir(ctx, s->state, sizeof s->state, e) : rc;
}

/* Straight from the trainer: the steps wait. */
static enum rc write_files(struct saving *s, struct err *e)
{
	enum rc rc = trainer_pull(s->t->trainer, e);

	if (rc == RC_OK && !s->t->lora)
		rc = training_save_model(s->t, s->model, e);
	return rc == RC_OK ? training_save_state(s->t, s->state, e) : rc;
}

/* The same files from the copy; nothing here is changed by a step. */
static enum rc write_copy(struct saving *s, struct err *e)
{
	const struct training *t = s->t;
	char base[SHA256_HEX_SIZE + 8];
	enum rc rc = trainer_copy_save(s->copy, s->state, s->cursor, e);

	if (rc == RC_OK && t->lora) {
		struct lora lora = *t->lora;

		lora.params = trainer_copy_params(s->copy);
		training_base_name(t, base);
		rc = lora_save(&lora, s->state, base, e);
	} else if (rc == RC_OK) {
		struct model *model = mem_new(sizeof *model);

		*model = *t->model;
		model->params = trainer_copy_params(s->copy);
		rc = model_save(model, s->model, e);
		free(model);
	}
	return rc;
}

/* --- beside the steps ------------------------------------------------------------------------ */

static void *beside(void *arg)
{
	struct saving *s = arg;

	(void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), BESIDE_NICE);
	s->rc = s->copy ? write_copy(s, &s->e) : RC_OK;
	if (s->rc == RC_OK)
		s->rc = stage_checkpoint_write(s->t->ctx, &s->ckpt, s->parts, s->n_parts, &s->e);
	s->ended_s = clk_mono_s();
	atomic_store(&s->ended, true);
	return NULL;
}

enum rc saving_wait(struct saving *s, struct err *e)
{
	if (!s->running)
		return RC_OK;
	pthread_join(s->thread, NULL);
	s->running = false;
	(void)fs_remove_tree(s->model, NULL);
	(void)fs_remove_tree(s->state, NULL);
	json_decref(s->ckpt.progress); /* Left when its files could not be written. */
	s->ckpt.progress = NULL;
	s->write_s += s->ended_s - s->begun_s;
	s->bytes += s->ckpt.bytes;
	return s->rc == RC_OK ? RC_OK : err_set(e, s->rc, "%s", s->e.text);
}

/* On the first rank alone: the others wrote their part of the files and are done. */
static enum rc launch(struct saving *s, struct err *e)
{
	if (!stage_is_first(s->t->ctx))
		return fs_remove_tree(s->model, e);
	json_decref(s->cursor);
	s->cursor = json_pack("{s:I}", "step", (json_int_t)s->t->step);
	stage_checkpoint_begin(s->t->ctx, &s->ckpt, json_incref(s->cursor));
	s->rc = RC_OK;
	atomic_store(&s->ended, false);
	if (pthread_create(&s->thread, NULL, beside, s) != 0)
		return err_set(e, RC_NOMEM, "no thread for a checkpoint");
	s->running = true;
	return RC_OK;
}

void saving_free(struct saving *s)
{
	if (!s)
		return;
	end_touching(s);
	(void)saving_wait(s, NULL);
	trainer_copy_free(s->copy);
	json_decref(s->cursor);
	free(s);
}

enum rc saving_begin(struct saving *s, struct err *e)
{
	double begun = clk_mono_s();
	enum rc rc = saving_wait(s, e);

	end_touching(s);
	if (rc == RC_OK)
		rc = make_parts(s, e);
	s->step = s->t->step;
	s->begun_s = begun;
	if (rc == RC_OK)
		rc = s->copy ? trainer_copy_take(s->copy, e) : write_files(s, e);
	if (rc == RC_OK)
		rc = launch(s, e);
	s->n++;
	s->stall_s += clk_mono_s() - begun;
	return rc;
}

enum rc saving_last(struct saving *s, struct err *e)
{
	double stall = s->stall_s;
	enum rc rc = saving_wait(s, e);

	if (rc == RC_OK && stage_checkpoint_due(s->t->ctx, INT64_MAX) && s->step != s->t->step)
		rc = saving_begin(s, e);
	if (rc == RC_OK)
		rc = saving_wait(s, e);
	s->stall_s = stall; /* Nothing was kept from going on. */
	return rc;
}

void saving_report(const struct saving *s)
{
	struct stage_ctx *ctx = s->t->ctx;
	double all = s->free_s + s->busy_s + s->stall_s, n = s->n > 0 ? (double)s->n : 1;

	stage_final(ctx, "checkpoint.n", json_integer(s->n));
	stage_final(ctx, "checkpoint.interval_s", json_real(interval(s)));
	stage_final(ctx, "checkpoint.loss_every_s", json_real(loss_every(s)));
	if (s->n == 0 || all <= 0)
		return;
	stage_final(ctx, "checkpoint.waited", json_integer(s->n_waited));
	stage_final(ctx, "checkpoint.bytes", json_integer(s->bytes / s->n));
	stage_final(ctx, "checkpoint.write_s", json_real(s->write_s / n));
	stage_final(ctx, "checkpoint.stall_s", json_real(s->stall_s / n));
	stage_final(ctx, "checkpoint.stall_share", json_real(s->stall_s / all));
	stage_final(ctx, "checkpoint.slowdown_share", json_real(slowdown(s) / all));
}
