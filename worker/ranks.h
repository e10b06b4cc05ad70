/* The ranks of one job: who they are, how they were started, how they find each other.
 *
 * On one machine the executor is rank 0 and starts the others: the same program, in a folder of
 * their own inside the job's. Across machines somebody else starts all of them (mpirun, Slurm,
 * Kubernetes, torchrun) and says so in their environment. All ranks run the same stage on the same
 * inputs and come to the same numbers; rank 0 alone talks to the agent and leaves outputs.
 *
 * Invariants: the ranks of one job end together. A rank that dies takes the others with it, and
 * rank 0's error names it and its end; the job is then tried again like after any crash. Knows
 * nothing of stages, and of a back end only how its ranks move arrays.
 */
#pragma once

#include "base/err.h"
#include "base/proc.h"
#include "kernels/collective.h"

#include <stdbool.h>
#include <stddef.h>
#include <pthread.h>

#define RANKS_KEY_MAX 64
#define RANKS_PORT 29500

struct ranks {
	int rank, n;	   /* 0 of 1: alone */
	char address[256]; /* of rank 0 */
	int port;
	char key[RANKS_KEY_MAX]; /* strangers do not know it; "" is none */
	int listener;		 /* rank 0's; -1: none yet */
	/* Of a rank 0 that started the others: */
	struct proc *children; /* owned; [n - 1] */
	pthread_t watcher;
	bool watching;
	int stop[2]; /* a pipe that ends the watcher */
	pthread_mutex_t lock;
	char why[256]; /* which rank ended, and how; under the lock */
	void (*ended)(const char *why);
};

/* Who this process is:
 *	PAWL_RANK, PAWL_RANKS				started by rank 0
 *	OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE	mpirun of Open MPI
 *	RANK, WORLD_SIZE				torchrun, operators of Kubernetes
 *	PMI_RANK, PMI_SIZE				mpirun of MPICH and its kin
 *	SLURM_PROCID, SLURM_NTASKS			srun
 *	JOB_COMPLETION_INDEX, PAWL_RANKS		an Indexed Job of Kubernetes
 * the first pair that is there; rank 0 is at MASTER_ADDR (or SLURM_LAUNCH_NODE_IPADDR), MASTER_PORT
 * (29500), and PAWL_RANK_KEY is what strangers do not know. Alone when there is none. RC_INVALID
 *names the variable that makes no sense. */
enum rc ranks_from_env(struct ranks *r, struct err *e);

/* This process becomes rank 0 of n on this machine. argv_of(ctx, rank) gives the others' programs,
 * until its next call. They die with this process. When one of them fails, the others are
 * killed, and if ranks_close() is not called within ten seconds, because the work here hangs on the
 * dead, `ended` is, in a thread of its own; it may be NULL. */
enum rc ranks_start(struct ranks *r, int n, const char *const *(*argv_of)(void *ctx, int rank),
		    void *ctx, void (*ended)(const char *why), struct err *e);
/* Which child ended, and how, or NULL; valid until ranks_close(). */
const char *ranks_why(struct ranks *r);

/* Rank 0's bytes to all, over TCP. Every rank calls it; returns when all of them have. */
enum rc ranks_meet(struct ranks *r, void *bytes, size_t n, double timeout_s, struct err *e);
/* The group for arrays of that back end: NCCL where they are a GPU's, else shared memory, which
 * needs all ranks on one machine. *out is NULL, a group of one, when alone. */
enum rc ranks_open(struct ranks *r, const struct kern *k, struct kern_pool *pool, struct coll **out,
		   struct err *e);
/* Gives the children that long to end by themselves, then kills them. */
void ranks_close(struct ranks *r, double grace_s);
