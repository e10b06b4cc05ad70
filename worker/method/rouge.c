#include "worker/method/rouge.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/method/uni.h"

#include <stdlib.h>
#include <string.h>

double rouge_f(int lcs, int len_a, int len_b)
{
	double p, r;

	if (lcs == 0 || len_a == 0 || len_b == 0)
		return 0;
	p = (double)lcs / len_b;
	r = (double)lcs / len_a;
	return 2 * p * r / (p + r);
}

/* --- words as numbers ------------------------------------------------------------------------ */

struct posting {
	int doc, count;
};

struct word {
	char *text; /* owned */
	uint64_t hash;
	struct posting *in; /* owned; documents that hold the word, ascending */
	int n, cap;
	int slot; /* row of the query's masks + 1 during a search, else 0 */
};

struct doc {
	int *words; /* owned */
	int n;
};

struct rouge_pool {
	enum rouge_mode mode;
	struct word *words; /* owned */
	int n_words, cap_words;
	int *table; /* owned; word number + 1, open addressing, size a power of two */
	int table_size;
	struct doc *docs; /* owned */
	int n_docs, cap_docs;
	int *overlap; /* owned; per document during a search */
	int64_t run, asked;
};

static uint64_t hash_of(const char *s, size_t len)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)s[i]) * UINT64_C(0x100000001b3);
	return h;
}

static void table_put(struct rouge_pool *p, int w)
{
	uint64_t i = p->words[w].hash;

	while (p->table[i & (uint64_t)(p->table_size - 1)])
		i++;
	p->table[i & (uint64_t)(p->table_size - 1)] = w + 1;
}

static int word_find(const struct rouge_pool *p, const char *s, size_t len, uint64_t hash)
{
	for (uint64_t i = hash;; i++) {
		int w = p->table[i & (uint64_t)(p->table_size - 1)] - 1;
		if (w < 0 || (p->words[w].hash == hash && strlen(p->words[w].text) == len &&
			      memcmp(p->words[w].text, s, len) == 0))
			return w;
	}
}

static int word_add(struct rouge_pool *p, const char *s, size_t len, uint64_t hash)
{
	struct word *w;

	if (p->n_words == p->cap_words) {
		p->cap_words = p->cap_words ? p->cap_words * 2 : 256;
		p->words = mem_grow(p->words, (size_t)p->cap_words, sizeof(*p->words));
	}
	if (p->n_words * 2 >= p->table_size) {
		free(p->table);
		p->table_size *= 2;
		p->table = mem_array((size_t)p->table_size, sizeof(int));
		for (int i = 0; i < p->n_words; i++)
			table_put(p, i);
	}
	w = &p->words[p->n_words];
	memset(w, 0, sizeof(*w));
	w->text = mem_strn(s, len);
	w->hash = hash;
	table_put(p, p->n_words);
	return p->n_words++;
}

struct rouge_pool *rouge_pool_new(enum rouge_mode mode)
{
	struct rouge_pool *p = mem_new(sizeof(*p));

	p->mode = mode;
	p->table_size = 1024;
	p->table = mem_array((size_t)p->table_size, sizeof(int));
	return p;
}

void rouge_pool_free(struct rouge_pool *p)
{
	if (!p)
		return;
	for (int i = 0; i < p->n_words; i++) {
		free(p->words[i].text);
		free(p->words[i].in);
	}
	for (int i = 0; i < p->n_docs; i++)
		free(p->docs[i].words);
	free(p->words);
	free(p->docs);
	free(p->table);
	free(p->overlap);
	free(p);
}

/* --- text to words --------------------------------------------------------------------------- */

struct tokens {
	int *ids; /* owned; -1: a word the pool has never seen */
	int n, cap;
};

static void take_word(struct rouge_pool *p, struct buf *word, bool insert, struct tokens *out)
{
	uint64_t h = hash_of(word->data, word->len);
	int id;

	if (word->len == 0)
		return;
	id = word_find(p, word->data, word->len, h);
	if (id < 0 && insert)
		id = word_add(p, word->data, word->len, h);
	if (out->n == out->cap) {
		out->cap = out->cap ? out->cap * 2 : 64;
		out->ids = mem_grow(out->ids, (size_t)out->cap, sizeof(int));
	}
	out->ids[out->n++] = id;
	buf_clear(word);
}

static bool in_word(enum rouge_mode mode, uint32_t cp)
{
	if (mode == ROUGE_UNICODE)
		return uni_is_word(cp);
	return (cp >= 'a' && cp <= 'z') || (cp >= '0' && cp <= '9');
}

static struct tokens tokenise(struct rouge_pool *p, const char *text, bool insert)
{
	struct tokens out = {NULL, 0, 0};
	struct buf word = BUF_INIT;
	size_t len = strlen(text);
	uint32_t cp, low;
	char utf8[4];

	for (size_t i = 0; i < len;) {
		size_t used = (size_t)uni_next(text + i, len - i, &cp);
		bool single = p->mode == ROUGE_UNICODE && uni_is_single(cp);
		low = uni_lower(cp);
		if (single)
			take_word(p, &word, insert, &out);
		if (in_word(p->mode, low))
			buf_append(&word, utf8, (size_t)utf8_encode(low, utf8));
		else
			take_word(p, &word, insert, &out);
		/* Python lowers U+0130 to "i" and a combining dot, which ends an ASCII word. */
		if (single || (cp == 0x130 && p->mode == ROUGE_ASCII))
			take_word(p, &word, insert, &out);
		i += used;
	}
	take_word(p, &word, insert, &out);
	buf_release(&word);
	return out;
}

static void post(struct word *w, int doc)
{
	if (w->n > 0 && w->in[w->n - 1].doc == doc) {
		w->in[w->n - 1].count++;
		return;
	}
	if (w->n == w->cap) {
		w->cap = w->cap ? w->cap * 2 : 4;
		w->in = mem_grow(w->in, (size_t)w->cap, sizeof(*w->in));
	}
	w->in[w->n].doc = doc;
	w->in[w->n++].count = 1;
}

void rouge_pool_add(struct rouge_pool *p, const char *text)
{
	struct tokens t = tokenise(p, text, true);

	if (p->n_docs == p->cap_docs) {
		p->cap_docs = p->cap_docs ? p->cap_docs * 2 : 64;
		p->docs = mem_grow(p->docs, (size_t)p->cap_docs, sizeof(*p->docs));
		p->overlap = mem_grow(p->overlap, (size_t)p->cap_docs, sizeof(int));
	}
	for (int i = 0; i < t.n; i++)
		post(&p->words[t.ids[i]], p->n_docs);
	p->docs[p->n_docs].words = t.ids;
	p->docs[p->n_docs].n = t.n;
	p->n_docs++;
}

int rouge_pool_size(const struct rouge_pool *p)
{
	return p->n_docs;
}

void rouge_pool_stats(const struct rouge_pool *p, int64_t *run, int64_t *asked)
{
	*run = p->run;
	*asked = p->asked;
}

/* --- longest common subsequence, 64 columns at a time ---------------------------------------- */

struct query {
	struct tokens t;
	uint64_t *masks; /* owned; per distinct word, where it stands in the query */
	uint64_t *v;     /* owned */
	int n_words;     /* 64-bit words of a row */
};

/* Masks of the query's words, and the multiset overlap of every document with it. */
static struct query query_open(struct rouge_pool *p, const char *text)
{
	struct query q = {.t = tokenise(p, text, false)};
	int distinct = 0;

	q.n_words = (q.t.n + 63) / 64;
	q.masks = mem_array((size_t)q.t.n * (size_t)q.n_words + 1, sizeof(uint64_t));
	q.v = mem_array((size_t)q.n_words + 1, sizeof(uint64_t));
	if (p->n_docs > 0)
		memset(p->overlap, 0, (size_t)p->n_docs * sizeof(int));
	for (int i = 0; i < q.t.n; i++) {
		struct word *w = q.t.ids[i] < 0 ? NULL : &p->words[q.t.ids[i]];
		int row;
		if (!w)
			continue;
		if (w->slot == 0)
			w->slot = ++distinct;
		row = w->slot - 1;
		q.masks[(size_t)row * (size_t)q.n_words + (size_t)i / 64] |= UINT64_C(1) << i % 64;
	}
	for (int i = 0; i < q.t.n; i++) {
		struct word *w = q.t.ids[i] < 0 ? NULL : &p->words[q.t.ids[i]];
		int seen = 0;
		if (!w)
			continue;
		for (int k = 0; k < i; k++)
			seen += q.t.ids[k] == q.t.ids[i];
		for (int k = 0; k < w->n; k++)
			p->overlap[w->in[k].doc] += w->in[k].count > seen;
	}
	return q;
}

static void query_close(struct rouge_pool *p, struct query *q)
{
	for (int i = 0; i < q->t.n; i++)
		if (q->t.ids[i] >= 0)
			p->words[q->t.ids[i]].slot = 0;
	free(q->t.ids);
	free(q->masks);
	free(q->v);
}

/* Hyyro 2004: V starts as ones; per word U = V & M, V = (V + U) | (V & ~M); zeros are the length.
 */
static int query_lcs(const struct rouge_pool *p, struct query *q, const struct doc *d)
{
	int zeros = 0;

	memset(q->v, 0xff, (size_t)q->n_words * sizeof(uint64_t));
	for (int i = 0; i < d->n; i++) {
		int slot = p->words[d->words[i]].slot;
		const uint64_t *m = q->masks + (size_t)(slot - 1) * (size_t)q->n_words;
		uint64_t carry = 0;
		for (int k = 0; slot > 0 && k < q->n_words; k++) {
			uint64_t v = q->v[k], u = v & m[k], sum = v + u, full = sum + carry;
			carry = (sum < v) | (full < sum);
			q->v[k] = full | (v & ~m[k]);
		}
	}
	for (int i = 0; i < q->t.n; i++)
		zeros += !(q->v[i / 64] >> i % 64 & 1);
	return zeros;
}

double rouge_pool_max(struct rouge_pool *p, const char *text, int *which)
{
	struct query q = query_open(p, text);
	double best = 0;

	if (which)
		*which = -1;
	for (int d = 0; d < p->n_docs; d++) {
		int n = p->docs[d].n, shorter = n < q.t.n ? n : q.t.n;
		double f;
		p->asked++;
		/* The slack covers the rounding of F, which need not grow strictly with L. */
		if (p->overlap[d] == 0 || rouge_f(shorter, q.t.n, n) + 1e-9 < best ||
		    rouge_f(p->overlap[d], q.t.n, n) + 1e-9 < best)
			continue;
		p->run++;
		f = rouge_f(query_lcs(p, &q, &p->docs[d]), q.t.n, n);
		if (f > best) {
			best = f;
			if (which)
				*which = d;
		}
	}
	query_close(p, &q);
	return best;
}

struct rouge_pair rouge_compare(enum rouge_mode mode, const char *a, const char *b)
{
	struct rouge_pool *p = rouge_pool_new(mode);
	struct rouge_pair out = {0};
	struct query q;

	rouge_pool_add(p, b);
	q = query_open(p, a);
	out.len_a = q.t.n;
	out.len_b = p->docs[0].n;
	if (out.len_a > 0 && out.len_b > 0)
		out.lcs = query_lcs(p, &q, &p->docs[0]);
	out.f = rouge_f(out.lcs, out.len_a, out.len_b);
	query_close(p, &q);
	rouge_pool_free(p);
	return out;
}
