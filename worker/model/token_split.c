#include "worker/model/token_impl.h"

#include "base/str.h"
#include "worker/model/token_unicode.h"

#include <string.h>

/* The splitting rules of byte-level tokenizers, by hand. Every rule is a list of alternatives
 * tried in order at each place; together they match any text. "Letter" is \p{L}, "number" \p{N}.
 */

enum char_class { C_LETTER = 1, C_NUMBER = 2, C_SPACE = 4, C_OTHER = 8, C_END = 16 };

static bool in_ranges(const struct token_range *r, size_t n, uint32_t cp)
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (cp > r[mid].last)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < n && cp >= r[lo].first;
}

#define IN_RANGES(r, cp) in_ranges(r, sizeof(r) / sizeof(*(r)), cp)

bool token_is_space(uint32_t cp)
{
	return (cp >= 9 && cp <= 13) || cp == ' ' || cp == 0x85 || cp == 0xa0 || cp == 0x1680 ||
	       (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 || cp == 0x202f ||
	       cp == 0x205f || cp == 0x3000;
}

static enum char_class class_of(uint32_t cp)
{
	if (cp < 0x80) {
		uint32_t low = cp | 0x20;
		if (low >= 'a' && low <= 'z')
			return C_LETTER;
		if (cp >= '0' && cp <= '9')
			return C_NUMBER;
		return token_is_space(cp) ? C_SPACE : C_OTHER;
	}
	if (IN_RANGES(token_letters, cp))
		return C_LETTER;
	if (IN_RANGES(token_numbers, cp))
		return C_NUMBER;
	return token_is_space(cp) ? C_SPACE : C_OTHER;
}

bool token_is_word(uint32_t cp)
{
	return cp == '_' || (class_of(cp) & (C_LETTER | C_NUMBER));
}

/* A place in the text with the character that stands there. */
struct at {
	const char *p;
	size_t len, i, next; /* `next` is where the following character begins */
	uint32_t cp;
	enum char_class cls;
};

static void look(struct at *a, size_t i)
{
	a->i = i;
	if (i >= a->len) {
		a->cp = 0;
		a->cls = C_END;
		a->next = i;
		return;
	}
	int n = utf8_decode(a->p + i, a->len - i, &a->cp);
	if (!n) { /* A malformed byte is a character of no class. */
		a->cp = 0xfffd;
		n = 1;
	}
	a->next = i + (size_t)n;
	a->cls = class_of(a->cp);
}

static void run_of(struct at *a, int classes, size_t max)
{
	while (max-- && (a->cls & classes))
		look(a, a->next);
}

static bool is_newline(const struct at *a)
{
	return a->cls != C_END && (a->cp == '\r' || a->cp == '\n');
}

/* 's 't 're 've 'm 'll 'd; 0 when there is none. U+017F folds to s. */
static size_t contraction(const char *p, size_t len, bool fold)
{
	static const char *const ends[] = {"s", "t", "re", "ve", "m", "ll", "d"};

	if (len < 2 || p[0] != '\'')
		return 0;
	if (fold && len >= 3 && !memcmp(p + 1, "\xc5\xbf", 2))
		return 3;
	for (size_t k = 0; k < sizeof(ends) / sizeof(*ends); k++) {
		size_t n = strlen(ends[k]), i = 0;
		while (i < n && i + 1 < len && (p[i + 1] | (fold ? 0x20 : 0)) == ends[k][i])
			i++;
		if (i == n)
			return 1 + n;
	}
	return 0;
}

/* \s+(?!\S)|\s+ : a run of spaces gives its last one to the word that follows. */
static size_t spaces(struct at *a)
{
	size_t last = a->i;

	while (a->cls == C_SPACE) {
		last = a->i;
		look(a, a->next);
	}
	return a->cls == C_END || last == 0 ? a->i : last;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t split_gpt2(const char *p, size_t len)
{
	struct at a = {.p = p, .len = len};
	size_t n = contraction(p, len, false);

	if (n)
		return n;
	look(&a, 0);
	if (a.cp == ' ' && a.cls == C_SPACE) {
		struct at b = a;
		look(&b, 1);
		if (b.cls & (C_LETTER | C_NUMBER | C_OTHER))
			a = b;
	}
	if (a.cls == C_SPACE)
		return spaces(&a);
	run_of(&a, a.cls, SIZE_MAX);
	return a.i;
}

/* \s*[\r\n]+ : up to the last line end of a run of spaces; 0 when it has none. */
static size_t through_newline(const struct at *from)
{
	struct at a = *from;
	size_t end = 0;

	while (a.cls == C_SPACE) {
		if (is_newline(&a))
			end = a.next;
		look(&a, a.next);
	}
	return end;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|
 * \s*[\r\n]+|\s+(?!\S)|\s+ ; Qwen 2 takes digits one by one. */
static size_t split_llama3(const char *p, size_t len, size_t digits)
{
	struct at a = {.p = p, .len = len}, b;
	size_t n = contraction(p, len, true);

	if (n)
		return n;
	look(&a, 0);
	b = a;
	if (!(a.cls & (C_LETTER | C_NUMBER)) && !is_newline(&a))
		look(&b, a.next);
	if (b.cls == C_LETTER) {
		run_of(&b, C_LETTER, SIZE_MAX);
		return b.i;
	}
	if (a.cls == C_NUMBER) {
		run_of(&a, C_NUMBER, digits);
		return a.i;
	}
	if (a.cls == C_OTHER || (a.cp == ' ' && b.cls == C_OTHER)) {
		if (a.cls != C_OTHER)
			a = b;
		run_of(&a, C_OTHER, SIZE_MAX);
		while (is_newline(&a))
			look(&a, a.next);
		return a.i;
	}
	n = through_newline(&a);
	return n ? n : spaces(&a);
}

/* Metaspace: a word begins at each U+2581. */
static size_t split_space(const char *p, size_t len)
{
	const char *next = len > 3 ? memmem(p + 1, len - 1, "\xe2\x96\x81", 3) : NULL;

	return next ? (size_t)(next - p) : len;
}

size_t token_split_word(const char *p, size_t len)
{
	size_t i = 0;

	while (len - i >= 3 && !memcmp(p + i, "\xe2\x96\x81", 3))
		i += 3;
	const char *next = memmem(p + i, len - i, "\xe2\x96\x81", 3);
	return next ? (size_t)(next - p) : len;
}

size_t token_split_next(enum token_split rule, const char *p, size_t len)
{
	switch (rule) {
	case SPLIT_GPT2:
		return split_gpt2(p, len);
	case SPLIT_LLAMA3:
		return split_llama3(p, len, 3);
	case SPLIT_QWEN2:
		return split_llama3(p, len, 1);
	case SPLIT_SPACE:
		return split_space(p, len);
	default:
		return len;
	}
}

static const struct {
	const char *name, *regex;
} rules[SPLIT_N] = {
	[SPLIT_NONE] = {"whole text", NULL},
	[SPLIT_GPT2] = {"gpt-2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
				 "\\s+(?!\\S)|\\s+"},
	[SPLIT_LLAMA3] = {"llama-3", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
				     "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
				     "\\s+(?!\\S)|\\s+"},
	[SPLIT_QWEN2] = {"qwen-2", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
				   "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
				   "\\s+(?!\\S)|\\s+"},
	[SPLIT_SPACE] = {"metaspace", NULL},
};

enum token_split token_split_of_regex(const char *regex)
{
	for (int i = 1; i < SPLIT_N; i++)
		if (rules[i].regex && !strcmp(rules[i].regex, regex))
			return (enum token_split)i;
	return SPLIT_NONE;
}

const char *token_split_name(enum token_split rule)
{
	return rules[rule].name;
}
