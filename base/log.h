/* One line per event: `time level module event key=value ...` (logfmt) or JSON
 * (PAWL_LOG_FORMAT=json), to stderr. The last 256 lines are kept in memory for crash reports.
 * Thread safe. Values are escaped, so one event can never forge a second line.
 */
#pragma once

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_init(const char *program, enum log_level min, int json);

/* log_info("http", "request", "method=%s status=%d", m, s): the format yields key=value pairs. */
void log_line(enum log_level level, const char *module, const char *event, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#define log_debug(mod, ev, ...) log_line(LOG_DEBUG, mod, ev, __VA_ARGS__)
#define log_info(mod, ev, ...) log_line(LOG_INFO, mod, ev, __VA_ARGS__)
#define log_warn(mod, ev, ...) log_line(LOG_WARN, mod, ev, __VA_ARGS__)
#define log_error(mod, ev, ...) log_line(LOG_ERROR, mod, ev, __VA_ARGS__)

/* Writes the ring of recent lines to `fd`; async-signal tolerant. */
void log_dump_recent(int fd);

/* Says a sentence to the user at start-up and exits with 78 (configuration error). */
void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
