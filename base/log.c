#include "base/log.h"

#include "base/clk.h"
#include "base/str.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048
#define RING 256
#define SEP '\x1f' /* Marks a blank of the format, so that blanks inside values stay values. */

static struct {
	pthread_mutex_t lock;
	enum log_level min;
	int json;
	char program[32];
	unsigned next;
	char ring[RING][LINE_MAX_BYTES];
} g = {.lock = PTHREAD_MUTEX_INITIALIZER, .min = LOG_INFO, .program = "pawl"};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

struct line {
	size_t len;
	char text[LINE_MAX_BYTES];
};

void log_init(const char *program, enum log_level min, int json)
{
	const char *fmt = getenv("PAWL_LOG_FORMAT");

	str_copy(g.program, sizeof(g.program), program);
	g.min = min;
	g.json = json || (fmt && !strcmp(fmt, "json"));
}

static void put(struct line *l, const char *s, size_t n)
{
	size_t room = sizeof(l->text) - 2 - l->len; /* newline and terminator */

	if (n > room)
		n = room;
	memcpy(l->text + l->len, s, n);
	l->len += n;
}

static void put_text(struct line *l, const char *s)
{
	put(l, s, strlen(s));
}

/* JSON string escapes serve both formats. Malformed UTF-8 becomes U+FFFD. */
static void put_escaped(struct line *l, const char *s, size_t len)
{
	char u[8];
	uint32_t cp;

	for (size_t i = 0; i < len;) {
		int n = utf8_decode(s + i, len - i, &cp);
		if (!n)
			put(l, "\xef\xbf\xbd", 3);
		else if (s[i] == '"' || s[i] == '\\')
			put(l, s[i] == '"' ? "\\\"" : "\\\\", 2);
		else if (s[i] == '\n')
			put(l, "\\n", 2);
		else if (cp < 0x20 || cp == 0x7f)
			put(l, u, (size_t)snprintf(u, sizeof(u), "\\u%04x", (unsigned)cp & 0xffffu));
		else
			put(l, s + i, (size_t)n);
		i += n ? (size_t)n : 1;
	}
}

static bool needs_quotes(const char *s, size_t len)
{
	if (!len)
		return true;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)s[i] <= ' ' || s[i] == '"' || s[i] == '\\' || s[i] == '=' ||
		    (unsigned char)s[i] >= 0x7f)
			return true;
	return false;
}

static void put_pair(struct line *l, const char *p, size_t len, int json)
{
	const char *eq = memchr(p, '=', len);
	size_t klen = eq ? (size_t)(eq - p) : 3;
	const char *key = eq ? p : "msg";
	const char *v = eq ? eq + 1 : p;
	size_t vlen = len - (size_t)(v - p);

	if (vlen >= 2 && v[0] == '"' && v[vlen - 1] == '"') {
		v++; /* The format quoted it; quoting is ours. */
		vlen -= 2;
	}
	put_text(l, json ? ",\"" : " ");
	if (json)
		put_escaped(l, key, klen);
	else
		put(l, key, klen);
	put_text(l, json ? "\":\"" : "=");
	bool quote = !json && needs_quotes(v, vlen);
	if (quote)
		put_text(l, "\"");
	put_escaped(l, v, vlen);
	if (quote || json)
		put_text(l, "\"");
}

/* Literal blanks before a `key=` become SEP; everything else is copied. */
static void mark_pairs(const char *fmt, char *out, size_t size)
{
	size_t n = 0;

	for (const char *p = fmt; *p && n + 1 < size; p++) {
		if (*p == ' ' && strcspn(p + 1, " %=") < strlen(p + 1) &&
		    p[1 + strcspn(p + 1, " %=")] == '=' && p[1] != '=')
			out[n++] = SEP;
		else
			out[n++] = *p;
	}
	out[n] = 0;
}

static void put_body(struct line *l, const char *fmt, va_list ap, int json)
{
	char marked[512], text[LINE_MAX_BYTES];

	mark_pairs(fmt, marked, sizeof(marked));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	vsnprintf(text, sizeof(text), marked, ap);
#pragma GCC diagnostic pop
	for (char *p = text; *p;) {
		size_t n = strcspn(p, "\x1f");
		if (n)
			put_pair(l, p, n, json);
		p += n + (p[n] == SEP);
	}
}

static void put_head(struct line *l, enum log_level level, const char *module, const char *event,
		     int json)
{
	char ts[CLK_TEXT_MAX], head[256];

	clk_text(clk_now_ms(), ts);
	if (json)
		snprintf(head, sizeof(head),
			 "{\"time\":\"%s\",\"level\":\"%s\",\"program\":\"%s\",\"module\":\"%s\","
			 "\"event\":\"%s\"",
			 ts, level_names[level], g.program, module, event);
	else
		snprintf(head, sizeof(head), "%s %s %s %s", ts, level_names[level], module, event);
	put_text(l, head);
}

void log_line(enum log_level level, const char *module, const char *event, const char *fmt, ...)
{
	struct line l = {0};
	va_list ap;

	put_head(&l, level, module, event, g.json);
	va_start(ap, fmt);
	put_body(&l, fmt, ap, g.json);
	va_end(ap);
	if (g.json) {
		if (l.len > sizeof(l.text) - 5) /* A cut line still closes. */
			l.len = sizeof(l.text) - 5;
		put_text(&l, "}");
	}
	l.text[l.len++] = '\n';
	l.text[l.len] = 0;

	pthread_mutex_lock(&g.lock);
	memcpy(g.ring[g.next % RING], l.text, l.len + 1);
	g.next++;
	if (level >= g.min)
		(void)!write(STDERR_FILENO, l.text, l.len);
	pthread_mutex_unlock(&g.lock);
}

void log_dump_recent(int fd)
{
	/* No lock: the thread that crashed may hold it. A line being written shows torn. */
	for (unsigned i = 0; i < RING; i++) {
		const char *s = g.ring[(g.next + i) % RING];
		size_t n = strnlen(s, LINE_MAX_BYTES);
		if (n)
			(void)!write(fd, s, n);
	}
}

void die(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", g.program);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(78);
}
