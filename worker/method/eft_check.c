#include "worker/method/eft_check.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/method/uni.h"

#include <stdlib.h>
#include <string.h>

const char *eft_check_text(enum eft_check c)
{
	static const char *const names[] = {
#define X(name, text) text,
		EFT_CHECKS(X)
#undef X
	};

	return names[c];
}

/* --- text as words --------------------------------------------------------------------------- */

struct word {
	size_t at;     /* byte it begins at */
	uint64_t hash; /* of its letters in lower case */
};

struct words {
	struct word *v; /* owned */
	size_t n, cap;
};

static uint64_t mix(uint64_t h, uint64_t v)
{
	return (h ^ v) * UINT64_C(0x100000001b3); /* FNV-1a, by sign instead of by byte */
}

static void add_word(struct words *w, size_t at, uint64_t hash)
{
	if (w->n == w->cap) {
		w->cap = w->cap ? 2 * w->cap : 128;
		w->v = mem_grow(w->v, w->cap, sizeof *w->v);
	}
	w->v[w->n++] = (struct word){at, hash};
}

/* Runs of letters and digits; signs of unspaced scripts one by one. */
static void cut_words(struct words *w, const char *text, size_t len)
{
	const uint64_t start = UINT64_C(0xcbf29ce484222325);
	uint64_t hash = start;
	size_t begin = 0;
	uint32_t cp;

	for (size_t i = 0; i < len;) {
		size_t used = (size_t)uni_next(text + i, len - i, &cp);
		bool single = uni_is_single(cp), in = uni_is_word(cp) && !single;

		if (!in && hash != start) {
			add_word(w, begin, hash);
			hash = start;
		}
		if (single)
			add_word(w, i, mix(start, cp));
		if (in && hash == start)
			begin = i;
		if (in)
			hash = mix(hash, uni_lower(cp));
		i += used;
	}
	if (hash != start)
		add_word(w, begin, hash);
}

/* --- what must not be in it ------------------------------------------------------------------ */

#define MARKS_MAX 32

struct eft_checker {
	struct eft_rules rules;
	struct judge_rule rule;
	char *score_words[JUDGE_WORDS_MAX + 1]; /* owned; rule.words point to them */
	uint64_t *runs;                         /* owned, sorted: leak_words words in a row */
	size_t n_runs, cap_runs;
	char *marks[MARKS_MAX];                 /* owned: slots and tags */
	int n_marks;
};

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t run_hash(const struct word *w, int n)
{
	uint64_t h = UINT64_C(0x9e3779b97f4a7c15);

	for (int i = 0; i < n; i++)
		h = mix(h, w[i].hash);
	return h;
}

/* `text` has no slot in it: words on two sides of one are not in a row. */
static void learn_runs(struct eft_checker *c, const char *text, size_t len)
{
	struct words w = {0};
	size_t n = (size_t)c->rules.leak_words;

	cut_words(&w, text, len);
	for (size_t i = 0; n > 0 && i + n <= w.n; i++) {
		if (c->n_runs == c->cap_runs) {
			c->cap_runs = c->cap_runs ? 2 * c->cap_runs : 256;
			c->runs = mem_grow(c->runs, c->cap_runs, sizeof *c->runs);
		}
		c->runs[c->n_runs++] = run_hash(w.v + i, c->rules.leak_words);
	}
	free(w.v);
}

/* "{prompt}" and the like, "<response>", "<total points>". */
static void learn_marks(struct eft_checker *c, const char *text)
{
	for (const char *p = strpbrk(text, "{<"); p; p = strpbrk(p + 1, "{<")) {
		size_t n = strcspn(p, *p == '{' ? "}\n" : ">\n");

		if (p[n] && p[n] != '\n' && n > 1 && n < 64 && c->n_marks < MARKS_MAX)
			c->marks[c->n_marks++] = mem_strn(p, n + 1);
	}
}

static void learn(struct eft_checker *c, const char *text)
{
	const char *from = text;

	learn_marks(c, text);
	for (const char *p = text; *p; p++) {
		if (*p != '{')
			continue;
		learn_runs(c, from, (size_t)(p - from));
		p += strcspn(p, "}");
		from = p;
		if (!*p)
			break;
	}
	learn_runs(c, from, strlen(from));
}

struct eft_checker *eft_checker_new(const struct judge_template *t, const struct eft_rules *r)
{
	struct eft_checker *c = mem_new(sizeof *c);

	c->rules = *r;
	c->rule = t->rule;
	for (int i = 0; t->rule.words[i]; i++) {
		c->score_words[i] = mem_str(t->rule.words[i]);
		c->rule.words[i] = c->score_words[i];
	}
	if (r->leak_words > 0) {
		learn(c, t->text);
		if (t->system)
			learn(c, t->system);
	}
	if (c->n_runs > 0)
		qsort(c->runs, c->n_runs, sizeof *c->runs, by_value);
	return c;
}

void eft_checker_free(struct eft_checker *c)
{
	if (!c)
		return;
	for (int i = 0; c->score_words[i]; i++)
		free(c->score_words[i]);
	for (int i = 0; i < c->n_marks; i++)
		free(c->marks[i]);
	free(c->runs);
	free(c);
}

static bool leaks(const struct eft_checker *c, const char *text, const struct words *w)
{
	size_t n = (size_t)c->rules.leak_words;

	for (int i = 0; i < c->n_marks; i++)
		if (strstr(text, c->marks[i]))
			return true;
	for (size_t i = 0; n > 0 && i + n <= w->n; i++) {
		uint64_t h = run_hash(w->v + i, c->rules.leak_words);

		if (c->n_runs > 0 && bsearch(&h, c->runs, c->n_runs, sizeof h, by_value))
			return true;
	}
	return false;
}

/* --- the score it speaks of ------------------------------------------------------------------ */

/* Words before the one that the score stands behind. */
static int words_before_score(const struct eft_checker *c, const char *text, const struct words *w)
{
	for (size_t i = w->n; i-- > 0;) {
		const char *from = text + w->v[i].at;

		while (from > text && strchr("[(<*_", from[-1])) /* "[[7]]" */
			from--;
		if (judge_parse(&c->rule, from, strlen(from), true).reason == JUDGE_OK)
			return (int)i;
	}
	return (int)w->n;
}

/* A sentence or a line that ends at `end` may have named a score of its own. */
static bool names_another(const struct eft_checker *c, const char *text, int64_t milli)
{
	size_t len = strlen(text);

	for (size_t end = 1; end < len; end++) {
		bool stop = text[end] == '\n' || (strchr(".;!?", text[end - 1]) && text[end] == ' ');
		struct judge_score s;

		if (!stop)
			continue;
		s = judge_parse(&c->rule, text, end, true);
		if (s.reason == JUDGE_OK && s.milli != milli)
			return true;
	}
	return false;
}

static const char *skip_blanks(const char *p)
{
	return p + strspn(p, " \t*_");
}

/* "3/5" or "3 out of 5", with the template's own maximum, and not this score. */
static bool shares_another(const struct eft_checker *c, const char *text, int64_t milli)
{
	double score = (double)milli / 1000, max = (double)c->rule.max_milli / 1000;

	for (const char *p = text + strcspn(text, "0123456789"); *p; p += strcspn(p, "0123456789")) {
		char *end;
		double points = strtod(p, &end);
		const char *q = skip_blanks(end);
		bool inside = p > text && (p[-1] == '.' || p[-1] == '/');

		p = end;
		if (*q == '/')
			q = skip_blanks(q + 1);
		else if (str_starts(q, "out of "))
			q = skip_blanks(q + strlen("out of "));
		else
			continue;
		if (*q < '0' || *q > '9')
			continue;
		/* A date (3/5/2020) and a page (12/300) are none of this scale. */
		if (strtod(q, &end) != max || *end == '/' || inside)
			continue;
		if (points != score)
			return true;
	}
	return false;
}

/* "+1 ... +1 ...": points counted one by one, that sum to something else. */
static bool sums_to_another(const char *text, int64_t milli)
{
	double sum = 0;
	int n = 0;

	for (const char *p = strchr(text, '+'); p; p = strchr(p + 1, '+')) {
		/* Neither "2+2" nor "C++11". */
		if (p[1] < '0' || p[1] > '9' || (p > text && !strchr(" \t\n(*-", p[-1])))
			continue;
		sum += strtod(p + 1, NULL);
		n++;
	}
	return n > 0 && sum * 1000 != (double)milli;
}

enum eft_check eft_checker_look(const struct eft_checker *c, const char *text, int64_t milli)
{
	struct words w = {0};
	enum eft_check out = EFT_CHECK_GOOD;
	int n;

	cut_words(&w, text, strlen(text));
	n = words_before_score(c, text, &w);
	if (n < c->rules.min_words)
		out = EFT_CHECK_SHORT;
	else if (c->rules.max_words > 0 && n > c->rules.max_words)
		out = EFT_CHECK_LONG;
	else if (leaks(c, text, &w))
		out = EFT_CHECK_LEAK;
	else if (c->rules.same_score &&
		 (names_another(c, text, milli) || shares_another(c, text, milli) ||
		  sums_to_another(text, milli)))
		out = EFT_CHECK_CONTRADICTS;
	free(w.v);
	return out;
}
