/* Claim and complete through a real redis-server (append-only file, fsync of every write, and
 * of every second): jobs per second for one thread and for many, two calls a job and with the next
 * claim inside complete. bench/queue [jobs]; with four arguments one line for
 * tests/bench/queue.py: jobs per second from the first taken to the last completed, and what one cost in
 * microseconds of Redis's thread and of ours.
 */
#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/str.h"
#include "migrations/migrations.h"
#include "queue/plan.h"
#include "queue/queue.h"
#include "queue/redis.h"
#include "queue/spec.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS_MAX 32
#define PROMPTS 1024 /* with three judgements of each as many jobs as an iteration may have */
#define SPEC                                                                                       \
	"{\"name\":\"many\",\"base_model\":\"/m\",\"iterations\":1,\"data\":{\"ift\":[\"/ift\"],"         \
	"\"eft\":[\"/eft\"],\"prompts\":[\"/p\"]},\"eft\":{\"mode\":\"given\"},\"prompts\":{"           \
	"\"generator\":\"file\",\"count\":1024},\"generate\":{\"shard_size\":1}}"

static struct queue *q;
static bool chain; /* claim the next job in complete */
static _Atomic int n_done;
static _Atomic double first_s; /* when the first job was taken; 0 = not yet */

struct figures {
	double rate;		     /* jobs per second */
	double redis_us, client_us; /* processor time of one, of Redis's main thread and of this process */
};

static double seconds_of(const char *info, const char *field)
{
	const char *at = strstr(info, field);

	return at ? strtod(at + strlen(field), NULL) : 0;
}

/* Processor time so far; rate is the clock's. */
static struct figures spent(void)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	struct figures f = {.rate = clk_mono_s()};
	struct rusage u;
	struct err e;

	redis_cmd_words(&c, "INFO cpu");
	if (redis_call(queue_redis(q), &c, &p, &e))
		die("%s", e.text);
	f.redis_us = 1e6 * (seconds_of(reply_text(p), "used_cpu_user_main_thread:") +
			    seconds_of(reply_text(p), "used_cpu_sys_main_thread:"));
	reply_free(p);
	getrusage(RUSAGE_SELF, &u);
	f.client_us = 1e6 * (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
		      (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
	return f;
}

/* Since `was`, of n jobs. */
static struct figures spent_since(const struct figures *was, double seconds, int n)
{
	struct figures now = spent();

	return (struct figures){n / seconds, (now.redis_us - was->redis_us) / n,
				(now.client_us - was->client_us) / n};
}

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
	json_t *claim = NULL, *next, *outputs = json_array();
	struct err e;

	while (claim || (!queue_claim(q, &r, &claim, &e) && claim)) {
		next = NULL;
		if (first_s == 0)
			atomic_compare_exchange_strong(&first_s, &(double){0}, clk_mono_s());
		if (queue_complete(q, jx_get_str(json_object_get(claim, "job"), "id", ""),
				   jx_get_str(claim, "token", ""), outputs, NULL, NULL,
				   chain ? &r : NULL, NULL, chain ? &next : NULL, &e))
			die("%s", e.text);
		n_done++;
		json_decref(claim);
		claim = next;
	}
	json_decref(outputs);
	return NULL;
}

static void worker_add(char name[16], int i)
{
	json_t *info = json_object();
	struct err e;

	str_fmt(name, 16, "w%d", i);
	if (queue_worker_register(q, name, info, &e))
		die("%s", e.text);
	json_decref(info);
}

static struct figures cell(int threads, int n, double *submit)
{
	static int runs;
	static char names[THREADS_MAX][16];
	pthread_t t[THREADS_MAX];
	char run[RUN_ID_MAX];
	struct figures was;
	double at;

	str_fmt(run, sizeof(run), "r%d", runs++ * 100000 + getpid() % 100000);
	at = clk_mono_s();
	fill(run, n);
	*submit = n / (clk_mono_s() - at);
	for (int i = 0; i < threads; i++)
		worker_add(names[i], i);
	n_done = 0;
	first_s = 0;
	was = spent();
	for (int i = 0; i < threads; i++)
		pthread_create(&t[i], NULL, work, names[i]);
	for (int i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
	return spent_since(&was, clk_mono_s() - first_s, n_done);
}

/* The least a queue in Redis can do: an element moved from one list to another and then removed. */
static void *move(void *arg)
{
	int n = *(int *)arg;
	struct err e;

	for (int i = 0; i < n; i++) {
		struct redis_cmd c = REDIS_CMD_INIT, d = REDIS_CMD_INIT;
		redis_cmd_words(&c, "LMOVE bench:ready bench:running LEFT RIGHT");
		redis_cmd_words(&d, "LPOP bench:running");
		if (redis_call(queue_redis(q), &c, NULL, &e) ||
		    redis_call(queue_redis(q), &d, NULL, &e))
			die("%s", e.text);
	}
	return NULL;
}

static struct figures cell_move(int threads, int n)
{
	pthread_t t[THREADS_MAX];
	struct redis_cmd c = REDIS_CMD_INIT;
	int each = n / threads;
	struct figures was;
	struct err e;

	redis_cmd_words(&c, "RPUSH bench:ready");
	for (int i = 0; i < n; i++)
		redis_cmd_add(&c, "x");
	if (redis_call(queue_redis(q), &c, NULL, &e))
		die("%s", e.text);
	was = spent();
	for (int i = 0; i < threads; i++)
		pthread_create(&t[i], NULL, move, &each);
	for (int i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
	return spent_since(&was, clk_mono_s() - was.rate, each * threads);
}

/* A job of the run as done, with the rows it made. */
static void made(json_t *done, const char *run, const char *job, const char *role, int rows)
{
	char id[JOB_ID_MAX];

	str_fmt(id, sizeof(id), "%s.%s", run, job);
	json_object_set_new(done, id,
			    json_pack("{s:{s:{s:s, s:i}}}", "outputs", role, "digest", "d", "rows", rows));
}

/* One run as the planner makes it once its prompts are known; how many jobs it has. */
static int64_t fill_planned(const json_t *spec, int k)
{
	json_t *done = json_object(), *jobs, *record;
	char id[RUN_ID_MAX], out[RUN_ID_MAX];
	bool existed;
	int64_t added = 0;
	struct err e;

	str_fmt(id, sizeof(id), "r%08d", k);
	made(done, id, "1.prompts.0.0", "prompts", PROMPTS);
	record = json_pack("{s:s, s:O}", "id", id, "spec", spec);
	if (plan(spec, done, id, &jobs, &e) || queue_submit(q, record, NULL, NULL, out, &existed, &e))
		die("%s", e.text);
	for (size_t at = 0; at < json_array_size(jobs); at += 500) {
		json_t *part = json_array();
		int64_t n;
		for (size_t i = at; i < at + 500 && i < json_array_size(jobs); i++)
			json_array_append(part, json_array_get(jobs, i));
		if (queue_add_jobs(q, id, part, &n, &e))
			die("%s", e.text);
		added += n;
		json_decref(part);
	}
	json_decref(jobs);
	json_decref(record);
	json_decref(done);
	return added;
}

/* Runs until there are n jobs, for tests/chaos/million.py. */
static int64_t planned(int64_t n)
{
	json_t *in = json_loads(SPEC, 0, NULL), *spec;
	struct spec_errors errs;
	int64_t have = 0;
	struct err e;

	if (spec_normalise(in, &spec, &errs, &e))
		die("%s", e.text);
	for (int k = 0; have < n; k++)
		have += fill_planned(spec, k);
	spec_errors_release(&errs);
	json_decref(spec);
	json_decref(in);
	return have;
}

static bool open_queue(const char *url, struct err *e)
{
	struct queue_opts o = {
		.accept_loss = true, .migrate = migrations_run, .pool_max = THREADS_MAX};

	return !queue_open(url, &o, &q, e);
}

/* One line against a Redis that runs already: for queue.py. */
static void one(char **argv)
{
	int64_t threads, n;
	struct figures f;
	double submit;
	struct err e;

	if (!str_to_i64(argv[3], &threads) || threads < 1 || threads > THREADS_MAX ||
	    !str_to_i64(argv[4], &n) || n < threads)
		die("bench_queue URL chained|two|lmove|planned THREADS JOBS");
	if (!open_queue(argv[1], &e))
		die("%s", e.text);
	chain = !strcmp(argv[2], "chained");
	if (!strcmp(argv[2], "planned")) {
		printf("%lld\n", (long long)planned(n));
	} else {
		f = strcmp(argv[2], "lmove") ? cell((int)threads, (int)n, &submit)
					     : cell_move((int)threads, (int)n);
		printf("%.0f %.1f %.1f\n", f.rate, f.redis_us, f.client_us);
	}
	queue_close(q);
}

static void table(int n)
{
	static const char *const syncs[] = {"always", "everysec"};

	for (int s = 0; s < 2; s++) {
		char dir[] = "/tmp/pawl-bench-XXXXXX", url[600];
		int64_t until = clk_mono_ms() + 10000;
		struct err e;
		pid_t pid;
		if (!mkdtemp(dir))
			die("mkdtemp: %m");
		pid = start(dir, syncs[s]);
		str_fmt(url, sizeof(url), "unix:%s/s", dir);
		while (!open_queue(url, &e))
			if (clk_mono_ms() > until)
				die("%s", e.text);
		for (int i = 0; i < 4; i++) {
			int threads = i < 2 ? 1 : THREADS_MAX;
			struct figures f;
			double submit;
			chain = i & 1;
			f = cell(threads, n, &submit);
			printf("fsync %-8s threads %2d %-14s %8.0f jobs/s  redis %3.0f us  "
			       "client %3.0f us   (submit %.0f jobs/s)\n",
			       syncs[s], threads, chain ? "chained" : "claim+complete", f.rate,
			       f.redis_us, f.client_us, submit);
		}
		queue_close(q);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		fs_remove_tree(dir, NULL);
	}
}

int main(int argc, char **argv)
{
	int64_t n = 2000;

	log_init("bench", LOG_ERROR, 0);
	if (argc == 5) {
		one(argv);
		return 0;
	}
	if (argc > 1 && !str_to_i64(argv[1], &n))
		die("bench_queue [jobs]");
	table((int)n);
	return 0;
}
