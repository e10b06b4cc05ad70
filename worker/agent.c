#include "worker/agent.h"

#include "base/clk.h"
#include "base/conf.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/version.h"
#include "store/store.h"
#include "worker/gpu_guard.h"
#include "worker/leaving.h"
#include "worker/notice.h"
#include "worker/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define CLAIM_WAIT_S 4 /* A SIGTERM while idle waits no longer than this. */
#define SIGNAL_NOTICE_MS 30000 /* what Kubernetes, a GCP shutdown and `pawl up` give */
#define GPU_LOOK_MS 1000
#define GPU_SILENT_MS 60000

static struct agent agent; /* One per process; the signal handler needs it. */

void agent_wake(struct agent *a)
{
	uint64_t one = 1;

	if (write(a->wake_fd, &one, sizeof one) < 0)
		return; /* Already full of wakes. */
}

/* SIGTERM: systemd, Kubernetes, a drained host; Slurm sends it twice, GraceTime apart, with SIGUSR1 before
 * where one asked for it. None of them cuts short a job that is being handed back. */
static void on_term(int sig)
{
	int saved = errno;

	if (sig != SIGINT) /* Then it is not the machine that goes. */
		leaving_begin(agent.notice_ms);
	if (atomic_exchange(&agent.leaving, true) && sig == SIGINT)
		_exit(128 + sig); /* A person asked twice: at once. The executor dies with us. */
	agent_wake(&agent);
	errno = saved;
}

/* --- start ----------------------------------------------------------------------------------- */

static const char *either(const struct conf *c, const char *key, const char *other)
{
	const char *v = conf_str(c, key);

	return *v ? v : conf_str(c, other);
}

static void read_token(struct agent *a, const char *path)
{
	struct buf text = BUF_INIT;
	struct err e;

	if (fs_read(path, sizeof a->client.token - 1, &text, &e) != RC_OK)
		die("cannot read the worker token: %s", e.text);
	struct str t = str_trim((struct str){text.data ? text.data : "", text.len});
	if (t.len == 0 || t.len >= sizeof a->client.token)
		die("%s: no token in it", path);
	memcpy(a->client.token, t.p, t.len);
	a->client.token[t.len] = 0;
	buf_release(&text);
}

static void read_conf(struct agent *a, const struct conf *c)
{
	const char *url = either(c, "worker.server", "client.server");
	const char *token = either(c, "worker.token_file", "client.token_file");
	const char *work = conf_str(c, "worker.work_dir"), *name = conf_str(c, "worker.name");
	size_t len = strlen(url);

	if (!*url)
		die("no server: give --server URL");
	while (len > 0 && url[len - 1] == '/')
		len--;
	if (len >= sizeof a->client.url || strlen(work) >= sizeof a->work - 200)
		die("server URL or work folder is too long");
	memcpy(a->client.url, url, len);
	a->client.url[len] = 0;
	if (*token)
		read_token(a, token);
	str_copy(a->work, sizeof a->work, work);
	if (*name)
		str_copy(a->name, sizeof a->name, name);
	else if (gethostname(a->name, sizeof a->name - 1) != 0)
		str_copy(a->name, sizeof a->name, "worker");
	a->notice_ms = conf_i64(c, "worker.notice_s") * 1000;
	if (a->notice_ms <= 0)
		a->notice_ms = SIGNAL_NOTICE_MS;
	a->labels = mem_str(conf_str(c, "worker.labels"));
	a->stages = mem_str(conf_str(c, "worker.stages"));
	a->pools = mem_str(conf_str(c, "worker.pools"));
	a->price_per_hour = conf_f64(c, "worker.price_per_hour");
	a->client.piece = conf_i64(c, "worker.piece_bytes");
	a->threads = (int)conf_i64(c, "worker.threads");
	a->cache_bytes = conf_i64(c, "worker.cache_bytes");
	a->idle_exit_ms = conf_i64(c, "worker.exit_when_idle_s") * 1000;
	str_copy(a->store_url, sizeof a->store_url, conf_str(c, "worker.store"));
	a->lease_ms = 45000;
	a->beat_ms = 10000;
}

/* Job folders of an earlier life are litter: what mattered is in the store. */
static enum rc clean_work(struct agent *a, struct err *e)
{
	static const char *const gone[] = {"jobs", "blobs"};
	static const char *const made[] = {"jobs", "cache"};
	char path[PATH_MAX];
	enum rc rc = fs_mkdirs(a->work, e);

	for (size_t i = 0; rc == RC_OK && i < sizeof gone / sizeof *gone; i++) {
		str_fmt(path, sizeof path, "%s/%s", a->work, gone[i]);
		rc = fs_remove_tree(path, e);
	}
	for (size_t i = 0; rc == RC_OK && i < sizeof made / sizeof *made; i++) {
		str_fmt(path, sizeof path, "%s/%s", a->work, made[i]);
		rc = fs_mkdirs(path, e);
	}
	return rc;
}

/* One agent per work folder. The descriptor stays open for the life of the process. */
static void lock_work(struct agent *a)
{
	char path[PATH_MAX], full[AGENT_PATH_MAX];
	struct err e;

	if (fs_mkdirs(a->work, &e) != RC_OK)
		die("work folder: %s", e.text);
	char *real = realpath(a->work, NULL);
	if (!real || strlen(real) >= sizeof full - 200)
		die("work folder %s: %s", a->work, strerror(errno));
	str_copy(a->work, sizeof a->work, real);
	free(real);
	str_fmt(path, sizeof path, "%s/lock", a->work);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		die("another worker uses %s: give each its own --worker-work-dir", a->work);
}

/* --- registration ---------------------------------------------------------------------------- */

static json_t *split_list(const char *text)
{
	json_t *list = json_array();

	while (*text) {
		size_t n = strcspn(text, ",");
		struct str s = str_trim((struct str){text, n});

		if (s.len > 0)
			json_array_append_new(list, json_stringn(s.p, s.len));
		text += n + (text[n] == ',');
	}
	return list;
}

static json_t *split_labels(const char *text)
{
	json_t *labels = json_object(), *list = split_list(text), *item;
	size_t i;

	json_array_foreach(list, i, item) {
		const char *s = json_string_value(item), *eq = strchr(s, '=');

		if (eq)
			json_object_setn_new(labels, s, (size_t)(eq - s), json_string(eq + 1));
		else
			json_object_set_new(labels, s, json_string(""));
	}
	json_decref(list);
	return labels;
}

static json_t *introduction(const struct agent *a)
{
	char host[128] = "";
	struct sysinfo si = {0};

	gethostname(host, sizeof host - 1);
	(void)sysinfo(&si);
	return json_pack("{s:s, s:i, s:I, s:s, s:s, s:s, s:i, s:I, s:o, s:f, s:o, s:o}", "name", a->name,
			 "protocol", WORKER_PROTOCOL, "pid", (json_int_t)getpid(), "host", host,
			 "engine", stage_engine_name(), "code",
			 version_text(), "threads",
			 a->threads > 0 ? a->threads : (int)sysconf(_SC_NPROCESSORS_ONLN),
			 "memory_bytes", (json_int_t)si.totalram * si.mem_unit, "labels",
			 split_labels(a->labels), "price_per_hour", a->price_per_hour, "stages",
			 split_list(a->stages), "pools", split_list(a->pools));
}

/* The server's store without the server, if it is the same one and not another of that name. */
static void reach_store(struct agent *a, const char *url, const char *id)
{
	struct err e = {0};
	struct store *s = NULL;

	store_close(a->store);
	a->store = NULL;
	if (a->store_url[0])
		url = a->store_url;
	if (!str_starts(url, "file://") && !str_starts(url, "s3://"))
		return;
	if (store_open(url, false, &s, &e) != RC_OK) {
		log_info("agent", "store_by_server", "url=%s reason=%s", url, e.text);
		return;
	}
	if (*id && strcmp(store_id(s), id) != 0) {
		log_info("agent", "store_by_server", "url=%s reason=\"another store id\"", url);
		store_close(s);
		return;
	}
	a->store = s;
	log_info("agent", "store_direct", "url=%s id=%s", url, store_id(s));
}

static enum rc introduce(struct agent *a, struct err *e)
{
	json_t *reply = NULL;
	const char *id;

	enum rc rc = client_post(&a->client, "register", introduction(a), 15000, &reply, e);
	if (rc == RC_OK && !reply)
		rc = err_set(e, RC_INVALID, "registration: empty answer");
	if (rc == RC_OK)
		rc = jx_str(reply, "worker", &id, e);
	if (rc == RC_OK) {
		pthread_mutex_lock(&a->lock);
		str_copy(a->id, sizeof a->id, id);
		a->lease_ms = jx_get_i64(reply, "lease_ms", 45000);
		a->beat_ms = jx_get_i64(reply, "beat_ms", 10000);
		a->lost_identity = false;
		a->beat_ok_ms = clk_mono_ms();
		pthread_mutex_unlock(&a->lock);
		reach_store(a, jx_get_str(reply, "store_url", ""), jx_get_str(reply, "store_id", ""));
		log_info("agent", "registered", "worker=%s lease_ms=%lld", a->id, (long long)a->lease_ms);
	}
	json_decref(reply);
	return rc;
}

/* --- the loop -------------------------------------------------------------------------------- */

/* Sleeps, but a signal ends it. */
static void rest(struct agent *a, int64_t ms)
{
	struct pollfd p = {a->wake_fd, POLLIN, 0};
	uint64_t n;

	if (poll(&p, 1, (int)ms) > 0 && read(a->wake_fd, &n, sizeof n) < 0)
		return;
}

static enum rc claim(struct agent *a, json_t **out, struct err *e)
{
	json_t *body = json_pack("{s:s, s:i}", "worker", a->id, "wait_s", CLAIM_WAIT_S);

	if (a->stages[0])
		json_object_set_new(body, "stages", split_list(a->stages));
	*out = NULL;
	return client_post(&a->client, "claim", body, (CLAIM_WAIT_S + 15) * 1000, out, e);
}

/* Takes a job and works on it; with a GPU that is not well it rests instead. */
static enum rc work_once(struct agent *a, bool *worked, struct err *e)
{
	char why[GPU_WHY_MAX + 32];
	json_t *job = NULL;
	enum rc rc;

	*worked = false;
	if (!gpu_guard_well(a->guard, why, sizeof why)) {
		rest(a, GPU_LOOK_MS);
		return RC_OK;
	}
	rc = claim(a, &job, e);
	if (rc == RC_OK && job) {
		attempt_run(a, job);
		*worked = true;
	}
	json_decref(job);
	return rc;
}

static bool idle_too_long(const struct agent *a, int64_t since)
{
	return a->idle_exit_ms > 0 && clk_mono_ms() - since > a->idle_exit_ms;
}

/* Returns the exit code. */
static int work(struct agent *a)
{
	int64_t idle_since = clk_mono_ms();
	int failures = 0;

	while (!atomic_load(&a->leaving) && !atomic_load(&a->last_job) && !idle_too_long(a, idle_since)) {
		struct err e = {0};
		bool known = a->id[0] && !a->lost_identity, worked = false;
		enum rc rc = known ? work_once(a, &worked, &e) : introduce(a, &e);

		if (rc == RC_OK) {
			failures = 0;
			if (worked)
				idle_since = clk_mono_ms();
		} else if ((rc == RC_DENIED || rc == RC_INVALID) && !a->id[0]) {
			log_error("agent", "refused", "reason=%s", e.text);
			return 77;
		} else {
			a->lost_identity |= rc == RC_NOTFOUND;
			if (failures++ % 10 == 0)
				log_warn("agent", "server_away", "reason=%s", e.text);
			rest(a, client_backoff_ms(failures));
		}
	}
	return 0;
}

static void init_locks(struct agent *a)
{
	pthread_mutex_init(&a->lock, NULL);
	clk_cond_init(&a->beat_cond);
	clk_cond_init(&a->ship_cond);
	clk_cond_init(&a->done_cond);
}

static void start_threads(struct agent *a, pthread_t threads[2])
{
	sigset_t all, old;

	sigfillset(&all); /* Signals are the main thread's. */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&threads[0], NULL, beat_thread, a) != 0 ||
	    pthread_create(&threads[1], NULL, ship_thread, a) != 0)
		die("cannot start threads");
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void stop_threads(struct agent *a, pthread_t threads[2])
{
	pthread_mutex_lock(&a->lock);
	a->quit = true;
	pthread_cond_broadcast(&a->beat_cond);
	pthread_cond_broadcast(&a->ship_cond);
	pthread_mutex_unlock(&a->lock);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
}

/* The machine may be taken away soon: what is done is made durable, and nothing new is begun. */
static void on_hint(void *ctx)
{
	struct agent *a = ctx;

	pthread_mutex_lock(&a->lock);
	a->checkpoint_wanted = true;
	pthread_mutex_unlock(&a->lock);
	atomic_store(&a->last_job, true);
	agent_wake(a);
}

/* The machine will be taken away: the same as SIGTERM. */
static void on_taken(void *ctx)
{
	leaving_begin(agent.cloud_notice_ms);
	atomic_store(&((struct agent *)ctx)->leaving, true);
	agent_wake(ctx);
}

static void watch_cloud(struct agent *a, const struct conf *c)
{
	static struct notice n; /* The watching thread reads it. */
	const char *name = conf_str(c, "worker.cloud");

	if (!*name)
		return;
	n = (struct notice){.cloud = notice_cloud_named(name), .url = conf_str(c, "worker.cloud_url"),
			    .taken = on_taken, .hinted = on_hint, .ctx = a};
	if (!n.cloud)
		die("worker.cloud: \"%s\" is none of %s", name, notice_cloud_names());
	a->cloud_notice_ms = conf_i64(c, "worker.notice_s") * 1000;
	if (a->cloud_notice_ms <= 0)
		a->cloud_notice_ms = notice_cloud_ms(n.cloud);
	notice_watch(&n);
}

/* What is at hand is given back, and the server hears at once. */
static void on_ill_gpu(void *ctx)
{
	struct agent *a = ctx;

	pthread_mutex_lock(&a->lock);
	agent_wish(a, WISH_PREEMPT);
	a->fresh = true;
	pthread_cond_signal(&a->beat_cond);
	pthread_mutex_unlock(&a->lock);
	agent_wake(a);
}

/* Of a worker that computes on its CPU only where somebody named the library. */
static void watch_gpus(struct agent *a, const struct conf *c)
{
	struct gpu_guard_opts o = {(int)conf_i64(c, "worker.device"), GPU_LOOK_MS, GPU_SILENT_MS,
				   on_ill_gpu, a};
	struct err e;

	if (!str_starts(stage_engine_name(), "cuda") && !*conf_str(c, "worker.nvml"))
		return;
	if (gpu_guard_start(&o, &a->guard, &e) != RC_OK)
		log_warn("agent", "gpu_not_watched", "reason=%s", e.text);
}

int agent_main(const struct conf *c)
{
	struct sigaction sa = {.sa_handler = on_term};
	struct agent *a = &agent;
	pthread_t threads[2];
	struct err e = {0};

	read_conf(a, c);
	lock_work(a);
	if (clean_work(a, &e) != RC_OK)
		die("work folder: %s", e.text);
	a->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	log_info("agent", "start", "server=%s work=%s engine=%s", a->client.url, a->work,
		 stage_engine_name());
	init_locks(a);
	watch_gpus(a, c);
	start_threads(a, threads);
	watch_cloud(a, c);
	int code = work(a);
	stop_threads(a, threads);
	gpu_guard_stop(a->guard);
	log_info("agent", "stop", "worker=%s code=%d", a->id, code);
	store_close(a->store);
	free(a->labels);
	free(a->stages);
	free(a->pools);
	return code;
}
