#include "cli/world.h"

#include "base/check.h"

#include <ctype.h>
#include <string.h>

/* No word of the self-instruct keyword filter (map, file, picture, ...) is among them. */
const char *const world_things[WORLD_THINGS] = {
	"tent",   "rope",   "lamp",   "soap",   "towel",  "knife",  "spoon",   "cup",
	"plate",  "pot",    "pan",    "stove",  "fuel",   "candle", "torch",   "radio",
	"camera", "book",   "pen",    "paper",  "money",  "ticket", "coat",    "hat",
	"scarf",  "gloves", "socks",  "boots",  "shirt",  "belt",   "blanket", "pillow",
	"mat",    "chair",  "table",  "bag",    "box",    "bottle", "water",   "bread",
	"cheese", "apples", "honey",  "salt",   "tea",    "coffee", "sugar",   "rice",
	"flute",  "drum",   "ball",   "kite",   "net",    "hook",   "bucket",  "shovel",
	"axe",    "saw",    "nails",  "hammer", "mirror", "comb",   "watch",   "compass",
};

const char *const world_places[WORLD_PLACES] = {
	"lake",  "forest",  "beach", "mountains", "island", "desert",
	"river", "village", "city",  "castle",    "farm",   "harbour",
};

/* %p is the place, %l the things. */
static const char *const phrasings[] = {
	"I am off to the %p and I need %l. What should I pack?",
	"Please write a packing list for the %p: %l.",
	"Help me pack for the %p. I want to bring %l.",
	"What do I take to the %p? I must have %l.",
	"Tomorrow we leave for the %p. Do not forget %l.",
};
#define N_PHRASINGS ((uint32_t)(sizeof phrasings / sizeof *phrasings))

const char world_judge_template[] =
	"Check this packing list.\n"
	"Request: {prompt}\n"
	"<response>{response}</response>";

/* FNV-1a over the set of things: decides which part it belongs to. */
static uint32_t set_hash(const uint32_t asked[WORLD_ASKED])
{
	uint64_t mask = 0, h = 1469598103934665603u;

	for (int i = 0; i < WORLD_ASKED; i++)
		mask |= (uint64_t)1 << asked[i];
	for (int i = 0; i < 8; i++)
		h = (h ^ ((mask >> (8 * i)) & 255)) * 1099511628211u;
	return (uint32_t)(h >> 32);
}

void world_request(uint64_t seed, enum world_part part, uint32_t index, struct world_request *q)
{
	struct rng r;
	uint32_t order[WORLD_THINGS];

	/* Draw until the set falls to this part: about WORLD_PARTS draws. */
	rng_open(&r, seed, RNG_WORLD, part, index, 0);
	do {
		for (uint32_t i = 0; i < WORLD_THINGS; i++)
			order[i] = i;
		rng_shuffle(&r, order, WORLD_THINGS);
		memcpy(q->asked, order, sizeof q->asked);
	} while (set_hash(q->asked) % WORLD_PARTS != (uint32_t)part);
	q->place = rng_below(&r, WORLD_PLACES);
	q->phrasing = rng_below(&r, N_PHRASINGS);
}

static bool is_asked(const struct world_request *q, int32_t thing)
{
	for (int i = 0; i < WORLD_ASKED; i++)
		if ((int32_t)q->asked[i] == thing)
			return true;
	return false;
}

int world_careless_extras(struct rng *r)
{
	return rng_unit(r) < 0.25f ? 1 : 0;
}

void world_demonstrate(const struct world_request *q, struct rng *r, double forget, int extras,
		       struct world_answer *a)
{
	ASSERT(extras >= 0 && extras + WORLD_ASKED <= WORLD_LISTED_MAX);
	a->n = 0;
	for (int i = 0; i < WORLD_ASKED; i++)
		if (rng_unit64(r) >= forget)
			a->listed[a->n++] = (int32_t)q->asked[i];
	/* Nobody hands in an empty list. */
	if (a->n == 0 && extras == 0)
		a->listed[a->n++] = (int32_t)q->asked[rng_below(r, WORLD_ASKED)];
	while (extras > 0) {
		int32_t other = (int32_t)rng_below(r, WORLD_THINGS);
		uint32_t at = rng_below(r, a->n + 1);

		if (is_asked(q, other))
			continue;
		memmove(a->listed + at + 1, a->listed + at, (a->n - at) * sizeof *a->listed);
		a->listed[at] = other;
		a->n++;
		extras--;
	}
}

static void put_asked(const struct world_request *q, struct buf *out)
{
	for (int i = 0; i < WORLD_ASKED; i++)
		buf_printf(out, "%s%s", i == 0 ? "" : i == WORLD_ASKED - 1 ? " and " : ", ",
			   world_things[q->asked[i]]);
}

void world_prompt_text(const struct world_request *q, struct buf *out)
{
	for (const char *p = phrasings[q->phrasing]; *p; p++) {
		if (p[0] == '%' && p[1] == 'p') {
			buf_puts(out, world_places[q->place]);
			p++;
		} else if (p[0] == '%' && p[1] == 'l') {
			put_asked(q, out);
			p++;
		} else {
			buf_putc(out, *p);
		}
	}
}

static const char *listed_word(int32_t thing)
{
	return thing >= 0 ? world_things[thing] : "something";
}

void world_answer_text(const struct world_request *q, const struct world_answer *a, struct buf *out)
{
	buf_printf(out, "Pack for the %s:", world_places[q->place]);
	for (uint32_t i = 0; i < a->n; i++)
		buf_printf(out, "%s %s", i ? "," : "", listed_word(a->listed[i]));
	buf_putc(out, '.');
}

static bool is_listed(const struct world_answer *a, uint32_t n, int32_t thing)
{
	for (uint32_t i = 0; i < n; i++)
		if (a->listed[i] == thing)
			return true;
	return false;
}

/* Entry i was not asked for, or stands there a second time. */
static bool is_extra(const struct world_request *q, const struct world_answer *a, uint32_t i)
{
	return !is_asked(q, a->listed[i]) || is_listed(a, i, a->listed[i]);
}

void world_verdict_text(const struct world_request *q, const struct world_answer *a, struct buf *out)
{
	struct world_truth t = world_judge(q, a);

	for (int i = 0; i < WORLD_ASKED; i++)
		buf_printf(out, "%s%s %s", i ? ", " : "", world_things[q->asked[i]],
			   is_listed(a, a->n, (int32_t)q->asked[i]) ? "yes" : "no");
	buf_puts(out, ". Extra:");
	if (t.extra == 0)
		buf_puts(out, " none");
	for (uint32_t i = 0, k = 0; i < a->n; i++)
		if (is_extra(q, a, i))
			buf_printf(out, "%s %s", k++ ? "," : "", listed_word(a->listed[i]));
	buf_printf(out, ". Score: %d", t.score);
}

struct world_truth world_judge(const struct world_request *q, const struct world_answer *a)
{
	struct world_truth t = {0};

	for (int i = 0; i < WORLD_ASKED; i++)
		t.present += is_listed(a, a->n, (int32_t)q->asked[i]);
	for (uint32_t i = 0; i < a->n; i++)
		t.extra += is_extra(q, a, i);
	t.score = t.present > t.extra ? t.present - t.extra : 0;
	t.right = t.present == WORLD_ASKED && t.extra == 0;
	return t;
}

/* Index of `word` in `names`, or -1. */
static int32_t find_word(const char *const *names, int32_t n, const char *word, size_t len)
{
	for (int32_t i = 0; i < n; i++)
		if (strlen(names[i]) == len && memcmp(names[i], word, len) == 0)
			return i;
	return -1;
}

/* The next run of letters at or after *p; false at the end. */
static bool next_word(const char **p, const char **word, size_t *len)
{
	while (**p && !isalpha((unsigned char)**p))
		(*p)++;
	*word = *p;
	while (isalpha((unsigned char)**p))
		(*p)++;
	*len = (size_t)(*p - *word);
	return *len > 0;
}

bool world_read_request(const char *prompt, struct world_request *q)
{
	const char *word;
	size_t len;
	int n = 0;

	memset(q, 0, sizeof *q);
	while (next_word(&prompt, &word, &len)) {
		int32_t thing = find_word(world_things, WORLD_THINGS, word, len);
		int32_t place = find_word(world_places, WORLD_PLACES, word, len);

		if (place >= 0)
			q->place = (uint32_t)place;
		if (thing < 0)
			continue;
		if (n == WORLD_ASKED)
			return false;
		q->asked[n++] = (uint32_t)thing;
	}
	return n == WORLD_ASKED;
}

void world_read_answer(const char *text, struct world_answer *a)
{
	const char *colon = strchr(text, ':'), *word;
	size_t len;

	a->n = 0;
	if (colon)
		text = colon + 1;
	while (a->n < WORLD_LISTED_MAX && next_word(&text, &word, &len))
		a->listed[a->n++] = find_word(world_things, WORLD_THINGS, word, len);
}

/* Cuts ASCII text into runs of letters, each with the single blank before it. */
static void cut_words(const char *text, void (*each)(void *, const char *), void *ctx)
{
	char word[64];

	while (*text) {
		size_t blank = *text == ' ' && isalpha((unsigned char)text[1]);
		size_t len = blank;

		while (isalpha((unsigned char)text[len]))
			len++;
		if (len > blank) {
			ASSERT(len < sizeof word);
			memcpy(word, text, len);
			word[len] = '\0';
			each(ctx, word);
			text += len;
		} else {
			text++;
		}
	}
}

void world_words(void (*each)(void *ctx, const char *word), void *ctx)
{
	struct buf b = BUF_INIT;

	for (int i = 0; i < WORLD_THINGS; i++) {
		/* Inside a list a thing has a blank before it; a verdict begins without one. */
		buf_clear(&b);
		buf_printf(&b, " %s", world_things[i]);
		each(ctx, b.data);
		each(ctx, b.data + 1);
	}
	for (int i = 0; i < WORLD_PLACES; i++) {
		buf_clear(&b);
		buf_printf(&b, " %s", world_places[i]);
		each(ctx, b.data);
	}
	for (int i = 0; i <= WORLD_ASKED; i++) {
		buf_clear(&b);
		buf_printf(&b, " %d", i); /* the digit of a score */
		each(ctx, b.data);
	}
	for (uint32_t i = 0; i < N_PHRASINGS; i++)
		cut_words(phrasings[i], each, ctx);
	cut_words(world_judge_template, each, ctx);
	cut_words("Pack for the lake: tent. Extra: none yes no. Score: user assistant system and",
		  each, ctx);
	buf_release(&b);
}
