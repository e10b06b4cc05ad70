/* One measurement of the engine per call; `make bench-engine` runs tests/bench/engine.py, which
 * calls this many times between the peers and prints the tables.
 *
 * Usage: bench_engine limits | model | decode | prefill | workload | sft | dpo  [key=value ...]
 */
#include "tests/bench/engine.h"
#include "tests/bench/limits.h"

#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

_Noreturn void bench_die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

void bench_check(enum rc rc, const struct err *e)
{
	if (rc != RC_OK)
		bench_die("bench_engine: %s", e->text);
}

const char *bench_str(const struct bench_args *a, const char *key, const char *otherwise)
{
	size_t n = strlen(key);

	for (int i = 0; i < a->argc; i++)
		if (strncmp(a->argv[i], key, n) == 0 && a->argv[i][n] == '=')
			return a->argv[i] + n + 1;
	return otherwise;
}

int bench_int(const struct bench_args *a, const char *key, int otherwise)
{
	const char *s = bench_str(a, key, NULL);
	char *end;
	long v;

	if (!s)
		return otherwise;
	v = strtol(s, &end, 10);
	if (*end || end == s || v < 0 || v > INT32_MAX)
		bench_die("bench_engine: %s=%s is not a number", key, s);
	return (int)v;
}

int bench_list(const struct bench_args *a, const char *key, const char *otherwise, int *out,
	       int max)
{
	const char *s = bench_str(a, key, otherwise);
	int n = 0;

	while (*s && n < max) {
		char *end;

		out[n] = (int)strtol(s, &end, 10);
		if (end == s || out[n] < 1)
			bench_die("bench_engine: %s=%s is not a list of numbers", key, s);
		n++;
		s = *end == ',' ? end + 1 : end;
	}
	return n;
}

void bench_known(const struct bench_args *a, const char *keys)
{
	for (int i = 0; i < a->argc; i++) {
		size_t n = strcspn(a->argv[i], "=");
		bool found = false;

		for (const char *k = keys; *k; k += strspn(k, " ")) {
			size_t len = strcspn(k, " ");

			found = found || (len == n && strncmp(k, a->argv[i], n) == 0);
			k += len;
		}
		if (!found || a->argv[i][n] != '=')
			bench_die("bench_engine: %s is none of %s", a->argv[i], keys);
	}
}

enum kern_format bench_format(const char *name)
{
	static const char *const names[] = {
		[KERN_F32] = "f32", [KERN_BF16] = "bf16", [KERN_Q8] = "q8"};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(names[i], name) == 0)
			return (enum kern_format)i;
	bench_die("bench_engine: format %s is none of f32 bf16 q8", name);
}

double bench_peak_mib(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)u.ru_maxrss / 1024;
}

struct bench_lengths *bench_lengths_read(const char *path, int *n)
{
	struct bench_lengths *out = NULL, *grown, l;
	char line[256];
	FILE *f = fopen(path, "r");

	*n = 0;
	if (!f)
		bench_die("bench_engine: %s cannot be read", path);
	while (fgets(line, sizeof line, f)) {
		if (sscanf(line, "%d %d %d", &l.prompt, &l.chosen, &l.rejected) != 3)
			continue;
		grown = realloc(out, (size_t)(*n + 1) * sizeof *out);
		if (!grown)
			bench_die("bench_engine: out of memory");
		out = grown;
		out[(*n)++] = l;
	}
	fclose(f);
	if (*n == 0)
		bench_die("bench_engine: %s has no lengths", path);
	return out;
}

static void bench_limits(const struct bench_args *a, struct kern_pool *pool)
{
	struct limits l;

	bench_known(a, "threads ms");
	l = limits_measure(pool, bench_int(a, "ms", 120) * 1e-3);
	printf("threads %d\nkernels %s\n", kern_pool_threads(pool), kern_cpu()->name);
	limits_print(&l);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(const struct bench_args *, struct kern_pool *);
	} parts[] = {
		{"limits", bench_limits},     {"decode", bench_decode}, {"prefill", bench_prefill},
		{"workload", bench_workload}, {"sft", bench_sft},	{"dpo", bench_dpo},
	};
	struct bench_args a = {argc - 2, argv + 2};
	struct kern_pool *pool;

	if (argc >= 2 && strcmp(argv[1], "model") == 0) {
		bench_model(&a);
		return 0;
	}
	for (size_t i = 0; argc >= 2 && i < sizeof parts / sizeof parts[0]; i++) {
		if (strcmp(argv[1], parts[i].name) != 0)
			continue;
		pool = kern_pool_new(bench_int(&a, "threads", 0));
		parts[i].run(&a, pool);
		printf("rss_mib %.0f\n", bench_peak_mib());
		kern_pool_free(pool);
		return 0;
	}
	bench_die(
		"usage: bench_engine limits|model|decode|prefill|workload|sft|dpo [key=value ...]");
}
