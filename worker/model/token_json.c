#include "worker/model/token_impl.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

/* tokenizer.json of Hugging Face. The order of reading matters: whether the vocabulary is
 * byte-level (pre_tokenizer), then its bytes (model.vocab), then what is special (added_tokens),
 * then the merges, of which those that would make a special token from text are left out.
 */

#define WORD_MAX   1024    /* bytes of an added token */
#define PIECE_MAX  65536   /* bytes of a vocabulary entry */
#define MERGES_MAX (1 << 23)
#define BLOCK      "\xe2\x96\x81" /* U+2581 */

struct json_file {
	struct tokenizer *t;
	const json_t *root, *model;
	int16_t byte_of[512]; /* GPT-2's letter for a byte, back to the byte; -1 */
};

/* --- small readers ---------------------------------------------------------------------------- */

static const char *type_of(const json_t *v)
{
	return jx_get_str(v, "type", "");
}

static bool is_string(const json_t *v, const char *want)
{
	return json_is_string(v) && !strcmp(json_string_value(v), want);
}

static bool is_unset(const json_t *v)
{
	return !v || json_is_null(v) || is_string(v, "");
}

/* The members of a "Sequence", or the thing itself as a list of one. */
static size_t list_of(const json_t *v, const char *member, const json_t **items, size_t max)
{
	const json_t *list = json_object_get(v, member);
	size_t n = 0;

	if (is_unset(v))
		return 0;
	if (strcmp(type_of(v), "Sequence")) {
		items[0] = v;
		return 1;
	}
	for (; n < json_array_size(list) && n < max; n++)
		items[n] = json_array_get(list, n);
	return json_array_size(list) > max ? max + 1 : n;
}

#define PARTS_MAX 16

static enum rc refuse(struct err *e, const char *field, size_t i, const char *type, const char *known)
{
	return err_set(e, RC_UNSUPPORTED, "%s[%zu]: \"%.60s\" is not supported (known: %s)", field, i,
		       type, known);
}

/* --- normalizer, pre_tokenizer, decoder ------------------------------------------------------- */

static enum rc read_normalizer(struct tokenizer *t, const json_t *v, struct err *e)
{
	static const char known[] = "none, NFC, Prepend U+2581, Replace \" \" by U+2581";
	const json_t *items[PARTS_MAX];
	size_t n = list_of(v, "normalizers", items, PARTS_MAX);

	if (n > PARTS_MAX)
		return err_set(e, RC_UNSUPPORTED, "normalizer: over %d parts", PARTS_MAX);
	for (size_t i = 0; i < n; i++) {
		const json_t *p = items[i];
		if (!strcmp(type_of(p), "Prepend") && is_string(json_object_get(p, "prepend"), BLOCK))
			t->prefix = PREFIX_ALWAYS;
		else if (!strcmp(type_of(p), "Replace") &&
			 is_string(json_object_get(json_object_get(p, "pattern"), "String"), " ") &&
			 is_string(json_object_get(p, "content"), BLOCK))
			t->escape = true;
		else if (!strcmp(type_of(p), "NFC"))
			t->nfc = true;
		else
			return refuse(e, "normalizer", i, type_of(p), known);
	}
	if (t->prefix != PREFIX_NEVER && !t->escape)
		return err_set(e, RC_UNSUPPORTED, "normalizer: Prepend without Replace");
	return RC_OK;
}

static enum rc read_byte_level(struct tokenizer *t, const json_t *p, struct err *e)
{
	if (t->escape)
		return err_set(e, RC_UNSUPPORTED, "pre_tokenizer: ByteLevel after U+2581");
	t->byte_level = true;
	if (jx_get_bool(p, "add_prefix_space", true))
		t->prefix = PREFIX_ALWAYS;
	if (jx_get_bool(p, "use_regex", true) && t->split == SPLIT_NONE)
		t->split = SPLIT_GPT2;
	else if (jx_get_bool(p, "use_regex", true))
		return err_set(e, RC_UNSUPPORTED, "pre_tokenizer: Split and ByteLevel.use_regex together");
	return RC_OK;
}

static enum rc read_metaspace(struct tokenizer *t, const json_t *p, struct err *e)
{
	const char *scheme = jx_get_str(p, "prepend_scheme", "always");

	if (!is_string(json_object_get(p, "replacement"), BLOCK))
		return err_set(e, RC_UNSUPPORTED, "pre_tokenizer: Metaspace.replacement is not U+2581");
	if (t->byte_level || t->split != SPLIT_NONE || t->escape)
		return err_set(e, RC_UNSUPPORTED, "pre_tokenizer: Metaspace together with another rule");
	t->escape = t->prefix_once = true;
	if (!jx_get_bool(p, "add_prefix_space", true) || !strcmp(scheme, "never"))
		t->prefix = PREFIX_NEVER;
	else
		t->prefix = strcmp(scheme, "first") ? PREFIX_ALWAYS : PREFIX_FIRST;
	if (jx_get_bool(p, "split", true))
		t->split = SPLIT_SPACE;
	return RC_OK;
}

static enum rc read_split(struct tokenizer *t, const json_t *p, struct err *e)
{
	const char *regex = jx_get_str(json_object_get(p, "pattern"), "Regex", "");

	if (t->split != SPLIT_NONE || t->byte_level)
		return err_set(e, RC_UNSUPPORTED, "pre_tokenizer: more than one splitting rule");
	t->split = token_split_of_regex(regex);
	if (t->split == SPLIT_NONE)
		return err_set(e, RC_UNSUPPORTED,
			       "pre_tokenizer: Split.pattern \"%.100s\" is not a known rule (known: GPT-2, "
			       "Llama 3, Qwen 2)", regex);
	if (!is_string(json_object_get(p, "behavior"), "Isolated") || jx_get_bool(p, "invert", false))
		return err_set(e, RC_UNSUPPORTED, "pre_tokenizer: Split.behavior is not \"Isolated\"");
	return RC_OK;
}

static enum rc read_pre_tokenizer(struct tokenizer *t, const json_t *v, struct err *e)
{
	static const struct {
		const char *type;
		enum rc (*read)(struct tokenizer *, const json_t *, struct err *);
	} kinds[] = {
		{"ByteLevel", read_byte_level}, {"Metaspace", read_metaspace}, {"Split", read_split}};
	const json_t *items[PARTS_MAX];
	size_t n = list_of(v, "pretokenizers", items, PARTS_MAX), k;
	enum rc rc = RC_OK;

	if (n > PARTS_MAX)
		return err_set(e, RC_UNSUPPORTED, "pre_tokenizer: over %d parts", PARTS_MAX);
	for (size_t i = 0; i < n && !rc; i++) {
		for (k = 0; k < 3 && strcmp(kinds[k].type, type_of(items[i])); k++)
			;
		rc = k < 3 ? kinds[k].read(t, items[i], e)
			   : refuse(e, "pre_tokenizer", i, type_of(items[i]),
				    "ByteLevel, Metaspace, Split");
	}
	if (!rc && t->split != SPLIT_NONE && t->split != SPLIT_SPACE && !t->byte_level)
		rc = err_set(e, RC_UNSUPPORTED, "pre_tokenizer: Split without ByteLevel");
	return rc;
}

static enum rc read_decoder(struct tokenizer *t, const json_t *v, struct err *e)
{
	static const char *const known[] = {
		"ByteLevel", "Metaspace", "Replace", "ByteFallback", "Fuse", "Strip"};
	const json_t *items[PARTS_MAX];
	size_t n = list_of(v, "decoders", items, PARTS_MAX), k;

	if (n > PARTS_MAX)
		return err_set(e, RC_UNSUPPORTED, "decoder: over %d parts", PARTS_MAX);
	for (size_t i = 0; i < n; i++) {
		const char *type = type_of(items[i]);
		for (k = 0; k < 6 && strcmp(known[k], type); k++)
			;
		if (k == 6)
			return refuse(e, "decoder", i, type,
				      "ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip");
		if ((k == 0) != t->byte_level)
			return err_set(e, RC_UNSUPPORTED,
				       "decoder[%zu]: \"%s\" does not fit the pre_tokenizer", i, type);
		if (k == 1 || k == 5)
			t->strip_lead = t->prefix != PREFIX_NEVER;
	}
	return RC_OK;
}

/* --- vocabulary ------------------------------------------------------------------------------- */

/* GPT-2 writes bytes as printable letters: 33-126, 161-172 and 174-255 are themselves, the other
 * 68 are U+0100 and up in order. */
static void byte_letters(int16_t byte_of[512])
{
	int next = 256;

	memset(byte_of, -1, 512 * sizeof(*byte_of));
	for (int b = 0; b < 256; b++) {
		bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
		byte_of[plain ? b : next++] = (int16_t)b;
	}
}

/* False when a letter stands for no byte. */
static bool letters_to_bytes(const struct json_file *f, const char *s, struct buf *out)
{
	size_t len = strlen(s);
	uint32_t cp;

	buf_clear(out);
	for (size_t i = 0; i < len;) {
		int n = utf8_decode(s + i, len - i, &cp);
		if (!n || cp >= 512 || f->byte_of[cp] < 0)
			return false;
		buf_putc(out, (char)f->byte_of[cp]);
		i += (size_t)n;
	}
	return true;
}

static enum rc read_piece(struct json_file *f, const char *key, const json_t *value, struct buf *tmp,
			  struct err *e)
{
	struct tokenizer *t = f->t;
	int64_t id = json_is_integer(value) ? json_integer_value(value) : -1;
	bool raw = t->byte_level && !letters_to_bytes(f, key, tmp);
	const char *bytes = t->byte_level && !raw ? tmp->data : key;
	size_t len = t->byte_level && !raw ? tmp->len : strlen(key);
	int byte = t->byte_fallback ? token_byte_piece(key, strlen(key)) : -1;
	enum rc rc;

	if (!json_is_integer(value))
		return err_set(e, RC_INVALID, "model.vocab[\"%.40s\"]: not an integer", key);
	if (len > PIECE_MAX)
		return err_set(e, RC_INVALID, "model.vocab: the piece of id %lld has %zu bytes, over %d",
			       (long long)id, len, PIECE_MAX);
	rc = token_piece_set(t, id, bytes ? bytes : "", len, byte >= 0 ? PIECE_BYTE : PIECE_TEXT,
			     "model.vocab", e);
	if (rc)
		return rc;
	t->pieces[id].raw = raw;
	if (byte >= 0) {
		t->pieces[id].byte = (uint8_t)byte;
		t->byte_ids[byte] = (int32_t)id;
	}
	if (t->byte_level && !raw && len == 1)
		t->byte_ids[(uint8_t)*bytes] = (int32_t)id;
	return RC_OK;
}

static enum rc read_vocab(struct json_file *f, struct err *e)
{
	json_t *vocab, *value;
	const char *key;
	struct buf tmp = BUF_INIT;
	enum rc rc = jx_obj(f->model, "vocab", &vocab, e);

	if (rc)
		return err_wrap(e, "model");
	json_object_foreach(vocab, key, value)
	{
		rc = read_piece(f, key, value, &tmp, e);
		if (rc)
			break;
	}
	buf_release(&tmp);
	return rc;
}

/* An added token may stand in the vocabulary too, with the same text; a byte must stay a byte. */
static enum rc check_added(const struct tokenizer *t, int64_t id, const char *content, size_t len,
			   struct err *e)
{
	const struct token_piece *p;

	if (id >= t->n_pieces || t->pieces[id].kind == PIECE_NONE)
		return RC_OK;
	p = &t->pieces[id];
	if (p->kind == PIECE_SPECIAL || p->kind == PIECE_ADDED)
		return err_set(e, RC_INVALID, "id %lld is given twice", (long long)id);
	if (p->len != len || memcmp(t->text.data + p->at, content, len))
		return err_set(e, RC_INVALID, "id %lld is \"%.*s\" in the vocabulary, \"%.40s\" here",
			       (long long)id, (int)(p->len > 40 ? 40 : p->len), t->text.data + p->at,
			       content);
	for (int i = 0; i < 256; i++)
		if (t->byte_ids[i] == id)
			return err_set(e, RC_INVALID, "id %lld is the token of byte 0x%02x",
				       (long long)id, i);
	return RC_OK;
}

static enum rc read_added_one(struct tokenizer *t, const json_t *v, struct err *e)
{
	const char *content;
	int64_t id;
	enum rc rc = jx_str(v, "content", &content, e);

	if (!rc)
		rc = jx_i64(v, "id", 0, TOKEN_VOCAB_MAX - 1, &id, e);
	if (rc)
		return rc;
	size_t len = strlen(content);
	if (!len || len > WORD_MAX)
		return err_set(e, RC_INVALID, "content of id %lld has %zu bytes, not 1..%d",
			       (long long)id, len, WORD_MAX);
	bool special = jx_get_bool(v, "special", false);
	if (t->nfc && jx_get_bool(v, "normalized", !special))
		return err_set(e, RC_UNSUPPORTED,
			       "id %lld is looked for in normalised text, after NFC: not supported",
			       (long long)id);
	rc = check_added(t, id, content, len, e);
	if (rc)
		return rc;
	if (id < t->n_pieces)
		t->pieces[id].kind = PIECE_NONE; /* Now it is what is written here. */
	rc = token_piece_set(t, id, content, len, special ? PIECE_SPECIAL : PIECE_ADDED, "id", e);
	if (rc)
		return rc;
	struct token_word w = {
		.at = t->pieces[id].at,
		.len = (uint32_t)len,
		.id = (int32_t)id,
		.special = special,
		.lstrip = jx_get_bool(v, "lstrip", false),
		.rstrip = jx_get_bool(v, "rstrip", false),
		.single_word = jx_get_bool(v, "single_word", false),
	};
	token_words_add(&t->words, w);
	if (!special)
		token_words_add(&t->plain, w);
	return RC_OK;
}

static enum rc read_added(struct tokenizer *t, const json_t *list, struct err *e)
{
	if (is_unset(list))
		return RC_OK;
	if (!json_is_array(list))
		return err_set(e, RC_INVALID, "added_tokens: not an array");
	for (size_t i = 0; i < json_array_size(list); i++)
		if (read_added_one(t, json_array_get(list, i), e))
			return err_wrap(e, "added_tokens[%zu]", i);
	token_words_end(t, &t->words);
	token_words_end(t, &t->plain);
	for (int i = 1; i < t->words.n; i++) {
		const struct token_word *a = &t->words.v[i - 1], *b = &t->words.v[i];
		if (a->len == b->len && !memcmp(t->text.data + a->at, t->text.data + b->at, a->len))
			return err_set(e, RC_INVALID, "added_tokens: ids %d and %d have the same content",
				       a->id, b->id);
	}
	return RC_OK;
}

/* --- merges ----------------------------------------------------------------------------------- */

/* Both halves as strings of the vocabulary; "a b" or ["a", "b"]. */
static bool merge_halves(const json_t *m, struct buf *left, struct buf *right)
{
	const char *s = json_string_value(m), *gap = s ? strchr(s, ' ') : NULL;
	const char *a = json_string_value(json_array_get(m, 0));
	const char *b = json_string_value(json_array_get(m, 1));

	buf_clear(left);
	buf_clear(right);
	if (gap && gap > s && gap[1] && !strchr(gap + 1, ' ')) {
		buf_append(left, s, (size_t)(gap - s));
		buf_puts(right, gap + 1);
		return true;
	}
	if (!a || !b || !*a || !*b || json_array_size(m) != 2)
		return false;
	buf_puts(left, a);
	buf_puts(right, b);
	return true;
}

static int32_t find_piece(const struct json_file *f, struct buf *s, struct buf *tmp)
{
	if (f->t->byte_level && letters_to_bytes(f, s->data, tmp)) {
		buf_clear(s);
		buf_append(s, tmp->data, tmp->len);
	}
	return token_map_find(f->t, s->data, s->len);
}

static enum rc read_merge(struct json_file *f, const json_t *m, uint32_t rank, struct buf tmp[3],
			  struct err *e)
{
	struct tokenizer *t = f->t;
	int32_t a, b, ab;

	if (!merge_halves(m, &tmp[0], &tmp[1]))
		return err_set(e, RC_INVALID, "not two pieces");
	a = find_piece(f, &tmp[0], &tmp[2]);
	b = find_piece(f, &tmp[1], &tmp[2]);
	if (a < 0 || b < 0)
		return err_set(e, RC_INVALID, "\"%.40s\" is not in the vocabulary",
			       tmp[a < 0 ? 0 : 1].data);
	buf_append(&tmp[0], tmp[1].data, tmp[1].len);
	ab = token_map_find(t, tmp[0].data, tmp[0].len);
	if (ab < 0)
		return err_set(e, RC_INVALID, "its result \"%.40s\" is not in the vocabulary",
			       tmp[0].data);
	if (t->pieces[a].kind == PIECE_TEXT && t->pieces[b].kind == PIECE_TEXT &&
	    t->pieces[ab].kind == PIECE_TEXT)
		token_merges_add(t, (uint32_t)a, (uint32_t)b, rank, (uint32_t)ab);
	return RC_OK;
}

static enum rc read_merges(struct json_file *f, struct err *e)
{
	struct buf tmp[3] = {BUF_INIT, BUF_INIT, BUF_INIT};
	json_t *list;
	enum rc rc = jx_arr(f->model, "merges", &list, e);

	if (rc)
		return err_wrap(e, "model");
	if (json_array_size(list) > MERGES_MAX)
		return err_set(e, RC_INVALID, "model.merges: %zu merges, over %d", json_array_size(list),
			       MERGES_MAX);
	token_merges_begin(f->t, json_array_size(list));
	for (size_t i = 0; i < json_array_size(list) && !rc; i++) {
		rc = read_merge(f, json_array_get(list, i), (uint32_t)i, tmp, e);
		if (rc)
			err_wrap(e, "model.merges[%zu]", i);
	}
	for (int i = 0; i < 3; i++)
		buf_release(&tmp[i]);
	return rc;
}

/* --- model and post_processor ----------------------------------------------------------------- */

static enum rc read_model(struct json_file *f, struct err *e)
{
	static const char *const unset[] = {"continuing_subword_prefix", "end_of_word_suffix"};
	const json_t *m = f->model, *dropout = json_object_get(m, "dropout");
	const char *type = jx_get_str(m, "type", "BPE");

	if (!json_is_object(m))
		return err_set(e, RC_INVALID, "model: missing or not an object");
	if (strcmp(type, "BPE"))
		return err_set(e, RC_UNSUPPORTED, "model.type is \"%.40s\": only BPE is supported", type);
	if (!is_unset(dropout) && json_number_value(dropout) != 0.0)
		return err_set(e, RC_UNSUPPORTED, "model.dropout is set: not supported");
	for (size_t i = 0; i < 2; i++)
		if (!is_unset(json_object_get(m, unset[i])))
			return err_set(e, RC_UNSUPPORTED, "model.%s is set: not supported", unset[i]);
	f->t->byte_fallback = jx_get_bool(m, "byte_fallback", false) && !f->t->byte_level;
	f->t->fuse_unk = jx_get_bool(m, "fuse_unk", false);
	f->t->ignore_merges = jx_get_bool(m, "ignore_merges", false);
	return RC_OK;
}

/* The unknown token, by its text among all pieces. */
static enum rc read_unk(struct json_file *f, struct err *e)
{
	struct tokenizer *t = f->t;
	const char *unk = json_string_value(json_object_get(f->model, "unk_token"));

	if (!unk)
		return RC_OK;
	t->unk = token_map_find(t, unk, strlen(unk));
	if (t->unk < 0)
		return err_set(e, RC_INVALID, "model.unk_token \"%.40s\" is not in the vocabulary", unk);
	t->pieces[t->unk].kind = PIECE_UNK;
	return RC_OK;
}

/* TemplateProcessing.single: the special tokens before the text. */
static enum rc read_template(struct tokenizer *t, const json_t *p, struct err *e)
{
	const json_t *single = json_object_get(p, "single"), *ids;
	int found = 0;

	t->bos_known = true;
	for (size_t i = 0; i < json_array_size(single); i++) {
		const json_t *part = json_object_get(json_array_get(single, i), "SpecialToken");
		const char *name = jx_get_str(part, "id", "");
		if (!part)
			break;
		ids = json_object_get(json_object_get(json_object_get(p, "special_tokens"), name), "ids");
		const json_t *id = json_array_get(ids, 0);
		if (found++ || json_array_size(ids) != 1 || !json_is_integer(id) ||
		    json_integer_value(id) < 0 || json_integer_value(id) >= t->n_vocab ||
		    !tokenizer_is_special(t, (int)json_integer_value(id)))
			return err_set(e, RC_UNSUPPORTED,
				       "post_processor.single[%zu]: \"%.40s\" is not the one special token "
				       "before a text", i, name);
		t->bos = (int32_t)json_integer_value(id);
	}
	return RC_OK;
}

static enum rc read_post_processor(struct tokenizer *t, const json_t *v, struct err *e)
{
	const json_t *items[PARTS_MAX];
	size_t n = list_of(v, "processors", items, PARTS_MAX);
	enum rc rc = RC_OK;

	for (size_t i = 0; i < n && i < PARTS_MAX && !rc; i++)
		if (!strcmp(type_of(items[i]), "TemplateProcessing"))
			rc = read_template(t, items[i], e);
	return rc;
}

static enum rc read_all(struct json_file *f, struct err *e)
{
	struct tokenizer *t = f->t;
	enum rc rc = RC_OK;

	if (!json_is_object(f->root))
		return err_set(e, RC_INVALID, "not a JSON object");
	if (!(rc = read_normalizer(t, json_object_get(f->root, "normalizer"), e)) &&
	    !(rc = read_pre_tokenizer(t, json_object_get(f->root, "pre_tokenizer"), e)) &&
	    !(rc = read_decoder(t, json_object_get(f->root, "decoder"), e)) &&
	    !(rc = read_model(f, e)) && !(rc = read_vocab(f, e)) &&
	    !(rc = read_added(t, json_object_get(f->root, "added_tokens"), e))) {
		t->n_vocab = t->n_pieces;
		rc = token_map_build(t, ~KIND_BIT(PIECE_NONE), e);
	}
	if (!rc && !(rc = read_unk(f, e)) && !(rc = read_merges(f, e)))
		rc = token_map_build(t, KIND_BIT(PIECE_TEXT), e);
	if (!rc)
		rc = read_post_processor(t, json_object_get(f->root, "post_processor"), e);
	return rc;
}

enum rc tokenizer_parse_json(const char *data, size_t len, const char *what, struct tokenizer **out,
			     struct err *e)
{
	struct json_file f = {.t = tokenizer_new()};
	json_t *root = NULL;
	enum rc rc = jx_parse(data, len, what, &root, e);

	*out = NULL;
	byte_letters(f.byte_of);
	f.root = root;
	f.model = json_object_get(root, "model");
	if (!rc) {
		rc = read_all(&f, e);
		if (rc)
			err_wrap(e, "%s", what);
	}
	if (!rc)
		rc = tokenizer_seal(f.t, what, e);
	json_decref(root);
	if (rc) {
		tokenizer_free(f.t);
		return rc;
	}
	*out = f.t;
	return RC_OK;
}
