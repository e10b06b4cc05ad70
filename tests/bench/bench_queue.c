/* Claim and complete through a real redis-server (append-only file, fsync of every write, and
 * without): jobs per second for one thread and for many, two calls a job and with the next claim
 * inside complete. bench/queue [jobs]
 */
#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/str.h"
#include "migrations/migrations.h"
#include "queue/queue.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS_MAX 32

static struct queue *q;
static bool chain; /* claim the next job in complete */
static _Atomic int n_done;

static pid_t start(const char *dir, const char *sync)
{
	char sock[512];
	pid_t pid = fork();

	if (pid)
		return pid;
	str_fmt(sock, sizeof(sock), "%s/s", dir);
	dup2(open("/dev/null", O_WRONLY), 1);
	execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", sock, "--dir", dir,
	       "--save", "", "--appendonly", "yes", "--appendfsync", sync, "--loglevel", "warning",
	       (char *)NULL);
	_exit(127);
}

static void fill(const char *run, int n)
{
	json_t *record = json_pack("{s:s}", "id", run), *jobs = json_array();
	char id[JOB_ID_MAX], out[RUN_ID_MAX];
	bool existed;
	int64_t added;
	struct err e;

	for (int i = 0; i < n; i++) {
		str_fmt(id, sizeof(id), "%s.1.generate.%d.0", run, i);
		json_array_append_new(jobs,
				      json_pack("{s:s, s:s, s:[], s:i, s:i}", "id", id, "stage",
						"generate", "parents", "iter", 1, "shard", i));
	}
	if (queue_submit(q, record, NULL, NULL, out, &existed, &e) ||
	    queue_add_jobs(q, run, jobs, &added, &e))
		die("%s", e.text);
	json_decref(record);
	json_decref(jobs);
}

static void *work(void *name)
{
	struct queue_claim_req r = {.worker = name};
	json_t *claim = NULL, *next, *outputs = json_array(), *info = json_object();
	struct err e;

	queue_worker_register(q, name, info, &e);
	while (claim || (!queue_claim(q, &r, &claim, &e) && claim)) {
		next = NULL;
		if (queue_complete(q, jx_get_str(json_object_get(claim, "job"), "id", ""),
				   jx_get_str(claim, "token", ""), outputs, NULL, NULL,
				   chain ? &r : NULL, NULL, chain ? &next : NULL, &e))
			die("%s", e.text);
		n_done++;
		json_decref(claim);
		claim = next;
	}
	json_decref(outputs);
	json_decref(info);
	return NULL;
}

static void cell(const char *sync, int threads, int n)
{
	static int runs;
	static char names[THREADS_MAX][16];
	pthread_t t[THREADS_MAX];
	char run[RUN_ID_MAX];
	double at, filled;

	str_fmt(run, sizeof(run), "r%d", runs++);
	at = clk_mono_s();
	fill(run, n);
	filled = clk_mono_s() - at;
	n_done = 0;
	at = clk_mono_s();
	for (int i = 0; i < threads; i++) {
		str_fmt(names[i], sizeof(names[i]), "w%d", i);
		pthread_create(&t[i], NULL, work, names[i]);
	}
	for (int i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
	at = clk_mono_s() - at;
	printf("fsync %-7s threads %2d %-14s %8.0f jobs/s   (submit %.0f jobs/s)\n", sync, threads,
	       chain ? "chained" : "claim+complete", n_done / at, n / filled);
}

int main(int argc, char **argv)
{
	static const char *const syncs[] = {"always", "no"};
	int64_t n = 2000;
	struct err e;

	log_init("bench", LOG_ERROR, 0);
	if (argc > 1 && !str_to_i64(argv[1], &n))
		die("bench_queue [jobs]");
	for (int s = 0; s < 2; s++) {
		struct queue_opts o = {.accept_loss = true, .migrate = migrations_run};
		char dir[] = "/tmp/pawl-bench-XXXXXX", url[600];
		pid_t pid;
		if (!mkdtemp(dir))
			die("mkdtemp: %m");
		pid = start(dir, syncs[s]);
		str_fmt(url, sizeof(url), "unix:%s/s", dir);
		if (queue_open(url, &o, &q, &e) && (clk_sleep_ms(500), queue_open(url, &o, &q, &e)))
			die("%s", e.text);
		for (int i = 0; i < 4; i++) {
			chain = i & 1;
			cell(syncs[s], i < 2 ? 1 : THREADS_MAX, (int)n);
		}
		queue_close(q);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		fs_remove_tree(dir, NULL);
	}
	return 0;
}
