/* run gantt: the attempts of a run over time, in letters. Stretches in which nothing worked are one
 * column. */
#include "cli/cli.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define WIDTH_DEFAULT 100
#define LABEL 24
#define GAP_SHARE 50 /* idle for longer than a fiftieth of all: left out */

struct span {
	int64_t from, to;
	const json_t *attempt; /* NULL: an idle stretch that is left out */
};

struct chart {
	struct span *bars; /* by begin */
	size_t n;
	struct span *gaps;
	size_t n_gaps;
	int64_t from, to, shown; /* shown: without the gaps */
	int width;		 /* columns of the bars */
};

static int by_from(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return (x->from > y->from) - (x->from < y->from);
}

static void find_gaps(struct chart *g)
{
	int64_t end = g->n ? g->bars[0].to : 0, least = (g->to - g->from) / GAP_SHARE;

	g->gaps = mem_array(g->n + 1, sizeof(*g->gaps));
	for (size_t i = 1; i < g->n; i++) {
		if (g->bars[i].from - end > least && least > 0)
			g->gaps[g->n_gaps++] = (struct span){end, g->bars[i].from, NULL};
		end = g->bars[i].to > end ? g->bars[i].to : end;
	}
	g->shown = g->to - g->from;
	for (size_t i = 0; i < g->n_gaps; i++)
		g->shown -= g->gaps[i].to - g->gaps[i].from;
}

static void chart_load(struct chart *g, const json_t *attempts)
{
	const json_t *a;
	size_t i;

	g->bars = mem_array(json_array_size(attempts) + 1, sizeof(*g->bars));
	json_array_foreach(attempts, i, a)
	{
		int64_t from = time_ms(a, "started_at"), to = time_ms(a, "ended_at");
		if (from)
			g->bars[g->n++] = (struct span){from, to >= from ? to : clk_now_ms(), a};
	}
	if (!g->n)
		return;
	qsort(g->bars, g->n, sizeof(*g->bars), by_from);
	g->from = g->to = g->bars[0].from;
	for (i = 0; i < g->n; i++)
		g->to = g->bars[i].to > g->to ? g->bars[i].to : g->to;
	find_gaps(g);
}

/* Where a time stands: what is shown before it, and a column for each gap before it. */
static int column(const struct chart *g, int64_t t)
{
	int64_t shown = t - g->from;
	int gaps = 0, room = g->width - (int)g->n_gaps;

	for (size_t i = 0; i < g->n_gaps && g->gaps[i].from < t; i++) {
		shown -= (g->gaps[i].to < t ? g->gaps[i].to : t) - g->gaps[i].from;
		gaps += g->gaps[i].to <= t;
	}
	int at = gaps + (g->shown > 0 ? (int)((double)shown / (double)g->shown * room) : 0);
	return at < g->width ? at : g->width - 1;
}

static char letter(const json_t *a)
{
	static const struct {
		const char *end;
		char c;
	} letters[] = {{"completed", '='},
		       {"preempted", '~'},
		       {"lease_lost", '~'},
		       {"failed", 'x'},
		       {"cancelled", '-'}};

	for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++)
		if (!strcmp(jx_get_str(a, "end", ""), letters[i].end))
			return letters[i].c;
	return '>';
}

/* Of several attempts in one column the one that says most. */
static char stronger(char a, char b)
{
	static const char order[] = " =-~x>";

	return strchr(order, b) > strchr(order, a) ? b : a;
}

static void paint(const struct chart *g, char *line, const struct span *s)
{
	int from = column(g, s->from), to = column(g, s->to);

	for (int i = from; i <= to; i++)
		line[i] = stronger(line[i], letter(s->attempt));
}

static void label(const json_t *a, bool jobs, char out[LABEL + 1])
{
	if (jobs)
		str_fmt(out, LABEL + 1, "%lld %.10s %lld.%lld", (long long)jx_get_i64(a, "iter", 0),
			jx_get_str(a, "stage", "?"), (long long)jx_get_i64(a, "shard", 0),
			(long long)jx_get_i64(a, "pass", 0));
	else
		str_fmt(out, LABEL + 1, "%lld %.12s", (long long)jx_get_i64(a, "iter", 0),
			jx_get_str(a, "stage", "?"));
}

/* One row for each label, in the order of their first attempt. */
static void draw_rows(const struct chart *g, bool jobs)
{
	bool *done = mem_array(g->n + 1, sizeof(*done));
	char name[LABEL + 1], other[LABEL + 1];

	for (size_t i = 0; i < g->n; i++) {
		char *line = mem_new((size_t)g->width + 1);
		if (done[i]) {
			free(line);
			continue;
		}
		memset(line, ' ', (size_t)g->width);
		label(g->bars[i].attempt, jobs, name);
		for (size_t k = i; k < g->n; k++) {
			label(g->bars[k].attempt, jobs, other);
			if (strcmp(name, other))
				continue;
			done[k] = true;
			paint(g, line, &g->bars[k]);
		}
		for (size_t k = 0; k < g->n_gaps; k++) {
			int at = column(g, g->gaps[k].to) - 1;
			if (at >= 0 && line[at] == ' ')
				line[at] = ':';
		}
		printf("%-*s|%s|\n", LABEL, name, line);
		free(line);
	}
	free(done);
}

static void draw(struct chart *g, bool jobs)
{
	char from[CLK_TEXT_MAX], to[CLK_TEXT_MAX];
	int64_t left = g->to - g->from - g->shown;

	clk_text(g->from, from);
	clk_text(g->to, to);
	draw_rows(g, jobs);
	printf("%-*s %.19s%*.19s (UTC)\n", LABEL, "", from, g->width > 40 ? g->width - 19 : 21, to);
	printf("= done   > running   ~ lost with its worker   x failed   - cancelled");
	if (g->n_gaps)
		printf("   : idle, %lld min left out", (long long)(left / 60000));
	putchar('\n');
}

static int64_t terminal_width(void)
{
	struct winsize w = {0};

	return isatty(STDOUT_FILENO) && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) && w.ws_col > 60
		       ? w.ws_col
		       : WIDTH_DEFAULT;
}

int cmd_run_gantt(struct cli *c, int argc, char **argv)
{
	struct chart g = {0};
	bool jobs = false, ascii = false;
	int64_t width = terminal_width();
	const struct opt opts[] = {
		{"--jobs", OPT_FLAG, &jobs},
		{"--width", OPT_INT, &width},
		{"--ascii", OPT_FLAG, &ascii}}; /* as scripts of elsewhere have it */
	json_t *attempts = NULL;
	struct err e;
	int code = opt_parse(opts, 3, &argc, argv, 1, 1);

	if (code)
		return code;
	if (width < 60 || width > 1000) {
		fputs("pawl: --width: expected 60 to 1000\n", stderr);
		return EXIT_USAGE;
	}
	if (get_attempts(c, argv[0], &attempts, &e))
		return fail(&e);
	chart_load(&g, attempts);
	g.width = (int)width - LABEL - 2;
	if (c->json)
		json_print(attempts);
	else if (!g.n && !c->quiet)
		fputs("nothing has run yet\n", stderr);
	else if (g.n)
		draw(&g, jobs);
	free(g.bars);
	free(g.gaps);
	json_decref(attempts);
	return EXIT_DONE;
}
