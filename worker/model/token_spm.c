#include "worker/model/token_impl.h"

#include "base/mem.h"
#include "base/str.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* SentencePiece tokenizer.model: one protocol buffer message.
 *
 *	ModelProto      1 pieces*  2 trainer_spec  3 normalizer_spec  5 denormalizer_spec
 *	SentencePiece   1 piece (string)  2 score (float)  3 type (enum)
 *	TrainerSpec     3 model_type  24 treat_whitespace_as_suffix  35 byte_fallback
 *	                40 unk_id  41 bos_id  42 eos_id
 *	NormalizerSpec  1 name  2 precompiled_charsmap  3 add_dummy_prefix
 *	                4 remove_extra_whitespaces  5 escape_whitespaces
 *
 * SentencePiece merges the neighbours whose joined text has the best score. Here every way to cut a
 * piece in two becomes a merge whose rank is the piece's place by score, which is the same rule.
 * Characters that only longer pieces contain get phantom ids above the vocabulary.
 */

#define PIECE_MAX 256 /* bytes; the longest published ones have 48 */

enum spm_type { SPM_NORMAL = 1, SPM_UNKNOWN, SPM_CONTROL, SPM_USER_DEFINED, SPM_UNUSED, SPM_BYTE };

struct wire {
	const uint8_t *p, *end;
};

/* One field: a number (varint or fixed) or bytes. */
struct field {
	uint32_t number;
	int type;
	uint64_t value;
	struct wire bytes;
};

struct spm_file {
	struct tokenizer *t;
	float *scores; /* owned; [n_pieces] */
	int cap;
	uint64_t model_type;
	bool suffix, charsmap;
	int64_t unk, bos, eos;
};

/* --- protocol buffers ------------------------------------------------------------------------- */

static bool read_varint(struct wire *w, uint64_t *out)
{
	*out = 0;
	for (int shift = 0; shift < 64 && w->p < w->end; shift += 7) {
		uint8_t b = *w->p++;
		*out |= (uint64_t)(b & 127) << shift;
		if (b < 128)
			return true;
	}
	return false;
}

static bool read_fixed(struct wire *w, int size, uint64_t *out)
{
	*out = 0;
	if (w->end - w->p < size)
		return false;
	for (int i = 0; i < size; i++)
		*out |= (uint64_t)*w->p++ << (8 * i);
	return true;
}

static bool read_field(struct wire *w, struct field *f)
{
	uint64_t key;

	if (!read_varint(w, &key) || key >> 3 == 0 || key >> 3 > 0x1fffffff)
		return false;
	f->number = (uint32_t)(key >> 3);
	f->type = (int)(key & 7);
	if (f->type == 0)
		return read_varint(w, &f->value);
	if (f->type == 1 || f->type == 5)
		return read_fixed(w, f->type == 1 ? 8 : 4, &f->value);
	if (f->type != 2 || !read_varint(w, &f->value) || f->value > (uint64_t)(w->end - w->p))
		return false;
	f->bytes = (struct wire){w->p, w->p + f->value};
	w->p += f->value;
	return true;
}

/* --- messages --------------------------------------------------------------------------------- */

static enum rc torn(struct err *e, const char *where, const struct wire *w, const uint8_t *begin)
{
	return err_set(e, RC_CORRUPT, "%s: malformed protocol buffer field before byte %td", where,
		       w->p - begin);
}

static enum rc add_piece(struct spm_file *f, const struct wire *text, float score, uint64_t type,
			 struct err *e)
{
	static const enum piece_kind kinds[] = {
		[SPM_NORMAL] = PIECE_TEXT, [SPM_UNKNOWN] = PIECE_UNK, [SPM_CONTROL] = PIECE_SPECIAL,
		[SPM_USER_DEFINED] = PIECE_ADDED, [SPM_BYTE] = PIECE_BYTE};
	struct tokenizer *t = f->t;
	int id = t->n_pieces;
	size_t len = (size_t)(text->end - text->p);
	const char *s = (const char *)text->p;
	int byte = type == SPM_BYTE ? token_byte_piece(s, len) : 0;
	enum rc rc;

	if (type < SPM_NORMAL || type > SPM_BYTE || type == SPM_UNUSED)
		return err_set(e, RC_UNSUPPORTED, "pieces[%d].type is %llu: not supported", id,
			       (unsigned long long)type);
	if (!len || len > PIECE_MAX || !utf8_valid(s, len))
		return err_set(e, RC_INVALID, "pieces[%d].piece has %zu bytes; expected 1..%d of UTF-8",
			       id, len, PIECE_MAX);
	if (!isfinite(score))
		return err_set(e, RC_INVALID, "pieces[%d].score is not a number", id);
	if (byte < 0)
		return err_set(e, RC_INVALID, "pieces[%d].piece: expected <0xHH>", id);
	rc = token_piece_set(t, id, s, len, kinds[type], "pieces", e);
	if (rc)
		return rc;
	if (id >= f->cap) {
		f->cap = f->cap ? f->cap * 2 : 1024;
		f->scores = mem_grow(f->scores, (size_t)f->cap, sizeof(*f->scores));
	}
	f->scores[id] = score;
	struct token_word w = {.at = t->pieces[id].at, .len = (uint32_t)len, .id = id, .special = true};
	if (type == SPM_BYTE) {
		t->pieces[id].byte = (uint8_t)byte;
		t->byte_ids[byte] = id;
	} else if (type == SPM_CONTROL || type == SPM_UNKNOWN) {
		token_words_add(&t->words, w);
	} else if (type == SPM_USER_DEFINED) {
		w.special = false;
		token_words_add(&t->frozen, w);
	}
	return RC_OK;
}

static enum rc read_piece(struct spm_file *f, struct wire w, struct err *e)
{
	const uint8_t *begin = w.p;
	struct wire text = {w.p, w.p};
	float score = 0;
	uint64_t type = SPM_NORMAL;
	struct field v;

	while (w.p < w.end) {
		if (!read_field(&w, &v))
			return torn(e, "pieces", &w, begin);
		if (v.number == 1 && v.type == 2)
			text = v.bytes;
		if (v.number == 2 && v.type == 5) {
			uint32_t bits = (uint32_t)v.value;
			memcpy(&score, &bits, 4);
		}
		if (v.number == 3 && v.type == 0)
			type = v.value;
	}
	return add_piece(f, &text, score, type, e);
}

static enum rc read_trainer(struct spm_file *f, struct wire w, struct err *e)
{
	const uint8_t *begin = w.p;
	struct field v;

	while (w.p < w.end) {
		if (!read_field(&w, &v))
			return torn(e, "trainer_spec", &w, begin);
		if (v.type != 0)
			continue;
		switch (v.number) {
		case 3:
			f->model_type = v.value;
			break;
		case 24:
			f->suffix = v.value;
			break;
		case 35:
			f->t->byte_fallback = v.value;
			break;
		case 40:
			f->unk = (int32_t)v.value;
			break;
		case 41:
			f->bos = (int32_t)v.value;
			break;
		case 42:
			f->eos = (int32_t)v.value;
			break;
		default:
			break;
		}
	}
	return RC_OK;
}

static enum rc read_normalizer(struct spm_file *f, struct wire w, bool back, struct err *e)
{
	const uint8_t *begin = w.p;
	struct tokenizer *t = f->t;
	struct field v;

	while (w.p < w.end) {
		if (!read_field(&w, &v))
			return torn(e, "normalizer_spec", &w, begin);
		if (v.number == 2 && v.type == 2 && v.value)
			f->charsmap = true;
		if (back || v.type != 0)
			continue;
		if (v.number == 3)
			t->prefix = v.value ? PREFIX_FIRST : PREFIX_NEVER;
		if (v.number == 4)
			t->collapse = v.value;
		if (v.number == 5)
			t->escape = v.value;
	}
	return RC_OK;
}

static enum rc read_model(struct spm_file *f, struct wire w, struct err *e)
{
	const uint8_t *begin = w.p;
	struct field v;
	enum rc rc = RC_OK;

	while (w.p < w.end && !rc) {
		if (!read_field(&w, &v))
			return torn(e, "model", &w, begin);
		if (v.type != 2)
			continue;
		if (v.number == 1)
			rc = read_piece(f, v.bytes, e);
		if (v.number == 2)
			rc = read_trainer(f, v.bytes, e);
		if (v.number == 3 || v.number == 5)
			rc = read_normalizer(f, v.bytes, v.number == 5, e);
	}
	return rc;
}

/* --- what it means ---------------------------------------------------------------------------- */

static enum rc check_model(const struct spm_file *f, struct err *e)
{
	static const char *const types[] = {"unset", "unigram", "BPE", "word", "char"};
	const struct tokenizer *t = f->t;

	if (!t->n_vocab)
		return err_set(e, RC_INVALID, "no pieces: not a SentencePiece model");
	if (f->model_type != 2)
		return err_set(e, RC_UNSUPPORTED, "trainer_spec.model_type is %s: only BPE is supported",
			       f->model_type < 5 ? types[f->model_type] : "unknown");
	if (f->charsmap)
		return err_set(e, RC_UNSUPPORTED,
			       "normalizer_spec.precompiled_charsmap: only the identity is supported");
	if (f->suffix)
		return err_set(e, RC_UNSUPPORTED,
			       "trainer_spec.treat_whitespace_as_suffix: not supported");
	if (f->unk < 0 || f->unk >= t->n_vocab || t->pieces[f->unk].kind != PIECE_UNK)
		return err_set(e, RC_INVALID, "trainer_spec.unk_id %lld is not an unknown piece",
			       (long long)f->unk);
	for (int i = 0; i < 2; i++) {
		int64_t id = i ? f->eos : f->bos;
		if (id >= t->n_vocab || (id >= 0 && t->pieces[id].kind != PIECE_SPECIAL))
			return err_set(e, RC_INVALID, "trainer_spec.%s %lld is not a control piece",
				       i ? "eos_id" : "bos_id", (long long)id);
	}
	return RC_OK;
}

/* Gives every character of the pieces an id of its own. */
static void add_phantoms(struct tokenizer *t)
{
	int n = t->n_vocab;

	for (int id = 0; id < n; id++) {
		uint32_t at = t->pieces[id].at, len = t->pieces[id].len, cp;
		if (t->pieces[id].kind != PIECE_TEXT)
			continue;
		for (uint32_t i = 0; i < len;) {
			int k = utf8_decode(t->text.data + at + i, len - i, &cp);
			char c[4];
			memcpy(c, t->text.data + at + i, (size_t)k);
			i += (uint32_t)k;
			/* The map does not grow here: few characters are missing, if any, and a
			 * second copy of one does no harm before the map is built again. */
			if (token_map_find(t, c, (size_t)k) < 0 && t->n_pieces < TOKEN_VOCAB_MAX)
				token_piece_set(t, t->n_pieces, c, (size_t)k, PIECE_PHANTOM, "", NULL);
		}
	}
}

static int by_score(const void *a, const void *b, void *scores)
{
	float x = ((const float *)scores)[*(const int32_t *)a];
	float y = ((const float *)scores)[*(const int32_t *)b];

	return (x < y) - (x > y);
}

/* rank[id]: how many pieces have a better score; equal scores, equal rank. */
static uint32_t *ranks_of(const struct spm_file *f)
{
	int n = f->t->n_vocab;
	int32_t *order = mem_array((size_t)n, sizeof(*order));
	uint32_t *rank = mem_array((size_t)n, sizeof(*rank));

	for (int i = 0; i < n; i++)
		order[i] = i;
	qsort_r(order, (size_t)n, sizeof(*order), by_score, f->scores);
	for (int i = 0; i < n; i++) {
		bool tie = i && f->scores[order[i]] == f->scores[order[i - 1]];
		rank[order[i]] = tie ? rank[order[i - 1]] : (uint32_t)i;
	}
	free(order);
	return rank;
}

/* Calls token_merges_add, or only counts, for every cut of every piece into two known ones. */
static size_t cut_pieces(struct tokenizer *t, const uint32_t *rank)
{
	size_t n = 0;

	for (int id = 0; id < t->n_vocab; id++) {
		const struct token_piece *p = &t->pieces[id];
		const char *s = t->text.data + p->at;
		for (uint32_t i = 1; p->kind == PIECE_TEXT && i < p->len; i++) {
			if ((s[i] & 0xc0) == 0x80)
				continue;
			int32_t a = token_map_find(t, s, i);
			int32_t b = a < 0 ? -1 : token_map_find(t, s + i, p->len - i);
			if (b < 0)
				continue;
			n++;
			if (rank)
				token_merges_add(t, (uint32_t)a, (uint32_t)b, rank[id], (uint32_t)id);
		}
	}
	return n;
}

static enum rc build(struct spm_file *f, struct err *e)
{
	struct tokenizer *t = f->t;
	uint32_t *rank;
	enum rc rc;

	t->n_vocab = t->n_pieces;
	t->unk = (int32_t)f->unk;
	t->bos = f->bos < 0 ? -1 : (int32_t)f->bos;
	t->eos = f->eos < 0 ? -1 : (int32_t)f->eos;
	t->bos_known = t->eos_known = t->fuse_unk = true;
	t->strip_lead = t->prefix != PREFIX_NEVER;
	token_words_end(t, &t->words);
	token_words_end(t, &t->frozen);
	rc = token_map_build(t, KIND_BIT(PIECE_TEXT), e);
	if (rc)
		return rc;
	add_phantoms(t);
	rc = token_map_build(t, KIND_BIT(PIECE_TEXT) | KIND_BIT(PIECE_PHANTOM), e);
	if (rc)
		return rc;
	token_merges_begin(t, cut_pieces(t, NULL));
	rank = ranks_of(f);
	cut_pieces(t, rank);
	free(rank);
	return RC_OK;
}

enum rc tokenizer_parse_spm(const uint8_t *data, size_t len, const char *what,
			    struct tokenizer **out, struct err *e)
{
	struct spm_file f = {
		.t = tokenizer_new(), .model_type = 1, .unk = 0, .bos = 1, .eos = 2};
	enum rc rc;

	*out = NULL;
	f.t->escape = f.t->collapse = true; /* SentencePiece's defaults. */
	f.t->prefix = PREFIX_FIRST;
	rc = read_model(&f, (struct wire){data, data + len}, e);
	f.t->n_vocab = f.t->n_pieces;
	if (!rc)
		rc = check_model(&f, e);
	if (!rc)
		rc = build(&f, e);
	if (rc)
		err_wrap(e, "%s", what);
	if (!rc)
		rc = tokenizer_seal(f.t, what, e);
	free(f.scores);
	if (rc) {
		tokenizer_free(f.t);
		return rc;
	}
	*out = f.t;
	return RC_OK;
}
