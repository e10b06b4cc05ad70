/* What the training stages share: a model that changes, its optimizer, and how both are saved.
 *
 * A checkpoint has the parts `model` (a Hugging Face directory) and `state` (optimizer and step),
 * and the rows of the job if it opened any. Invariant: every step is a pure function of its number,
 * so a job resumed from any checkpoint ends with the bytes of an undisturbed one.
 *
 * With an adapter (lora_r > 0) the weights stay as the input has them; the state holds the adapter
 * in PEFT's files beside the optimizer, and is the whole checkpoint of an unfinished job. Only the
 * output `model` has the adapter merged into its weights; nobody trains on from that.
 */
#pragma once

#include "base/err.h"
#include "base/sha256.h"
#include "worker/model/lora.h"
#include "worker/model/model.h"
#include "worker/model/template.h"
#include "worker/model/token.h"
#include "worker/stages/examples.h"
#include "worker/train/trainer.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct saving;
struct stage_ctx;

struct training {
	struct stage_ctx *ctx;   /* borrowed */
	const json_t *section;   /* spec.sft or spec.dpo */
	struct model *model;     /* owned */
	struct tokenizer *tok;   /* owned */
	struct template *tmpl;   /* owned */
	struct trainer *trainer; /* owned */
	struct saving *saving;   /* owned */
	const char *role;        /* of the input the model came from */
	struct lora *lora;       /* owned; with an adapter */
	struct lora_settings adapter; /* r 0: none */
	int64_t step;            /* the next one to take */
	bool resumed;            /* weights and state come from a checkpoint of this job */
	const char *format;      /* engine.train: "f32" or "bf16"; borrowed from the spec */
	double mark;             /* when the step began, seconds */
	double seconds, tokens;  /* spent in steps of this attempt, rows fed by them */
	/* running figures of the last steps */
	double loss_sum, accuracy_sum;
	int64_t loss_n;
};

/* Weights of the resumed checkpoint, else (and always with an adapter) of input `role`; tokenizer
 * and template beside them. */
enum rc training_open(struct training *t, struct stage_ctx *ctx, const char *section,
		      const char *role, struct err *e);
/* Settings of the section, the schedule running over total_steps. */
enum rc training_options(const struct training *t, int64_t total_steps, const char *variant,
			 struct train_opts *o, struct err *e);
/* Makes the optimizer; restores it from the resumed checkpoint, or else from `state_dir` (NULL: a
 * new one). Sets t->step; without any state it is `first`. */
enum rc training_start(struct training *t, const struct train_opts *o, const char *state_dir,
		       int64_t first, struct err *e);
void training_close(struct training *t);
/* This rank's part of the model of a directory. What is not trained (`frozen`) and is packed for the back end
 * comes as a mere layout: its weights go from the files to where they are needed, piece by piece. */
enum rc training_load(const struct training *t, const char *dir, bool frozen, struct model **out,
		      struct err *e);
/* The ranks that hold the model together, and those that divide batches; NULL: there are none. */
struct coll *training_tensor(const struct training *t);
struct coll *training_data(const struct training *t);
/* Before a step: its time counts from here. */
void training_step_begins(struct training *t);

/* After step t->step was taken: counts it, reports, checkpoints when due, and returns RC_CANCELLED
 * when the job must stop. */
enum rc training_stepped(struct training *t, const struct train_metrics *m, bool preference,
			 int64_t from, int64_t to, struct err *e);
/* Outputs `model` and `state`. `meta` consumed. */
enum rc training_finish(struct training *t, json_t *meta, struct err *e);
/* Their files, from the trainer as it is now. All ranks call them; the first rank's folder is
 * everybody's. After trainer_pull(). */
enum rc training_save_model(const struct training *t, const char *dir, struct err *e);
enum rc training_save_state(const struct training *t, const char *dir, struct err *e);
/* What an adapter's configuration says it stands on. */
void training_base_name(const struct training *t, char out[SHA256_HEX_SIZE + 8]);
/* Rows of a role into examples through the template; nothing when the role is absent. */
enum rc training_examples(struct training *t, const char *role, int max_length, struct examples *x,
			  struct err *e);
