#include "worker/method/selfinstruct.h"
#include "base/mem.h"
#include "worker/method/uni.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const struct si_rules si_rules_default = {.min_words = 4,
					  .max_words = 150,
					  .rouge_max = 0.7,
					  .capitalize = false,
					  .any_script = false};

const char *si_reason_text(enum si_reason r)
{
	static const char *const names[] = {
#define X(name, text) text,
		SI_REASONS(X)
#undef X
	};

	return r < SI_N_REASONS ? names[r] : "unknown";
}

/* --- request and answer ---------------------------------------------------------------------- */

void si_request(const char *const *shots, int n, struct buf *out)
{
	buf_puts(out, "Come up with a series of tasks:\n");
	for (int i = 0; i < n; i++) {
		char *s = uni_squeeze(shots[i], strlen(shots[i]));
		size_t len = strlen(s);
		while (len > 0 && s[len - 1] == ':')
			s[--len] = 0;
		buf_printf(out, "%d. %s\n", i + 1, s);
		free(s);
	}
	buf_printf(out, "%d.", n + 1);
}

size_t si_cut(const char *text, size_t len)
{
	static const char *const stops[] = {"\n\n", "\n16", "16.", "16 ."};
	size_t cut = len;

	for (size_t i = 0; i < sizeof(stops) / sizeof(stops[0]); i++) {
		const char *p = memmem(text, cut, stops[i], strlen(stops[i]));
		if (p)
			cut = (size_t)(p - text);
	}
	return cut;
}

/* Length of a "\n<digits>[blank]. " at s, or 0. */
static size_t numbering(const char *s, size_t len)
{
	size_t i = 1;

	if (len < 4 || s[0] != '\n' || !isdigit((unsigned char)s[1]))
		return 0;
	while (i < len && isdigit((unsigned char)s[i]))
		i++;
	if (i < len && isspace((unsigned char)s[i]))
		i++;
	return i + 1 < len && s[i] == '.' && s[i + 1] == ' ' ? i + 2 : 0;
}

int si_split(const char *text, size_t len, char **items)
{
	size_t start = 0;
	int n = 0;

	for (size_t i = 0; i < len && n < SI_ITEMS_MAX - 1; i++) {
		size_t gap = numbering(text + i, len - i);
		if (gap == 0)
			continue;
		items[n++] = mem_strn(text + start, i - start);
		start = i + gap;
		i = start - 1;
	}
	items[n++] = mem_strn(text + start, len - start);
	return n;
}

char *si_clean(const struct si_rules *r, const char *raw)
{
	char *s = uni_squeeze(raw, strlen(raw));

	for (char *p = s; r->capitalize && *p; p++)
		*p = (char)((unsigned char)*p < 0x80 ? tolower((unsigned char)*p) : *p);
	if ((unsigned char)*s < 0x80)
		*s = (char)toupper((unsigned char)*s);
	return s;
}

/* --- filters --------------------------------------------------------------------------------- */

static bool word_edge(const char *s, size_t len, size_t at, bool left)
{
	uint32_t cp = 0;
	size_t i = at;

	if (left) {
		if (at == 0)
			return true;
		for (i = at - 1; i > 0 && ((unsigned char)s[i] & 0xc0) == 0x80; i--)
			;
	} else if (at >= len) {
		return true;
	}
	uni_next(s + i, len - i, &cp);
	return cp != '_' && !uni_is_word(cp);
}

static bool has_word(const char *s, const char *word)
{
	size_t len = strlen(s), n = strlen(word);

	for (const char *p = s; (p = strcasestr(p, word)) != NULL; p++) {
		size_t at = (size_t)(p - s);
		if (word_edge(s, len, at, true) && word_edge(s, len, at + n, false))
			return true;
	}
	return false;
}

static bool has_keyword(const char *s)
{
	static const char *const words[] = {"image", "images", "graph", "graphs", "picture",
					    "pictures", "file", "files", "map", "maps", "draw",
					    "plot", "go to"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (has_word(s, words[i]))
			return true;
	return false;
}

static int count_words(const char *s)
{
	int n = *s != 0;

	for (; *s; s++)
		n += *s == ' ';
	return n;
}

/* Words, or characters where the script has no spaces. */
static int count_any(const char *s)
{
	size_t len = strlen(s);
	bool inside = false;
	uint32_t cp;
	int n = 0;

	for (size_t i = 0; i < len;) {
		i += (size_t)uni_next(s + i, len - i, &cp);
		if (uni_is_single(cp)) {
			n++;
			inside = false;
		} else {
			n += !uni_is_space(cp) && !inside;
			inside = !uni_is_space(cp);
		}
	}
	return n;
}

enum si_reason si_check(const struct si_rules *r, const char *s)
{
	int words = r->any_script ? count_any(s) : count_words(s);

	if (*s == 0)
		return SI_EMPTY;
	if (words < r->min_words)
		return SI_TOO_SHORT;
	if (words > r->max_words)
		return SI_TOO_LONG;
	if (has_keyword(s))
		return SI_KEYWORD;
	if (strncasecmp(s, "write a program", 15) == 0)
		return SI_PROGRAM;
	if (ispunct((unsigned char)*s))
		return SI_PUNCTUATION;
	if ((unsigned char)*s >= 0x80 && !r->any_script)
		return SI_NON_ASCII;
	return SI_OK;
}

/* --- pool ------------------------------------------------------------------------------------ */

struct si_pool {
	struct si_rules rules;
	struct rouge_pool *rouge;
	char **keys; /* owned; squeezed and lowered texts, open addressing */
	size_t n, size;
};

static uint64_t key_hash(const char *s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
	return h;
}

static char *key_of(const char *text)
{
	char *flat = uni_squeeze(text, strlen(text));
	struct buf out = BUF_INIT;
	size_t len = strlen(flat);
	uint32_t cp;

	for (size_t i = 0; i < len;) {
		i += (size_t)uni_next(flat + i, len - i, &cp);
		buf_printf(&out, "%x.", uni_lower(cp));
	}
	free(flat);
	return buf_detach(&out);
}

static size_t key_slot(char *const *keys, size_t size, const char *key)
{
	size_t i = (size_t)key_hash(key) & (size - 1);

	while (keys[i] && strcmp(keys[i], key) != 0)
		i = (i + 1) & (size - 1);
	return i;
}

struct si_pool *si_pool_new(const struct si_rules *r)
{
	struct si_pool *p = mem_new(sizeof(*p));

	p->rules = *r;
	p->rouge = rouge_pool_new(r->any_script ? ROUGE_UNICODE : ROUGE_ASCII);
	p->size = 1024;
	p->keys = mem_array(p->size, sizeof(char *));
	return p;
}

void si_pool_free(struct si_pool *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->size; i++)
		free(p->keys[i]);
	free(p->keys);
	rouge_pool_free(p->rouge);
	free(p);
}

static void keys_grow(struct si_pool *p)
{
	size_t size = p->size * 2;
	char **keys = mem_array(size, sizeof(char *));

	for (size_t i = 0; i < p->size; i++)
		if (p->keys[i])
			keys[key_slot(keys, size, p->keys[i])] = p->keys[i];
	free(p->keys);
	p->keys = keys;
	p->size = size;
}

void si_pool_seed(struct si_pool *p, const char *text)
{
	char *key = key_of(text);
	size_t i;

	rouge_pool_add(p->rouge, text);
	if (p->n * 2 >= p->size)
		keys_grow(p);
	i = key_slot(p->keys, p->size, key);
	if (p->keys[i]) {
		free(key);
		return;
	}
	p->keys[i] = key;
	p->n++;
}

enum si_reason si_pool_try(struct si_pool *p, const char *instruction, double *similarity)
{
	enum si_reason why = si_check(&p->rules, instruction);
	double f = 0;
	char *key;

	if (similarity)
		*similarity = 0;
	if (why != SI_OK)
		return why;
	key = key_of(instruction);
	if (p->keys[key_slot(p->keys, p->size, key)])
		why = SI_DUPLICATE;
	free(key);
	if (why != SI_OK)
		return why;
	f = rouge_pool_max(p->rouge, instruction, NULL);
	if (similarity)
		*similarity = f;
	if (f > p->rules.rouge_max)
		return SI_SIMILAR;
	si_pool_seed(p, instruction);
	return SI_OK;
}

void si_pool_stats(const struct si_pool *p, int64_t *run, int64_t *asked)
{
	rouge_pool_stats(p->rouge, run, asked);
}
