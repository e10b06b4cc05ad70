#include "worker/method/judge_parse.h"
#include "base/mem.h"
#include "worker/method/uni.h"

#include <stdlib.h>
#include <string.h>

const char *judge_reason_text(enum judge_reason r)
{
	static const char *const names[] = {
#define X(name, text) text,
		JUDGE_REASONS(X)
#undef X
	};

	return r < JUDGE_N_REASONS ? names[r] : "unknown";
}

enum judge_reason judge_reason_of(const char *text)
{
	int r = 0;

	while (r < JUDGE_N_REASONS && strcmp(judge_reason_text((enum judge_reason)r), text) != 0)
		r++;
	return (enum judge_reason)r;
}

/* --- text as code points, folded ------------------------------------------------------------- */

struct scan {
	uint32_t *cp; /* owned; cp[n] == 0 */
	size_t n;
};

/* Forms that NFKC turns into plain digits and signs, and the dashes: first and last code point,
 * what the first becomes, and how far the others go on from there. */
static const struct {
	uint32_t first, last, to, step;
} folds[] = {
	{0xff01, 0xff5e, '!', 1},    {0x2070, 0x2070, '0', 1},    {0x2074, 0x2079, '4', 1},
	{0x2080, 0x2089, '0', 1},    {0xb2, 0xb3, '2', 1},        {0xb9, 0xb9, '1', 1},
	{0x2460, 0x2468, '1', 1},    {0x1d7ce, 0x1d7d7, '0', 1},  {0x1d7d8, 0x1d7e1, '0', 1},
	{0x1d7e2, 0x1d7eb, '0', 1},  {0x1d7ec, 0x1d7f5, '0', 1},  {0x1d7f6, 0x1d7ff, '0', 1},
	{0x1fbf0, 0x1fbf9, '0', 1},  {0xfe13, 0xfe13, ':', 0},    {0xfe55, 0xfe55, ':', 0},
	{0x2044, 0x2044, '/', 0},    {0x2212, 0x2212, '-', 0},    {0x2010, 0x2015, '-', 0},
};

static uint32_t fold(uint32_t cp)
{
	for (size_t i = 0; cp >= 0x80 && i < sizeof(folds) / sizeof(folds[0]); i++)
		if (cp >= folds[i].first && cp <= folds[i].last)
			cp = folds[i].to + folds[i].step * (cp - folds[i].first);
	return uni_lower(cp);
}

static struct scan scan_of(const char *text, size_t len)
{
	struct scan s = {mem_array(len * 2 + 3, sizeof(uint32_t)), 0};
	uint32_t cp;

	for (size_t i = 0; i < len;) {
		i += (size_t)uni_next(text + i, len - i, &cp);
		if (cp >= 0x2469 && cp <= 0x2472) { /* circled 10 to 19 */
			s.cp[s.n++] = '1';
			s.cp[s.n++] = '0' + (cp - 0x2469);
		} else if (cp >= 0xbc && cp <= 0xbe) { /* quarters and half: never a whole score */
			s.cp[s.n++] = '/';
			s.cp[s.n++] = '0';
		} else {
			s.cp[s.n++] = cp == 0 ? 0xfffd : fold(cp);
		}
	}
	return s;
}

/* --- pieces of the pattern ------------------------------------------------------------------- */

static bool is_digit(uint32_t cp)
{
	return cp >= '0' && cp <= '9';
}

/* Markdown, quotes, brackets and invisible signs around the number. */
static bool is_decor(uint32_t cp)
{
	static const uint32_t list[] = {'*', '_', '`', '"', '\'', '<', '>', '[', ']', 0xab, 0xbb,
					0x2018, 0x2019, 0x201a, 0x201c, 0x201d, 0x201e, 0x2039,
					0x203a, 0x300c, 0x300d, 0x300e, 0x300f, 0x200b, 0x200c,
					0x200d, 0x200e, 0x200f, 0x2060, 0xfeff, 0xfe0f, 0x20e3};

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		if (cp == list[i])
			return true;
	return false;
}

static bool is_newline(uint32_t cp)
{
	return cp == '\n' || cp == '\r' || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
}

static size_t skip_line(const struct scan *s, size_t i)
{
	while (i < s->n && !is_newline(s->cp[i]) && (uni_is_space(s->cp[i]) || is_decor(s->cp[i])))
		i++;
	return i;
}

static size_t skip_any(const struct scan *s, size_t i, bool *newline)
{
	for (; i < s->n && (uni_is_space(s->cp[i]) || is_decor(s->cp[i])); i++)
		*newline |= is_newline(s->cp[i]);
	return i;
}

/* Length of ASCII `word` at i as a whole word, or 0. */
static size_t at_word(const struct scan *s, size_t i, const char *word)
{
	size_t n = strlen(word);

	if (n > s->n - i)
		return 0;
	for (size_t k = 0; k < n; k++)
		if (s->cp[i + k] != (unsigned char)word[k])
			return 0;
	return i + n < s->n && uni_is_word(s->cp[i + n]) && !is_digit(s->cp[i + n]) ? 0 : n;
}

struct number {
	int64_t milli; /* rounded down; huge values saturate */
	bool rest;     /* non-zero digits after the third decimal */
	size_t end;
};

#define MILLI_HUGE INT64_C(1000000000000)

/* False: no number here, or one like 1.2.3. */
static bool read_number(const struct scan *s, size_t i, struct number *out)
{
	int64_t v = 0, unit = 1000;

	out->rest = false;
	if (i >= s->n || !is_digit(s->cp[i]))
		return false;
	for (; i < s->n && is_digit(s->cp[i]); i++)
		v = v >= MILLI_HUGE ? v : v * 10 + (int64_t)(s->cp[i] - '0');
	v *= 1000;
	if (i + 1 < s->n && s->cp[i] == '.' && is_digit(s->cp[i + 1]))
		for (i++; i < s->n && is_digit(s->cp[i]); i++) {
			int64_t d = (int64_t)(s->cp[i] - '0');
			unit /= 10;
			v += d * unit;
			out->rest |= unit == 0 && d != 0;
		}
	out->milli = v;
	out->end = i;
	return !(i + 1 < s->n && s->cp[i] == '.' && is_digit(s->cp[i + 1]));
}

/* --- what follows the number ----------------------------------------------------------------- */

enum tail { TAIL_GOOD, TAIL_AMBIGUOUS };

/* "/5", "out of 5": only the template's own maximum. *i moves behind it. */
static enum tail tail_scale(const struct judge_rule *rule, const struct scan *s, size_t *i,
			    bool *scaled)
{
	size_t j = skip_line(s, *i), n;
	struct number max;
	bool slash = s->cp[j] == '/';

	if (slash) {
		j = skip_line(s, j + 1);
	} else if ((n = at_word(s, j, "out")) != 0) {
		j = skip_line(s, j + n);
		n = at_word(s, j, "of");
		if (n == 0)
			return TAIL_GOOD;
		j = skip_line(s, j + n);
	} else {
		return TAIL_GOOD;
	}
	if (j >= s->n || !is_digit(s->cp[j]))
		return TAIL_GOOD;
	if (!read_number(s, j, &max) || max.milli != rule->max_milli || max.rest)
		return TAIL_AMBIGUOUS;
	*i = max.end;
	*scaled = true;
	return s->cp[max.end] == '/' || is_digit(s->cp[max.end]) ? TAIL_AMBIGUOUS : TAIL_GOOD;
}

/* A range, a sum, an alternative: another number joined to this one on the same line. */
static enum tail tail_joined(const struct scan *s, size_t i, bool scaled)
{
	static const char *const words[] = {"or", "to", "and"};
	size_t j = skip_line(s, i);
	uint32_t c = s->cp[j];
	bool sign = c == '~' || c == 0x301c ||
		    (!scaled && (c == '-' || c == '+' || c == 0xd7 || c == 0xb1));

	if (is_digit(c))
		return TAIL_AMBIGUOUS;
	if (c == '%' || c == 0x2030)
		return TAIL_AMBIGUOUS;
	if (c == ',' && is_digit(s->cp[j + 1]))
		return TAIL_AMBIGUOUS;
	if (sign)
		return is_digit(s->cp[skip_line(s, j + 1)]) ? TAIL_AMBIGUOUS : TAIL_GOOD;
	for (size_t k = 0; k < sizeof(words) / sizeof(words[0]); k++) {
		size_t n = at_word(s, j, words[k]);
		if (n != 0 && is_digit(s->cp[skip_line(s, j + n)]))
			return TAIL_AMBIGUOUS;
	}
	return TAIL_GOOD;
}

/* Letters stuck to the number: "4pts" is a score, "4th" and "0x4" are not. */
static enum tail tail_glued(const struct scan *s, size_t i)
{
	static const char *const fine[] = {"p", "pt", "pts", "point", "points", "out"};

	if (i >= s->n || !uni_is_word(s->cp[i]) || uni_is_single(s->cp[i]))
		return TAIL_GOOD;
	for (size_t k = 0; k < sizeof(fine) / sizeof(fine[0]); k++)
		if (at_word(s, i, fine[k]) != 0)
			return TAIL_GOOD;
	return TAIL_AMBIGUOUS;
}

/* After a line break only a number alone on its line is a score, else it may number a list. */
static bool alone_on_line(const struct scan *s, size_t i)
{
	i = skip_line(s, i);
	while (i < s->n && (s->cp[i] == '.' || s->cp[i] == '!' || s->cp[i] == 0x3002))
		i++;
	i = skip_line(s, i);
	return i >= s->n || is_newline(s->cp[i]) || at_word(s, i, "point") != 0 ||
	       at_word(s, i, "points") != 0;
}

static struct judge_score in_bounds(const struct judge_rule *rule, const struct number *v)
{
	struct judge_score out = {JUDGE_OK, v->milli};
	bool whole = v->milli % 1000 == 0 && !v->rest;

	if (v->milli < rule->min_milli || v->milli > rule->max_milli ||
	    (v->milli == rule->max_milli && v->rest) || (rule->integer && !whole))
		return (struct judge_score){JUDGE_OUT_OF_RANGE, 0};
	return out;
}

/* What stands behind a score word that ends at i; JUDGE_NO_MATCH when this is no score. */
static struct judge_score behind_word(const struct judge_rule *rule, const struct scan *s, size_t i)
{
	struct judge_score none = {JUDGE_NO_MATCH, 0}, twice = {JUDGE_AMBIGUOUS, 0};
	bool newline = false, scaled = false;
	struct number v;
	size_t n, tail;

	i = skip_any(s, i, &newline);
	if ((n = at_word(s, i, "is")) != 0)
		i = skip_any(s, i + n, &newline);
	for (int k = 0; k < 2 && (s->cp[i] == ':' || s->cp[i] == '='); k++)
		i = skip_any(s, i + 1, &newline);
	if (s->cp[i] == '-' && is_digit(s->cp[i + 1]))
		return (struct judge_score){JUDGE_OUT_OF_RANGE, 0};
	if (!read_number(s, i, &v))
		return none;
	tail = v.end;
	if (tail_glued(s, tail) != TAIL_GOOD || tail_scale(rule, s, &tail, &scaled) != TAIL_GOOD ||
	    tail_joined(s, tail, scaled) != TAIL_GOOD)
		return newline && !alone_on_line(s, v.end) ? none : twice;
	if (newline && !alone_on_line(s, tail))
		return none;
	return in_bounds(rule, &v);
}

/* Length of a UTF-8 score word that starts at i, or 0. */
static size_t word_at(const struct scan *s, size_t i, const char *word)
{
	size_t len = strlen(word), k = i;
	uint32_t cp = 0, last = 0;

	for (size_t b = 0; b < len;) {
		b += (size_t)uni_next(word + b, len - b, &cp);
		if (k >= s->n || s->cp[k] != cp)
			return 0;
		if (k == i && i > 0 && uni_is_word(cp) && !uni_is_single(cp) &&
		    uni_is_word(s->cp[i - 1]) && !uni_is_single(s->cp[i - 1]))
			return 0;
		last = cp;
		k++;
	}
	if (k < s->n && uni_is_word(last) && !uni_is_single(last) && uni_is_word(s->cp[k]) &&
	    !uni_is_single(s->cp[k]) && !is_digit(s->cp[k]))
		return 0;
	return k - i;
}

/* The last number in `depth` brackets on either side. */
static struct judge_score in_brackets(const struct judge_rule *rule, const struct scan *s, int depth)
{
	struct number v;

	for (size_t i = s->n; i-- > 0;) {
		size_t at = i;
		int left = 0, right = 0;

		for (; left < depth && at < s->n && s->cp[at] == '['; at++)
			left++;
		if (left < depth || !read_number(s, at, &v))
			continue;
		for (at = v.end; right < depth && at < s->n && s->cp[at] == ']'; at++)
			right++;
		if (right == depth)
			return in_bounds(rule, &v);
	}
	return (struct judge_score){JUDGE_NO_MATCH, 0};
}

struct judge_score judge_parse(const struct judge_rule *rule, const char *text, size_t len,
			       bool stopped)
{
	struct judge_score found = {JUDGE_NO_MATCH, 0};
	struct scan s;
	bool newline = false;

	if (!stopped)
		return (struct judge_score){JUDGE_TRUNCATED, 0};
	s = scan_of(text, len);
	if (skip_any(&s, 0, &newline) == s.n)
		found.reason = JUDGE_EMPTY;
	for (int depth = 2; rule->brackets && depth > 0 && found.reason == JUDGE_NO_MATCH; depth--)
		found = in_brackets(rule, &s, depth);
	for (size_t i = s.n; i-- > 0 && found.reason == JUDGE_NO_MATCH;)
		for (int w = 0; rule->words[w] && found.reason == JUDGE_NO_MATCH; w++) {
			size_t n = word_at(&s, i, rule->words[w]);
			if (n > 0)
				found = behind_word(rule, &s, i + n);
		}
	free(s.cp);
	return found;
}
