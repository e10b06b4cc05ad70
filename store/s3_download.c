/* An object to a file, in ranges fetched side by side: one connection does not fill a wide line. */
#include "store/s3.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#define FETCHERS 4
#define RANGE ((int64_t)64 << 20)

struct download {
	struct s3 *s;
	const char *key, *path;
	int64_t size, next; /* next: first byte nobody fetches yet */
	int fd;
	pthread_mutex_t lock;
	enum rc rc;
	struct err e;
};

struct place {
	struct download *d;
	int64_t at, end;
};

static enum rc write_at(void *ctx, const void *data, size_t len, struct err *e)
{
	struct place *p = ctx;
	const char *from = data;

	if ((int64_t)len > p->end - p->at)
		return err_set(e, RC_CORRUPT, "%s: more bytes than asked for", p->d->key);
	while (len) {
		ssize_t n = pwrite(p->d->fd, from, len, p->at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, err_from_errno(errno), "write %s: %m", p->d->path);
		from += n;
		p->at += n;
		len -= (size_t)n;
	}
	return RC_OK;
}

static bool take_range(struct download *d, struct place *p)
{
	pthread_mutex_lock(&d->lock);
	*p = (struct place){d, d->next, d->next + RANGE < d->size ? d->next + RANGE : d->size};
	bool some = !d->rc && p->at < p->end;
	d->next = some ? p->end : d->next;
	pthread_mutex_unlock(&d->lock);
	return some;
}

static void *fetcher(void *arg)
{
	struct download *d = arg;
	struct place p;
	const struct s3_sink sink = {write_at, &p};

	while (take_range(d, &p)) {
		struct err e = {0};
		enum rc rc = s3_get(d->s, d->key, p.at, p.end - p.at, &sink, &e);

		if (!rc && p.at < p.end)
			rc = err_set(&e, RC_CORRUPT, "%s: fewer bytes than its size says", d->key);
		if (rc) {
			pthread_mutex_lock(&d->lock);
			if (!d->rc) {
				d->rc = rc;
				d->e = e;
			}
			pthread_mutex_unlock(&d->lock);
		}
	}
	return NULL;
}

enum rc s3_get_file(struct s3 *s, const char *key, int64_t size, const char *path, struct err *e)
{
	struct download d = {
		.s = s, .key = key, .path = path, .size = size, .lock = PTHREAD_MUTEX_INITIALIZER};
	pthread_t threads[FETCHERS];
	int n = 0;

	d.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (d.fd < 0)
		return err_set(e, err_from_errno(errno), "create %s: %m", path);
	while (n < FETCHERS - 1 && (n + 1) * RANGE < size &&
	       !pthread_create(&threads[n], NULL, fetcher, &d))
		n++;
	fetcher(&d);
	while (n > 0)
		pthread_join(threads[--n], NULL);
	if (close(d.fd) && !d.rc)
		d.rc = err_set(&d.e, RC_IO, "close %s: %m", path);
	if (d.rc)
		unlink(path);
	return d.rc ? err_set(e, d.rc, "%s", d.e.text) : RC_OK;
}
