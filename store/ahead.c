#include "store/ahead.h"

#include "base/check.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE ((size_t)2 << 20)
#define PIECES 8
#define THROUGH 2 /* readers through the page cache: one copies what came while the other waits */
#define READERS 3 /* past it, so that the disk always has a question */
#define ALIGN 4096 /* of what goes past it */

/* Piece number i of the file lies in ring[i % PIECES] while it is wanted. */
struct piece {
	char *data;
	size_t n;
	bool filled;
};

struct ahead {
	int fd;
	const char *what;
	int64_t from, to;
	int direct; /* the file once more, past the page cache; -1: not */
	pthread_t threads[READERS];
	int threaded; /* so many of them */
	pthread_mutex_t lock;
	pthread_cond_t turn;
	/* Under the lock. */
	bool quit;
	char *slab; /* owned; the pieces are in it */
	struct piece ring[PIECES];
	int64_t n, taken; /* pieces there are, and of them taken up by readers */
	int64_t mine;	  /* the user's; -1: none yet */
	size_t used;	  /* of that */
	enum rc rc;	  /* of the first that failed */
	struct err e;
};

static enum rc fill(const struct ahead *a, int64_t i, struct piece *p, struct err *e)
{
	int64_t at = a->from + i * (int64_t)PIECE;
	size_t want = a->to - at < (int64_t)PIECE ? (size_t)(a->to - at) : PIECE;

	for (p->n = 0; p->n < want;) {
		bool past = a->direct >= 0 && p->n % ALIGN == 0;
		ssize_t n = pread(past ? a->direct : a->fd, p->data + p->n,
				  past ? PIECE - p->n : want - p->n, at + (int64_t)p->n);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, RC_IO, "read %s: %m", a->what);
		if (n == 0)
			return err_set(e, RC_CORRUPT, "%s: ends %lld bytes early", a->what,
				       (long long)(a->to - at) - (long long)p->n);
		p->n += (size_t)n;
	}
	p->n = want; /* The last block of a file may have been read beyond `to`. */
	return RC_OK;
}

/* Fills the next piece, in the room of one that was used up. Lock held on entry and exit, not in
 * between. */
static void fill_next(struct ahead *a)
{
	int64_t i = a->taken++;
	struct piece *p = &a->ring[i % PIECES];
	struct err e = {0};

	pthread_mutex_unlock(&a->lock);
	enum rc rc = fill(a, i, p, &e);
	pthread_mutex_lock(&a->lock);
	p->filled = !rc;
	if (rc && !a->rc) {
		a->rc = rc;
		a->e = e;
	}
	pthread_cond_broadcast(&a->turn);
}

static void *read_on(void *arg)
{
	struct ahead *a = arg;

	pthread_mutex_lock(&a->lock);
	while (!a->quit && !a->rc && a->taken < a->n) {
		if (a->taken < (a->mine < 0 ? 0 : a->mine) + PIECES)
			fill_next(a);
		else
			pthread_cond_wait(&a->turn, &a->lock);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

/* -1 where the file system cannot do it. */
static int past_cache(int fd, int64_t from)
{
	char path[40];

	if (from % ALIGN)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
}

void ahead_open(int fd, const char *what, int64_t from, int64_t to, enum ahead_how how,
		struct ahead **out)
{
	struct ahead *a = mem_new(sizeof(*a));
	bool large = to - from >= AHEAD_MIN;
	int want = 0;

	*a = (struct ahead){
		.fd = fd, .what = what, .from = from, .to = to, .mine = -1, .direct = -1};
	a->n = (to - from + (int64_t)PIECE - 1) / (int64_t)PIECE;
	if (large && how == AHEAD_DIRECT)
		a->direct = past_cache(fd, from);
	if (large && how != AHEAD_ALONE)
		want = a->direct >= 0 ? READERS : THROUGH;
	a->slab = mem_new((want ? PIECES : 1) * PIECE + ALIGN);
	char *first = a->slab + (ALIGN - (uintptr_t)a->slab % ALIGN) % ALIGN;
	for (int i = 0; i < (want ? PIECES : 1); i++)
		a->ring[i].data = first + (size_t)i * PIECE;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->turn, NULL);
	(void)posix_fadvise(fd, from, to - from, POSIX_FADV_SEQUENTIAL);
	while (a->threaded < want && !pthread_create(&a->threads[a->threaded], NULL, read_on, a))
		a->threaded++;
	*out = a;
}

/* The piece before was used up: waits for the next, or reads it where no thread does. Lock held. */
static enum rc next_piece(struct ahead *a, struct err *e)
{
	int64_t i = a->mine + 1;

	ASSERT(i < a->n);
	if (a->mine >= 0)
		a->ring[a->mine % PIECES].filled = false;
	a->mine = i;
	a->used = 0;
	pthread_cond_broadcast(&a->turn);
	struct piece *p = &a->ring[a->threaded ? i % PIECES : 0];
	while (a->threaded && !p->filled && !a->rc)
		pthread_cond_wait(&a->turn, &a->lock);
	if (!a->threaded)
		return fill(a, i, p, e);
	return p->filled ? RC_OK : err_set(e, a->rc, "%s", a->e.text);
}

enum rc ahead_next(struct ahead *a, size_t max, const void **data, size_t *n, struct err *e)
{
	enum rc rc = RC_OK;

	pthread_mutex_lock(&a->lock);
	struct piece *p = &a->ring[a->threaded && a->mine >= 0 ? a->mine % PIECES : 0];
	if (a->mine < 0 || a->used == p->n) {
		rc = next_piece(a, e);
		p = &a->ring[a->threaded ? a->mine % PIECES : 0];
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
	pthread_cond_broadcast(&a->turn);
	pthread_mutex_unlock(&a->lock);
	while (a->threaded)
		pthread_join(a->threads[--a->threaded], NULL);
	if (a->direct >= 0)
		close(a->direct);
	free(a->slab);
	pthread_mutex_destroy(&a->lock);
	pthread_cond_destroy(&a->turn);
	free(a);
}
