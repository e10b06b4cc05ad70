/* Checkpoints of a training stage, made beside the training.
 *
 * Between two steps all that a checkpoint holds is copied in memory; a thread of low priority
 * writes, hashes and seals the copy while the next steps are taken. One is in flight at a time, so
 * memory is bounded by one copy; what falls due meanwhile waits for it. Where the copy does not
 * fit, and with several ranks, the files are written first and only packing and hashing go on
 * beside the steps.
 *
 * When: every `save_every_steps` steps if the spec says so, else at the interval that loses least
 * (Young 1974): the root of twice the time between two losses of a worker, as the queue saw them in
 * this run, times what a checkpoint costs, as measured here. Changes no byte of any output.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct training;
struct saving;

#define SAVING_LOSS_S 14400.0 /* between two losses of a worker, where nothing is known */

struct saving *saving_new(struct training *t);
void saving_free(struct saving *s); /* waits for what is in flight; NULL is fine */
/* One step took `seconds` for `tokens`. */
void saving_stepped(struct saving *s, double seconds, double tokens);
/* Whether a checkpoint begins now, before step `to`. All ranks ask alike. */
bool saving_due(struct saving *s, int64_t to);
/* Begins one; returns when the steps may go on. */
enum rc saving_begin(struct saving *s, struct err *e);
/* Waits for what is in flight; its error, if it had one. */
enum rc saving_wait(struct saving *s, struct err *e);
/* The job is told to stop: a last checkpoint, if the time suffices. */
enum rc saving_last(struct saving *s, struct err *e);
/* "checkpoint.*" among the figures of the job; after saving_wait(). */
void saving_report(const struct saving *s);

/* Seconds between two checkpoints that cost `cost_s` each, of which the training stands still for
 * `stall_s` and which are written for `write_s`; a worker is lost every `loss_s`. */
double saving_interval(double cost_s, double stall_s, double write_s, double loss_s);
