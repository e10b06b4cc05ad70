#include "worker/ranks.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GRACE_MS 10000
#define MEET_S 300.0 /* for all ranks to come: some read their model from a slow disk first */

static struct ranks alone(void)
{
	return (struct ranks){.n = 1,
			      .listener = -1,
			      .port = RANKS_PORT,
			      .address = "127.0.0.1",
			      .stop = {-1, -1},
			      .lock = PTHREAD_MUTEX_INITIALIZER};
}

/* --- who we are ------------------------------------------------------------------------------- */

static enum rc read_number(const char *name, int64_t min, int64_t max, int *out, struct err *e)
{
	const char *text = getenv(name);
	int64_t v;

	if (!text || !str_to_i64(text, &v) || v < min || v > max)
		return err_set(e, RC_INVALID, "%s is \"%s\": expected a number from %lld to %lld",
			       name, text ? text : "", (long long)min, (long long)max);
	*out = (int)v;
	return RC_OK;
}

static enum rc read_address(struct ranks *r, struct err *e)
{
	const char *host = getenv("MASTER_ADDR"), *key = getenv("PAWL_RANK_KEY");

	host = host ? host : getenv("SLURM_LAUNCH_NODE_IPADDR");
	if (host)
		str_copy(r->address, sizeof r->address, host);
	if (key)
		str_copy(r->key, sizeof r->key, key);
	return getenv("MASTER_PORT") ? read_number("MASTER_PORT", 1, 65535, &r->port, e) : RC_OK;
}

enum rc ranks_from_env(struct ranks *r, struct err *e)
{
	static const char *const names[][2] = {
		{"PAWL_RANK", "PAWL_RANKS"},
		{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
		{"RANK", "WORLD_SIZE"},
		{"PMI_RANK", "PMI_SIZE"},
		{"SLURM_PROCID", "SLURM_NTASKS"},
		{"JOB_COMPLETION_INDEX", "PAWL_RANKS"},
	};

	*r = alone();
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		enum rc rc;

		if (!getenv(names[i][0]) || !getenv(names[i][1]))
			continue;
		rc = read_number(names[i][1], 1, COLL_RANKS_MAX, &r->n, e);
		if (rc == RC_OK)
			rc = read_number(names[i][0], 0, r->n - 1, &r->rank, e);
		return rc == RC_OK ? read_address(r, e) : rc;
	}
	return RC_OK;
}

/* --- meeting ---------------------------------------------------------------------------------- */

struct hello {
	char word[8]; /* "pawl-rk1" */
	int32_t rank, n;
	uint32_t bytes;
	char key[RANKS_KEY_MAX];
};

static struct hello hello_of(const struct ranks *r, size_t bytes)
{
	struct hello h = {.rank = r->rank, .n = r->n, .bytes = (uint32_t)bytes};

	memcpy(h.word, "pawl-rk1", sizeof h.word);
	memcpy(h.key, r->key, sizeof h.key);
	return h;
}

/* All n bytes before `until`, either way. */
static bool transfer(int fd, void *p, size_t n, bool out, double until)
{
	for (size_t done = 0; done < n;) {
		double left = until - clk_mono_s();
		struct pollfd f = {.fd = fd, .events = out ? POLLOUT : POLLIN};
		ssize_t k;

		if (left <= 0 || poll(&f, 1, (int)(left * 1000) + 1) <= 0)
			return false;
		k = out ? send(fd, (char *)p + done, n - done, MSG_NOSIGNAL | MSG_DONTWAIT)
			: recv(fd, (char *)p + done, n - done, MSG_DONTWAIT);
		if (k == 0 || (k < 0 && errno != EAGAIN && errno != EINTR))
			return false;
		done += k > 0 ? (size_t)k : 0;
	}
	return true;
}

static enum rc look_up(const struct ranks *r, bool passive, struct addrinfo **out, struct err *e)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = passive ? AI_PASSIVE : 0};
	char port[16];
	int rc;

	str_fmt(port, sizeof port, "%d", r->port);
	rc = getaddrinfo(passive && !r->children ? NULL : r->address, port, &hints, out);
	return rc == 0 ? RC_OK
		       : err_set(e, RC_UNREACHABLE, "rank 0 at %s: %s", r->address,
				 gai_strerror(rc));
}

/* Port 0: one is chosen, and r->port says which. */
static enum rc listen_here(struct ranks *r, struct err *e)
{
	struct addrinfo *list = NULL;
	struct sockaddr_storage at;
	socklen_t len = sizeof at;
	char port[16];
	int64_t chosen;
	int on = 1;
	enum rc rc = look_up(r, true, &list, e);

	if (rc != RC_OK)
		return rc;
	r->listener = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (r->listener < 0 ||
	    setsockopt(r->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
	    bind(r->listener, list->ai_addr, list->ai_addrlen) != 0 ||
	    listen(r->listener, COLL_RANKS_MAX) != 0 ||
	    getsockname(r->listener, (struct sockaddr *)&at, &len) != 0 ||
	    getnameinfo((struct sockaddr *)&at, len, NULL, 0, port, sizeof port, NI_NUMERICSERV) !=
		    0)
		rc = err_set(e, err_from_errno(errno), "rank 0 cannot listen on port %d: %m",
			     r->port);
	freeaddrinfo(list);
	if (rc == RC_OK && str_to_i64(port, &chosen))
		r->port = (int)chosen;
	return rc;
}

/* A rank that says who it is; -1: a stranger, or nobody in time. */
static int accept_rank(struct ranks *r, size_t bytes, int *rank, double until)
{
	struct pollfd f = {.fd = r->listener, .events = POLLIN};
	struct hello h, want = hello_of(r, bytes);
	double left = until - clk_mono_s();
	int fd;

	if (left <= 0 || poll(&f, 1, (int)(left < 0.2 ? left * 1000 + 1 : 200)) <= 0)
		return -1;
	fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return -1;
	if (transfer(fd, &h, sizeof h, false, clk_mono_s() + 5) && h.rank > 0 && h.rank < r->n) {
		*rank = h.rank;
		want.rank = h.rank;
		if (memcmp(&h, &want, sizeof h) == 0)
			return fd;
	}
	log_warn("ranks", "stranger", "port=%d", r->port);
	close(fd);
	return -1;
}

static enum rc meet_as_first(struct ranks *r, void *bytes, size_t n, double until, struct err *e)
{
	int fds[COLL_RANKS_MAX], here = 1, rank = 0, missing = 0;
	enum rc rc = r->listener >= 0 ? RC_OK : listen_here(r, e);

	memset(fds, -1, sizeof fds);
	while (rc == RC_OK && here < r->n) {
		int fd = accept_rank(r, n, &rank, until);

		if (fd >= 0) {
			here += fds[rank] < 0;
			if (fds[rank] >= 0)
				close(fds[rank]);
			fds[rank] = fd;
		} else if (ranks_why(r)) {
			rc = err_set(e, RC_UNREACHABLE, "%s", ranks_why(r));
		} else if (clk_mono_s() > until) {
			for (missing = 1; missing < r->n && fds[missing] >= 0;)
				missing++;
			rc = err_set(e, RC_TIMEOUT, "rank %d of %d did not come", missing, r->n);
		}
	}
	for (int i = 1; i < r->n; i++) {
		if (fds[i] < 0)
			continue;
		if (rc == RC_OK && !transfer(fds[i], bytes, n, true, until))
			rc = err_set(e, RC_UNREACHABLE, "rank %d went away", i);
		close(fds[i]);
	}
	return rc;
}

static int connect_once(const struct addrinfo *a)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Rank 0 may not listen yet: a knock every tenth of a second. */
static enum rc meet_as_other(struct ranks *r, void *bytes, size_t n, double until, struct err *e)
{
	const struct timespec pause = {.tv_nsec = 100000000};
	struct hello h = hello_of(r, n);
	struct addrinfo *list = NULL;
	enum rc rc = look_up(r, false, &list, e);

	for (bool done = false; rc == RC_OK && !done;) {
		int fd = -1;

		for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
			fd = connect_once(a);
		done = fd >= 0 && transfer(fd, &h, sizeof h, true, until) &&
		       transfer(fd, bytes, n, false, until);
		if (fd >= 0)
			close(fd);
		if (!done && clk_mono_s() > until)
			rc = err_set(e, RC_TIMEOUT, "rank 0 at %s port %d did not answer rank %d",
				     r->address, r->port, r->rank);
		else if (!done)
			nanosleep(&pause, NULL);
	}
	if (list)
		freeaddrinfo(list);
	return rc;
}

enum rc ranks_meet(struct ranks *r, void *bytes, size_t n, double timeout_s, struct err *e)
{
	double until = clk_mono_s() + timeout_s;

	if (r->n == 1)
		return RC_OK;
	return r->rank == 0 ? meet_as_first(r, bytes, n, until, e)
			    : meet_as_other(r, bytes, n, until, e);
}

/* --- children --------------------------------------------------------------------------------- */

static void note_end(struct ranks *r, int child, int status)
{
	char how[96];

	proc_status_text(status, how, sizeof how);
	pthread_mutex_lock(&r->lock);
	if (!r->why[0])
		str_fmt(r->why, sizeof r->why, "rank %d ended: %s", child + 1, how);
	pthread_mutex_unlock(&r->lock);
}

const char *ranks_why(struct ranks *r)
{
	bool any;

	pthread_mutex_lock(&r->lock);
	any = r->why[0] != 0;
	pthread_mutex_unlock(&r->lock);
	return any ? r->why : NULL; /* Written once. */
}

/* Child i has ended. True when that is not how it should. */
static bool ended_badly(struct ranks *r, int i)
{
	int status = 0;

	if (proc_wait(&r->children[i], 1000, &status, NULL) != RC_OK)
		return false;
	r->children[i].pid = 0;
	if (status != 0)
		note_end(r, i, status);
	return status != 0;
}

static void *watch(void *arg)
{
	struct ranks *r = arg;
	struct pollfd f[COLL_RANKS_MAX + 1];
	int n = r->n - 1;
	bool bad = false;

	for (int i = 0; i < n; i++)
		f[i] = (struct pollfd){.fd = (int)syscall(SYS_pidfd_open, r->children[i].pid, 0),
				       .events = POLLIN};
	f[n] = (struct pollfd){.fd = r->stop[0], .events = POLLIN};
	while (!bad && poll(f, (nfds_t)n + 1, -1) >= 0 && !f[n].revents)
		for (int i = 0; i < n && !bad; i++) {
			if (!f[i].revents)
				continue;
			bad = ended_badly(r, i);
			close(f[i].fd);
			f[i] = (struct pollfd){.fd = -1};
		}
	for (int i = 0; i < n; i++) {
		if (bad && r->children[i].pid > 0)
			proc_kill(&r->children[i], SIGKILL);
		if (f[i].fd >= 0)
			close(f[i].fd);
	}
	if (bad)
		log_error("ranks", "ended", "%s", r->why);
	/* Whoever works here should hear of it by itself and stop this thread. */
	if (bad && poll(&f[n], 1, GRACE_MS) == 0 && r->ended)
		r->ended(r->why);
	return NULL;
}

static void make_key(char key[RANKS_KEY_MAX])
{
	unsigned char raw[16];

	if (getrandom(raw, sizeof raw, 0) != (ssize_t)sizeof raw)
		memset(raw, 0, sizeof raw); /* The port is the loopback's all the same. */
	for (size_t i = 0; i < sizeof raw; i++)
		str_fmt(key + 2 * i, 3, "%02x", raw[i]);
}

static enum rc start_child(struct ranks *r, int rank, const char *const *argv, struct err *e)
{
	char text[4][RANKS_KEY_MAX + 32];
	const char *const env[] = {text[0], text[1], text[2], text[3], "MASTER_ADDR=127.0.0.1",
				   NULL};
	struct proc_opts o = {.argv = argv, .env = env};

	str_fmt(text[0], sizeof text[0], "PAWL_RANK=%d", rank);
	str_fmt(text[1], sizeof text[1], "PAWL_RANKS=%d", r->n);
	str_fmt(text[2], sizeof text[2], "MASTER_PORT=%d", r->port);
	str_fmt(text[3], sizeof text[3], "PAWL_RANK_KEY=%s", r->key);
	return proc_start(&o, &r->children[rank - 1], e);
}

enum rc ranks_start(struct ranks *r, int n, const char *const *(*argv_of)(void *ctx, int rank),
		    void *ctx, void (*ended)(const char *why), struct err *e)
{
	enum rc rc;

	*r = alone();
	if (n < 1 || n > COLL_RANKS_MAX)
		return err_set(e, RC_INVALID, "%d ranks: expected 1 to %d", n, COLL_RANKS_MAX);
	r->n = n;
	r->port = 0;
	r->ended = ended;
	r->children = mem_array((size_t)n, sizeof *r->children);
	make_key(r->key);
	rc = listen_here(r, e);
	for (int i = 1; i < n && rc == RC_OK; i++)
		rc = start_child(r, i, argv_of(ctx, i), e);
	if (rc == RC_OK && pipe2(r->stop, O_CLOEXEC) != 0)
		rc = err_set(e, RC_IO, "pipe: %m");
	r->watching = rc == RC_OK && pthread_create(&r->watcher, NULL, watch, r) == 0;
	if (rc == RC_OK && !r->watching)
		rc = err_set(e, RC_NOMEM, "no thread to watch %d ranks", n);
	if (rc != RC_OK)
		ranks_close(r, 0);
	return rc;
}

void ranks_close(struct ranks *r, double grace_s)
{
	double until = clk_mono_s() + grace_s;

	if (r->watching) {
		if (write(r->stop[1], "", 1) != 1)
			log_warn("ranks", "stop", "errno=%d", errno);
		pthread_join(r->watcher, NULL);
	}
	for (int i = 0; r->children && i < r->n - 1; i++) {
		double left = until - clk_mono_s();
		int status;

		if (r->children[i].pid <= 0)
			continue;
		if (proc_wait(&r->children[i], left > 0 ? (int64_t)(left * 1000) : 1, &status,
			      NULL) == RC_OK)
			continue;
		proc_kill(&r->children[i], SIGKILL);
		proc_wait(&r->children[i], 10000, &status, NULL);
	}
	for (int i = 0; i < 2; i++)
		if (r->stop[i] >= 0)
			close(r->stop[i]);
	if (r->listener >= 0)
		close(r->listener);
	free(r->children);
	*r = alone();
}

/* --- groups ----------------------------------------------------------------------------------- */

static enum rc open_nccl(struct ranks *r, const struct kern *k, struct kern_pool *pool,
			 struct coll **out, struct err *e)
{
	unsigned char id[COLL_ID_BYTES] = {0};
	char why[COLL_WHY] = "";
	enum rc rc;

	if (r->rank == 0 && !coll_nccl_id(id, why, sizeof why))
		return err_set(e, RC_UNSUPPORTED, "%s", why);
	rc = ranks_meet(r, id, sizeof id, MEET_S, e);
	if (rc != RC_OK)
		return rc;
	*out = coll_nccl_open(id, r->rank, r->n, k, pool, why, sizeof why);
	return *out ? RC_OK : err_set(e, RC_UNREACHABLE, "%s", why);
}

/* The segment has no name: the others find it among rank 0's descriptors. */
struct place {
	char path[64], machine[64];
};

static void name_machine(char out[64])
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	if (!f || !fgets(out, 64, f))
		out[0] = 0;
	if (f)
		fclose(f);
}

static enum rc open_segment(struct ranks *r, int *fd, struct err *e)
{
	struct place p = {.path = ""}, mine = {.path = ""};
	enum rc rc;

	name_machine(mine.machine);
	if (r->rank == 0) {
		*fd = memfd_create("pawl-ranks", MFD_CLOEXEC);
		if (*fd < 0 || ftruncate(*fd, (off_t)coll_shm_bytes(r->n)) != 0)
			return err_set(e, RC_NOMEM, "shared memory for %d ranks: %m", r->n);
		p = mine;
		str_fmt(p.path, sizeof p.path, "/proc/%d/fd/%d", (int)getpid(), *fd);
	}
	rc = ranks_meet(r, &p, sizeof p, MEET_S, e);
	if (rc != RC_OK || r->rank == 0)
		return rc;
	if (memcmp(p.machine, mine.machine, sizeof p.machine) != 0)
		return err_set(e, RC_UNSUPPORTED,
			       "rank %d is on another machine than rank 0: without GPUs the ranks "
			       "of a job share memory",
			       r->rank);
	*fd = open(p.path, O_RDWR | O_CLOEXEC);
	return *fd >= 0 ? RC_OK : err_set(e, err_from_errno(errno), "%s: %m", p.path);
}

enum rc ranks_open(struct ranks *r, const struct kern *k, struct kern_pool *pool, struct coll **out,
		   struct err *e)
{
	struct coll_shm o = {.fd = -1, .rank = r->rank, .n = r->n, .kern = k, .pool = pool};
	char why[COLL_WHY] = "";
	enum rc rc;

	*out = NULL;
	if (r->n == 1)
		return RC_OK;
	if (k->stream && k->stream(pool))
		return open_nccl(r, k, pool, out, e);
	rc = open_segment(r, &o.fd, e);
	if (rc == RC_OK) {
		*out = coll_shm_open(&o, why, sizeof why);
		if (!*out)
			rc = err_set(e, RC_UNREACHABLE, "%s", why);
	}
	if (o.fd >= 0)
		close(o.fd);
	return rc;
}
