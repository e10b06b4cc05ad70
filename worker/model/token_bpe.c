#include "worker/model/token_impl.h"

#include "base/mem.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

/* Byte-pair merging in O(n log n): symbols in a linked list, candidate pairs in a heap ordered by
 * (rank, position). A merge leaves stale candidates behind; they are known by no longer naming
 * what their two symbols would become.
 */

struct bpe_symbol {
	int32_t id;   /* -1: no piece, see spell() */
	int32_t prev, next; /* -1: none */
	uint32_t at, len; /* bytes of the word; len 0: merged away */
	bool frozen;
};

struct bpe_candidate {
	uint32_t rank, result;
	int32_t left;
};

void bpe_work_release(struct bpe_work *w)
{
	free(w->symbols);
	free(w->heap);
	buf_release(&w->escaped);
	buf_release(&w->normal);
}

static bool sooner(const struct bpe_candidate *a, const struct bpe_candidate *b)
{
	return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static void heap_push(struct bpe_work *w, struct bpe_candidate c)
{
	size_t i = w->n_heap++;

	if (w->n_heap > w->cap_heap) {
		w->cap_heap = w->cap_heap ? w->cap_heap * 2 : 64;
		w->heap = mem_grow(w->heap, w->cap_heap, sizeof(*w->heap));
	}
	for (; i && sooner(&c, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
		w->heap[i] = w->heap[(i - 1) / 2];
	w->heap[i] = c;
}

static struct bpe_candidate heap_pop(struct bpe_work *w)
{
	struct bpe_candidate top = w->heap[0], last = w->heap[--w->n_heap];
	size_t i = 0;

	for (size_t child = 1; child < w->n_heap; child = 2 * i + 1) {
		if (child + 1 < w->n_heap && sooner(&w->heap[child + 1], &w->heap[child]))
			child++;
		if (!sooner(&w->heap[child], &last))
			break;
		w->heap[i] = w->heap[child];
		i = child;
	}
	w->heap[i] = last;
	return top;
}

static const struct token_merge *merge_at(const struct tokenizer *t, const struct bpe_symbol *s,
					  int32_t left)
{
	int32_t right = s[left].next;

	if (right < 0 || s[left].id < 0 || s[right].id < 0 || s[left].frozen || s[right].frozen)
		return NULL;
	return token_merges_find(t, (uint32_t)s[left].id, (uint32_t)s[right].id);
}

static void propose(const struct tokenizer *t, struct bpe_work *w, int32_t left)
{
	const struct token_merge *m = left < 0 ? NULL : merge_at(t, w->symbols, left);

	if (m)
		heap_push(w, (struct bpe_candidate){m->rank, m->result, left});
}

static void merge_all(const struct tokenizer *t, struct bpe_work *w, int32_t n)
{
	struct bpe_symbol *s = w->symbols;

	w->n_heap = 0;
	for (int32_t i = 0; i + 1 < n; i++)
		propose(t, w, i);
	while (w->n_heap) {
		struct bpe_candidate c = heap_pop(w);
		const struct token_merge *m = s[c.left].len ? merge_at(t, s, c.left) : NULL;
		if (!m || m->result != c.result || m->rank != c.rank)
			continue;
		struct bpe_symbol *l = &s[c.left], *r = &s[l->next];
		l->id = (int32_t)m->result;
		l->len += r->len;
		r->len = 0;
		l->next = r->next;
		if (l->next >= 0)
			s[l->next].prev = c.left;
		propose(t, w, l->prev);
		propose(t, w, c.left);
	}
}

/* One symbol for what stands at p: a byte, a character, or a frozen word. */
static struct bpe_symbol first_symbol(const struct tokenizer *t, const char *p, size_t len)
{
	const struct token_word *word;
	uint32_t cp;
	int n;

	if (t->byte_level)
		return (struct bpe_symbol){.id = t->byte_ids[(uint8_t)*p], .len = 1};
	word = t->frozen.n ? token_words_match(t, &t->frozen, p, len) : NULL;
	if (word)
		return (struct bpe_symbol){.id = word->id, .len = word->len, .frozen = true};
	if ((uint8_t)*p < 0x80)
		return (struct bpe_symbol){.id = t->ascii_ids[(uint8_t)*p], .len = 1};
	n = utf8_decode(p, len, &cp);
	if (!n)
		return (struct bpe_symbol){.id = -1, .len = 1};
	return (struct bpe_symbol){.id = token_map_find(t, p, (size_t)n), .len = (uint32_t)n};
}

static int32_t list_symbols(const struct tokenizer *t, struct bpe_work *w, const char *p, size_t len)
{
	int32_t n = 0;

	if (len > w->cap_symbols) {
		w->cap_symbols = len * 2;
		free(w->symbols);
		w->symbols = mem_array(w->cap_symbols, sizeof(*w->symbols));
	}
	for (size_t i = 0; i < len; n++) {
		struct bpe_symbol s = first_symbol(t, p + i, len - i);
		s.at = (uint32_t)i;
		s.prev = n - 1;
		s.next = n + 1;
		w->symbols[n] = s;
		i += s.len;
	}
	w->symbols[n - 1].next = -1;
	return n;
}

/* What no piece covers: byte pieces, or the unknown token, once for a run of such symbols. */
static enum rc spell(const struct tokenizer *t, const char *p, size_t len, bool *unknown,
		     struct tokens *out, struct err *e)
{
	if (t->byte_fallback) {
		for (size_t i = 0; i < len; i++)
			tokens_push(out, t->byte_ids[(uint8_t)p[i]]);
		return RC_OK;
	}
	if (t->unk < 0)
		return err_set(e, RC_INVALID,
			       "the vocabulary has no token for \"%.*s\" (byte 0x%02x) and no unknown token",
			       (uint8_t)*p < 0x80 && (uint8_t)*p >= 0x20 ? 1 : 0, p, (uint8_t)*p);
	if (!*unknown || !t->fuse_unk)
		tokens_push(out, t->unk);
	*unknown = true;
	return RC_OK;
}

enum rc bpe_word(const struct tokenizer *t, struct bpe_work *w, const char *p, size_t len,
		 struct tokens *out, struct err *e)
{
	bool unknown = false;

	if (t->ignore_merges) {
		int32_t id = token_map_find(t, p, len);
		if (id >= 0) {
			tokens_push(out, id);
			return RC_OK;
		}
	}
	merge_all(t, w, list_symbols(t, w, p, len));
	for (int32_t i = 0; i >= 0; i = w->symbols[i].next) {
		const struct bpe_symbol *s = &w->symbols[i];
		if (s->id >= 0 && s->id < t->n_vocab) {
			tokens_push(out, s->id);
			unknown = false;
			continue;
		}
		enum rc rc = spell(t, p + s->at, s->len, &unknown, out, e);
		if (rc)
			return rc;
	}
	return RC_OK;
}
