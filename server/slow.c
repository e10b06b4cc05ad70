#include "server/slow.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#define LOOK_MS 500

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake; /* made at the start */
	struct slow_read *first;
	pthread_t thread;
	bool stop;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool has_peer(int fd, const char *ip, int port)
{
	struct sockaddr_in at;
	socklen_t len = sizeof at;
	char text[INET_ADDRSTRLEN];

	return getpeername(fd, (struct sockaddr *)&at, &len) == 0 && at.sin_family == AF_INET &&
	       ntohs(at.sin_port) == port && inet_ntop(AF_INET, &at.sin_addr, text, sizeof text) &&
	       strcmp(text, ip) == 0;
}

/* Under the lock, so that the reader cannot go on to close its socket. */
static void cut(const struct slow_read *s)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		int64_t fd;

		if (!str_to_i64(entry->d_name, &fd) || !has_peer((int)fd, s->ip, s->port))
			continue;
		shutdown((int)fd, SHUT_RD);
		log_warn("http", "slow_body_cut", "from=%s", s->ip);
	}
	if (dir)
		closedir(dir);
}

static void *watch(void *arg)
{
	pthread_mutex_lock(&all.lock);
	while (!all.stop) {
		int64_t now = clk_mono_ms();

		for (struct slow_read *s = all.first; s; s = s->next)
			if (now >= s->until_ms) {
				cut(s);
				s->until_ms = INT64_MAX;
			}
		struct timespec until = clk_after(LOOK_MS);
		pthread_cond_timedwait(&all.wake, &all.lock, &until);
	}
	pthread_mutex_unlock(&all.lock);
	return arg;
}

enum rc slow_start(struct err *e)
{
	all.stop = false;
	clk_cond_init(&all.wake);
	if (pthread_create(&all.thread, NULL, watch, NULL) != 0)
		return err_set(e, RC_NOMEM, "cannot start the watch over slow clients");
	return RC_OK;
}

void slow_stop(void)
{
	pthread_mutex_lock(&all.lock);
	all.stop = true;
	pthread_cond_signal(&all.wake);
	pthread_mutex_unlock(&all.lock);
	pthread_join(all.thread, NULL);
}

void slow_begin(struct slow_read *s, const char *ip, int port, int64_t limit_ms)
{
	s->ip = ip;
	s->port = port;
	s->until_ms = clk_mono_ms() + limit_ms;
	s->prev = NULL;
	pthread_mutex_lock(&all.lock);
	s->next = all.first;
	if (s->next)
		s->next->prev = s;
	all.first = s;
	pthread_mutex_unlock(&all.lock);
}

void slow_end(struct slow_read *s)
{
	pthread_mutex_lock(&all.lock);
	if (s->prev)
		s->prev->next = s->next;
	else
		all.first = s->next;
	if (s->next)
		s->next->prev = s->prev;
	pthread_mutex_unlock(&all.lock);
}
