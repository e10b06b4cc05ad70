#include "worker/report.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

/* A line longer than a pipe takes at once must not have another in its middle. */
static pthread_mutex_t one_line = PTHREAD_MUTEX_INITIALIZER;

void report(int fd, json_t *msg)
{
	struct buf line = BUF_INIT;

	if (fd >= 0) {
		jx_dump(msg, &line);
		buf_putc(&line, '\n');
		pthread_mutex_lock(&one_line);
		if (fs_write_all(fd, "report", line.data, line.len, NULL) != RC_OK) {
			log_error("executor", "agent_gone", "errno=%d", errno);
			_exit(1);
		}
		pthread_mutex_unlock(&one_line);
	}
	buf_release(&line);
	json_decref(msg);
}

void report_append(const char *dir, const char *name, int64_t step, const json_t *values)
{
	char path[PATH_MAX];
	struct buf line = BUF_INIT;
	json_t *row = json_deep_copy(values);

	str_fmt(path, sizeof path, "%s/%s", dir, name);
	json_object_set_new(row, "step", json_integer(step));
	jx_dump(row, &line);
	buf_putc(&line, '\n');
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0 || fs_write_all(fd, path, line.data, line.len, NULL) != RC_OK)
		log_warn("stage", "metrics_not_written", "path=%s errno=%d", path, errno);
	if (fd >= 0)
		close(fd);
	json_decref(row);
	buf_release(&line);
}
