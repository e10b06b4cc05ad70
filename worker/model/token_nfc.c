#include "worker/model/token_impl.h"

#include "base/mem.h"
#include "base/str.h"
#include "worker/model/token_nfc_tables.h"

#include <stdlib.h>
#include <string.h>

/* Normal form C of Unicode (UAX #15), for tokenizers that ask for it.
 *
 * Most text is in it already. A character outside nfc_unstable stays as it is whatever stands
 * before it, so work is done only where an unstable one comes: from the stable character before it
 * to the next one, decompose, order, compose. Malformed bytes stay, and nothing joins across them.
 */

/* Hangul syllables, by arithmetic. */
enum {
	L_BASE = 0x1100,
	V_BASE = 0x1161,
	T_BASE = 0x11a7,
	S_BASE = 0xac00,
	L_COUNT = 19,
	V_COUNT = 21,
	T_COUNT = 28,
	S_COUNT = L_COUNT * V_COUNT * T_COUNT
};

#define SORT_SMALL 32

struct nfc_char {
	uint32_t cp, at; /* at: place before sorting */
	uint8_t class;
};

struct nfc_segment {
	struct nfc_char *v; /* owned */
	size_t n, cap;
};

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

/* The range of a table sorted by `last` that holds cp; NULL when none does. */
static const void *range_of(const void *table, size_t n, size_t size, uint32_t cp)
{
	const char *p = table;
	size_t lo = 0, hi = n;
	uint32_t first_last[2];

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		memcpy(first_last, p + mid * size, sizeof(first_last));
		if (cp > first_last[1])
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == n)
		return NULL;
	memcpy(first_last, p + lo * size, sizeof(first_last));
	return cp >= first_last[0] ? p + lo * size : NULL;
}

static bool is_stable(uint32_t cp)
{
	return cp < 0x300 ||
	       !range_of(nfc_unstable, COUNT(nfc_unstable), sizeof(*nfc_unstable), cp);
}

static uint8_t class_of(uint32_t cp)
{
	const struct nfc_class *c =
		range_of(nfc_classes, COUNT(nfc_classes), sizeof(*nfc_classes), cp);

	return c ? c->class : 0;
}

static const struct nfc_step *step_of(uint32_t cp)
{
	size_t lo = 0, hi = COUNT(nfc_steps);

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (nfc_steps[mid].cp < cp)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < COUNT(nfc_steps) && nfc_steps[lo].cp == cp ? &nfc_steps[lo] : NULL;
}

/* What two neighbours compose to, 0 when they do not. */
static uint32_t compose(uint32_t a, uint32_t b)
{
	size_t lo = 0, hi = COUNT(nfc_pairs);

	if (a - L_BASE < L_COUNT && b - V_BASE < V_COUNT)
		return S_BASE + ((a - L_BASE) * V_COUNT + (b - V_BASE)) * T_COUNT;
	if (a - S_BASE < S_COUNT && (a - S_BASE) % T_COUNT == 0 && b > T_BASE &&
	    b < T_BASE + T_COUNT)
		return a + (b - T_BASE);
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct nfc_step *s = &nfc_steps[nfc_pairs[mid]];
		if (s->first < a || (s->first == a && s->second < b))
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == COUNT(nfc_pairs))
		return 0;
	const struct nfc_step *s = &nfc_steps[nfc_pairs[lo]];
	return s->first == a && s->second == b ? s->cp : 0;
}

static void push(struct nfc_segment *s, uint32_t cp)
{
	if (s->n == s->cap) {
		s->cap = s->cap ? s->cap * 2 : 64;
		s->v = mem_grow(s->v, s->cap, sizeof(*s->v));
	}
	s->v[s->n] = (struct nfc_char){cp, (uint32_t)s->n, class_of(cp)};
	s->n++;
}

/* At most four steps deep in any version of Unicode. */
static void decompose(struct nfc_segment *s, uint32_t cp)
{
	const struct nfc_step *step;
	uint32_t index = cp - S_BASE;

	if (index < S_COUNT) {
		push(s, L_BASE + index / (V_COUNT * T_COUNT));
		push(s, V_BASE + index / T_COUNT % V_COUNT);
		if (index % T_COUNT)
			push(s, T_BASE + index % T_COUNT);
		return;
	}
	step = step_of(cp);
	if (!step) {
		push(s, cp);
		return;
	}
	decompose(s, step->first);
	if (step->second)
		decompose(s, step->second);
}

static int by_class(const void *pa, const void *pb)
{
	const struct nfc_char *a = pa, *b = pb;

	if (a->class != b->class)
		return a->class < b->class ? -1 : 1;
	return (a->at > b->at) - (a->at < b->at);
}

/* Runs of combining characters by class, equal ones in the order they came. */
static void order_run(struct nfc_char *v, size_t n)
{
	if (n > SORT_SMALL) { /* Nobody writes such; somebody may send such. */
		qsort(v, n, sizeof(*v), by_class);
		return;
	}
	for (size_t i = 1; i < n; i++) {
		struct nfc_char c = v[i];
		size_t k = i;
		for (; k && v[k - 1].class > c.class; k--)
			v[k] = v[k - 1];
		v[k] = c;
	}
}

static void order(struct nfc_segment *s)
{
	for (size_t i = 0, end; i < s->n; i = end + 1) {
		for (end = i; end < s->n && s->v[end].class; end++)
			;
		order_run(s->v + i, end - i);
	}
}

/* Each character joins the last starter unless one of its class or higher stands between. */
static void compose_all(struct nfc_segment *s)
{
	size_t n = 0, starter = SIZE_MAX;

	for (size_t i = 0; i < s->n; i++) {
		struct nfc_char c = s->v[i];
		bool near =
			starter != SIZE_MAX && (n - 1 == starter || s->v[n - 1].class < c.class);
		uint32_t joined = near ? compose(s->v[starter].cp, c.cp) : 0;
		if (joined) {
			s->v[starter].cp = joined;
			continue;
		}
		if (!c.class)
			starter = n;
		s->v[n++] = c;
	}
	s->n = n;
}

/* Bytes of p[0..len) up to the next stable character after the first, decomposed into s. */
static size_t take_segment(const char *p, size_t len, struct nfc_segment *s)
{
	size_t i = 0;
	uint32_t cp;

	s->n = 0;
	while (i < len) {
		int n = utf8_decode(p + i, len - i, &cp);
		if (!n || (i && is_stable(cp)))
			break;
		decompose(s, cp);
		i += (size_t)n;
	}
	return i;
}

static void put_segment(const struct nfc_segment *s, struct buf *out)
{
	char utf8[4];

	for (size_t i = 0; i < s->n; i++)
		buf_append(out, utf8, (size_t)utf8_encode(s->v[i].cp, utf8));
}

bool token_nfc(const char *p, size_t len, struct buf *out)
{
	struct nfc_segment s = {0};
	size_t done = 0, last = 0; /* written so far; the last stable character */
	uint32_t cp;

	buf_clear(out);
	for (size_t i = 0; i < len;) {
		bool ascii = (uint8_t)p[i] < 0x80;
		int n = ascii ? 1 : utf8_decode(p + i, len - i, &cp);
		if (!n || ascii || is_stable(cp)) {
			last = n ? i : i + 1;
			i += n ? (size_t)n : 1;
			continue;
		}
		buf_append(out, p + done, last - done);
		done = last + take_segment(p + last, len - last, &s);
		order(&s);
		compose_all(&s);
		put_segment(&s, out);
		last = i = done;
	}
	if (done)
		buf_append(out, p + done, len - done);
	free(s.v);
	return done;
}
