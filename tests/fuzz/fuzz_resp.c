/* What Redis answers: any bytes become a reply, walked to its leaves, or an error; never more than the bytes
 * could hold. A socket whose other end is ours plays Redis: PONG first, then the input, then its end.
 */
#include "queue/redis.h"

#include "base/str.h"
#include "tests/fuzz/fuzz.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct {
	int fd;
	char url[128];
	uint8_t data[60000]; /* what a socket takes at once; the other thread may still send it */
	size_t size;
} fake;

static bool read_ping(int fd)
{
	char text[4096];

	return read(fd, text, sizeof(text)) > 0;
}

/* One connection at a time; write() may fail when the client has seen enough. */
static void *serve(void *arg)
{
	(void)arg;
	for (;;) {
		int fd = accept(fake.fd, NULL, NULL);

		if (fd < 0)
			return NULL;
		if (read_ping(fd) && send(fd, "+PONG\r\n", 7, MSG_NOSIGNAL) == 7 && read_ping(fd))
			(void)!send(fd, fake.data, fake.size, MSG_NOSIGNAL);
		close(fd);
	}
}

static void start(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	pthread_t t;

	str_fmt(at.sun_path, sizeof(at.sun_path), "/tmp/pawl-fuzz-%d.sock", (int)getpid());
	str_fmt(fake.url, sizeof(fake.url), "unix:%s", at.sun_path);
	unlink(at.sun_path);
	fake.fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (bind(fake.fd, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(fake.fd, 8) != 0 ||
	    pthread_create(&t, NULL, serve, NULL) != 0)
		abort();
	pthread_detach(t);
}

static size_t walk(const struct redis_reply *p)
{
	size_t n = reply_len(p) + strlen(reply_text(p)) + (size_t)(reply_i64(p) & 1);

	for (size_t i = 0; i < reply_n(p); i++)
		n += walk(reply_at(p, i));
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct redis_opts o = {.timeout_ms = 1000, .pool_max = 1};
	struct redis_cmd c = {.once = true};
	struct redis_reply *p = NULL;
	struct redis *r = NULL;
	struct err e;

	if (!fake.fd)
		start();
	fake.size = size < sizeof(fake.data) ? size : sizeof(fake.data);
	memcpy(fake.data, data, fake.size);
	if (redis_open(fake.url, &o, &r, &e))
		return 0;
	redis_cmd_words(&c, "HGETALL x");
	if (redis_call(r, &c, &p, &e) == RC_OK)
		walk(p);
	reply_free(p);
	redis_close(r);
	return 0;
}

void fuzz_seed(struct buf *out)
{
	buf_puts(out, "*5\r\n$3\r\nabc\r\n:12\r\n$-1\r\n*2\r\n+OK\r\n$0\r\n\r\n*-1\r\n"
		      "-STALE the lease is over\r\n");
}
