#include "worker/method/judge_template.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/method/uni.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static char *lower_of(const char *s)
{
	struct buf out = BUF_INIT;
	size_t len = strlen(s);
	char utf8[4];
	uint32_t cp;

	for (size_t i = 0; i < len;) {
		i += (size_t)uni_next(s + i, len - i, &cp);
		buf_append(&out, utf8, (size_t)utf8_encode(uni_lower(cp), utf8));
	}
	return buf_detach(&out);
}

/* "score|rating:" -> words, trimmed, without a last colon. */
static enum rc take_words(struct judge_template *t, const char *pattern, struct err *e)
{
	int n = 0;
	char *next;

	t->rule.brackets = strcmp(pattern, JUDGE_BRACKETS) == 0;
	t->words = lower_of(t->rule.brackets ? "" : pattern);
	if (t->rule.brackets)
		return RC_OK;
	if (strpbrk(pattern, "\\()[]{}^$*+?<>"))
		return err_set(e, RC_INVALID,
			       "judge template \"%s\": pattern \"%.80s\" must be words separated by "
			       "\"|\", such as \"score|rating\", or \"" JUDGE_BRACKETS
			       "\"; it is no regular expression",
			       t->name, pattern);
	for (char *p = t->words; p; p = next) {
		next = strchr(p, '|');
		if (next)
			*next++ = 0;
		p += strspn(p, " \t");
		for (size_t len = strlen(p); len > 0 && strchr(" \t:", p[len - 1]); len--)
			p[len - 1] = 0;
		if (!*p || n == JUDGE_WORDS_MAX)
			return err_set(e, RC_INVALID,
				       "judge template \"%s\": pattern needs 1 to %d words, none empty",
				       t->name, JUDGE_WORDS_MAX);
		t->rule.words[n++] = p;
	}
	t->rule.words[n] = NULL;
	return RC_OK;
}

/* --- slots ----------------------------------------------------------------------------------- */

#define SLOT(member) offsetof(struct judge_shown, member)

static const struct {
	const char *name;
	size_t at;
} slots[] = {
	{"{prompt}", SLOT(prompt)},		{"{question}", SLOT(prompt)},
	{"{question_1}", SLOT(prompt)},		{"{question_2}", SLOT(prompt_2)},
	{"{response}", SLOT(response)},		{"{answer}", SLOT(response)},
	{"{answer_1}", SLOT(response)},		{"{answer_2}", SLOT(response_2)},
	{"{reference}", SLOT(reference)},	{"{ref_answer_1}", SLOT(reference)},
	{"{ref_answer_2}", SLOT(reference_2)},	{"{response_a}", SLOT(response_a)},
	{"{answer_a}", SLOT(response_a)},	{"{answer_a_1}", SLOT(response_a)},
	{"{answer_a_2}", SLOT(response_a_2)},	{"{response_b}", SLOT(response_b)},
	{"{answer_b}", SLOT(response_b)},	{"{answer_b_1}", SLOT(response_b)},
	{"{answer_b_2}", SLOT(response_b_2)},
};

/* The slot that begins at p; -1: none. */
static int slot_at(const char *p)
{
	for (size_t i = 0; *p == '{' && i < sizeof(slots) / sizeof(slots[0]); i++)
		if (strncmp(p, slots[i].name, strlen(slots[i].name)) == 0)
			return (int)i;
	return -1;
}

static bool shows(const struct judge_template *t, size_t member)
{
	for (const char *p = strchr(t->text, '{'); p; p = strchr(p + 1, '{')) {
		int i = slot_at(p);
		if (i >= 0 && slots[i].at == member)
			return true;
	}
	return false;
}

static enum rc check_text(struct judge_template *t, struct err *e)
{
	bool pair = t->form == JUDGE_PAIR;

	if (strlen(t->text) > JUDGE_TEXT_MAX)
		return err_set(e, RC_INVALID, "judge template \"%s\": text has %zu bytes, at most %u",
			       t->name, strlen(t->text), JUDGE_TEXT_MAX);
	t->reference = shows(t, SLOT(reference));
	if (!shows(t, SLOT(prompt)))
		return err_set(e, RC_INVALID, "judge template \"%s\": text must contain \"{prompt}\"",
			       t->name);
	if (!pair && !shows(t, SLOT(response)))
		return err_set(e, RC_INVALID, "judge template \"%s\": text must contain \"{response}\"",
			       t->name);
	if (pair && (!shows(t, SLOT(response_a)) || !shows(t, SLOT(response_b))))
		return err_set(e, RC_INVALID,
			       "judge template \"%s\": text must contain \"{response_a}\" and "
			       "\"{response_b}\"", t->name);
	return RC_OK;
}

/* --- making one ------------------------------------------------------------------------------ */

static void hash(struct judge_template *t)
{
	char *both = t->system ? mem_printf("%s\n===\n%s", t->system, t->text) : mem_str(t->text);

	sha256_of(both, strlen(both), t->sha256);
	free(both);
}

static enum rc make(struct judge_template *out, const char *system, const char *text,
		    const char *words, struct err *e)
{
	out->text = mem_str(text);
	out->system = system ? mem_str(system) : NULL;
	hash(out);
	if (out->form == JUDGE_PAIR) {
		out->rule.min_milli = 0;
		out->rule.max_milli = JUDGE_PAIR_MAX * 1000;
		out->rule.integer = false;
		words = JUDGE_BRACKETS;
	}
	if (out->rule.min_milli >= out->rule.max_milli || out->rule.min_milli < 0)
		return err_set(e, RC_INVALID, "min %g and max %g: expected 0 <= min < max",
			       (double)out->rule.min_milli / 1000, (double)out->rule.max_milli / 1000);
	enum rc rc = check_text(out, e);
	return rc == RC_OK ? take_words(out, words, e) : rc;
}

static enum rc take_form(const char *form, struct judge_template *out, struct err *e)
{
	out->form = strcmp(form, "pair") == 0 ? JUDGE_PAIR : JUDGE_SCORE;
	if (out->form == JUDGE_SCORE && strcmp(form, "score") != 0)
		return err_set(e, RC_INVALID, "form \"%.40s\": expected score or pair", form);
	return RC_OK;
}

/* --- files ----------------------------------------------------------------------------------- */

struct file {
	json_t *head;        /* {setting: text}; owned */
	char *system, *text; /* owned */
};

static void file_release(struct file *f)
{
	json_decref(f->head);
	free(f->system);
	free(f->text);
}

static const char *line_end(const char *p, const char *end)
{
	const char *nl = memchr(p, '\n', (size_t)(end - p));

	return nl ? nl : end;
}

/* One part from p to before the line that starts with "==="; NULL when there is none. */
static const char *take_part(const char *p, const char *end, char **out)
{
	for (const char *at = p; at + 4 < end; at++)
		if (memcmp(at, "\n===", 4) == 0) {
			*out = mem_strn(p, (size_t)(at - p));
			return at + 1;
		}
	return NULL;
}

static enum rc take_setting(struct file *f, const char *p, const char *nl, const char *what,
			    struct err *e)
{
	const char *colon = memchr(p, ':', (size_t)(nl - p));

	if (!colon)
		return err_set(e, RC_INVALID, "%s: \"%.*s\": expected a setting and a colon", what,
			       (int)(nl - p < 60 ? nl - p : 60), p);
	struct str v = str_trim((struct str){colon + 1, (size_t)(nl - colon - 1)});
	char *key = mem_strn(p, (size_t)(colon - p)), *value = mem_strn(v.p, v.len);
	json_object_set_new(f->head, key, json_string(value));
	free(key);
	free(value);
	return RC_OK;
}

/* *next: behind the file, which ends with its line "=== end". */
static enum rc file_read(struct file *f, const char *p, const char *end, const char *what,
			 const char **next, struct err *e)
{
	enum rc rc = RC_OK;

	*f = (struct file){.head = json_object()};
	while (rc == RC_OK && p < end && strncmp(p, "===", 3) != 0) {
		const char *nl = line_end(p, end);
		if (nl > p)
			rc = take_setting(f, p, nl, what, e);
		p = nl < end ? nl + 1 : end;
	}
	while (rc == RC_OK && p && p < end && strncmp(p, "=== end", 7) != 0) {
		bool system = strncmp(p, "=== system\n", 11) == 0;
		if (!system && strncmp(p, "=== user\n", 9) != 0)
			break;
		char **to = system ? &f->system : &f->text;
		free(*to);
		*to = NULL;
		p = take_part(p + (system ? 11 : 9), end, to);
	}
	if (rc != RC_OK)
		return rc;
	if (!p || p >= end || strncmp(p, "=== end", 7) != 0 || !f->text)
		return err_set(e, RC_INVALID,
			       "%s: expected the parts \"=== user\" and \"=== end\" (and perhaps "
			       "\"=== system\")", what);
	p = line_end(p, end);
	*next = p < end ? p + 1 : end;
	return RC_OK;
}

/* "4.5" as thousandths. */
static enum rc take_bound(const json_t *head, const char *key, int64_t *milli, struct err *e)
{
	const char *text = jx_get_str(head, key, NULL);
	double v;

	if (!text)
		return RC_OK;
	if (!str_to_f64(text, &v) || !(v >= 0 && v <= 1000))
		return err_set(e, RC_INVALID, "%s \"%.40s\": expected 0 to 1000", key, text);
	*milli = llround(v * 1000);
	return RC_OK;
}

static enum rc from_file(const struct file *f, struct judge_template *out, struct err *e)
{
	static const char *const known[] = {"name", "version", "form", "source", "marks",
					    "min",  "max",     "integer", NULL};
	int64_t version = 1;
	enum rc rc = jx_only(f->head, known, e);

	memset(out, 0, sizeof(*out));
	str_copy(out->name, sizeof(out->name), jx_get_str(f->head, "name", "custom"));
	out->rule.max_milli = 5000;
	out->rule.integer = strcmp(jx_get_str(f->head, "integer", "yes"), "no") != 0;
	if (rc == RC_OK && !str_to_i64(jx_get_str(f->head, "version", "1"), &version))
		rc = err_set(e, RC_INVALID, "version: expected a whole number");
	out->version = (int)version;
	if (rc == RC_OK)
		rc = take_form(jx_get_str(f->head, "form", "score"), out, e);
	if (rc == RC_OK)
		rc = take_bound(f->head, "min", &out->rule.min_milli, e);
	if (rc == RC_OK)
		rc = take_bound(f->head, "max", &out->rule.max_milli, e);
	if (rc == RC_OK)
		rc = make(out, f->system, f->text, jx_get_str(f->head, "marks", "score"), e);
	if (rc != RC_OK)
		judge_template_release(out);
	return rc;
}

enum rc judge_template_read(const char *data, size_t len, const char *what, struct judge_template *out,
			    struct err *e)
{
	struct file f;
	const char *next;
	enum rc rc = file_read(&f, data, data + len, what, &next, e);

	if (rc == RC_OK && (rc = from_file(&f, out, e)) != RC_OK)
		err_wrap(e, "%s", what);
	file_release(&f);
	return rc;
}

/* --- those that come along ------------------------------------------------------------------- */

extern const char judge_files_text[], judge_files_end[];

static char known_names[JUDGE_TEMPLATES_MAX][64];
static const char *known_list[JUDGE_TEMPLATES_MAX + 1];

const char *const *judge_template_names(void)
{
	const char *p = judge_files_text;
	struct file f;
	int n = 0;

	while (!known_list[0] && p < judge_files_end && n < JUDGE_TEMPLATES_MAX) {
		if (file_read(&f, p, judge_files_end, "built-in", &p, NULL) == RC_OK)
			str_copy(known_names[n++], sizeof known_names[0],
				 jx_get_str(f.head, "name", ""));
		else
			p = judge_files_end;
		file_release(&f);
	}
	while (n-- > 0) /* The first one last: another thread sees all or nothing to be done. */
		known_list[n] = known_names[n];
	return known_list;
}

enum rc judge_template_named(const char *name, struct judge_template *out, struct err *e)
{
	const char *p = judge_files_text;
	struct file f;
	enum rc rc = RC_OK;
	bool found = false;

	memset(out, 0, sizeof(*out));
	while (rc == RC_OK && !found && p < judge_files_end) {
		rc = file_read(&f, p, judge_files_end, "built-in", &p, e);
		found = rc == RC_OK && strcmp(jx_get_str(f.head, "name", ""), name) == 0;
		if (found)
			rc = from_file(&f, out, e);
		file_release(&f);
	}
	if (rc != RC_OK || found)
		return rc;
	struct buf all = BUF_INIT;
	for (const char *const *n = judge_template_names(); *n; n++)
		buf_printf(&all, "%s\"%s\"", n == judge_template_names() ? "" : ", ", *n);
	rc = err_set(e, RC_INVALID,
		     "judge template \"%.80s\" is unknown; there are %s, or an object with name and text",
		     name, all.data);
	buf_release(&all);
	return rc;
}

/* --- of a specification ---------------------------------------------------------------------- */

static enum rc take_bounds(const json_t *spec, struct judge_template *out, struct err *e)
{
	double min = 0, max = 5;
	int64_t version = 1;
	const char *form = "score";
	enum rc rc;

	out->rule.integer = true;
	if ((rc = jx_opt_f64(spec, "min", -1000, 1000, &min, e)) != RC_OK ||
	    (rc = jx_opt_f64(spec, "max", -1000, 1000, &max, e)) != RC_OK ||
	    (rc = jx_opt_bool(spec, "integer", &out->rule.integer, e)) != RC_OK ||
	    (rc = jx_opt_i64(spec, "version", 0, 1000000, &version, e)) != RC_OK ||
	    (rc = jx_opt_str(spec, "form", &form, e)) != RC_OK)
		return rc;
	out->rule.min_milli = llround(min * 1000);
	out->rule.max_milli = llround(max * 1000);
	out->version = (int)version;
	return take_form(form, out, e);
}

enum rc judge_template_of(const json_t *spec, struct judge_template *out, struct err *e)
{
	static const char *const known[] = {"name",    "text",	 "pattern", "min",  "max",
					    "integer", "system", "version", "form", NULL};
	const char *name = "custom", *text = NULL, *pattern = "score", *system = NULL;
	enum rc rc;

	memset(out, 0, sizeof(*out));
	if (!spec || json_is_null(spec))
		return judge_template_named(JUDGE_TEMPLATE_DEFAULT, out, e);
	if (json_is_string(spec))
		return judge_template_named(json_string_value(spec), out, e);
	if (!json_is_object(spec))
		return err_set(e, RC_INVALID, "judge.template must be a name or an object");
	if ((rc = jx_only(spec, known, e)) != RC_OK ||
	    (rc = jx_opt_str(spec, "name", &name, e)) != RC_OK ||
	    (rc = jx_str(spec, "text", &text, e)) != RC_OK ||
	    (rc = jx_opt_str(spec, "system", &system, e)) != RC_OK ||
	    (rc = jx_opt_str(spec, "pattern", &pattern, e)) != RC_OK ||
	    (rc = take_bounds(spec, out, e)) != RC_OK)
		return err_wrap(e, "judge.template");
	str_copy(out->name, sizeof(out->name), name);
	rc = make(out, system, text, pattern, e);
	if (rc != RC_OK) {
		judge_template_release(out);
		err_wrap(e, "judge.template");
	}
	return rc;
}

json_t *judge_template_json(const struct judge_template *t)
{
	struct buf words = BUF_INIT;

	for (int i = 0; t->rule.words[i]; i++)
		buf_printf(&words, "%s%s", i ? "|" : "", t->rule.words[i]);
	if (t->rule.brackets)
		buf_puts(&words, JUDGE_BRACKETS);
	json_t *v = json_pack("{s:s, s:i, s:s, s:s*, s:s, s:s, s:f, s:f, s:b}", "name", t->name,
			      "version", t->version, "form", t->form == JUDGE_PAIR ? "pair" : "score",
			      "system", t->system, "text", t->text, "pattern", words.data, "min",
			      (double)t->rule.min_milli / 1000, "max",
			      (double)t->rule.max_milli / 1000, "integer", (int)t->rule.integer);
	buf_release(&words);
	return v;
}

void judge_template_release(struct judge_template *t)
{
	free(t->system);
	free(t->text);
	free(t->words);
	memset(t, 0, sizeof(*t));
}

/* --- showing --------------------------------------------------------------------------------- */

/* True when s, just behind its first sign, goes on as a tag of a template. */
static bool opens_tag(char sign, const char *s)
{
	static const char *const tags[] = {"response", "reference"};

	if (sign == '[')
		return strncmp(s, "The Start of", 12) == 0 || strncmp(s, "The End of", 10) == 0;
	if (strncmp(s, "|The Start of", 13) == 0 || strncmp(s, "|The End of", 11) == 0)
		return true;
	s += strspn(s, " \t\r\n");
	if (*s == '/')
		s++;
	s += strspn(s, " \t\r\n");
	for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++)
		if (strncasecmp(s, tags[i], strlen(tags[i])) == 0)
			return true;
	return false;
}

static void put_untrusted(const char *s, struct buf *out)
{
	for (; *s; s++) {
		buf_putc(out, *s);
		if ((*s == '<' || *s == '[') && opens_tag(*s, s + 1))
			buf_putc(out, ' ');
	}
}

void judge_template_fill(const struct judge_template *t, const struct judge_shown *v, struct buf *out)
{
	for (const char *p = t->text; *p;) {
		int i = slot_at(p);

		if (i < 0) {
			buf_putc(out, *p++);
			continue;
		}
		const char *value = *(const char *const *)((const char *)v + slots[i].at);
		put_untrusted(value ? value : "", out);
		p += strlen(slots[i].name);
	}
}

void judge_template_render(const struct judge_template *t, const char *prompt, const char *response,
			   struct buf *out)
{
	struct judge_shown v = {.prompt = prompt, .response = response};

	judge_template_fill(t, &v, out);
}

void judge_template_whole(const struct judge_template *t, const struct judge_shown *v, struct buf *out)
{
	if (t->system) {
		buf_puts(out, t->system);
		buf_puts(out, "\n\n");
	}
	judge_template_fill(t, v, out);
}

bool judge_template_asked(const struct judge_template *t, const char *shown, struct buf *prompt)
{
	const char *slot = t->text, *rest, *end;
	struct buf between = BUF_INIT;
	int i;

	while (*slot && slot_at(slot) < 0)
		slot++;
	i = slot_at(slot);
	if (i < 0 || slots[i].at != SLOT(prompt) || strncmp(shown, t->text, (size_t)(slot - t->text)) != 0)
		return false;
	shown += slot - t->text;
	for (rest = slot + strlen(slots[i].name); *rest && slot_at(rest) < 0; rest++)
		buf_putc(&between, *rest);
	end = between.len ? strstr(shown, between.data) : *rest ? NULL : shown + strlen(shown);
	if (end)
		buf_append(prompt, shown, (size_t)(end - shown));
	buf_release(&between);
	return end != NULL;
}
