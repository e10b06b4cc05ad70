#include "worker/executor.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/str.h"
#include "store/artifact.h"
#include "worker/report.h"
#include "worker/stage.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define REPORT_FD 3
#define COMMAND_MAX 4096

static struct stage_ctx job; /* One job per process. */

/* --- commands -------------------------------------------------------------------------------- */

static void command(const json_t *msg)
{
	const char *why = jx_get_str(msg, "why", "preempted");

	if (strcmp(why, "checkpoint") == 0) {
		atomic_store(&job.want_checkpoint, true);
		return;
	}
	/* Six tenths of the notice are ours; the agent needs the rest to publish. */
	atomic_store(&job.deadline_ms,
		     clk_mono_ms() + jx_get_i64(msg, "budget_ms", 20000) * 6 / 10);
	atomic_store(&job.stop, strcmp(why, "cancel") == 0  ? STAGE_CANCEL
				: strcmp(why, "pause") == 0 ? STAGE_PAUSE
							    : STAGE_PREEMPTED);
}

/* The agent's end of standard input closes only when the agent is gone. */
static void *listen_stdin(void *unused)
{
	char line[COMMAND_MAX];
	json_t *msg;

	(void)unused;
	while (fgets(line, sizeof line, stdin)) {
		if (jx_parse(line, strlen(line), "command", &msg, NULL) == RC_OK) {
			command(msg);
			json_decref(msg);
		}
	}
	_exit(EXECUTOR_FAILED);
}

static void on_signal(int sig)
{
	if (sig == SIGUSR1)
		atomic_store(&job.want_checkpoint, true);
	else if (atomic_exchange(&job.stop, STAGE_PREEMPTED) != STAGE_GO)
		_exit(128 + sig); /* Asked twice. */
}

/* --- by hand: the newest whole checkpoint becomes the resume folder ----------------------------- */

static int newest_checkpoint(const char *dir)
{
	char path[PATH_MAX];
	char **names;
	size_t n;
	int best = 0;

	str_fmt(path, sizeof path, "%s/ckpt", dir);
	if (fs_list(path, &names, &n, NULL) != RC_OK)
		return 0;
	for (size_t i = 0; i < n; i++) {
		int64_t v;

		str_fmt(path, sizeof path, "%s/ckpt/%s/ckpt.json", dir, names[i]);
		if (str_to_i64(names[i], &v) && v > best && v < INT32_MAX && fs_exists(path))
			best = (int)v;
	}
	fs_list_free(names);
	return best;
}

static enum rc unpack_checkpoint(const char *dir, int n, const json_t *outputs, struct err *e)
{
	char from[PATH_MAX], to[PATH_MAX];
	const json_t *out;
	size_t i;

	json_array_foreach(outputs, i, out) {
		const char *role = jx_get_str(out, "role", "");

		str_fmt(from, sizeof from, "%s/ckpt/%d/%s.tar", dir, n, role);
		str_fmt(to, sizeof to, "%s/resume/%s", dir, role);
		enum rc rc = artifact_unpack_file(from, jx_get_str(out, "digest", ""), to, e);
		if (rc != RC_OK)
			return rc;
	}
	return RC_OK;
}

static enum rc resume_by_hand(const char *dir, int *n_ckpt, struct err *e)
{
	char path[PATH_MAX];
	struct buf text = BUF_INIT;
	json_t *ckpt = NULL;
	int n = *n_ckpt = newest_checkpoint(dir);

	str_fmt(path, sizeof path, "%s/resume", dir);
	if (n == 0)
		return RC_OK;
	enum rc rc = fs_remove_tree(path, e);
	if (rc == RC_OK)
		rc = fs_mkdirs(path, e);
	str_fmt(path, sizeof path, "%s/ckpt/%d/ckpt.json", dir, n);
	if (rc == RC_OK)
		rc = jx_load(path, 16u << 20, &ckpt, e);
	if (rc == RC_OK)
		rc = unpack_checkpoint(dir, n, json_object_get(ckpt, "outputs"), e);
	if (rc == RC_OK) {
		jx_dump(json_object_get(ckpt, "progress"), &text);
		str_fmt(path, sizeof path, "%s/resume.json", dir);
		rc = fs_write_durable(path, text.data, text.len, e);
		log_info("stage", "resumed", "checkpoint=%d progress=%s", n, text.data);
	}
	buf_release(&text);
	json_decref(ckpt);
	return rc;
}

/* --- endings --------------------------------------------------------------------------------- */

static json_t *result_message(void)
{
	return json_pack("{s:s, s:O, s:O, s:s}", "type", "result", "outputs", job.outputs,
			 "metrics", job.metrics, "engine", stage_engine(&job));
}

/* Wrong input stays wrong on the next attempt; anything else may be this machine's trouble. */
static bool is_fatal(enum rc rc)
{
	return rc == RC_INVALID || rc == RC_UNSUPPORTED || rc == RC_DENIED || rc == RC_NOTFOUND;
}

static int report_end(int fd, enum rc rc, const struct err *e)
{
	if (rc == RC_OK) {
		report(fd, result_message());
		return EXECUTOR_OK;
	}
	if (rc == RC_CANCELLED && stage_should_stop(&job)) {
		log_info("executor", "stopped", "reason=%s", e->text);
		report(fd, json_pack("{s:s, s:s}", "type", "stopped", "why", e->text));
		return EXECUTOR_STOPPED;
	}
	log_error("executor", "failed", "code=%s reason=%s", rc_text(rc), e->text);
	report(fd, json_pack("{s:s, s:s, s:s, s:s}", "type", "error", "kind",
			     is_fatal(rc) ? "fatal" : "retry", "code", rc_text(rc), "reason", e->text));
	return EXECUTOR_FAILED;
}

int executor_main(const char *dir, int threads)
{
	struct err e = {0};
	pthread_t listener;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_IGN); /* A terminal's ^C is the agent's to handle. */
	signal(SIGTERM, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	enum rc rc = stage_ctx_open(&job, dir, REPORT_FD, threads, &e);
	if (rc == RC_OK) {
		/* Only now: opening the job resets the words the listener writes. */
		if (pthread_create(&listener, NULL, listen_stdin, NULL) != 0)
			return EXECUTOR_FAILED;
		pthread_detach(listener);
		rc = stage_ctx_run(&job, &e);
	}
	return report_end(REPORT_FD, rc, &e);
}

/* Leaves out/result.json behind, the message the agent would have got. */
static void write_result(const char *dir)
{
	char path[PATH_MAX];
	struct buf text = BUF_INIT;
	json_t *msg = result_message();
	struct err e;

	str_fmt(path, sizeof path, "%s/out/result.json", dir);
	jx_dump(msg, &text);
	buf_putc(&text, '\n');
	if (fs_write_durable(path, text.data, text.len, &e) != RC_OK)
		log_warn("stage", "result_not_written", "reason=%s", e.text);
	fputs(text.data, stdout);
	buf_release(&text);
	json_decref(msg);
}

/* One of several: nobody commands it but rank 0, with whom it ends. */
static int run_rank(const struct ranks *r, const char *dir, int threads)
{
	struct err e = {0};
	enum rc rc = stage_ctx_open(&job, dir, -1, threads, &e);

	job.ranks = *r;
	if (rc == RC_OK)
		rc = stage_ctx_run(&job, &e);
	if (rc != RC_OK && rc != RC_CANCELLED)
		log_error("rank", "failed", "rank=%d code=%s reason=%s", r->rank, rc_text(rc), e.text);
	stage_ctx_close(&job);
	return rc == RC_OK || rc == RC_CANCELLED ? EXECUTOR_OK : EXECUTOR_FAILED;
}

int rank_main(const char *dir, int threads)
{
	struct ranks r;
	struct err e = {0};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	if (ranks_from_env(&r, &e) != RC_OK || r.n < 2) {
		fprintf(stderr, "pawl-worker --rank: %s\n", e.text);
		return EXECUTOR_FAILED;
	}
	stage_rank_device(r.rank);
	return run_rank(&r, dir, threads);
}

/* Started by mpirun and the like: all but the first work in folders of their own, once the first has
 * unpacked what it resumes from. */
static int other_rank(struct ranks *r, const char *dir, int threads)
{
	char own[PATH_MAX], full[PATH_MAX];
	struct err e = {0};
	char byte = 0;

	signal(SIGINT, SIG_IGN); /* The first one hears of it. */
	signal(SIGTERM, SIG_IGN);
	if (!realpath(dir, full))
		err_set(&e, RC_NOTFOUND, "job folder %s: %m", dir);
	else if (ranks_meet(r, &byte, 1, 600, &e) == RC_OK &&
		 stage_rank_folder(full, r->rank, own, sizeof own, &e) == RC_OK)
		return run_rank(r, own, threads);
	fprintf(stderr, "pawl-worker stage, rank %d: %s\n", r->rank, e.text);
	return EXECUTOR_FAILED;
}

int stage_main(const char *dir, int threads)
{
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	struct err e = {0};
	int n_ckpt = 0;
	struct ranks ranks;
	char byte = 0;

	enum rc rc = ranks_from_env(&ranks, &e);
	if (rc == RC_OK && ranks.n > 1)
		stage_rank_device(-1);
	if (rc == RC_OK && ranks.rank > 0)
		return other_rank(&ranks, dir, threads);
	if (rc == RC_OK)
		rc = resume_by_hand(dir, &n_ckpt, &e);
	if (rc == RC_OK)
		rc = ranks_meet(&ranks, &byte, 1, 600, &e);
	if (rc == RC_OK)
		rc = stage_ctx_open(&job, dir, -1, threads, &e);
	if (rc == RC_OK) {
		job.n_ckpt = n_ckpt;
		job.ranks = ranks;
		sigaction(SIGINT, &sa, NULL);
		sigaction(SIGTERM, &sa, NULL);
		sigaction(SIGUSR1, &sa, NULL);
		rc = stage_ctx_run(&job, &e);
	}
	int code = report_end(-1, rc, &e);
	if (code == EXECUTOR_OK)
		write_result(job.dir);
	if (code == EXECUTOR_FAILED)
		fprintf(stderr, "pawl-worker stage: %s\n", e.text);
	stage_ctx_close(&job);
	return code;
}
