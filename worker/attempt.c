/* One attempt at one job: folder, executor, messages, and exactly one ending.
 *
 *   prepare -> execute -> result   -> publish outputs, complete
 *                      -> stopped  -> last checkpoint published and beaten, fail(preempted)
 *                      -> error    -> fail(retry | fatal)
 *                      -> crash    -> fail(retry) with exit code, signal, out of memory
 *   at any point: the token is stale -> kill, forget
 */
#include "worker/agent.h"

#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/executor.h"
#include "worker/leaving.h"
#include "worker/gpu_guard.h"
#include "worker/stage.h"

#include "base/version.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOG_MAX (16 << 20)          /* per attempt; the rest is dropped with a line saying so */
#define MESSAGE_MAX (16u << 20)
#define STOP_BUDGET_MS 20000        /* where no machine ends: drained, paused */
#define KILL_AFTER_MS 25000         /* a stop that was not followed */
#define CANCEL_KILL_MS 5000
#define SAY_MS 30000
#define LEAVING_MS 15000            /* to hand a job back when the server does not answer */
#define POINTS_MAX 20000
#define TAIL_BYTES 700 /* of the log, quoted when the executor crashes */
#define GPU_ASK_MS 3000 /* for what the driver knows of a failure */

struct attempt {
	struct agent *a;
	const json_t *job;
	struct proc proc;
	int report_fd, log_fd;
	struct buf line;       /* unfinished message */
	json_t *result, *error; /* owned */
	bool stopped;
	enum wish told;        /* the last stop command sent */
	int64_t told_ms, patience_ms; /* when, and how long it may take to follow */
	int64_t log_size;
	bool log_full;
	int status;
	int64_t started_ms;
	int64_t oom_before;
	struct buf tail;       /* last words on stderr, for the reason of a crash */
};

/* --- folder ---------------------------------------------------------------------------------- */

static enum rc write_job(struct agent *a, const json_t *job, int64_t attempt, struct err *e)
{
	char path[PATH_MAX];
	struct buf text = BUF_INIT;
	json_t *copy = json_copy((json_t *)job);

	json_object_set_new(copy, "attempt", json_integer(attempt));
	jx_dump(copy, &text);
	str_fmt(path, sizeof path, "%s/job.json", a->dir);
	enum rc rc = fs_write_durable(path, text.data, text.len, e);
	buf_release(&text);
	json_decref(copy);
	return rc;
}

static enum wish wish_of(struct agent *a)
{
	pthread_mutex_lock(&a->lock);
	enum wish w = a->wish;
	pthread_mutex_unlock(&a->lock);
	return w;
}

/* Waits before try n + 1 of something the server or the store could not do just now. False when
 * the job is not ours any more or must be given up. */
static bool wait_retry(struct agent *a, int n)
{
	int64_t wait = client_backoff_ms(n), most = leaving_left(INT64_MAX) / 8 + 100;
	int64_t until = clk_mono_ms() + (wait < most ? wait : most);

	for (;;) {
		if (wish_of(a) >= WISH_CANCEL)
			return false;
		if (clk_mono_ms() >= until)
			return true;
		clk_sleep_ms(100);
	}
}

static bool is_away(enum rc rc)
{
	return rc == RC_UNREACHABLE || rc == RC_TIMEOUT;
}

static enum rc prepare(struct attempt *t, struct err *e)
{
	struct agent *a = t->a;
	enum rc rc = fs_remove_tree(a->dir, e);

	if (rc == RC_OK)
		rc = fs_mkdirs(a->dir, e);
	if (rc == RC_OK)
		rc = write_job(a, t->job, a->attempt, e);
	for (int n = 0; rc == RC_OK; n++) {
		rc = input_prepare(a, t->job, e);
		if (!is_away(rc))
			break;
		log_warn("agent", "inputs_wait", "job=%s reason=%s", a->job, e->text);
		if (!wait_retry(a, n))
			break;
		rc = RC_OK;
	}
	if (rc == RC_OK)
		input_trim(a, t->job);
	return rc;
}

/* --- messages of the executor ---------------------------------------------------------------- */

static void on_progress(struct attempt *t, const json_t *m)
{
	struct agent *a = t->a;

	a->done = jx_get_i64(m, "done", 0);
	a->total = jx_get_i64(m, "total", 0);
	str_copy(a->unit, sizeof a->unit, jx_get_str(m, "unit", ""));
	a->fresh = true;
	pthread_cond_signal(&a->beat_cond);
}

static void on_metric(struct attempt *t, const json_t *m)
{
	struct agent *a = t->a;
	json_t *point = json_copy(json_object_get(m, "values"));

	if (!json_is_object(point))
		return;
	json_object_set(point, "step", json_object_get(m, "step"));
	/* The server was away for long: every other old point goes, the shape of the curve stays. */
	if (json_array_size(a->points) >= POINTS_MAX)
		for (size_t i = 0; i < json_array_size(a->points); i++)
			json_array_remove(a->points, i);
	json_array_append_new(a->points, point);
	a->fresh = true;
	pthread_cond_signal(&a->beat_cond);
}

static void on_checkpoint(struct attempt *t, json_t *m)
{
	struct agent *a = t->a;

	if (a->ckpt) { /* Never published: the newer one holds all of it. */
		char dir[PATH_MAX];

		str_fmt(dir, sizeof dir, "%s/ckpt/%lld", a->dir,
			(long long)jx_get_i64(a->ckpt, "n", 0));
		(void)fs_remove_tree(dir, NULL);
		json_decref(a->ckpt);
	}
	a->ckpt = json_incref(m);
	pthread_cond_signal(&a->ship_cond);
}

static void on_message(struct attempt *t, json_t *m)
{
	const char *type = jx_get_str(m, "type", "");

	pthread_mutex_lock(&t->a->lock);
	if (strcmp(type, "progress") == 0)
		on_progress(t, m);
	else if (strcmp(type, "metric") == 0)
		on_metric(t, m);
	else if (strcmp(type, "checkpoint") == 0)
		on_checkpoint(t, m);
	else if (strcmp(type, "result") == 0 && !t->result)
		t->result = json_incref(m);
	else if (strcmp(type, "error") == 0 && !t->error)
		t->error = json_incref(m);
	else if (strcmp(type, "stopped") == 0)
		t->stopped = true;
	pthread_mutex_unlock(&t->a->lock);
}

/* Splits what came into lines. */
static void feed_messages(struct attempt *t, const char *data, size_t len)
{
	struct err e;
	char *nl;

	buf_append(&t->line, data, len);
	while (t->line.len > 0 && (nl = memchr(t->line.data, '\n', t->line.len)) != NULL) {
		size_t n = (size_t)(nl - t->line.data);
		json_t *m;

		if (jx_parse(t->line.data, n, "executor", &m, &e) == RC_OK) {
			on_message(t, m);
			json_decref(m);
		} else {
			log_warn("agent", "odd_message", "reason=%s", e.text);
		}
		memmove(t->line.data, nl + 1, t->line.len - n - 1);
		t->line.len -= n + 1;
		t->line.data[t->line.len] = 0;
	}
	if (t->line.len > MESSAGE_MAX)
		buf_clear(&t->line);
}

/* --- log ------------------------------------------------------------------------------------- */

static void keep_tail(struct attempt *t, const char *data, size_t len)
{
	buf_append(&t->tail, data, len);
	if (t->tail.len > 2 * TAIL_BYTES) {
		size_t cut = t->tail.len - TAIL_BYTES;

		memmove(t->tail.data, t->tail.data + cut, t->tail.len - cut);
		t->tail.len -= cut;
		t->tail.data[t->tail.len] = 0;
	}
}

static void feed_log(struct attempt *t, const char *data, size_t len)
{
	static const char full[] = "\n[the log is full; the rest of this attempt is not kept]\n";

	keep_tail(t, data, len);
	if (t->log_full || t->log_fd < 0)
		return;
	if (t->log_size + (int64_t)len > LOG_MAX) {
		data = full;
		len = sizeof full - 1;
		t->log_full = true;
	}
	while (len > 0) {
		ssize_t n = write(t->log_fd, data, len);

		if (n < 0)
			return;
		data += n;
		len -= (size_t)n;
		t->log_size += n;
	}
	pthread_mutex_lock(&t->a->lock);
	t->a->log_size = t->log_size;
	pthread_mutex_unlock(&t->a->lock);
}

/* --- the executor ---------------------------------------------------------------------------- */

/* Kernel counter of processes killed for memory, of the whole machine. */
static int64_t oom_kills(void)
{
	char line[128];
	FILE *f = fopen("/proc/vmstat", "re");
	long long n = 0;

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "oom_kill %lld", &n) == 1)
			break;
	if (f)
		fclose(f);
	return n;
}

static enum rc start(struct attempt *t, struct err *e)
{
	char program[PATH_MAX], path[PATH_MAX], threads[16];
	int fds[2];

	str_fmt(path, sizeof path, "%s/log", t->a->dir);
	t->log_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (t->log_fd < 0)
		return err_set(e, RC_IO, "%s: %m", path);
	if (pipe2(fds, O_CLOEXEC) != 0)
		return err_set(e, RC_IO, "pipe: %m");
	str_fmt(program, sizeof program, "%s/pawl-worker", proc_self_dir());
	str_fmt(threads, sizeof threads, "%d", t->a->threads);
	const char *argv[] = {program, "--executor", t->a->dir, threads, NULL};
	struct proc_opts o = {.argv = argv,
			      .pipe_in = true,
			      .pipe_out = true,
			      .pipe_err = true,
			      .extra_fd = fds[1],
			      .own_group = true};
	t->oom_before = oom_kills();
	enum rc rc = proc_start(&o, &t->proc, e);
	close(fds[1]);
	if (rc != RC_OK) {
		close(fds[0]);
		return err_wrap(e, "starting the executor");
	}
	t->report_fd = fds[0];
	return RC_OK;
}

static void tell(struct attempt *t, const char *why, int64_t budget_ms)
{
	char line[128];

	str_fmt(line, sizeof line, "{\"type\":\"stop\",\"why\":\"%s\",\"budget_ms\":%lld}\n", why,
		(long long)budget_ms);
	if (write(t->proc.in, line, strlen(line)) < 0)
		log_debug("agent", "tell_failed", "errno=%d", errno);
	log_info("agent", "tell", "job=%s why=%s", t->a->job, why);
}

/* Passes on what is wanted; kills when it is not followed in time. */
static void apply_wishes(struct attempt *t)
{
	static const char *const words[] = {"", "pause", "preempted", "cancel", "cancel"};
	int64_t now = clk_mono_ms();

	pthread_mutex_lock(&t->a->lock);
	if (atomic_load(&t->a->leaving))
		agent_wish(t->a, WISH_PREEMPT);
	enum wish w = t->a->wish;
	bool ckpt = t->a->checkpoint_wanted;
	t->a->checkpoint_wanted = false;
	pthread_mutex_unlock(&t->a->lock);
	if (ckpt && w == WISH_NONE)
		tell(t, "checkpoint", 0);
	if (w > t->told) {
		int64_t left = leaving_left(0);
		tell(t, words[w], left > 0 ? left : STOP_BUDGET_MS);
		t->told = w;
		t->told_ms = now;
		t->patience_ms = w >= WISH_CANCEL ? CANCEL_KILL_MS : left > 0 ? left * 3 / 4 : KILL_AFTER_MS;
	}
	if (t->told == WISH_NONE)
		return;
	if (w == WISH_DROP || now - t->told_ms > t->patience_ms)
		proc_kill(&t->proc, SIGKILL);
}

static void drain_wake(struct agent *a)
{
	uint64_t n;

	while (read(a->wake_fd, &n, sizeof n) > 0)
		;
}

/* One descriptor's turn; closes it at its end. */
static void pump(struct attempt *t, int *fd, void (*feed)(struct attempt *, const char *, size_t))
{
	static char chunk[1 << 16]; /* Main thread only. */
	ssize_t n = read(*fd, chunk, sizeof chunk);

	if (n > 0) {
		feed(t, chunk, (size_t)n);
	} else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
		close(*fd);
		*fd = -1;
	}
}

/* Until the executor closed everything. A grandchild that keeps a pipe open does not hold us: after
 * the executor's exit only what is already there is read. */
static void watch(struct attempt *t)
{
	bool exited = false;

	while (t->report_fd >= 0 || t->proc.out >= 0 || t->proc.err >= 0) {
		struct pollfd p[4] = {{t->report_fd, POLLIN, 0},
				      {t->proc.out, POLLIN, 0},
				      {t->proc.err, POLLIN, 0},
				      {t->a->wake_fd, POLLIN, 0}};
		int n = poll(p, 4, exited ? 0 : 500);

		if (p[0].revents)
			pump(t, &t->report_fd, feed_messages);
		if (p[1].revents)
			pump(t, &t->proc.out, feed_log);
		if (p[2].revents)
			pump(t, &t->proc.err, feed_log);
		if (p[3].revents)
			drain_wake(t->a);
		if (exited && n <= 0)
			break;
		if (!exited)
			exited = proc_wait(&t->proc, 0, &t->status, NULL) == RC_OK;
		if (!exited)
			apply_wishes(t);
	}
	while (!exited) {
		exited = proc_wait(&t->proc, 500, &t->status, NULL) == RC_OK;
		if (!exited)
			apply_wishes(t);
	}
	if (t->report_fd >= 0)
		close(t->report_fd);
	t->report_fd = -1;
}

/* --- endings --------------------------------------------------------------------------------- */

static json_t *ending(const struct agent *a)
{
	return json_pack("{s:s, s:s, s:s}", "worker", a->id, "job", a->job, "token", a->token);
}

/* Says it until the server heard it, or the job is not ours any more. */
static enum rc say(struct attempt *t, const char *what, json_t *body, struct err *e)
{
	int64_t begun = clk_mono_ms();
	enum rc rc;

	for (int n = 0;; n++) {
		int64_t left = leaving_left(SAY_MS);

		rc = client_post(&t->a->client, what, json_incref(body), left > 1000 ? left : 1000, NULL, e);
		/* A machine that goes away cannot wait: the lease will end by itself. */
		left = leaving_left(begun + LEAVING_MS - clk_mono_ms());
		if (!is_away(rc) || (atomic_load(&t->a->leaving) && left <= 0))
			break;
		log_warn("agent", "say_again", "job=%s what=%s reason=%s", t->a->job, what, e->text);
		if (!wait_retry(t->a, n))
			break;
	}
	if (rc != RC_OK)
		log_warn("agent", "refused", "job=%s what=%s reason=%s", t->a->job, what, e->text);
	json_decref(body);
	return rc;
}

/* What went wrong, and what the driver says of the GPU it went wrong on. */
static json_t *reason_text(struct attempt *t, const char *kind, const char *reason)
{
	char why[GPU_WHY_MAX + 32];

	if (strcmp(kind, "retry") == 0)
		gpu_guard_look(t->a->guard, GPU_ASK_MS);
	if (gpu_guard_well(t->a->guard, why, sizeof why) || strcmp(kind, "fatal") == 0)
		return json_string(reason);
	return json_sprintf("%s (%s)", reason, why);
}

static void fail(struct attempt *t, const char *kind, const char *reason, int exit_code, int sig)
{
	json_t *body = ending(t->a);
	struct err e;

	json_object_set_new(body, "kind", json_string(kind));
	json_object_set_new(body, "reason", reason_text(t, kind, reason));
	if (exit_code >= 0)
		json_object_set_new(body, "exit_code", json_integer(exit_code));
	if (sig > 0)
		json_object_set_new(body, "signal", json_integer(sig));
	log_info("agent", "fail", "job=%s kind=%s reason=%s", t->a->job, kind, reason);
	(void)say(t, "fail", body, &e);
}

/* Lets the ship thread send what is left of the log, and with `ckpt` the last checkpoint too. */
static void settle_shipping(struct agent *a, bool ckpt, int64_t limit_ms)
{
	int64_t until = clk_mono_ms() + limit_ms;

	pthread_mutex_lock(&a->lock);
	a->log_closed = true;
	pthread_cond_signal(&a->ship_cond);
	while (clk_mono_ms() < until && a->wish < WISH_DROP &&
	       (a->log_sent < a->log_size || (ckpt && (a->ckpt || a->publishing)))) {
		struct timespec ts = clk_after(200);

		pthread_cond_timedwait(&a->done_cond, &a->lock, &ts);
	}
	pthread_mutex_unlock(&a->lock);
}

static json_t *without_paths(const json_t *outputs)
{
	json_t *list = json_array(), *out;
	size_t i;

	json_array_foreach((json_t *)outputs, i, out) {
		json_t *copy = json_copy(out);

		json_object_del(copy, "path");
		json_array_append_new(list, copy);
	}
	return list;
}

static enum rc publish_outputs(struct attempt *t, const json_t *outputs, struct err *e)
{
	const json_t *out;
	size_t i;

	json_array_foreach(outputs, i, out) {
		enum rc rc;

		for (int n = 0;; n++) {
			rc = ship_output(t->a, out, e);
			if (!is_away(rc) || !wait_retry(t->a, n))
				break;
			log_warn("agent", "outputs_wait", "job=%s reason=%s", t->a->job, e->text);
		}
		if (rc != RC_OK)
			return rc;
	}
	return RC_OK;
}

/* After a silence the server is asked first: is the job still ours? */
static void confirm_lease(struct agent *a)
{
	struct err e = {0};

	pthread_mutex_lock(&a->lock);
	bool fenced = agent_fenced(a);
	pthread_mutex_unlock(&a->lock);
	for (int n = 0; fenced && is_away(beat_once(a, &e)); n++)
		if (!wait_retry(a, n))
			return;
}

static void complete(struct attempt *t)
{
	const json_t *outputs = json_object_get(t->result, "outputs");
	struct err e = {0};

	confirm_lease(t->a);
	if (wish_of(t->a) == WISH_DROP)
		return;
	enum rc rc = publish_outputs(t, outputs, &e);
	settle_shipping(t->a, false, 5000);
	if (rc != RC_OK) {
		err_wrap(&e, "publishing outputs");
		fail(t, "retry", e.text, -1, 0);
		return;
	}
	struct err beat_e = {0};
	(void)beat_once(t->a, &beat_e); /* The last points of the curves. */
	json_t *body = ending(t->a);
	json_object_set_new(body, "outputs", without_paths(outputs));
	json_object_set(body, "metrics", json_object_get(t->result, "metrics"));
	json_object_set_new(body, "seconds",
			    json_real((double)(clk_mono_ms() - t->started_ms) / 1000));
	json_object_set(body, "engine", json_object_get(t->result, "engine"));
	json_object_set_new(body, "code", json_string(version_text()));
	rc = say(t, "complete", body, &e);
	if (rc != RC_OK && rc != RC_STALE && !is_away(rc)) {
		err_wrap(&e, "completion refused");
		fail(t, "retry", e.text, -1, 0);
		return;
	}
	log_info("agent", "complete", "job=%s seconds=%.1f", t->a->job,
		 (double)(clk_mono_ms() - t->started_ms) / 1000);
}

/* The checkpoint the executor made on its way out is published and beaten before the job goes back. */
static void hand_back(struct attempt *t, const char *reason)
{
	struct err e = {0};
	int64_t limit = t->a->lease_ms > 20000 ? 30000 : t->a->lease_ms, left = leaving_left(-1);

	settle_shipping(t->a, true, left < 0 ? limit : left * 3 / 4);
	(void)beat_once(t->a, &e);
	fail(t, "preempted", reason, -1, 0);
}

/* A crash costs an attempt unless a new checkpoint was published before it: a job that moves is no
 * poison, as with lost leases. */
static void crashed(struct attempt *t)
{
	char how[64], reason[3000];
	int sig = WIFSIGNALED(t->status) ? WTERMSIG(t->status) : 0;
	bool oom = sig == SIGKILL && oom_kills() > t->oom_before;

	proc_status_text(t->status, how, sizeof how);
	size_t cut = t->tail.len > TAIL_BYTES ? t->tail.len - TAIL_BYTES : 0;
	char *tail = utf8_scrub(t->tail.data ? t->tail.data + cut : "", t->tail.len - cut);
	snprintf(reason, sizeof reason, "executor ended: %s%s%s%s", how,
		 oom ? ", out of memory" : "", *tail ? "\n" : "", tail);
	free(tail);
	settle_shipping(t->a, true, 10000);
	struct err e = {0};
	(void)beat_once(t->a, &e); /* A checkpoint it made before it died still counts. */
	fail(t, sig != 0 && t->a->n_published > 0 ? "preempted" : "retry", reason,
	     WIFEXITED(t->status) ? WEXITSTATUS(t->status) : -1, sig);
}

static void finish(struct attempt *t)
{
	static const char *const why[] = {"", "paused", "worker preempted or draining", "cancelled", ""};

	enum wish w = wish_of(t->a);

	if (w == WISH_DROP) {
		log_warn("agent", "dropped", "job=%s", t->a->job);
	} else if (t->result) {
		complete(t);
	} else if (t->told >= WISH_CANCEL || w >= WISH_CANCEL) {
		fail(t, "preempted", "cancelled", -1, 0);
	} else if (t->stopped || t->told != WISH_NONE) {
		hand_back(t, why[t->told]);
	} else if (t->error) {
		settle_shipping(t->a, true, 10000);
		fail(t, jx_get_str(t->error, "kind", "retry"), jx_get_str(t->error, "reason", "?"),
		     WIFEXITED(t->status) ? WEXITSTATUS(t->status) : -1, 0);
	} else {
		crashed(t);
	}
}

/* --- taking and leaving a job ---------------------------------------------------------------- */

static bool id_valid(const char *id)
{
	return *id && *id != '.' && strlen(id) < 120 &&
	       id[strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")] == 0;
}

static bool take(struct agent *a, const json_t *claim)
{
	const json_t *job = json_object_get(claim, "job");
	const char *id = jx_get_str(job, "id", "");
	char why[GPU_WHY_MAX + 32];

	if (!id_valid(id)) {
		log_error("agent", "odd_claim", "id=%s", id);
		return false;
	}
	pthread_mutex_lock(&a->lock);
	str_copy(a->job, sizeof a->job, id);
	str_copy(a->token, sizeof a->token, jx_get_str(claim, "token", ""));
	a->attempt = jx_get_i64(claim, "attempt", 1);
	a->lease_ms = jx_get_i64(claim, "lease_ms", a->lease_ms);
	bool away = atomic_load(&a->leaving) || !gpu_guard_well(a->guard, why, sizeof why);
	a->wish = away ? WISH_PREEMPT : WISH_NONE;
	a->checkpoint_wanted = a->log_closed = a->fresh = false;
	a->done = a->total = a->log_size = a->log_sent = 0;
	a->n_published = 0;
	a->beat_ok_ms = clk_mono_ms();
	a->points = json_array();
	str_fmt(a->dir, sizeof a->dir, "%s/jobs/%s", a->work, id);
	pthread_mutex_unlock(&a->lock);
	return true;
}

static void leave(struct agent *a)
{
	char dir[sizeof a->dir];

	pthread_mutex_lock(&a->lock);
	while (a->publishing) /* It reads files of the folder. */
		pthread_cond_wait(&a->done_cond, &a->lock);
	a->job[0] = a->token[0] = 0;
	json_decref(a->points);
	json_decref(a->pointer);
	json_decref(a->ckpt);
	a->points = a->pointer = a->ckpt = NULL;
	a->wish = WISH_NONE;
	str_copy(dir, sizeof dir, a->dir);
	pthread_mutex_unlock(&a->lock);
	(void)fs_remove_tree(dir, NULL);
}

static int ranks_asked(const json_t *job)
{
	const json_t *spec = json_object_get(job, "spec");

	return (int)jx_get_i64(json_object_get(spec, "engine"), "ranks", 1);
}

void attempt_run(struct agent *a, const json_t *claim)
{
	struct attempt t = {.a = a, .job = json_object_get(claim, "job"), .report_fd = -1,
			    .log_fd = -1, .proc = {-1, -1, -1, -1}, .started_ms = clk_mono_ms()};
	struct err e = {0};

	if (!take(a, claim))
		return;
	gpu_guard_widen(a->guard, ranks_asked(t.job));
	log_info("agent", "claim", "job=%s attempt=%lld resume=%d", a->job, (long long)a->attempt,
		 json_is_object(json_object_get(t.job, "resume")));
	enum rc rc = prepare(&t, &e);
	if (rc == RC_OK)
		rc = start(&t, &e);
	if (rc == RC_OK) {
		watch(&t);
		finish(&t);
	} else if (wish_of(a) != WISH_DROP) {
		fail(&t, wish_of(a) != WISH_NONE ? "preempted" : rc == RC_INVALID ? "fatal" : "retry", e.text,
		     -1, 0);
	}
	proc_release(&t.proc);
	if (t.log_fd >= 0)
		close(t.log_fd);
	json_decref(t.result);
	json_decref(t.error);
	buf_release(&t.line);
	buf_release(&t.tail);
	leave(a);
}
