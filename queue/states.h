/* States of jobs and runs, from states.def. Order is that of the file. */
#pragma once

#include <stdbool.h>

enum job_state {
#define JOB_STATE(name, terminal) JOB_##name,
#include "queue/states.def"
	JOB_N_STATES
};

enum run_state {
#define RUN_STATE(name, terminal) RUN_##name,
#include "queue/states.def"
	RUN_N_STATES
};

/* Names of the stages in the order of a run; ends with NULL. */
extern const char *const stage_names[];
bool stage_known(const char *name);

const char *job_state_text(enum job_state s);
bool job_state_of(const char *text, enum job_state *out);
bool job_state_terminal(enum job_state s);
bool job_may_move(enum job_state from, enum job_state to);

const char *run_state_text(enum run_state s);
bool run_state_of(const char *text, enum run_state *out);
bool run_state_terminal(enum run_state s);
