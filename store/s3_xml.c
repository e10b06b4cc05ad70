#include "store/s3_xml.h"

#include "base/str.h"

#include <stdbool.h>
#include <string.h>

struct reader {
	const char *data, *what;
	size_t len, at;
	char path[S3_XML_DEPTH * (S3_XML_NAME_MAX + 1)];
	size_t starts[S3_XML_DEPTH]; /* of each name in path */
	int depth;
	bool had_child, had_root;
	struct buf text; /* of the innermost element */
	const struct s3_xml_sink *sink;
};

static enum rc odd(const struct reader *x, const char *why, struct err *e)
{
	return err_set(e, RC_CORRUPT, "%s: byte %zu: %s", x->what, x->at, why);
}

static bool ahead(const struct reader *x, const char *s)
{
	size_t n = strlen(s);

	return x->len - x->at >= n && !memcmp(x->data + x->at, s, n);
}

static bool skip_to(struct reader *x, const char *end)
{
	const char *p = memmem(x->data + x->at, x->len - x->at, end, strlen(end));

	if (!p)
		return false;
	x->at = (size_t)(p - x->data) + strlen(end);
	return true;
}

static bool name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-' || c == '.' || c == ':';
}

/* Name at `at`, without what stands before a colon. */
static enum rc read_name(struct reader *x, struct str *out, struct err *e)
{
	size_t from = x->at;

	while (x->at < x->len && name_char(x->data[x->at]))
		x->at++;
	for (size_t i = from; i < x->at; i++)
		if (x->data[i] == ':')
			from = i + 1;
	*out = (struct str){x->data + from, x->at - from};
	if (!out->len || out->len >= S3_XML_NAME_MAX)
		return odd(x, "expected the name of an element", e);
	return RC_OK;
}

static enum rc push(struct reader *x, struct str name, struct err *e)
{
	if (x->depth == S3_XML_DEPTH)
		return odd(x, "elements too deep", e);
	if (!x->depth && x->had_root)
		return odd(x, "a second root element", e);
	size_t at = strlen(x->path);
	if (x->depth)
		x->path[at++] = '/';
	x->starts[x->depth++] = at;
	memcpy(x->path + at, name.p, name.len);
	x->path[at + name.len] = 0;
	x->had_root = true;
	x->had_child = false;
	buf_clear(&x->text);
	return RC_OK;
}

static enum rc pop(struct reader *x, struct str name, struct err *e)
{
	if (!x->depth || !str_eq(name, x->path + x->starts[x->depth - 1]))
		return odd(x, "an end tag that ends nothing", e);
	enum rc rc = x->sink->element(x->sink->ctx, x->path,
				      !x->had_child && x->text.data ? x->text.data : "", e);
	size_t at = x->starts[--x->depth];
	x->path[at && x->depth ? at - 1 : 0] = 0;
	x->had_child = true;
	buf_clear(&x->text);
	return rc;
}

/* Past the attributes, to after '>'. *empty: the tag closed itself. */
static enum rc end_of_tag(struct reader *x, bool *empty, struct err *e)
{
	char quote = 0;

	for (; x->at < x->len; x->at++) {
		char c = x->data[x->at];

		if (quote) {
			quote = c == quote ? 0 : quote;
		} else if (c == '"' || c == '\'') {
			quote = c;
		} else if (c == '<') {
			return odd(x, "a tag inside a tag", e);
		} else if (c == '>') {
			*empty = x->data[x->at - 1] == '/';
			x->at++;
			return RC_OK;
		}
	}
	return odd(x, "cut off inside a tag", e);
}

static enum rc read_tag(struct reader *x, struct err *e)
{
	struct str name;
	bool empty = false, closing = ahead(x, "</");

	if (ahead(x, "<?") || ahead(x, "<!--")) {
		const char *end = ahead(x, "<?") ? "?>" : "-->";
		return skip_to(x, end) ? RC_OK : odd(x, "cut off", e);
	}
	if (ahead(x, "<!"))
		return odd(x, "DOCTYPE or CDATA, which S3 does not send", e);
	x->at += closing ? 2 : 1;
	enum rc rc = read_name(x, &name, e);
	if (!rc)
		rc = end_of_tag(x, &empty, e);
	if (rc)
		return rc;
	if (closing)
		return pop(x, name, e);
	rc = push(x, name, e);
	return rc || !empty ? rc : pop(x, name, e);
}

static bool named_entity(struct str s, char *out)
{
	static const struct {
		const char *name;
		char c;
	} known[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (str_eq(s, known[i].name)) {
			*out = known[i].c;
			return true;
		}
	return false;
}

static bool numbered_entity(struct str s, uint32_t *cp)
{
	int base = s.len > 1 && s.p[1] == 'x' ? 16 : 10;

	*cp = 0;
	for (size_t i = base == 16 ? 2 : 1; i < s.len; i++) {
		const char *digits = "0123456789abcdef", *lower = "0123456789ABCDEF", *d;
		if (!(d = strchr(digits, s.p[i])) && !(d = strchr(lower, s.p[i])))
			return false;
		uint32_t v = (uint32_t)(d - (*d >= 'A' && *d <= 'F' ? lower : digits));
		if (v >= (uint32_t)base || *cp > 0x10ffff)
			return false;
		*cp = *cp * (uint32_t)base + v;
	}
	return *cp > 0 && *cp <= 0x10ffff && (*cp < 0xd800 || *cp > 0xdfff) &&
	       s.len > (base == 16 ? 2u : 1u);
}

static enum rc read_entity(struct reader *x, struct err *e)
{
	const char *semi = memchr(x->data + x->at, ';', x->len - x->at < 12 ? x->len - x->at : 12);
	char utf8[4], c;
	uint32_t cp;

	if (!semi)
		return odd(x, "'&' without ';'", e);
	struct str s = {x->data + x->at + 1, (size_t)(semi - x->data) - x->at - 1};
	if (s.len && s.p[0] == '#' && numbered_entity(s, &cp))
		buf_append(&x->text, utf8, (size_t)utf8_encode(cp, utf8));
	else if (named_entity(s, &c))
		buf_putc(&x->text, c);
	else
		return odd(x, "unknown entity", e);
	x->at += s.len + 2;
	return RC_OK;
}

static enum rc read_text(struct reader *x, struct err *e)
{
	size_t from = x->at;

	while (x->at < x->len && x->data[x->at] != '<' && x->data[x->at] != '&') {
		char c = x->data[x->at++];
		if (!c || (!x->depth && !strchr(" \t\r\n\xef\xbb\xbf", c)))
			return odd(x, "text where none belongs", e);
	}
	buf_append(&x->text, x->data + from, x->at - from);
	if (x->at < x->len && x->data[x->at] == '&')
		return x->depth ? read_entity(x, e) : odd(x, "text where none belongs", e);
	return RC_OK;
}

enum rc s3_xml_read(const char *data, size_t len, const char *what, const struct s3_xml_sink *sink,
		    struct err *e)
{
	struct reader x = {.data = data, .what = what, .len = len, .sink = sink};
	enum rc rc = RC_OK;

	while (!rc && x.at < x.len)
		rc = data[x.at] == '<' ? read_tag(&x, e) : read_text(&x, e);
	if (!rc && (x.depth || !x.had_root))
		rc = odd(&x, x.depth ? "cut off inside an element" : "no element", e);
	buf_release(&x.text);
	return rc;
}

struct wanted {
	const char *path;
	char *out;
	size_t size;
	bool found;
};

static enum rc take_first(void *ctx, const char *path, const char *text, struct err *e)
{
	struct wanted *w = ctx;

	(void)e;
	if (!w->found && !strcmp(path, w->path)) {
		str_copy(w->out, w->size, text);
		w->found = true;
	}
	return RC_OK;
}

bool s3_xml_find(const char *data, size_t len, const char *path, char *out, size_t size)
{
	struct wanted w = {path, out, size, false};
	const struct s3_xml_sink sink = {take_first, &w};

	out[0] = 0;
	return s3_xml_read(data, len, "", &sink, NULL) == RC_OK;
}

void s3_xml_root(const char *data, size_t len, char *out, size_t size)
{
	struct reader x = {.data = data, .len = len, .what = ""};
	struct str name;

	out[0] = 0;
	while (x.at < len && data[x.at] != '<')
		x.at++;
	while (ahead(&x, "<?") && skip_to(&x, "?>"))
		while (x.at < len && data[x.at] != '<')
			x.at++;
	if (x.at++ >= len || read_name(&x, &name, NULL) || name.len >= size)
		return;
	memcpy(out, name.p, name.len);
	out[name.len] = 0;
}
