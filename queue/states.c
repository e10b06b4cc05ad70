#include "queue/states.h"

#include <string.h>

static const struct {
	const char *name;
	bool terminal;
} job_states[] = {
#define JOB_STATE(name, terminal) {#name, terminal},
#include "queue/states.def"
}, run_states[] = {
#define RUN_STATE(name, terminal) {#name, terminal},
#include "queue/states.def"
};

static const bool moves[JOB_N_STATES][JOB_N_STATES] = {
#define JOB_MOVE(from, to, why) [JOB_##from][JOB_##to] = true,
#include "queue/states.def"
};

const char *const stage_names[] = {
#define STAGE(name) #name,
#include "queue/states.def"
	NULL};

bool stage_known(const char *name)
{
	for (const char *const *s = stage_names; *s; s++)
		if (!strcmp(*s, name))
			return true;
	return false;
}

const char *job_state_text(enum job_state s)
{
	return job_states[s].name;
}

bool job_state_of(const char *text, enum job_state *out)
{
	for (int i = 0; i < JOB_N_STATES; i++)
		if (!strcmp(text, job_states[i].name)) {
			*out = (enum job_state)i;
			return true;
		}
	return false;
}

bool job_state_terminal(enum job_state s)
{
	return job_states[s].terminal;
}

bool job_may_move(enum job_state from, enum job_state to)
{
	return moves[from][to];
}

const char *run_state_text(enum run_state s)
{
	return run_states[s].name;
}

bool run_state_of(const char *text, enum run_state *out)
{
	for (int i = 0; i < RUN_N_STATES; i++)
		if (!strcmp(text, run_states[i].name)) {
			*out = (enum run_state)i;
			return true;
		}
	return false;
}

bool run_state_terminal(enum run_state s)
{
	return run_states[s].terminal;
}
