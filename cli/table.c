/* Rows of JSON as text. Model text and names are untrusted: control bytes never reach a terminal. */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CELL_MAX 64 /* a digest */
#define COLUMNS_MAX 16

void json_print(const json_t *v)
{
	char *text = jx_text(v);

	puts(text);
	free(text);
}

/* "progress.done" below obj; borrowed or NULL. */
static const json_t *member(const json_t *obj, const char *path, size_t len)
{
	while (len && obj) {
		size_t n = 0;
		char key[64];
		while (n < len && path[n] != '.')
			n++;
		if (n >= sizeof(key))
			return NULL;
		memcpy(key, path, n);
		key[n] = 0;
		obj = json_object_get(obj, key);
		path += n + (n < len);
		len -= n + (n < len);
	}
	return obj;
}

static void put_clean(struct buf *b, const char *s)
{
	uint32_t cp;
	size_t len = strlen(s);

	for (size_t i = 0; i < len;) {
		int n = utf8_decode(s + i, len - i, &cp);
		if (!n || cp < 0x20 || (cp >= 0x7f && cp < 0xa0))
			buf_putc(b, cp == '\n' && n ? ' ' : '?');
		else
			buf_append(b, s + i, (size_t)n);
		i += n ? (size_t)n : 1;
	}
}

static void put_plain(struct buf *b, const json_t *v)
{
	if (!v || json_is_null(v)) {
		buf_puts(b, "-");
	} else if (json_is_string(v)) {
		put_clean(b, json_string_value(v));
	} else if (json_is_real(v)) {
		buf_printf(b, "%.4g", json_real_value(v));
	} else {
		char *text = jx_text(v);
		put_clean(b, text);
		free(text);
	}
}

/* RFC 3339 to "3 min". */
static void put_age(struct buf *b, const json_t *v)
{
	struct tm tm = {0};
	const char *s = json_string_value(v);

	if (!s || !strptime(s, "%Y-%m-%dT%H:%M:%S", &tm)) {
		buf_puts(b, "-");
		return;
	}
	int64_t age = clk_now_ms() / 1000 - (int64_t)timegm(&tm);
	if (age < 120)
		buf_printf(b, "%lld s", (long long)(age < 0 ? 0 : age));
	else if (age < 7200)
		buf_printf(b, "%lld min", (long long)(age / 60));
	else if (age < 172800)
		buf_printf(b, "%lld h", (long long)(age / 3600));
	else
		buf_printf(b, "%lld d", (long long)(age / 86400));
}

static void put_bytes(struct buf *b, const json_t *v)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	double x = json_number_value(v);
	int u = 0;

	for (; x >= 1024 && u < 4; u++)
		x /= 1024;
	if (json_is_number(v))
		buf_printf(b, u ? "%.1f %s" : "%.0f %s", x, units[u]);
	else
		buf_puts(b, "-");
}

/* {"done":3,"total":8} or {"jobs_done":..,"jobs_total":..}. */
static void put_progress(struct buf *b, const json_t *v)
{
	int64_t total = jx_get_i64(v, "total", jx_get_i64(v, "jobs_total", -1));
	int64_t done = jx_get_i64(v, "done", jx_get_i64(v, "jobs_done", 0));

	if (total < 0)
		buf_puts(b, "-");
	else
		buf_printf(b, "%lld/%lld", (long long)done, (long long)total);
}

static void put_short(struct buf *b, const json_t *v)
{
	const char *s = json_string_value(v);

	buf_append(b, s ? s : "-", s ? strnlen(s, 12) : 1);
}

static const struct {
	const char *name;
	void (*put)(struct buf *b, const json_t *v);
} formats[] = {{"@age", put_age},
	       {"@bytes", put_bytes},
	       {"@progress", put_progress},
	       {"@short", put_short}};

static void put_cell(struct buf *b, const json_t *row, const char *spec)
{
	const char *path = strchr(spec, ':') + 1;
	const char *at = strchr(path, '@');
	const json_t *v = member(row, path, at ? (size_t)(at - path) : strlen(path));

	for (size_t i = 0; at && i < sizeof(formats) / sizeof(formats[0]); i++)
		if (!strcmp(formats[i].name, at)) {
			formats[i].put(b, v);
			return;
		}
	put_plain(b, v);
}

/* Columns on a terminal: code points, near enough. */
static size_t width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static void put_padded(FILE *out, const char *s, size_t w, bool last)
{
	size_t n = width(s);

	fputs(s, out);
	if (last)
		return;
	fputs("  ", out);
	for (; n < w; n++)
		fputc(' ', out);
}

void table_print(FILE *out, const json_t *rows, const char *const *columns)
{
	size_t n_cols = 0, n_rows = json_array_size(rows), w[COLUMNS_MAX] = {0};

	while (columns[n_cols] && n_cols < COLUMNS_MAX)
		n_cols++;
	char **cells = mem_array((n_rows + 1) * n_cols + 1, sizeof(*cells));
	for (size_t r = 0; r <= n_rows; r++)
		for (size_t k = 0; k < n_cols; k++) {
			struct buf b = BUF_INIT;
			if (r)
				put_cell(&b, json_array_get(rows, r - 1), columns[k]);
			else
				buf_append(&b, columns[k], strcspn(columns[k], ":"));
			char *s = buf_detach(&b);
			cells[r * n_cols + k] = s;
			if (width(s) > w[k])
				w[k] = width(s) < CELL_MAX ? width(s) : CELL_MAX;
		}
	for (size_t r = 0; r <= n_rows; r++) {
		for (size_t k = 0; k < n_cols; k++)
			put_padded(out, cells[r * n_cols + k], w[k], k + 1 == n_cols);
		fputc('\n', out);
	}
	for (size_t i = 0; i < (n_rows + 1) * n_cols; i++)
		free(cells[i]);
	free(cells);
}

void object_print(FILE *out, const json_t *obj, const char *const *columns)
{
	for (const char *const *p = columns; *p; p++) {
		struct buf b = BUF_INIT;
		put_cell(&b, obj, *p);
		fprintf(out, "%-14.*s %s\n", (int)strcspn(*p, ":"), *p, b.data);
		buf_release(&b);
	}
}

int show_rows(struct cli *c, const json_t *rows, const char *const *columns)
{
	if (c->json)
		json_print(rows);
	else if (!json_array_size(rows) && !c->quiet)
		fputs("none\n", stderr);
	else
		table_print(stdout, rows, columns);
	return EXIT_DONE;
}
