#include "worker/model/template.h"

#include "base/mem.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

/* A form is text with holes: {bos} {eos} {system} {prompt} {response}, and special tokens written
 * {<|like_this|>}. Changing any character of one changes its hash: raise the version as well.
 * llama-2 and llama-3 trim the white space around the parts, as Meta's code does. mistral puts a
 * system text before the prompt, as mistral-common does. */
struct form {
	const char *name;
	int version;
	bool trim;
	const char *prompt, *with_system; /* with_system NULL: no place for one */
	const char *response;
};

#define HEAD(role) "{<|start_header_id|>}" role "{<|end_header_id|>}\n\n"
#define TURN(role) "{<|im_start|>}" role "\n"

static const struct form forms[] = {
	{"plain", 1, false, "{bos}{prompt}", NULL, "{response}{eos}"},
	{"alpaca", 1, false,
	 "{bos}Below is an instruction that describes a task. Write a response that appropriately "
	 "completes the request.\n\n### Instruction:\n{prompt}\n\n### Response:\n",
	 "{bos}{system}\n\n### Instruction:\n{prompt}\n\n### Response:\n", "{response}{eos}"},
	{"llama-2", 1, true, "{bos}[INST] {prompt} [/INST]",
	 "{bos}[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{prompt} [/INST]", " {response} {eos}"},
	{"mistral", 1, false, "{bos}[INST] {prompt} [/INST]", "{bos}[INST] {system}\n\n{prompt} [/INST]",
	 " {response}{eos}"},
	{"llama-3", 1, true,
	 "{bos}" HEAD("user") "{prompt}{<|eot_id|>}" HEAD("assistant"),
	 "{bos}" HEAD("system") "{system}{<|eot_id|>}" HEAD("user") "{prompt}{<|eot_id|>}" HEAD("assistant"),
	 "{response}{<|eot_id|>}"},
	{"chatml", 1, false, "{bos}" TURN("user") "{prompt}{<|im_end|>}\n" TURN("assistant"),
	 "{bos}" TURN("system") "{system}{<|im_end|>}\n" TURN("user") "{prompt}{<|im_end|>}\n"
	 TURN("assistant"), "{response}{<|im_end|>}"},
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

static enum rc fill_hole(struct render *r, struct str hole, struct err *e)
{
	const char *part = part_of(r->parts, hole);
	enum rc rc;

	if (part) {
		struct str s = str_of(part);
		if (r->t->form->trim)
			s = str_trim(s);
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
