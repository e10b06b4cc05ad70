#include "cli/cli.h"

#include "base/str.h"

#include <string.h>

#define NEAR_MAX 3

/* Edit distance with neighbouring letters swapped counting as one; words are short. */
static size_t distance(const char *a, const char *b)
{
	size_t d[33][33], n = strlen(a), m = strlen(b);

	if (n > 32 || m > 32)
		return 99;
	for (size_t i = 0; i <= n; i++)
		for (size_t j = 0; j <= m; j++) {
			if (!i || !j) {
				d[i][j] = i + j;
				continue;
			}
			size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			if (d[i - 1][j] + 1 < best)
				best = d[i - 1][j] + 1;
			if (d[i][j - 1] + 1 < best)
				best = d[i][j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    d[i - 2][j - 2] + 1 < best)
				best = d[i - 2][j - 2] + 1;
			d[i][j] = best;
		}
	return d[n][m];
}

const char *nearest(const char *word, const char *const *names, size_t n)
{
	const char *best = NULL;
	size_t least = NEAR_MAX;

	for (size_t i = 0; i < n; i++) {
		size_t far = distance(word, names[i]);
		if (far < least && far < strlen(names[i])) {
			least = far;
			best = names[i];
		}
	}
	return best;
}

/* "--file|-f" against a word of `len` bytes. */
static bool is_name(const char *names, const char *word, size_t len)
{
	while (*names) {
		size_t n = strcspn(names, "|");
		if (n == len && !memcmp(names, word, n))
			return true;
		names += n + (names[n] == '|');
	}
	return false;
}

static const struct opt *find(const struct opt *opts, size_t n, const char *word, size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (is_name(opts[i].name, word, len))
			return &opts[i];
	return NULL;
}

static int unknown(const struct opt *opts, size_t n, const char *word)
{
	const char *names[32];
	char heads[32][32];
	size_t k = 0;

	for (; k < n && k < 32; k++) {
		size_t len = strcspn(opts[k].name, "|");
		memcpy(heads[k], opts[k].name, len);
		heads[k][len] = 0;
		names[k] = heads[k];
	}
	const char *near = nearest(word, names, k);
	fprintf(stderr, "pawl: unknown flag %s%s%s%s\n", word, near ? ". Did you mean " : "",
		near ? near : "", near ? "?" : "");
	return EXIT_USAGE;
}

static int set(const struct opt *o, const char *word, const char *value)
{
	struct opt_list *list = o->dest;

	switch (o->kind) {
	case OPT_FLAG:
		*(bool *)o->dest = true;
		return EXIT_DONE;
	case OPT_VALUE:
		*(const char **)o->dest = value;
		return EXIT_DONE;
	case OPT_INT:
		if (str_to_i64(value, o->dest))
			return EXIT_DONE;
		fprintf(stderr, "pawl: %s: expected a whole number, found \"%s\"\n", word, value);
		return EXIT_USAGE;
	case OPT_LIST:
		if (list->n < OPT_LIST_MAX) {
			list->v[list->n++] = value;
			return EXIT_DONE;
		}
		fprintf(stderr, "pawl: %s: at most %d times\n", word, OPT_LIST_MAX);
	}
	return EXIT_USAGE;
}

static int count_words(int n, int least, int most)
{
	if (n < least)
		fprintf(stderr, "pawl: %s missing; add --help to see the usage\n",
			n + 1 == least ? "one argument is" : "arguments are");
	else if (n > most)
		fprintf(stderr, "pawl: too many arguments; add --help to see the usage\n");
	return n < least || n > most ? EXIT_USAGE : EXIT_DONE;
}

int opt_parse(const struct opt *opts, size_t n, int *argc, char **argv, int least, int most)
{
	int out = 0, code = EXIT_DONE;
	bool words_only = false;

	for (int i = 0; i < *argc && !code; i++) {
		char *word = argv[i];
		if (words_only || word[0] != '-' || !word[1]) {
			argv[out++] = word;
			continue;
		}
		if (!strcmp(word, "--")) {
			words_only = true;
			continue;
		}
		size_t len = strcspn(word, "=");
		const struct opt *o = find(opts, n, word, len);
		const char *value = word[len] ? word + len + 1 : NULL;
		if (!o)
			return unknown(opts, n, word);
		/* The next word, unless it is a flag itself: `--run --stage x` forgot a value. */
		if (o->kind != OPT_FLAG && !value && i + 1 < *argc && strncmp(argv[i + 1], "--", 2))
			value = argv[++i];
		if ((o->kind == OPT_FLAG) != !value) {
			fprintf(stderr, "pawl: %s %s\n", word, value ? "takes no value" : "needs a value");
			return EXIT_USAGE;
		}
		code = set(o, word, value);
	}
	*argc = out;
	return code ? code : count_words(out, least, most);
}

int exit_code(enum rc rc)
{
	switch (rc) {
	case RC_OK:
		return EXIT_DONE;
	case RC_NOTFOUND:
		return EXIT_NOT_FOUND;
	case RC_DENIED:
		return EXIT_AUTH;
	case RC_CONFLICT:
	case RC_CHANGED:
	case RC_STALE:
		return EXIT_CONFLICT;
	case RC_UNREACHABLE:
	case RC_TIMEOUT:
		return EXIT_UNREACHABLE;
	default:
		return EXIT_FAILED;
	}
}

int fail(const struct err *e)
{
	fprintf(stderr, "pawl: %s\n", e->text);
	return exit_code(e->code);
}
