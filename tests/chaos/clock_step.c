/* A wall clock that somebody sets, to be preloaded: it is off by as many seconds as stand in the
 * file $CLOCK_STEP (one int64, which may change at any time). Clocks that never step are left
 * alone, and so are waits until a moment of the wall clock. Knows nothing of the program it is in.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *t);
int gettimeofday(struct timeval *t, void *zone);
time_t time(time_t *t);

static int64_t off_s(void)
{
	static const volatile int64_t *shared;
	const char *path = getenv("CLOCK_STEP");

	if (!shared && path) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		void *p = fd < 0 ? MAP_FAILED
				 : mmap(NULL, sizeof *shared, PROT_READ, MAP_SHARED, fd, 0);

		if (fd >= 0)
			close(fd);
		if (p != MAP_FAILED)
			shared = p;
	}
	return shared ? *shared : 0;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
	static int (*next)(clockid_t, struct timespec *);
	int rc;

	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "clock_gettime");
	rc = next(id, t);
	if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		t->tv_sec += off_s();
	return rc;
}

int gettimeofday(struct timeval *t, void *zone)
{
	struct timespec now;
	(void)zone;

	clock_gettime(CLOCK_REALTIME, &now);
	t->tv_sec = now.tv_sec;
	t->tv_usec = now.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *t)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (t)
		*t = now.tv_sec;
	return now.tv_sec;
}
