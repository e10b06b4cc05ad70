#include "store/artifact_hash.h"

#include "base/str.h"
#include "store/ahead.h"

#include <pthread.h>
#include <string.h>

#define CHUNK ((size_t)1 << 20)
#define SEEN_MAX 256

/* What this process has already verified: one slot per file, the oldest overwritten. */

struct seen {
	dev_t dev;
	ino_t ino;
	int64_t size, mtime_ns, ctime_ns;
	char digest[SHA256_HEX_SIZE];
};

static struct {
	pthread_mutex_t lock;
	unsigned next;
	struct seen slots[SEEN_MAX];
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct seen seen_key(const struct stat *st, const char *digest)
{
	struct seen k = {.dev = st->st_dev,
			 .ino = st->st_ino,
			 .size = st->st_size,
			 .mtime_ns = st->st_mtim.tv_sec * 1000000000ll + st->st_mtim.tv_nsec,
			 .ctime_ns = st->st_ctim.tv_sec * 1000000000ll + st->st_ctim.tv_nsec};

	str_copy(k.digest, sizeof(k.digest), digest);
	return k;
}

static bool seen_same(const struct seen *a, const struct seen *b)
{
	return a->ino == b->ino && a->dev == b->dev && a->size == b->size &&
	       a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns &&
	       !strcmp(a->digest, b->digest);
}

static bool seen_before(const struct seen *k)
{
	bool hit = false;

	pthread_mutex_lock(&seen.lock);
	for (int i = 0; i < SEEN_MAX && !hit; i++)
		hit = seen_same(&seen.slots[i], k);
	pthread_mutex_unlock(&seen.lock);
	return hit;
}

static void seen_add(const struct seen *k)
{
	pthread_mutex_lock(&seen.lock);
	seen.slots[seen.next++ % SEEN_MAX] = *k;
	pthread_mutex_unlock(&seen.lock);
}

/* Hashing. */

/* What comes next in the archive goes into its own digest and, if it is data of one, the member's.
 */
struct pass {
	const char *path;
	struct ahead *in;
	struct sha256 whole;
	int64_t at;
};

static enum rc pass_to(struct pass *p, int64_t to, struct sha256 *member, struct err *e)
{
	enum rc rc = RC_OK;

	while (p->at < to && !rc) {
		const void *data;
		size_t n, max = to - p->at < (int64_t)CHUNK ? (size_t)(to - p->at) : CHUNK;

		rc = ahead_next(p->in, max, &data, &n, e);
		if (rc)
			break;
		if (member)
			sha256_add_both(&p->whole, member, data, n);
		else
			sha256_add(&p->whole, data, n);
		p->at += (int64_t)n;
	}
	return rc;
}

static enum rc pass_member(struct pass *p, const struct artifact_member *m, struct err *e)
{
	struct sha256 sha;
	uint8_t digest[SHA256_SIZE];
	char hex[SHA256_HEX_SIZE];
	enum rc rc = pass_to(p, m->offset, NULL, e);

	sha256_init(&sha);
	if (!rc)
		rc = pass_to(p, m->offset + m->size, &sha, e);
	if (rc)
		return rc;
	sha256_end(&sha, digest);
	sha256_hex(digest, hex);
	return !strcmp(hex, m->sha256)
		       ? RC_OK
		       : err_set(e, RC_CORRUPT,
				 "%s: member \"%s\": digest is %s, the manifest says %s", p->path,
				 m->path, hex, m->sha256);
}

/* The archive's own digest and the members', in one pass. */
static enum rc hash_all(const struct archive *a, char hex[SHA256_HEX_SIZE], struct err *e)
{
	struct pass p = {.path = a->path};
	uint8_t bytes[SHA256_SIZE];
	enum rc rc = RC_OK;

	sha256_init(&p.whole);
	ahead_open(a->fd, a->path, 0, a->st->st_size, a->how, &p.in);
	for (size_t i = 0; i < a->n && !rc; i++)
		rc = pass_member(&p, &a->members[i], e);
	if (!rc)
		rc = pass_to(&p, a->st->st_size, NULL, e);
	ahead_close(p.in);
	if (rc)
		return rc;
	sha256_end(&p.whole, bytes);
	sha256_hex(bytes, hex);
	return RC_OK;
}

/* Bytes that have the name they are asked for by are those the manifest was written with: one
 * digest says it all. If they have not, the members' tell where. */
static enum rc hash_named(const struct archive *a, const char *digest, char hex[SHA256_HEX_SIZE],
			  struct err *e)
{
	struct pass p = {.path = a->path};
	uint8_t bytes[SHA256_SIZE];

	sha256_init(&p.whole);
	ahead_open(a->fd, a->path, 0, a->st->st_size, a->how, &p.in);
	enum rc rc = pass_to(&p, a->st->st_size, NULL, e);
	ahead_close(p.in);
	if (rc)
		return rc;
	sha256_end(&p.whole, bytes);
	sha256_hex(bytes, hex);
	return strcmp(digest, hex) ? hash_all(a, hex, e) : RC_OK;
}

enum rc archive_check(const struct archive *a, const char *digest, bool again,
		      char hex[SHA256_HEX_SIZE], struct err *e)
{
	const struct seen key = seen_key(a->st, digest ? digest : "");
	enum rc rc = RC_OK;

	if (!digest)
		return hash_all(a, hex, e);
	if (!again && seen_before(&key))
		str_copy(hex, SHA256_HEX_SIZE, digest);
	else
		rc = again ? hash_all(a, hex, e) : hash_named(a, digest, hex, e);
	if (rc)
		return rc;
	if (strcmp(digest, hex))
		return err_set(e, RC_CORRUPT, "%s: digest is %s, expected %s", a->path, hex,
			       digest);
	if (!seen_before(&key))
		seen_add(&key);
	return RC_OK;
}
