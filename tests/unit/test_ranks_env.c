/* Who a process is, by what mpirun, srun, torchrun and Kubernetes leave in its environment; and
 * that two that were started so find each other. */
#include "base/proc.h"
#include "tests/test.h"
#include "worker/ranks.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct err e;

static const char *const pairs[][2] = {
	{"PAWL_RANK", "PAWL_RANKS"},	  {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
	{"RANK", "WORLD_SIZE"},		  {"PMI_RANK", "PMI_SIZE"},
	{"SLURM_PROCID", "SLURM_NTASKS"}, {"JOB_COMPLETION_INDEX", "PAWL_RANKS"},
};
#define N_PAIRS (sizeof pairs / sizeof *pairs)

static void nobody(void)
{
	static const char *const others[] = {"MASTER_ADDR", "MASTER_PORT", "PAWL_RANK_KEY",
					     "SLURM_LAUNCH_NODE_IPADDR"};

	for (size_t i = 0; i < N_PAIRS; i++) {
		unsetenv(pairs[i][0]);
		unsetenv(pairs[i][1]);
	}
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		unsetenv(others[i]);
}

static void become(const char *const pair[2], const char *rank, const char *n)
{
	setenv(pair[0], rank, 1);
	setenv(pair[1], n, 1);
}

void test_ranks_env__every_starter_is_understood(void)
{
	struct ranks r;

	nobody();
	CHECK_RC(ranks_from_env(&r, &e), RC_OK);
	CHECK(r.rank == 0 && r.n == 1);
	for (size_t i = 0; i < N_PAIRS; i++) {
		nobody();
		become(pairs[i], "2", "3");
		CHECK_RC(ranks_from_env(&r, &e), RC_OK);
		CHECK_EQ(r.rank, 2);
		CHECK_EQ(r.n, 3);
		CHECK_STR(r.address, "127.0.0.1");
	}
}

void test_ranks_env__rank_0_is_where_it_is_said_to_be(void)
{
	struct ranks r;

	nobody();
	become(pairs[4], "1", "2");
	setenv("SLURM_LAUNCH_NODE_IPADDR", "10.0.0.7", 1);
	CHECK_RC(ranks_from_env(&r, &e), RC_OK);
	CHECK_STR(r.address, "10.0.0.7");
	setenv("MASTER_ADDR", "pawl-0.pawl", 1);
	setenv("MASTER_PORT", "4321", 1);
	setenv("PAWL_RANK_KEY", "a secret", 1);
	CHECK_RC(ranks_from_env(&r, &e), RC_OK);
	CHECK_STR(r.address, "pawl-0.pawl");
	CHECK_STR(r.key, "a secret");
	CHECK_EQ(r.port, 4321);
}

void test_ranks_env__nonsense_is_named(void)
{
	static const struct {
		const char *rank, *n, *port, *blamed;
	} bad[] = {{"3", "3", NULL, "SLURM_PROCID"},	{"-1", "3", NULL, "SLURM_PROCID"},
		   {"x", "3", NULL, "SLURM_PROCID"},	{"0", "0", NULL, "SLURM_NTASKS"},
		   {"0", "many", NULL, "SLURM_NTASKS"}, {"0", "2", "70000", "MASTER_PORT"}};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct ranks r;

		nobody();
		become(pairs[4], bad[i].rank, bad[i].n);
		if (bad[i].port)
			setenv("MASTER_PORT", bad[i].port, 1);
		CHECK_RC(ranks_from_env(&r, &e), RC_INVALID);
		CHECK(strstr(e.text, bad[i].blamed));
	}
}

static int free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t size = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&a, &size) == 0);
	close(fd);
	return ntohs(a.sin_port);
}

/* What rank 0 has, all have. */
static void meet(const char *const pair[2], const char *rank, const char *n)
{
	char word[16] = "not yet";
	struct ranks r;

	become(pair, rank, n);
	CHECK_RC(ranks_from_env(&r, &e), RC_OK);
	if (r.rank == 0)
		memcpy(word, "from rank zero", 15);
	CHECK_RC(ranks_meet(&r, word, sizeof word, 60, &e), RC_OK);
	CHECK_STR(word, "from rank zero");
	ranks_close(&r, 0);
}

void test_ranks_env__three_processes_of_an_indexed_job_meet(void)
{
	static const char *const names[] = {"0", "1", "2"};
	char port[16];
	pid_t pids[2];

	nobody();
	snprintf(port, sizeof port, "%d", free_port());
	setenv("MASTER_ADDR", "127.0.0.1", 1);
	setenv("MASTER_PORT", port, 1);
	setenv("PAWL_RANK_KEY", "k", 1);
	fflush(stdout);
	for (int i = 0; i < 2; i++) {
		pids[i] = fork();
		CHECK(pids[i] >= 0);
		if (pids[i] == 0) {
			meet(pairs[5], names[i + 1], "3");
			_exit(0);
		}
	}
	meet(pairs[5], names[0], "3");
	for (int i = 0; i < 2; i++) {
		int status = 1;

		CHECK(waitpid(pids[i], &status, 0) == pids[i]);
		CHECK_EQ(status, 0);
	}
}
