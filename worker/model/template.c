#include "worker/model/template.h"

#include "base/mem.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

/* White space cut off the parts, as the official code of each family does: never; every part at both
 * ends (llama-3); system and prompt together, so that neither is cut where they meet (llama-2). */
enum trim { TRIM_NONE, TRIM_PARTS, TRIM_TURN };

/* A form is text with holes: {bos} {eos} {system} {prompt} {response}, and special tokens written
 * {<|like_this|>}. Changing any character of one changes its hash: raise the version as well.
 * mistral puts a system text before the prompt, as mistral-common does. */
struct form {
	const char *name;
	int version;
	enum trim trim;
	const char *prompt, *with_system; /* with_system NULL: no place for one */
	const char *response;
	const char *not_special; /* text that must not be a special token, and what to use then */
	const char *instead;
};

#define HEAD(role) "{<|start_header_id|>}" role "{<|end_header_id|>}\n\n"
#define TURN(role) "{<|im_start|>}" role "\n"
#define TASK "### Instruction:\n{prompt}\n\n### Response:\n"

static const struct form forms[] = {
	{"plain", 1, TRIM_NONE, "{bos}{prompt}", NULL, "{response}{eos}", NULL, NULL},
	{"alpaca", 1, TRIM_NONE,
	 "{bos}Below is an instruction that describes a task. Write a response that appropriately "
	 "completes the request.\n\n" TASK,
	 "{bos}{system}\n\n" TASK, "{response}{eos}", NULL, NULL},
	{"llama-2", 2, TRIM_TURN, "{bos}[INST] {prompt} [/INST]",
	 "{bos}[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{prompt} [/INST]", " {response} {eos}", NULL,
	 NULL},
	{"mistral", 1, TRIM_NONE, "{bos}[INST] {prompt} [/INST]",
	 "{bos}[INST] {system}\n\n{prompt} [/INST]", " {response}{eos}", "[INST]", "mistral-v3"},
	{"mistral-v3", 1, TRIM_NONE, "{bos}{[INST]} {prompt}{[/INST]}",
	 "{bos}{[INST]} {system}\n\n{prompt}{[/INST]}", " {response}{eos}", NULL, NULL},
	{"llama-3", 2, TRIM_PARTS, "{bos}" HEAD("user") "{prompt}{<|eot_id|>}" HEAD("assistant"),
	 "{bos}" HEAD("system") "{system}{<|eot_id|>}" HEAD("user") "{prompt}{<|eot_id|>}"
	 HEAD("assistant"),
	 "{response}{<|eot_id|>}", NULL, NULL},
	{"chatml", 1, TRIM_NONE, "{bos}" TURN("user") "{prompt}{<|im_end|>}\n" TURN("assistant"),
	 "{bos}" TURN("system") "{system}{<|im_end|>}\n" TURN("user") "{prompt}{<|im_end|>}\n"
	 TURN("assistant"),
	 "{response}{<|im_end|>}", NULL, NULL},
};

#define N_FORMS (sizeof(forms) / sizeof(*forms))

struct template {
	const struct form *form;
	const struct tokenizer *tok; /* borrowed */
	int32_t stops[TEMPLATE_STOP_MAX];
	int n_stops;
	char lead[8], tail[8]; /* text around {response} */
};

const char *const *template_names(void)
{
	static const char *names[N_FORMS + 1];

	for (size_t i = 0; i < N_FORMS; i++)
		names[i] = forms[i].name;
	return names;
}

static enum rc find_form(const char *name, const struct form **out, struct err *e)
{
	struct buf known = BUF_INIT;

	for (size_t i = 0; i < N_FORMS; i++) {
		if (!strcmp(forms[i].name, name)) {
			*out = &forms[i];
			buf_release(&known);
			return RC_OK;
		}
		buf_printf(&known, "%s%s", i ? ", " : "", forms[i].name);
	}
	err_set(e, RC_NOTFOUND, "unknown chat template \"%.40s\" (known: %s)", name, known.data);
	buf_release(&known);
	return RC_NOTFOUND;
}

enum rc template_sha256(const char *name, char out[SHA256_HEX_SIZE], struct err *e)
{
	const struct form *f;
	struct buf b = BUF_INIT;
	enum rc rc = find_form(name, &f, e);

	if (rc)
		return rc;
	buf_printf(&b, "%s\n%d\n%d\n%s\n%s\n%s\n", f->name, f->version, f->trim, f->prompt,
		   f->with_system ? f->with_system : "", f->response);
	sha256_of(b.data, b.len, out);
	buf_release(&b);
	return RC_OK;
}

/* --- rendering -------------------------------------------------------------------------------- */

struct parts {
	const char *system, *prompt, *response;
};

struct render {
	const struct template *t;
	const struct parts *parts;
	struct tokens *out;
	struct buf text; /* not encoded yet */
	bool continues;  /* the pending text has something of the answer or prompt before it */
};

/* Next piece of a form: literal text, or a hole whose name lies in `hole`. */
static bool next_piece(const char **form, struct str *literal, struct str *hole)
{
	const char *p = *form;
	size_t n = strcspn(p, "{");

	*literal = (struct str){p, n};
	*hole = (struct str){NULL, 0};
	if (p[n] == '{') {
		*hole = (struct str){p + n + 1, strcspn(p + n + 1, "}")};
		n += hole->len + 2;
	}
	*form = p + n;
	return n > 0;
}

/* -1 when the tokenizer has none. */
static int32_t special_of(const struct tokenizer *tok, struct str hole)
{
	char name[64];

	if (str_eq(hole, "bos"))
		return tokenizer_bos(tok);
	if (str_eq(hole, "eos"))
		return tokenizer_eos(tok);
	str_fmt(name, sizeof(name), "%.*s", (int)hole.len, hole.p);
	return tokenizer_special(tok, name);
}

static const char *part_of(const struct parts *p, struct str hole)
{
	if (str_eq(hole, "system"))
		return p->system;
	if (str_eq(hole, "prompt"))
		return p->prompt;
	return str_eq(hole, "response") ? p->response : NULL;
}

static bool is_part(struct str hole)
{
	static const struct parts any = {"", "", ""};

	return part_of(&any, hole) != NULL;
}

static enum rc flush(struct render *r, struct err *e)
{
	enum rc rc = RC_OK;

	if (r->text.len)
		rc = tokenizer_encode(r->t->tok, r->text.data, r->text.len,
				      r->continues ? TOKEN_CONTINUES : 0, r->out, e);
	r->continues = r->continues || r->text.len;
	buf_clear(&r->text);
	return rc;
}

/* What Python's strip() takes off. */
static bool is_blank(uint32_t cp)
{
	return (cp >= 9 && cp <= 13) || (cp >= 0x1c && cp <= 0x20) || cp == 0x85 || cp == 0xa0 ||
	       cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 ||
	       cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

static struct str strip(struct str s, bool left, bool right)
{
	uint32_t cp;
	int n;

	while (left && s.len && (n = utf8_decode(s.p, s.len, &cp)) && is_blank(cp))
		s = (struct str){s.p + n, s.len - (size_t)n};
	while (right && s.len) {
		for (n = 1; n < 4 && (size_t)n < s.len && (s.p[s.len - (size_t)n] & 0xc0) == 0x80; n++)
			;
		if (utf8_decode(s.p + s.len - n, (size_t)n, &cp) != n || !is_blank(cp))
			break;
		s.len -= (size_t)n;
	}
	return s;
}

static struct str trim_part(const struct render *r, struct str hole, const char *part)
{
	enum trim trim = r->t->form->trim;

	if (trim == TRIM_NONE || (trim == TRIM_TURN && str_eq(hole, "system")))
		return str_of(part);
	return strip(str_of(part), trim == TRIM_PARTS || !r->parts->system, true);
}

static enum rc fill_hole(struct render *r, struct str hole, struct err *e)
{
	const char *part = part_of(r->parts, hole);
	enum rc rc;

	if (part) {
		struct str s = trim_part(r, hole, part);
		buf_append(&r->text, s.p, s.len);
		return RC_OK;
	}
	rc = flush(r, e);
	int32_t id = special_of(r->t->tok, hole);
	if (!rc && id >= 0)
		tokens_push(r->out, id);
	if (!str_eq(hole, "bos"))
		r->continues = true;
	return rc;
}

static enum rc render(const struct template *t, const char *form, const struct parts *parts,
		      bool continues, struct tokens *out, struct err *e)
{
	struct render r = {.t = t, .parts = parts, .out = out, .continues = continues};
	struct str literal, hole;
	enum rc rc = RC_OK;

	while (!rc && next_piece(&form, &literal, &hole)) {
		buf_append(&r.text, literal.p, literal.len);
		if (hole.p)
			rc = fill_hole(&r, hole, e);
	}
	if (!rc)
		rc = flush(&r, e);
	buf_release(&r.text);
	return rc ? err_wrap(e, "template %s", t->form->name) : RC_OK;
}

enum rc template_prompt(const struct template *t, const char *system, const char *prompt,
			struct tokens *out, struct err *e)
{
	const struct parts parts = {.system = system, .prompt = prompt};

	if (system && !t->form->with_system)
		return err_set(e, RC_INVALID, "template %s has no place for a system text",
			       t->form->name);
	return render(t, system ? t->form->with_system : t->form->prompt, &parts, false, out, e);
}

enum rc template_response(const struct template *t, const char *response, struct tokens *out,
			  struct err *e)
{
	const struct parts parts = {.response = response};

	return render(t, t->form->response, &parts, true, out, e);
}

void template_text(const struct template *t, const int32_t *ids, size_t n, struct buf *out)
{
	struct buf b = BUF_INIT;
	size_t lead = strlen(t->lead), tail = strlen(t->tail), from = 0;

	for (size_t i = 0; i < n; i++) /* Nothing of what follows an end token. */
		for (int k = 0; k < t->n_stops; k++)
			if (ids[i] == t->stops[k])
				n = i;
	tokenizer_decode_text(t->tok, ids, n, TOKEN_CONTINUES, &b);
	if (b.len >= lead && !memcmp(b.data ? b.data : "", t->lead, lead))
		from = lead;
	if (b.len - from >= tail && tail && !memcmp(b.data + b.len - tail, t->tail, tail))
		b.len -= tail;
	if (b.len > from)
		buf_append(out, b.data + from, b.len - from);
	buf_release(&b);
}

/* --- binding to a tokenizer ------------------------------------------------------------------- */

static void add_stop(struct template *t, int32_t id)
{
	for (int i = 0; i < t->n_stops; i++)
		if (t->stops[i] == id)
			return;
	if (id >= 0 && t->n_stops < TEMPLATE_STOP_MAX)
		t->stops[t->n_stops++] = id;
}

/* Every special token of the form must exist, but for BOS, which some models do without. */
static enum rc check_specials(const struct template *t, const char *form, struct err *e)
{
	struct str literal, hole;

	while (next_piece(&form, &literal, &hole)) {
		if (!hole.p || is_part(hole) || str_eq(hole, "bos") ||
		    special_of(t->tok, hole) >= 0)
			continue;
		return err_set(e, RC_UNSUPPORTED,
			       "template %s needs the special token %.*s, which the tokenizer lacks",
			       t->form->name, (int)hole.len, hole.p);
	}
	return RC_OK;
}

/* In some tokenizers what was text has become a token of its own. */
static enum rc check_texts(const struct template *t, struct err *e)
{
	const struct form *f = t->form;

	if (!f->not_special || tokenizer_special(t->tok, f->not_special) < 0)
		return RC_OK;
	return err_set(e, RC_UNSUPPORTED,
		       "template %s writes %s as text, but it is a special token of this tokenizer: "
		       "use %s",
		       f->name, f->not_special, f->instead);
}

static void bind_response(struct template *t)
{
	const char *form = t->form->response;
	struct str literal, hole;
	bool after = false;

	while (next_piece(&form, &literal, &hole)) {
		str_fmt(after ? t->tail : t->lead, sizeof(t->lead), "%.*s", (int)literal.len, literal.p);
		if (hole.p && is_part(hole))
			after = true;
		else if (hole.p)
			add_stop(t, special_of(t->tok, hole));
	}
	add_stop(t, tokenizer_eos(t->tok));
}

enum rc template_open(const char *name, const struct tokenizer *tok, struct template **out,
		      struct err *e)
{
	struct template *t = mem_new(sizeof(*t));
	enum rc rc = find_form(name, &t->form, e);

	*out = NULL;
	t->tok = tok;
	if (!rc)
		rc = check_specials(t, t->form->prompt, e);
	if (!rc)
		rc = check_specials(t, t->form->response, e);
	if (!rc)
		rc = check_texts(t, e);
	if (rc) {
		free(t);
		return rc;
	}
	bind_response(t);
	*out = t;
	return RC_OK;
}

void template_free(struct template *t)
{
	free(t);
}

const char *template_name(const struct template *t)
{
	return t->form->name;
}

int template_version(const struct template *t)
{
	return t->form->version;
}

const int32_t *template_stops(const struct template *t, int *n)
{
	*n = t->n_stops;
	return t->stops;
}

const char *template_guess(const struct tokenizer *tok, const char *chat_template)
{
	static const struct {
		const char *special, *text, *name;
	} signs[] = {
		{"<|start_header_id|>", NULL, "llama-3"}, {NULL, "<|start_header_id|>", "llama-3"},
		{NULL, "<|im_start|>", "chatml"},	  {NULL, "<<SYS>>", "llama-2"},
		{"[INST]", NULL, "mistral-v3"},		  {NULL, "[INST]", "mistral"},
		{NULL, "### Instruction:", "alpaca"},	  {"<|im_start|>", NULL, "chatml"},
	};

	for (size_t i = 0; i < sizeof(signs) / sizeof(*signs); i++) {
		struct template *t;
		bool fits = signs[i].special ? tokenizer_special(tok, signs[i].special) >= 0
					     : chat_template && strstr(chat_template, signs[i].text);
		if (!fits || template_open(signs[i].name, tok, &t, NULL))
			continue;
		template_free(t);
		return signs[i].name;
	}
	return "plain";
}
