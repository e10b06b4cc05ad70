#include "cli/log_filter.h"

#include "base/clk.h"
#include "base/str.h"

#include <string.h>

#define LINE_MAX_ ((size_t)1 << 20) /* a longer one is told in pieces */

bool log_since(const char *text, int64_t *ms)
{
	static const char full[] = "0000-01-01T00:00:00.000Z", units[] = "smhd";
	static const int64_t unit_ms[] = {1000, 60000, 3600000, 86400000};
	size_t len = strlen(text);
	const char *unit = len ? strchr(units, text[len - 1]) : NULL;
	char number[24], whole[sizeof(full)];
	int64_t n;

	if (unit && len <= 18) {
		str_fmt(number, sizeof(number), "%.*s", (int)(len - 1), text);
		if (str_to_i64(number, &n) && n >= 0 && n < 100000000) {
			*ms = clk_now_ms() - n * unit_ms[unit - units];
			return true;
		}
	}
	if (len < 10 || len >= sizeof(full))
		return false;
	str_copy(whole, sizeof(whole), full);
	memcpy(whole, text, len - (text[len - 1] == 'Z' && len < sizeof(full) - 1));
	return clk_parse(whole, strlen(whole), ms);
}

/* A line begins with its time, also as JSON. */
static bool stamp(const char *line, size_t len, int64_t *ms)
{
	static const char json[] = "{\"ts\":\"";
	size_t skip =
		len > sizeof(json) && !memcmp(line, json, sizeof(json) - 1) ? sizeof(json) - 1 : 0;

	return clk_parse(line + skip, len - skip, ms);
}

static int tell(struct log_filter *f, const char *line, size_t len, bool ends)
{
	const char *space = f->prefixed ? memchr(line, ' ', len) : NULL;
	size_t skip = space ? (size_t)(space + 1 - line) : 0;
	int64_t ms;

	if (!f->since_ms)
		f->late = true;
	else if (stamp(line + skip, len - skip, &ms))
		f->late = ms >= f->since_ms;
	if (!f->late || (f->text && !memmem(line, len, f->text, strlen(f->text))))
		return 0;
	return fwrite(line, 1, len, f->out) != len || (ends && fputc('\n', f->out) == EOF);
}

int log_filter_take(void *ctx, const void *data, size_t len)
{
	struct log_filter *f = ctx;
	const char *p = data, *nl;
	int bad = 0;

	if (!f->since_ms && !f->text)
		return fwrite(data, 1, len, f->out) != len;
	for (; len && !bad; len -= (size_t)(nl + 1 - p), p = nl + 1) {
		nl = memchr(p, '\n', len);
		if (!nl) {
			buf_append(&f->line, p, len);
			if (f->line.len > LINE_MAX_) {
				bad = tell(f, f->line.data, f->line.len, false);
				buf_clear(&f->line);
			}
			break;
		}
		if (f->line.len) {
			buf_append(&f->line, p, (size_t)(nl - p));
			bad = tell(f, f->line.data, f->line.len, true);
			buf_clear(&f->line);
		} else {
			bad = tell(f, p, (size_t)(nl - p), true);
		}
	}
	return bad;
}

void log_filter_end(struct log_filter *f)
{
	if (f->line.len)
		tell(f, f->line.data, f->line.len, true);
	buf_release(&f->line);
}
