#include "base/fs.h"

#include "base/mem.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define COPY_CHUNK ((size_t)1 << 20)
#define AHEAD ((int64_t)8 << 20)

static enum rc io_err(struct err *e, const char *what, const char *path)
{
	return err_set(e, err_from_errno(errno), "%s %s: %m", what, path);
}

static enum rc read_all(int fd, const char *path, size_t size_max, struct buf *out, struct err *e)
{
	for (;;) {
		if (out->len > size_max)
			return err_set(e, RC_INVALID, "%s: larger than %zu bytes", path, size_max);
		size_t chunk = out->len < 4096 ? 4096 : out->len;
		if (chunk > COPY_CHUNK)
			chunk = COPY_CHUNK;
		buf_reserve(out, chunk);
		ssize_t n = read(fd, out->data + out->len, chunk);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return io_err(e, "read", path);
		if (n == 0)
			return RC_OK;
		out->len += (size_t)n;
		out->data[out->len] = 0;
	}
}

enum rc fs_read(const char *path, size_t size_max, struct buf *out, struct err *e)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	buf_clear(out);
	buf_reserve(out, 0);
	if (fd < 0)
		return io_err(e, "open", path);
	enum rc rc = RC_OK;
	if (fstat(fd, &st))
		rc = io_err(e, "stat", path);
	else if (S_ISDIR(st.st_mode))
		rc = err_set(e, RC_INVALID, "%s: is a folder, expected a file", path);
	else
		rc = read_all(fd, path, size_max, out, e);
	close(fd);
	return rc;
}

enum rc fs_write_all(int fd, const char *path, const void *data, size_t len, struct err *e)
{
	const char *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return io_err(e, "write", path);
		p += n;
		len -= (size_t)n;
	}
	return RC_OK;
}

static enum rc parent_of(const char *path, char out[PATH_MAX], struct err *e)
{
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;

	if (strlen(path) >= PATH_MAX)
		return err_set(e, RC_INVALID, "path longer than %d bytes", PATH_MAX - 1);
	if (!slash)
		str_copy(out, PATH_MAX, ".");
	else if (!n)
		str_copy(out, PATH_MAX, "/");
	else {
		memcpy(out, path, n);
		out[n] = 0;
	}
	return RC_OK;
}

enum rc fs_sync_dir(const char *path, struct err *e)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return io_err(e, "open folder", path);
	enum rc rc = fsync(fd) ? io_err(e, "fsync folder", path) : RC_OK;
	close(fd);
	return rc;
}

static enum rc sync_parent(const char *path, struct err *e)
{
	char dir[PATH_MAX];
	enum rc rc = parent_of(path, dir, e);

	return rc ? rc : fs_sync_dir(dir, e);
}

static enum rc sync_file(const char *path, struct err *e)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return io_err(e, "open", path);
	/* After a failed fsync the page cache may lie: never retried on the same data. */
	enum rc rc = fsync(fd) ? io_err(e, "fsync", path) : RC_OK;
	if (close(fd) && !rc)
		rc = io_err(e, "close", path);
	return rc;
}

static enum rc rename_synced(const char *tmp, const char *path, struct err *e)
{
	if (rename(tmp, path)) {
		enum rc rc = err_set(e, err_from_errno(errno), "rename %s to %s: %m", tmp, path);
		unlink(tmp);
		return rc;
	}
	return sync_parent(path, e);
}

enum rc fs_commit(const char *tmp, const char *path, struct err *e)
{
	enum rc rc = sync_file(tmp, e);

	if (rc) {
		unlink(tmp);
		return rc;
	}
	return rename_synced(tmp, path, e);
}

enum rc fs_commit_dir(const char *tmp, const char *path, struct err *e)
{
	char **names = NULL, file[PATH_MAX];
	size_t n = 0;
	enum rc rc = fs_list(tmp, &names, &n, e);

	for (size_t i = 0; i < n && !rc; i++) {
		if (strlen(tmp) + strlen(names[i]) + 2 > sizeof(file))
			rc = err_set(e, RC_INVALID, "path longer than %zu bytes", sizeof(file));
		else {
			str_fmt(file, sizeof(file), "%s/%s", tmp, names[i]);
			rc = sync_file(file, e);
		}
	}
	if (names)
		fs_list_free(names);
	if (!rc)
		rc = fs_sync_dir(tmp, e);
	if (!rc && rename(tmp, path))
		rc = err_set(e, errno == ENOTEMPTY || errno == EEXIST ? RC_CONFLICT : err_from_errno(errno),
			     "rename %s to %s: %m", tmp, path);
	return rc ? rc : sync_parent(path, e);
}

enum rc fs_write_durable(const char *path, const void *data, size_t len, struct err *e)
{
	static unsigned counter;
	char tmp[PATH_MAX];

	if (strlen(path) + 48 >= sizeof(tmp))
		return err_set(e, RC_INVALID, "path longer than %zu bytes", sizeof(tmp) - 48);
	str_fmt(tmp, sizeof(tmp), "%s.tmp.%d.%u", path, (int)getpid(),
		__atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED));
	int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return io_err(e, "create", tmp);
	enum rc rc = fs_write_all(fd, tmp, data, len, e);
	if (!rc && fsync(fd))
		rc = io_err(e, "fsync", tmp);
	if (close(fd) && !rc)
		rc = io_err(e, "close", tmp);
	if (rc) {
		unlink(tmp);
		return rc;
	}
	return rename_synced(tmp, path, e);
}

enum rc fs_append_durable(const char *path, const void *data, size_t len, struct err *e)
{
	bool fresh = !fs_exists(path);
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	if (fd < 0)
		return io_err(e, "open", path);
	off_t end = lseek(fd, 0, SEEK_END);
	enum rc rc = fs_write_all(fd, path, data, len, e);
	if (!rc && fdatasync(fd))
		rc = io_err(e, "fdatasync", path);
	if (rc && end >= 0)
		(void)!ftruncate(fd, end); /* Half a record would swallow the next one. */
	if (close(fd) && !rc)
		rc = io_err(e, "close", path);
	if (!rc && fresh)
		rc = sync_parent(path, e);
	return rc;
}

enum rc fs_mkdirs(const char *path, struct err *e)
{
	char p[PATH_MAX];
	size_t n = strlen(path);

	if (n >= sizeof(p))
		return err_set(e, RC_INVALID, "path longer than %zu bytes", sizeof(p) - 1);
	memcpy(p, path, n + 1);
	for (size_t i = 1; i <= n; i++) {
		if (p[i] && p[i] != '/')
			continue;
		char c = p[i];
		p[i] = 0;
		if (mkdir(p, 0755) && errno != EEXIST)
			return io_err(e, "create folder", p);
		p[i] = c;
	}
	struct stat st;
	if (stat(path, &st) || !S_ISDIR(st.st_mode))
		return err_set(e, RC_CONFLICT, "%s: exists and is not a folder", path);
	return RC_OK;
}

static enum rc remove_at(int dirfd, const char *name, struct err *e);

static enum rc empty_dir(int fd, const char *name, struct err *e)
{
	DIR *d = fdopendir(fd);
	struct dirent *ent;
	enum rc rc = RC_OK;

	if (!d) {
		rc = io_err(e, "open folder", name);
		close(fd);
		return rc;
	}
	while (!rc && (ent = readdir(d)))
		if (strcmp(ent->d_name, ".") && strcmp(ent->d_name, ".."))
			rc = remove_at(dirfd(d), ent->d_name, e);
	closedir(d);
	return rc;
}

static enum rc remove_at(int dirfd, const char *name, struct err *e)
{
	if (!unlinkat(dirfd, name, 0) || errno == ENOENT)
		return RC_OK;
	if (errno != EISDIR && errno != EPERM)
		return io_err(e, "remove", name);
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? RC_OK : io_err(e, "open folder", name);
	enum rc rc = empty_dir(fd, name, e);
	if (!rc && unlinkat(dirfd, name, AT_REMOVEDIR) && errno != ENOENT)
		rc = io_err(e, "remove folder", name);
	return rc;
}

enum rc fs_remove_tree(const char *path, struct err *e)
{
	return remove_at(AT_FDCWD, path, e);
}

enum rc fs_copy(const char *from, const char *to, struct err *e)
{
	enum rc rc = RC_OK;
	char *chunk = NULL;
	int out = -1, in = open(from, O_RDONLY | O_CLOEXEC);

	if (in < 0)
		return io_err(e, "open", from);
	out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (out < 0) {
		rc = io_err(e, "create", to);
		goto out;
	}
	chunk = mem_new(COPY_CHUNK);
	for (;;) {
		ssize_t n = read(in, chunk, COPY_CHUNK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = io_err(e, "read", from);
		if (n <= 0 || (rc = fs_write_all(out, to, chunk, (size_t)n, e)))
			break;
	}
out:
	free(chunk);
	close(in);
	if (out >= 0 && close(out) && !rc)
		rc = io_err(e, "close", to);
	if (rc && out >= 0)
		unlink(to);
	return rc;
}

bool fs_exists(const char *path)
{
	struct stat st;

	return !stat(path, &st);
}

int64_t fs_size(const char *path)
{
	struct stat st;

	return stat(path, &st) ? -1 : (int64_t)st.st_size;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

enum rc fs_list(const char *path, char ***names, size_t *n, struct err *e)
{
	DIR *d = opendir(path);
	struct dirent *ent;
	size_t cap = 0;

	*names = NULL;
	*n = 0;
	if (!d)
		return io_err(e, "open folder", path);
	for (errno = 0; (ent = readdir(d)); errno = 0) {
		if (!strcmp(ent->d_name, ".") || !strcmp(ent->d_name, ".."))
			continue;
		if (*n + 2 > cap)
			*names = mem_grow(*names, cap = cap ? 2 * cap : 16, sizeof(char *));
		(*names)[(*n)++] = mem_str(ent->d_name);
		(*names)[*n] = NULL;
	}
	enum rc rc = errno ? io_err(e, "read folder", path) : RC_OK;
	closedir(d);
	if (!*names)
		*names = mem_new(sizeof(char *));
	if (rc) {
		fs_list_free(*names);
		*names = NULL;
		*n = 0;
		return rc;
	}
	qsort(*names, *n, sizeof(char *), by_name);
	return RC_OK;
}

void fs_list_free(char **names)
{
	for (char **p = names; p && *p; p++)
		free(*p);
	free(names);
}

/* Maps begin at pages: as many bytes before the range as it takes. */
static size_t page_rest(uintptr_t at)
{
	return at % (uintptr_t)sysconf(_SC_PAGESIZE);
}

/* size -1: the whole file. */
static enum rc map_fd(int fd, const char *path, int64_t offset, int64_t size, struct fs_map *m,
		      struct err *e)
{
	struct stat st;

	if (fstat(fd, &st))
		return io_err(e, "stat", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, RC_INVALID, "%s: not a regular file", path);
	if (size < 0)
		size = st.st_size;
	if (offset < 0 || size > st.st_size || offset > st.st_size - size)
		return err_set(e, RC_CORRUPT, "%s: %lld bytes, expected %lld from byte %lld on", path,
			       (long long)st.st_size, (long long)size, (long long)offset);
	if (size == 0)
		return RC_OK;
	size_t rest = page_rest((uintptr_t)offset);
	void *p = mmap(NULL, (size_t)size + rest, PROT_READ, MAP_SHARED, fd, offset - (off_t)rest);
	if (p == MAP_FAILED)
		return io_err(e, "map", path);
	*m = (struct fs_map){(uint8_t *)p + rest, (size_t)size};
	return RC_OK;
}

enum rc fs_map_range(const char *path, int64_t offset, int64_t size, struct fs_map *m, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	*m = (struct fs_map){0};
	if (fd < 0)
		return io_err(e, "open", path);
	enum rc rc = map_fd(fd, path, offset, size, m, e);
	close(fd);
	return rc;
}

enum rc fs_map(const char *path, struct fs_map *m, struct err *e)
{
	return fs_map_range(path, 0, -1, m, e);
}

void fs_unmap(struct fs_map *m)
{
	size_t rest = page_rest((uintptr_t)m->data);

	if (m->data)
		munmap((void *)(uintptr_t)(m->data - rest), m->size + rest);
	*m = (struct fs_map){0};
}

int64_t fs_free_bytes(const char *path)
{
	struct statvfs v;

	return statvfs(path, &v) ? -1 : (int64_t)v.f_bavail * (int64_t)v.f_frsize;
}

enum rc fs_sha256_range(int fd, const char *what, int64_t offset, int64_t size,
			char hex[SHA256_HEX_SIZE], struct err *e)
{
	enum rc rc = RC_OK;
	struct sha256 sha;
	uint8_t digest[SHA256_SIZE];
	char *chunk = mem_new(COPY_CHUNK);
	int64_t ahead = offset;

	sha256_init(&sha);
	(void)posix_fadvise(fd, offset, size, POSIX_FADV_SEQUENTIAL);
	while (size && !rc) {
		if (offset >= ahead) { /* The disk works while we hash. */
			(void)posix_fadvise(fd, offset, 2 * AHEAD, POSIX_FADV_WILLNEED);
			ahead = offset + AHEAD;
		}
		size_t want = size < (int64_t)COPY_CHUNK ? (size_t)size : COPY_CHUNK;
		ssize_t n = pread(fd, chunk, want, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = io_err(e, "read", what);
		else if (n == 0)
			rc = err_set(e, RC_CORRUPT, "%s: ends %lld bytes early", what,
				     (long long)size);
		else
			sha256_add(&sha, chunk, (size_t)n);
		offset += n;
		size -= n;
	}
	free(chunk);
	sha256_end(&sha, digest);
	sha256_hex(digest, hex);
	return rc;
}

enum rc fs_sha256(const char *path, char hex[SHA256_HEX_SIZE], int64_t *size, struct err *e)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return io_err(e, "open", path);
	enum rc rc = fstat(fd, &st) ? io_err(e, "stat", path)
				    : fs_sha256_range(fd, path, 0, st.st_size, hex, e);
	if (!rc && size)
		*size = st.st_size;
	close(fd);
	return rc;
}
