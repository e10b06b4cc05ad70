#include "server/logs.h"

#include "base/fs.h"
#include "base/str.h"
#include "queue/limits.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_MAX_ 1024
#define FIND_PIECE (1u << 20)

/* Appends are rare and small; one lock keeps check and write together. */
static pthread_mutex_t append_lock = PTHREAD_MUTEX_INITIALIZER;

bool run_id_valid(const char *run)
{
	size_t n = strlen(run);

	return run[0] == 'r' && n >= 2 && n < RUN_ID_MAX &&
	       strspn(run, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

bool job_id_valid(const char *job, char run[16])
{
	char id[RUN_ID_MAX];
	size_t n = strcspn(job, ".");
	int dots = 0;

	if (n >= sizeof id || strlen(job) >= JOB_ID_MAX)
		return false;
	str_fmt(id, sizeof id, "%.*s", (int)n, job);
	if (!run_id_valid(id))
		return false;
	for (const char *p = job + n; *p; p++) {
		if (*p == '.' && (p[1] == '.' || p[1] == 0))
			return false;
		if (*p != '.' && !islower((unsigned char)*p) && !isdigit((unsigned char)*p) &&
		    *p != '_')
			return false;
		dots += *p == '.';
	}
	if (run)
		str_copy(run, 16, id);
	return dots == 4;
}

static enum rc log_path(const char *data_dir, const char *job, int attempt, char *out, size_t size,
			struct err *e)
{
	char run[RUN_ID_MAX];
	int n;

	if (!job_id_valid(job, run) || attempt < 1 || attempt > 1000000)
		return err_set(e, RC_INVALID, "job \"%.100s\", attempt %d: not a job id or attempt",
			       job, attempt);
	n = snprintf(out, size, "%s/logs/%s/%s/%d.log", data_dir, run, job, attempt);
	if (n < 0 || (size_t)n >= size)
		return err_set(e, RC_INVALID, "%s: path is too long", data_dir);
	return RC_OK;
}

static enum rc write_at(const char *path, int fd, const char *data, size_t len, int64_t at,
			struct err *e)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, data, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(e, err_from_errno(errno), "write %s: %m", path);
		data += n;
		at += n;
		len -= (size_t)n;
	}
	return RC_OK;
}

static enum rc append_locked(const char *path, int64_t offset, const char *data, size_t len,
			     int64_t *size, struct err *e)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
	enum rc rc = RC_OK;
	size_t skip;

	if (fd < 0)
		return err_set(e, err_from_errno(errno), "open %s: %m", path);
	*size = lseek(fd, 0, SEEK_END);
	skip = *size > offset ? (size_t)(*size - offset) : 0;
	if (offset > *size)
		rc = err_set(e, RC_CONFLICT, "log has %lld bytes, the append starts at %lld",
			     (long long)*size, (long long)offset);
	else if (skip<len && * size + (int64_t)(len - skip)> LOG_FILE_MAX)
		rc = err_set(e, RC_FULL, "log is full at %lld bytes", (long long)*size);
	else if (skip < len && !(rc = write_at(path, fd, data + skip, len - skip, *size, e)))
		*size += (int64_t)(len - skip);
	close(fd);
	return rc;
}

enum rc logs_append(const char *data_dir, const char *job, int attempt, int64_t offset,
		    const void *data, size_t len, int64_t *size, struct err *e)
{
	char path[PATH_MAX_], dir[PATH_MAX_];
	enum rc rc = log_path(data_dir, job, attempt, path, sizeof path, e);

	if (rc)
		return rc;
	str_copy(dir, sizeof dir, path);
	*strrchr(dir, '/') = 0;
	rc = fs_mkdirs(dir, e);
	if (rc)
		return rc;
	pthread_mutex_lock(&append_lock);
	rc = append_locked(path, offset, data, len, size, e);
	pthread_mutex_unlock(&append_lock);
	return rc;
}

int64_t logs_size(const char *data_dir, const char *job, int attempt)
{
	char path[PATH_MAX_];
	int64_t size;

	if (log_path(data_dir, job, attempt, path, sizeof path, NULL))
		return 0;
	size = fs_size(path);
	return size < 0 ? 0 : size;
}

enum rc logs_read(const char *data_dir, const char *job, int attempt, int64_t offset, size_t limit,
		  struct buf *out, int64_t *from, int64_t *size, struct err *e)
{
	char path[PATH_MAX_];
	enum rc rc = log_path(data_dir, job, attempt, path, sizeof path, e);
	ssize_t n;
	int fd;

	*from = *size = 0;
	if (rc)
		return rc;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? RC_OK
				       : err_set(e, err_from_errno(errno), "open %s: %m", path);
	*size = lseek(fd, 0, SEEK_END);
	if (offset < 0)
		offset = *size + offset > 0 ? *size + offset : 0;
	*from = offset < *size ? offset : *size;
	if ((int64_t)limit > *size - *from)
		limit = (size_t)(*size - *from);
	buf_reserve(out, limit + 1);
	n = pread(fd, out->data, limit, *from);
	if (n < 0)
		rc = err_set(e, err_from_errno(errno), "read %s: %m", path);
	out->len = n > 0 ? (size_t)n : 0;
	out->data[out->len] = 0;
	close(fd);
	return rc;
}

enum rc logs_open(const char *data_dir, const char *job, int attempt, int *fd, int64_t *size,
		  struct err *e)
{
	char path[PATH_MAX_];
	enum rc rc = log_path(data_dir, job, attempt, path, sizeof path, e);

	*fd = -1;
	*size = 0;
	if (rc)
		return rc;
	*fd = open(path, O_RDONLY | O_CLOEXEC);
	if (*fd < 0)
		return err_set(e, errno == ENOENT ? RC_NOTFOUND : err_from_errno(errno),
			       "job %s has no log of attempt %d", job, attempt);
	*size = lseek(*fd, 0, SEEK_END);
	return RC_OK;
}

/* --- search -------------------------------------------------------------------------------- */

static void lower(char *to, const char *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = (char)(from[i] >= 'A' && from[i] <= 'Z' ? from[i] | 32 : from[i]);
}

/* Whole lines of a piece, so that none is cut in two; all of it at the end or without a newline. */
static size_t whole_lines(const char *piece, size_t n, bool last)
{
	const char *nl = last ? NULL : memrchr(piece, '\n', n);

	return nl ? (size_t)(nl + 1 - piece) : n;
}

/* Lines of piece[0, n) that hold the needle. `folded` is what is searched: the piece, or its lower
 * case. Sets s->next and returns false when there are enough. */
static bool find_in(struct logs_search *s, const char *needle, const char *piece,
		    const char *folded, size_t n, int64_t at)
{
	size_t len = strlen(needle);

	for (size_t pos = 0; pos < n;) {
		const char *hit = memmem(folded + pos, n - pos, needle, len), *start, *end;

		if (!hit)
			break;
		start = memrchr(folded + pos, '\n', (size_t)(hit - folded) - pos);
		start = start ? start + 1 : folded + pos;
		end = memchr(hit, '\n', (size_t)(folded + n - hit));
		end = end ? end : folded + n;
		s->see(s->ctx, at + (start - folded), piece + (start - folded),
		       (size_t)(end - start));
		pos = (size_t)(end - folded) + 1;
		if (--s->limit == 0) {
			s->next = at + (int64_t)(pos < n ? pos : n);
			return false;
		}
	}
	return true;
}

static enum rc find(int fd, struct logs_search *s, const char *needle, char *piece, char *folded)
{
	int64_t at = s->from, until = s->from + LOG_SCAN_MAX;

	while (at < s->size) {
		ssize_t got = pread(fd, piece, FIND_PIECE, at);
		size_t n;

		if (got <= 0)
			break;
		n = whole_lines(piece, (size_t)got, at + got >= s->size);
		if (!s->exact)
			lower(folded, piece, n);
		if (!find_in(s, needle, piece, s->exact ? piece : folded, n, at)) {
			s->next = s->next < s->size ? s->next : -1;
			return RC_OK;
		}
		at += (int64_t)n;
		if (at >= until && at < s->size) {
			s->next = at;
			return RC_OK;
		}
	}
	s->next = -1;
	return RC_OK;
}

enum rc logs_find(const char *data_dir, const char *job, int attempt, struct logs_search *s,
		  struct err *e)
{
	char *piece = malloc(FIND_PIECE), *folded = malloc(FIND_PIECE), needle[256];
	int fd = -1;
	enum rc rc = piece && folded ? RC_OK : err_set(e, RC_NOMEM, "no room to search a log");

	str_copy(needle, sizeof needle, s->needle);
	if (!s->exact)
		lower(needle, needle, strlen(needle));
	s->next = -1;
	s->size = 0;
	if (!rc)
		rc = logs_open(data_dir, job, attempt, &fd, &s->size, e);
	if (!rc)
		rc = find(fd, s, needle, piece, folded);
	if (fd >= 0)
		close(fd);
	free(piece);
	free(folded);
	return rc == RC_NOTFOUND ? RC_OK : rc;
}
