/* A slow and dirty disk, to be preloaded: files below $DIRTY_DISK_PREFIX have it, others are left alone.
 *
 * What is wrong with it now stands in the file $DIRTY_DISK_MODE, four numbers that may change at any time:
 * milliseconds every fsync takes longer, errno of fsync (0: none), errno of write (0: none), and 1 when a
 * write takes half of what it is given. Knows nothing of the program it is in.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct mode {
	int slow_ms, fsync_errno, write_errno, half;
};

ssize_t write(int fd, const void *data, size_t n);
ssize_t pwrite(int fd, const void *data, size_t n, off_t at);
int fsync(int fd);
int fdatasync(int fd);

/* The mode as it is now; nothing is wrong while there is none. */
static struct mode now(void)
{
	static const volatile struct mode *shared;
	const char *path = getenv("DIRTY_DISK_MODE");

	if (!shared && path) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *shared, PROT_READ, MAP_SHARED, fd, 0);

		if (fd >= 0)
			close(fd);
		if (p != MAP_FAILED)
			shared = p;
	}
	return shared ? *(const struct mode *)(const void *)shared : (struct mode){0};
}

static bool ours(int fd)
{
	const char *prefix = getenv("DIRTY_DISK_PREFIX");
	char link[64], path[4096];
	struct stat st;
	ssize_t n;

	if (!prefix || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return false;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof path - 1);
	return n > 0 && strncmp(path, prefix, strlen(prefix)) == 0;
}

static void *real(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

/* Bytes that may be written, or -1 with errno set. */
static ssize_t allowance(int fd, size_t n)
{
	struct mode m = now();

	if ((m.write_errno || m.half) && ours(fd)) {
		if (m.write_errno) {
			errno = m.write_errno;
			return -1;
		}
		n = n > 1 ? n / 2 : n;
	}
	return (ssize_t)n;
}

ssize_t write(int fd, const void *data, size_t n)
{
	static ssize_t (*next)(int, const void *, size_t);
	ssize_t may = allowance(fd, n);

	if (!next)
		*(void **)&next = real("write");
	return may < 0 ? -1 : next(fd, data, (size_t)may);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
	static ssize_t (*next)(int, const void *, size_t, off_t);
	ssize_t may = allowance(fd, n);

	if (!next)
		*(void **)&next = real("pwrite");
	return may < 0 ? -1 : next(fd, data, (size_t)may, at);
}

static int sync_with(const char *name, int fd)
{
	int (*next)(int);
	struct mode m = now();

	if ((m.slow_ms || m.fsync_errno) && ours(fd)) {
		struct timespec t = {m.slow_ms / 1000, m.slow_ms % 1000 * 1000000L};

		nanosleep(&t, NULL);
		if (m.fsync_errno) {
			errno = m.fsync_errno;
			return -1;
		}
	}
	*(void **)&next = real(name);
	return next(fd);
}

int fsync(int fd)
{
	return sync_with("fsync", fd);
}

int fdatasync(int fd)
{
	return sync_with("fdatasync", fd);
}
