#include "store/behind.h"

#include "base/fs.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define RING (8 * BEHIND_PIECE)
#define AT_ONCE ((size_t)1 << 18) /* hashed: what was given is soon done */
#define KICK ((int64_t)8 << 20)	  /* the disk begins with so much before the fsync */
#define NOBODY INT64_MAX

struct behind {
	int fd;
	char *ring; /* owned; byte p of the file is ring[p % RING] while it is wanted */
	pthread_t hasher, writer;
	pthread_mutex_t lock;
	pthread_cond_t user, more, piece; /* for whom there is news: him, the hasher, the writer */
	struct sha256 all, member; /* the hasher's, and anybody's once all given is hashed */
	int64_t kicked; /* the writer's */
	/* Under the lock: bytes of the file. */
	int64_t given, hashed, written;
	int64_t member_from; /* from here on what is given is the member's; or NOBODY */
	bool flush, quit;
	int write_errno; /* of the first that failed */
};

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* So many of the bytes from `at` on lie side by side. */
static size_t straight(int64_t at, int64_t to)
{
	return least((size_t)(to - at), RING - (size_t)at % RING);
}

static void hash(struct behind *b, int64_t at, size_t n, int64_t member_from)
{
	const char *p = b->ring + (size_t)at % RING;
	size_t before = member_from <= at ? 0 : least(n, (size_t)(member_from - at));

	sha256_add(&b->all, p, before);
	if (before < n)
		sha256_add_both(&b->all, &b->member, p + before, n - before);
}

static void *hash_on(void *arg)
{
	struct behind *b = arg;

	pthread_mutex_lock(&b->lock);
	while (!b->quit) {
		if (b->hashed == b->given) {
			pthread_cond_wait(&b->more, &b->lock);
			continue;
		}
		int64_t at = b->hashed, member_from = b->member_from;
		size_t n = least(straight(at, b->given), AT_ONCE);

		pthread_mutex_unlock(&b->lock);
		hash(b, at, n, member_from);
		pthread_mutex_lock(&b->lock);
		b->hashed += (int64_t)n;
		pthread_cond_signal(&b->user);
	}
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

/* A piece, or what there is of it when nothing more comes; 0: not yet. */
static size_t to_write(const struct behind *b)
{
	size_t piece = BEHIND_PIECE - (size_t)b->written % BEHIND_PIECE;
	size_t there = (size_t)(b->given - b->written);

	return there >= piece ? piece : b->flush ? there : 0;
}

static int write_piece(struct behind *b, int64_t at, size_t n)
{
	int64_t end = at + (int64_t)n;

	errno = 0;
	if (fs_write_all(b->fd, "", b->ring + (size_t)at % RING, n, NULL))
		return errno ? errno : EIO;
	if (end - b->kicked >= KICK) { /* May wait for the disk, as hashing need not. */
		(void)sync_file_range(b->fd, b->kicked, end - b->kicked, SYNC_FILE_RANGE_WRITE);
		b->kicked = end;
	}
	return 0;
}

static void *write_on(void *arg)
{
	struct behind *b = arg;
	size_t n;

	pthread_mutex_lock(&b->lock);
	while (!b->quit) {
		if (!(n = to_write(b))) {
			pthread_cond_wait(&b->piece, &b->lock);
			continue;
		}
		int64_t at = b->written;
		int failed = b->write_errno;

		pthread_mutex_unlock(&b->lock);
		if (!failed)
			failed = write_piece(b, at, n);
		pthread_mutex_lock(&b->lock);
		b->write_errno = failed;
		b->written += (int64_t)n;
		pthread_cond_signal(&b->user);
	}
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

static void quit(struct behind *b)
{
	pthread_mutex_lock(&b->lock);
	b->quit = true;
	pthread_cond_signal(&b->more);
	pthread_cond_signal(&b->piece);
	pthread_mutex_unlock(&b->lock);
}

static void release(struct behind *b)
{
	pthread_mutex_destroy(&b->lock);
	pthread_cond_destroy(&b->user);
	pthread_cond_destroy(&b->more);
	pthread_cond_destroy(&b->piece);
	free(b->ring);
	free(b);
}

struct behind *behind_new(int fd, int64_t pos, const struct sha256 *all,
			  const struct sha256 *member)
{
	struct behind *b = mem_new(sizeof(*b));

	*b = (struct behind){.fd = fd, .all = *all};
	if (member)
		b->member = *member;
	else
		sha256_init(&b->member);
	b->given = b->hashed = b->written = b->kicked = pos;
	b->member_from = NOBODY;
	b->ring = mem_new(RING);
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->user, NULL);
	pthread_cond_init(&b->more, NULL);
	pthread_cond_init(&b->piece, NULL);
	if (pthread_create(&b->hasher, NULL, hash_on, b)) {
		release(b);
		return NULL;
	}
	if (pthread_create(&b->writer, NULL, write_on, b)) {
		quit(b);
		pthread_join(b->hasher, NULL);
		release(b);
		return NULL;
	}
	return b;
}

/* Room after what is neither hashed nor written. Lock held. */
static size_t room(const struct behind *b)
{
	int64_t done = b->hashed < b->written ? b->hashed : b->written;

	return RING - (size_t)(b->given - done);
}

int behind_put(struct behind *b, const void *data, size_t len, bool member)
{
	const char *p = data;

	pthread_mutex_lock(&b->lock);
	if (member && b->member_from == NOBODY)
		b->member_from = b->given;
	while (len && !b->write_errno) {
		if (!room(b)) {
			pthread_cond_wait(&b->user, &b->lock);
			continue;
		}
		int64_t at = b->given;
		size_t n = least(least(len, room(b)), straight(at, at + (int64_t)RING));

		pthread_mutex_unlock(&b->lock); /* Nobody else looks beyond what is given. */
		memcpy(b->ring + (size_t)at % RING, p, n);
		pthread_mutex_lock(&b->lock);
		b->given += (int64_t)n;
		p += n;
		len -= n;
		pthread_cond_signal(&b->more);
		if (to_write(b))
			pthread_cond_signal(&b->piece);
	}
	int failed = b->write_errno;
	pthread_mutex_unlock(&b->lock);
	return failed;
}

void behind_member(struct behind *b, struct sha256 *out)
{
	pthread_mutex_lock(&b->lock);
	while (b->hashed < b->given)
		pthread_cond_wait(&b->user, &b->lock);
	*out = b->member;
	sha256_init(&b->member);
	b->member_from = NOBODY;
	pthread_mutex_unlock(&b->lock);
}

int behind_end(struct behind *b, struct sha256 *all)
{
	pthread_mutex_lock(&b->lock);
	b->flush = true;
	pthread_cond_signal(&b->piece);
	while (b->hashed < b->given || b->written < b->given)
		pthread_cond_wait(&b->user, &b->lock);
	*all = b->all;
	int failed = b->write_errno;
	pthread_mutex_unlock(&b->lock);
	return failed;
}

void behind_free(struct behind *b)
{
	if (!b)
		return;
	quit(b);
	pthread_join(b->hasher, NULL);
	pthread_join(b->writer, NULL);
	release(b);
}
