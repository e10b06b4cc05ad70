#include "store/ahead.h"

#include "base/check.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE ((size_t)512 << 10)
#define PIECES 8
#define HINT ((int64_t)8 << 20) /* the kernel is told of so much at a time */

struct piece {
	char *data;
	size_t n;
};

struct ahead {
	int fd;
	const char *what;
	int64_t at, to, hinted; /* the reader's */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t turn;
	bool threaded, quit;
	/* A ring, under the lock: `filled` pieces from `first` on; the first is the user's. */
	struct piece ring[PIECES];
	int first, filled;
	size_t used; /* of the first */
	enum rc rc;
	struct err e;
};

/* Fills the piece; at the end of the file, or upon an error, it stays empty. */
static enum rc fill(struct ahead *a, struct piece *p, struct err *e)
{
	size_t want = a->to - a->at < (int64_t)PIECE ? (size_t)(a->to - a->at) : PIECE;

	if (a->at >= a->hinted) {
		(void)posix_fadvise(a->fd, a->at, 2 * HINT, POSIX_FADV_WILLNEED);
		a->hinted = a->at + HINT;
	}
	for (p->n = 0; p->n < want;) {
		ssize_t n = pread(a->fd, p->data + p->n, want - p->n, a->at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, RC_IO, "read %s: %m", a->what);
		if (n == 0)
			return err_set(e, RC_CORRUPT, "%s: ends %lld bytes early", a->what,
				       (long long)(a->to - a->at));
		p->n += (size_t)n;
		a->at += n;
	}
	return RC_OK;
}

static void *read_on(void *arg)
{
	struct ahead *a = arg;

	pthread_mutex_lock(&a->lock);
	while (!a->quit && !a->rc && a->at < a->to) {
		if (a->filled == PIECES) {
			pthread_cond_wait(&a->turn, &a->lock);
			continue;
		}
		struct piece *p = &a->ring[(a->first + a->filled) % PIECES];
		pthread_mutex_unlock(&a->lock);
		struct err e = {0};
		enum rc rc = fill(a, p, &e);
		pthread_mutex_lock(&a->lock);
		a->filled += !rc;
		a->rc = rc;
		a->e = e;
		pthread_cond_signal(&a->turn);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

void ahead_open(int fd, const char *what, int64_t from, int64_t to, struct ahead **out)
{
	struct ahead *a = mem_new(sizeof(*a));
	bool large = to - from >= AHEAD_MIN;

	*a = (struct ahead){.fd = fd, .what = what, .at = from, .to = to, .hinted = from};
	for (int i = 0; i < (large ? PIECES : 1); i++)
		a->ring[i].data = mem_new(PIECE);
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->turn, NULL);
	a->threaded = large && !pthread_create(&a->thread, NULL, read_on, a);
	*out = a;
}

/* The first piece was used up: waits for the next. Lock held. */
static enum rc next_piece(struct ahead *a, struct err *e)
{
	if (a->filled) {
		a->first = (a->first + 1) % PIECES;
		a->filled--;
		a->used = 0;
		pthread_cond_signal(&a->turn);
	}
	while (!a->filled && !a->rc)
		pthread_cond_wait(&a->turn, &a->lock);
	return a->filled ? RC_OK : err_set(e, a->rc, "%s", a->e.text);
}

enum rc ahead_next(struct ahead *a, size_t max, const void **data, size_t *n, struct err *e)
{
	enum rc rc = RC_OK;

	pthread_mutex_lock(&a->lock);
	struct piece *p = &a->ring[a->first];
	if (!a->filled || a->used == p->n) {
		ASSERT(a->threaded || a->at < a->to);
		rc = a->threaded ? next_piece(a, e) : fill(a, p, e);
		if (!a->threaded)
			a->filled = 1;
		a->used = 0;
		p = &a->ring[a->first];
	}
	if (!rc) {
		*data = p->data + a->used;
		*n = p->n - a->used < max ? p->n - a->used : max;
		a->used += *n;
	}
	pthread_mutex_unlock(&a->lock);
	return rc;
}

void ahead_close(struct ahead *a)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	a->quit = true;
	pthread_cond_signal(&a->turn);
	pthread_mutex_unlock(&a->lock);
	if (a->threaded)
		pthread_join(a->thread, NULL);
	for (int i = 0; i < PIECES; i++)
		free(a->ring[i].data);
	pthread_mutex_destroy(&a->lock);
	pthread_cond_destroy(&a->turn);
	free(a);
}
