/* What leaves this machine while a job runs: checkpoints into the store, log lines to the server.
 * A thread of its own, because either may take minutes.
 */
#include "worker/agent.h"

#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/str.h"
#include "store/artifact.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_CHUNK (128u << 10)
#define LOG_PERIOD_MS 1000

/* --- blobs ----------------------------------------------------------------------------------- */

static enum rc ship_blob(struct agent *a, const char *digest, const char *path, struct err *e)
{
	bool has = false;

	if (a->store)
		return store_put(a->store, digest, path, e);
	enum rc rc = client_blob_has(&a->client, digest, &has, e);
	if (rc != RC_OK || has)
		return rc;
	return client_blob_put(&a->client, digest, path, e);
}

enum rc ship_output(struct agent *a, const json_t *out, struct err *e)
{
	const char *path = jx_get_str(out, "path", "");
	const json_t *v;
	char volume[PATH_MAX];
	enum rc rc = RC_OK;
	size_t i;

	json_array_foreach(json_object_get(out, "volumes"), i, v) {
		rc = artifact_volume_path(path, i, volume, sizeof volume, e);
		if (rc == RC_OK)
			rc = ship_blob(a, jx_get_str(v, "digest", ""), volume, e);
		if (rc != RC_OK)
			return rc;
	}
	return ship_blob(a, jx_get_str(out, "digest", ""), path, e);
}

/* --- checkpoints ----------------------------------------------------------------------------- */

/* Each part's digest by its role, with its volumes where it has some. */
static enum rc publish_parts(struct agent *a, const json_t *outputs, json_t *digests, struct err *e)
{
	const json_t *out;
	size_t i;

	json_array_foreach(outputs, i, out) {
		json_t *digest = json_object_get(out, "digest");
		json_t *volumes = json_object_get(out, "volumes");
		enum rc rc = ship_output(a, out, e);

		if (rc != RC_OK)
			return rc;
		json_object_set_new(digests, jx_get_str(out, "role", ""),
				    volumes ? json_pack("{s:O, s:O}", "digest", digest, "volumes",
							volumes)
					    : json_incref(digest));
	}
	return RC_OK;
}

static void remove_ckpt_dir(const char *job_dir, int64_t n)
{
	char dir[PATH_MAX];

	str_fmt(dir, sizeof dir, "%s/ckpt/%lld", job_dir, (long long)n);
	(void)fs_remove_tree(dir, NULL);
}

/* Takes the waiting checkpoint, publishes it unlocked, and sets the pointer if the job is still the
 * one it came from. Lock held on entry and exit. */
static void publish_waiting(struct agent *a)
{
	json_t *ckpt = a->ckpt, *digests = json_object();
	char token[sizeof a->token], dir[sizeof a->dir];
	struct err e = {0};

	a->ckpt = NULL;
	a->publishing = true;
	str_copy(token, sizeof token, a->token);
	str_copy(dir, sizeof dir, a->dir);
	pthread_mutex_unlock(&a->lock);
	int64_t n = jx_get_i64(ckpt, "n", 0);
	enum rc rc = publish_parts(a, json_object_get(ckpt, "outputs"), digests, &e);
	pthread_mutex_lock(&a->lock);
	a->publishing = false;
	bool ours = strcmp(token, a->token) == 0 && a->wish < WISH_CANCEL;
	if (rc == RC_OK && ours) {
		json_decref(a->pointer);
		a->pointer = json_pack("{s:O, s:O}", "outputs", digests, "progress",
				       json_object_get(ckpt, "progress"));
		a->fresh = true;
		a->n_published++;
		pthread_cond_signal(&a->beat_cond);
		log_info("agent", "checkpoint_published", "job=%s n=%lld", a->job, (long long)n);
	} else if (rc != RC_OK) {
		log_warn("agent", "checkpoint_not_published", "job=%s n=%lld reason=%s", a->job,
			 (long long)n, e.text);
	}
	/* A try that failed is tried again unless a newer one came. */
	if (rc != RC_OK && ours && !a->ckpt && a->job[0])
		a->ckpt = json_incref(ckpt);
	else
		remove_ckpt_dir(dir, n);
	pthread_cond_broadcast(&a->done_cond);
	json_decref(ckpt);
	json_decref(digests);
}

/* --- log ------------------------------------------------------------------------------------- */

static ssize_t read_log(const char *dir, int64_t offset, char *out, size_t size)
{
	char path[PATH_MAX];

	str_fmt(path, sizeof path, "%s/log", dir);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = pread(fd, out, size, offset);
	close(fd);
	return n;
}

/* Sends one piece. Lock held on entry and exit, not in between. */
static bool send_log(struct agent *a)
{
	static char chunk[LOG_CHUNK]; /* One ship thread. */
	char job[sizeof a->job], token[sizeof a->token], dir[sizeof a->dir];
	int64_t offset = a->log_sent, attempt = a->attempt, have;
	struct err e = {0};

	str_copy(job, sizeof job, a->job);
	str_copy(token, sizeof token, a->token);
	str_copy(dir, sizeof dir, a->dir);
	pthread_mutex_unlock(&a->lock);
	ssize_t n = read_log(dir, offset, chunk, sizeof chunk);
	enum rc rc = n > 0 ? client_log(&a->client, job, token, attempt, offset, chunk, (size_t)n,
					&have, &e)
			   : RC_IO;
	pthread_mutex_lock(&a->lock);
	if (strcmp(token, a->token) != 0)
		return false;
	if (rc == RC_OK)
		a->log_sent = offset + n;
	else if (rc == RC_CONFLICT && have >= 0 && have <= a->log_size)
		a->log_sent = have;
	else if (rc != RC_UNREACHABLE && rc != RC_TIMEOUT)
		a->log_sent = a->log_size; /* Refused for good: give this piece up. */
	pthread_cond_broadcast(&a->done_cond);
	return rc == RC_OK || rc == RC_CONFLICT;
}

/* --- the thread ------------------------------------------------------------------------------ */

static void wait_work(struct agent *a, int64_t ms)
{
	struct timespec until = clk_after(ms);

	pthread_cond_timedwait(&a->ship_cond, &a->lock, &until);
}

void *ship_thread(void *agent)
{
	struct agent *a = agent;
	int failures = 0;

	pthread_mutex_lock(&a->lock);
	while (!a->quit) {
		bool worked = false, failed = false;

		if (a->ckpt && a->job[0] && !agent_fenced(a) && a->wish < WISH_CANCEL) {
			publish_waiting(a);
			worked = true;
			failed = a->ckpt != NULL;
		}
		if (a->job[0] && a->wish < WISH_DROP && a->log_sent < a->log_size) {
			/* While the job runs a second's worth of lines goes together. */
			worked = a->log_closed;
			failed |= !send_log(a);
		}
		failures = failed ? failures + 1 : 0;
		if (failed)
			wait_work(a, client_backoff_ms(failures));
		else if (!worked)
			wait_work(a, LOG_PERIOD_MS);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}
