#include "worker/model/token_impl.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

#define ESCAPED_SPACE "\xe2\x96\x81" /* U+2581 */
#define REPLACEMENT   "\xef\xbf\xbd" /* U+FFFD */

/* --- lists of ids ----------------------------------------------------------------------------- */

void tokens_release(struct tokens *t)
{
	free(t->ids);
	*t = (struct tokens)TOKENS_INIT;
}

static void tokens_reserve(struct tokens *t, size_t extra)
{
	if (t->n + extra <= t->cap)
		return;
	t->cap = (t->n + extra) * 3 / 2 + 16;
	t->ids = mem_grow(t->ids, t->cap, sizeof(*t->ids));
}

void tokens_push(struct tokens *t, int32_t id)
{
	tokens_reserve(t, 1);
	t->ids[t->n++] = id;
}

void tokens_append(struct tokens *t, const int32_t *ids, size_t n)
{
	if (!n)
		return;
	tokens_reserve(t, n);
	memcpy(t->ids + t->n, ids, n * sizeof(*ids));
	t->n += n;
}

/* --- vocabulary ------------------------------------------------------------------------------- */

struct tokenizer *tokenizer_new(void)
{
	struct tokenizer *t = mem_new(sizeof(*t));

	random_bytes(&t->seed, sizeof(t->seed));
	memset(t->byte_ids, -1, sizeof(t->byte_ids));
	memset(t->ascii_ids, -1, sizeof(t->ascii_ids));
	t->bos = t->eos = t->unk = -1;
	return t;
}

void tokenizer_free(struct tokenizer *t)
{
	if (!t)
		return;
	buf_release(&t->text);
	free(t->pieces);
	free(t->map);
	free(t->merges);
	free(t->words.v);
	free(t->plain.v);
	free(t->frozen.v);
	free(t);
}

enum rc token_piece_set(struct tokenizer *t, int64_t id, const char *bytes, size_t len,
			enum piece_kind kind, const char *where, struct err *e)
{
	if (id < 0 || id >= TOKEN_VOCAB_MAX)
		return err_set(e, RC_INVALID, "%s: id %lld is not in 0..%d", where, (long long)id,
			       TOKEN_VOCAB_MAX - 1);
	if (id >= t->cap_pieces) {
		int cap = (int)id + (int)id / 2 + 256;
		t->pieces = mem_grow(t->pieces, (size_t)cap, sizeof(*t->pieces));
		memset(t->pieces + t->cap_pieces, 0,
		       (size_t)(cap - t->cap_pieces) * sizeof(*t->pieces));
		t->cap_pieces = cap;
	}
	if (t->pieces[id].kind != PIECE_NONE)
		return err_set(e, RC_INVALID, "%s: id %lld is given twice", where, (long long)id);
	if (id >= t->n_pieces)
		t->n_pieces = (int)id + 1;
	t->pieces[id] = (struct token_piece){
		.at = (uint32_t)t->text.len, .len = (uint32_t)len, .kind = (uint8_t)kind};
	buf_append(&t->text, bytes, len);
	if (t->text.len > UINT32_MAX / 2)
		return err_set(e, RC_INVALID, "%s: the vocabulary is over 2 GiB", where);
	return RC_OK;
}

int token_byte_piece(const char *s, size_t len)
{
	static const char hex[] = "0123456789ABCDEF";
	const char *hi, *lo;

	if (len != 6 || memcmp(s, "<0x", 3) || s[5] != '>')
		return -1;
	hi = memchr(hex, s[3], 16);
	lo = memchr(hex, s[4], 16);
	return hi && lo ? (int)((hi - hex) * 16 + (lo - hex)) : -1;
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93u;
	x ^= x >> 32;
	return x * 0xd6e8feb86659fd93u ^ x >> 29;
}

static uint64_t hash_bytes(const struct tokenizer *t, const char *p, size_t len)
{
	uint64_t h = t->seed ^ len, word;

	for (; len >= 8; p += 8, len -= 8) {
		memcpy(&word, p, 8);
		h = mix(h ^ word);
	}
	word = 0;
	for (size_t i = 0; i < len; i++)
		word |= (uint64_t)(uint8_t)p[i] << (8 * i);
	return mix(h ^ word);
}

static uint32_t slots_for(size_t n)
{
	uint32_t slots = 16;

	while (slots < 2 * n)
		slots *= 2;
	return slots;
}

int32_t token_map_find(const struct tokenizer *t, const char *bytes, size_t len)
{
	uint32_t i = (uint32_t)hash_bytes(t, bytes, len) & t->map_mask;

	for (; t->map[i] >= 0; i = (i + 1) & t->map_mask) {
		const struct token_piece *p = &t->pieces[t->map[i]];
		if (p->len == len && !memcmp(t->text.data + p->at, bytes, len))
			return t->map[i];
	}
	return -1;
}

/* An added token may look like a piece of the vocabulary: then the map knows the piece. */
static enum rc map_insert(struct tokenizer *t, int32_t id, struct err *e)
{
	const struct token_piece *p = &t->pieces[id];
	const char *bytes = t->text.data + p->at;
	uint32_t i = (uint32_t)hash_bytes(t, bytes, p->len) & t->map_mask;

	if (token_map_find(t, bytes, p->len) >= 0)
		return p->kind != PIECE_TEXT ? RC_OK
					     : err_set(e, RC_INVALID,
						       "piece \"%.*s\" of id %d is there twice",
						       (int)(p->len > 40 ? 40 : p->len), bytes, id);
	while (t->map[i] >= 0)
		i = (i + 1) & t->map_mask;
	t->map[i] = id;
	return RC_OK;
}

enum rc token_map_build(struct tokenizer *t, uint32_t kinds, struct err *e)
{
	uint32_t slots = slots_for((size_t)t->n_pieces);
	enum rc rc = RC_OK;

	free(t->map);
	t->map = mem_array(slots, sizeof(*t->map));
	memset(t->map, -1, slots * sizeof(*t->map));
	t->map_mask = slots - 1;
	for (int others = 0; others < 2; others++)
		for (int32_t id = 0; id < t->n_pieces && !rc; id++) {
			const struct token_piece *p = &t->pieces[id];
			if ((p->kind != PIECE_TEXT) == others && (kinds & KIND_BIT(p->kind)) &&
			    !p->raw && p->len)
				rc = map_insert(t, id, e);
		}
	return rc;
}

/* --- merges ----------------------------------------------------------------------------------- */

void token_merges_begin(struct tokenizer *t, size_t n)
{
	uint32_t slots = slots_for(n);

	t->merges = mem_array(slots, sizeof(*t->merges));
	t->merge_mask = slots - 1;
	for (uint32_t i = 0; i < slots; i++)
		t->merges[i].result = MERGE_FREE;
}

static struct token_merge *merge_slot(const struct tokenizer *t, uint32_t left, uint32_t right)
{
	uint32_t i = (uint32_t)mix(t->seed ^ ((uint64_t)left << 32 | right)) & t->merge_mask;

	while (t->merges[i].result != MERGE_FREE &&
	       (t->merges[i].left != left || t->merges[i].right != right))
		i = (i + 1) & t->merge_mask;
	return &t->merges[i];
}

void token_merges_add(struct tokenizer *t, uint32_t left, uint32_t right, uint32_t rank,
		      uint32_t result)
{
	struct token_merge *m = merge_slot(t, left, right);

	if (m->result != MERGE_FREE)
		return;
	ASSERT(2 * (uint64_t)t->n_merges <= t->merge_mask);
	*m = (struct token_merge){left, right, rank, result};
	t->n_merges++;
}

const struct token_merge *token_merges_find(const struct tokenizer *t, uint32_t left,
					    uint32_t right)
{
	const struct token_merge *m = merge_slot(t, left, right);

	return m->result == MERGE_FREE ? NULL : m;
}

/* --- added tokens ----------------------------------------------------------------------------- */

void token_words_add(struct token_words *w, struct token_word word)
{
	if (w->n == w->cap) {
		w->cap = w->cap ? w->cap * 2 : 16;
		w->v = mem_grow(w->v, (size_t)w->cap, sizeof(*w->v));
	}
	w->v[w->n++] = word;
}

static int by_bytes(const void *pa, const void *pb, void *text)
{
	const struct token_word *a = pa, *b = pb;
	size_t n = a->len < b->len ? a->len : b->len;
	int d = memcmp((char *)text + a->at, (char *)text + b->at, n);

	return d ? d : (a->len > b->len) - (a->len < b->len);
}

void token_words_end(const struct tokenizer *t, struct token_words *w)
{
	if (w->n)
		qsort_r(w->v, (size_t)w->n, sizeof(*w->v), by_bytes, t->text.data);
	for (int i = 0; i < w->n; i++)
		w->starts[(uint8_t)t->text.data[w->v[i].at]] = true;
}

/* Words [lo, hi) agree with p in their first `depth` bytes; each step looks at one byte more. */
const struct token_word *token_words_match(const struct tokenizer *t, const struct token_words *w,
					   const char *p, size_t len)
{
	const struct token_word *best = NULL;
	int lo = 0, hi = w->n;

	if (!len || !w->starts[(uint8_t)*p])
		return NULL;
	for (size_t depth = 0; depth < len && lo < hi; depth++) {
		uint8_t want = (uint8_t)p[depth];
		int a = lo, b = hi;
		while (a < b) { /* First word whose byte here is at least `want`. */
			int mid = (a + b) / 2;
			const struct token_word *m = &w->v[mid];
			if (m->len <= depth || (uint8_t)t->text.data[m->at + depth] < want)
				a = mid + 1;
			else
				b = mid;
		}
		lo = a;
		for (b = hi; a < b;) { /* First one above it. */
			int mid = (a + b) / 2;
			if ((uint8_t)t->text.data[w->v[mid].at + depth] <= want)
				a = mid + 1;
			else
				b = mid;
		}
		hi = a;
		if (lo < hi && w->v[lo].len == depth + 1)
			best = &w->v[lo];
	}
	return best;
}

/* --- end of loading --------------------------------------------------------------------------- */

void token_guess_eos(struct tokenizer *t)
{
	static const char *const names[] = {
		"</s>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>", "<eos>"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names) && t->eos < 0; i++)
		t->eos = tokenizer_special(t, names[i]);
}

/* Is U+2581 a piece, and does none hold one after something else? Then no merge joins the end of a
 * word with the beginning of the next, and a long text is as many small ones. */
static bool words_stand_alone(const struct tokenizer *t)
{
	if (!t->escape || t->split != SPLIT_NONE || t->frozen.n ||
	    token_map_find(t, ESCAPED_SPACE, 3) < 0)
		return false;
	for (int32_t id = 0; id < t->n_vocab; id++) {
		const struct token_piece *p = &t->pieces[id];
		if (p->kind == PIECE_TEXT && token_split_word(t->text.data + p->at, p->len) != p->len)
			return false;
	}
	return true;
}

enum rc tokenizer_seal(struct tokenizer *t, const char *what, struct err *e)
{
	char c;

	for (int i = 0; i < 128; i++) {
		c = (char)i;
		t->ascii_ids[i] = token_map_find(t, &c, 1);
	}
	for (int i = 0; i < 256; i++)
		if (t->byte_fallback && t->byte_ids[i] < 0)
			return err_set(e, RC_INVALID, "%s: byte fallback is on, but <0x%02X> is missing",
				       what, i);
	if (!t->n_vocab)
		return err_set(e, RC_INVALID, "%s: the vocabulary is empty", what);
	token_guess_eos(t);
	t->cut_at_space = words_stand_alone(t);
	str_fmt(t->kind, sizeof(t->kind), "bpe, %s, %s",
		t->byte_level ? "byte-level" : t->byte_fallback ? "byte fallback" : "characters",
		token_split_name(t->split));
	return RC_OK;
}

/* --- questions -------------------------------------------------------------------------------- */

int tokenizer_vocab(const struct tokenizer *t)
{
	return t->n_vocab;
}

int tokenizer_bos(const struct tokenizer *t)
{
	return t->bos;
}

int tokenizer_eos(const struct tokenizer *t)
{
	return t->eos;
}

int tokenizer_unk(const struct tokenizer *t)
{
	return t->unk;
}

const char *tokenizer_kind(const struct tokenizer *t)
{
	return t->kind;
}

bool tokenizer_is_special(const struct tokenizer *t, int id)
{
	return id >= 0 && id < t->n_vocab &&
	       (t->pieces[id].kind == PIECE_SPECIAL || t->pieces[id].kind == PIECE_UNK);
}

int tokenizer_special(const struct tokenizer *t, const char *text)
{
	size_t len = strlen(text);
	const struct token_word *w = token_words_match(t, &t->words, text, len);

	return w && w->len == len && w->special ? w->id : -1;
}

const char *tokenizer_piece(const struct tokenizer *t, int id, size_t *len)
{
	*len = 0;
	if (id < 0 || id >= t->n_vocab || t->pieces[id].kind == PIECE_NONE)
		return NULL;
	*len = t->pieces[id].len;
	return t->text.data + t->pieces[id].at;
}

/* --- encoding --------------------------------------------------------------------------------- */

/* Spaces as U+2581, the prefix, and (SentencePiece's wish) no space twice or at the ends. */
static void escape(const struct tokenizer *t, const char *p, size_t len, bool prefix, bool inside,
		   struct buf *out)
{
	size_t i = 0;

	buf_clear(out);
	if (t->collapse) {
		while (!inside && i < len && p[i] == ' ')
			i++;
		while (len > i && p[len - 1] == ' ')
			len--;
	}
	if (i == len)
		return;
	bool has_one = p[i] == ' ' || (len - i >= 3 && !memcmp(p + i, ESCAPED_SPACE, 3));
	if (prefix && !(t->prefix_once && has_one))
		buf_puts(out, t->escape ? ESCAPED_SPACE : " ");
	for (; i < len; i++) {
		if (p[i] != ' ' || !t->escape)
			buf_putc(out, p[i]);
		else if (!t->collapse || i + 1 == len || p[i + 1] != ' ')
			buf_puts(out, ESCAPED_SPACE);
	}
}

/* Text between added tokens. `first`: nothing stands before it. */
static enum rc encode_run(const struct tokenizer *t, struct bpe_work *w, const char *p, size_t len,
			  bool first, bool inside, struct tokens *out, struct err *e)
{
	bool prefix = !inside && (t->prefix == PREFIX_ALWAYS || (t->prefix == PREFIX_FIRST && first));

	if (t->nfc && token_nfc(p, len, &w->normal)) {
		p = w->normal.data;
		len = w->normal.len;
	}
	if (!t->byte_level || (prefix && *p != ' ')) {
		escape(t, p, len, prefix, inside, &w->escaped);
		p = w->escaped.data;
		len = w->escaped.len;
	}
	for (size_t n; len; p += n, len -= n) {
		n = t->cut_at_space ? token_split_word(p, len) : token_split_next(t->split, p, len);
		enum rc rc = bpe_word(t, w, p, n, out, e);
		if (rc)
			return rc;
	}
	return RC_OK;
}

/* Is there a letter, number or underscore just before / at p? */
static bool word_before(const char *text, const char *p)
{
	const char *q = p;
	uint32_t cp;

	while (q > text && p - q < 4 && (*--q & 0xc0) == 0x80)
		;
	return q < p && utf8_decode(q, (size_t)(p - q), &cp) == p - q && token_is_word(cp);
}

static bool word_at(const char *p, const char *end)
{
	uint32_t cp;

	return p < end && utf8_decode(p, (size_t)(end - p), &cp) && token_is_word(cp);
}

static const struct token_word *find_added(const struct tokenizer *t, const struct token_words *w,
					   const char *text, const char *p, const char *end,
					   const char **where)
{
	if (!w->n)
		return NULL;
	for (; p < end; p++) {
		const struct token_word *m = token_words_match(t, w, p, (size_t)(end - p));
		if (!m || (m->single_word && (word_before(text, p) || word_at(p + m->len, end))))
			continue;
		*where = p;
		return m;
	}
	return NULL;
}

static const char *skip_spaces(const char *p, const char *end, int step)
{
	/* Only ASCII white space: what lstrip and rstrip meet in practice. */
	while (p != end && token_is_space((uint8_t)(step > 0 ? *p : p[-1])) &&
	       (uint8_t)(step > 0 ? *p : p[-1]) < 0x80)
		p += step;
	return p;
}

enum rc tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, int flags,
			 struct tokens *out, struct err *e)
{
	const struct token_words *words = flags & TOKEN_SPECIALS ? &t->words : &t->plain;
	const char *p = text, *end = text + len, *at = NULL;
	bool inside = flags & TOKEN_CONTINUES, first = true;
	struct bpe_work work = {0};
	enum rc rc = RC_OK;

	if (len > TOKEN_TEXT_MAX)
		return err_set(e, RC_INVALID, "text of %zu bytes is over the bound of %u", len,
			       TOKEN_TEXT_MAX);
	while (p < end && !rc) {
		const struct token_word *m = find_added(t, words, text, p, end, &at);
		const char *stop = !m ? end : m->lstrip ? skip_spaces(at, p, -1) : at;
		if (stop > p)
			rc = encode_run(t, &work, p, (size_t)(stop - p), first, inside, out, e);
		first = inside = false;
		if (!m)
			break;
		tokens_push(out, m->id);
		p = m->rstrip ? skip_spaces(at + m->len, end, 1) : at + m->len;
	}
	bpe_work_release(&work);
	return rc;
}

/* --- decoding --------------------------------------------------------------------------------- */

/* Bytes of one id; `started` remembers whether any came before. */
static void piece_bytes(const struct tokenizer *t, int32_t id, int flags, bool *started,
			struct buf *out)
{
	const struct token_piece *p = id >= 0 && id < t->n_vocab ? &t->pieces[id] : NULL;
	const char *s = p ? t->text.data + p->at : "";
	size_t len = p ? p->len : 0;

	if (!p || p->kind == PIECE_NONE || (p->kind == PIECE_SPECIAL && !(flags & TOKEN_KEEP_SPECIALS)))
		return;
	if (p->kind == PIECE_UNK) {
		s = flags & TOKEN_KEEP_SPECIALS ? s : REPLACEMENT;
		len = flags & TOKEN_KEEP_SPECIALS ? len : 3;
	}
	if (p->kind == PIECE_BYTE) {
		buf_putc(out, (char)p->byte);
	} else if (!t->escape) {
		buf_append(out, s, len);
	} else {
		bool drop = !*started && t->strip_lead && !(flags & TOKEN_CONTINUES);
		for (size_t i = 0; i < len;) {
			bool space = len - i >= 3 && !memcmp(s + i, ESCAPED_SPACE, 3);
			if (!(space && drop && i == 0))
				buf_putc(out, space ? ' ' : s[i]);
			i += space ? 3 : 1;
		}
	}
	*started = true;
}

void tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, int flags,
		      struct buf *out)
{
	bool started = false;

	for (size_t i = 0; i < n; i++)
		piece_bytes(t, ids[i], flags, &started, out);
}

void token_stream_begin(struct token_stream *s, const struct tokenizer *t, int flags)
{
	*s = (struct token_stream){.t = t, .flags = flags};
}

/* True when these bytes may be the beginning of one character. */
static bool may_become(const char *p, size_t len)
{
	static const char *const fill[] = {"\x80\x80\x80", "\x90\x80\x80", "\xa0\x80\x80"};
	char probe[8];
	uint32_t cp;

	if (!len || len > 3)
		return false;
	for (int k = 0; k < 3; k++) { /* The second byte of some characters has a smaller range. */
		memcpy(probe, p, len);
		memcpy(probe + len, fill[k], 4);
		int n = utf8_decode(probe, len + 3, &cp);
		if (n > (int)len)
			return true;
	}
	return false;
}

void token_stream_push(struct token_stream *s, int32_t id, struct buf *out)
{
	struct buf b = BUF_INIT;
	size_t i = 0;
	uint32_t cp;

	buf_append(&b, s->held, (size_t)s->n_held);
	s->n_held = 0;
	piece_bytes(s->t, id, s->flags, &s->started, &b);
	while (i < b.len) {
		int n = utf8_decode(b.data + i, b.len - i, &cp);
		if (!n && may_become(b.data + i, b.len - i)) {
			s->n_held = (int)(b.len - i);
			memcpy(s->held, b.data + i, b.len - i);
			break;
		}
		if (n)
			buf_append(out, b.data + i, (size_t)n);
		else
			buf_puts(out, REPLACEMENT);
		i += n ? (size_t)n : 1;
	}
	buf_release(&b);
}

void token_stream_end(struct token_stream *s, struct buf *out)
{
	for (int i = 0; i < s->n_held; i++)
		buf_puts(out, REPLACEMENT);
	s->n_held = 0;
}

void tokenizer_decode_text(const struct tokenizer *t, const int32_t *ids, size_t n, int flags,
			   struct buf *out)
{
	struct buf raw = BUF_INIT;
	uint32_t cp;

	tokenizer_decode(t, ids, n, flags, &raw);
	for (size_t i = 0; i < raw.len;) {
		int k = utf8_decode(raw.data + i, raw.len - i, &cp);
		if (k)
			buf_append(out, raw.data + i, (size_t)k);
		else
			buf_puts(out, REPLACEMENT);
		i += k ? (size_t)k : 1;
	}
	buf_release(&raw);
}
