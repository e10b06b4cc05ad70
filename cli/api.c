#include "cli/cli.h"

#include "base/buf.h"
#include "base/fetch.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PAGE 200

static enum rc code_of(int status)
{
	static const struct {
		int status;
		enum rc rc;
	} map[] = {{401, RC_DENIED},  {403, RC_DENIED},	  {404, RC_NOTFOUND},	 {409, RC_CONFLICT},
		   {412, RC_CHANGED}, {429, RC_UNREACHABLE}, {507, RC_FULL}};

	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		if (map[i].status == status)
			return map[i].rc;
	return status >= 500 ? RC_UNREACHABLE : RC_INVALID;
}

enum rc problem(int status, const char *body, size_t len, struct err *e)
{
	json_t *v = NULL;
	struct buf b = BUF_INIT;
	const json_t *x;
	size_t i;

	if (jx_parse(body, len, "answer", &v, NULL) || !json_is_object(v)) {
		buf_printf(&b, "the server answered %d: %.200s", status, body ? body : "");
	} else {
		buf_puts(&b, jx_get_str(v, "detail", jx_get_str(v, "title", "no reason given")));
		json_array_foreach(json_object_get(v, "errors"), i, x)
			buf_printf(&b, "\n  %s: %s", jx_get_str(x, "pointer", "?"),
				   jx_get_str(x, "detail", "?"));
	}
	if (status == 401)
		buf_puts(&b, "\n(is --token-file right?)");
	enum rc rc = err_set(e, code_of(status), "%s", b.data);
	buf_release(&b);
	json_decref(v);
	return rc;
}

enum rc api_headers(struct cli *c, const char *method, const char *path, const json_t *body,
		    const char *const *headers, json_t **out, struct err *e)
{
	char *url = mem_printf("%s/api/v1/%s", c->server, path);
	char *text = body ? jx_text(body) : NULL;
	struct fetch_resp r;
	struct fetch_req q = {.method = method, .url = url, .token = c->token, .headers = headers,
			      .body = text, .body_len = text ? strlen(text) : 0};

	*out = NULL;
	enum rc rc = fetch(&q, &r, e);
	if (!rc && r.status >= 300)
		rc = problem(r.status, r.body.data, r.body.len, e);
	else if (!rc && r.body.len)
		rc = jx_parse(r.body.data, r.body.len, path, out, e);
	fetch_resp_release(&r);
	free(text);
	free(url);
	return rc;
}

enum rc api(struct cli *c, const char *method, const char *path, const json_t *body, json_t **out,
	    struct err *e)
{
	return api_headers(c, method, path, body, NULL, out, e);
}

struct streamed {
	int (*sink)(void *ctx, const void *data, size_t len);
	void *ctx;
	int status;
	struct buf error; /* body of an answer that is no content */
};

static void on_status(void *ctx, const char *line, size_t len)
{
	const char *sp = memchr(line, ' ', len);

	if (len >= 12 && !strncasecmp(line, "HTTP/", 5) && sp)
		((struct streamed *)ctx)->status = (int)strtol(sp + 1, NULL, 10);
}

static int on_data(void *ctx, const void *data, size_t len)
{
	struct streamed *s = ctx;

	if (s->status < 300)
		return s->sink(s->ctx, data, len);
	if (s->error.len < 65536)
		buf_append(&s->error, data, len);
	return 0;
}

enum rc api_stream(struct cli *c, const char *path, const char *what,
		   int (*sink)(void *ctx, const void *data, size_t len), void *ctx, struct err *e)
{
	struct streamed s = {.sink = sink, .ctx = ctx};
	char *url = mem_printf("%s/api/v1/%s", c->server, path);
	struct fetch_resp r;
	struct fetch_req req = {.method = "GET", .url = url, .token = c->token, .sink = on_data,
				.sink_ctx = &s, .on_header = on_status, .timeout_ms = -1};
	enum rc rc = fetch(&req, &r, e);

	if (rc == RC_CANCELLED)
		err_set(e, rc = RC_IO, "write: %m");
	if (!rc && s.status >= 300) {
		rc = problem(s.status, s.error.data, s.error.len, e);
		err_wrap(e, "%s", what);
	}
	buf_release(&s.error);
	fetch_resp_release(&r);
	free(url);
	return rc;
}

int to_file(void *ctx, const void *data, size_t len)
{
	return fwrite(data, 1, len, ctx) != len;
}

enum rc api_list(struct cli *c, const char *path, int64_t max, json_t **out, struct err *e)
{
	json_t *all = json_array(), *page;
	char *cursor = mem_str("");
	enum rc rc = RC_OK;

	do {
		int64_t left = max - (int64_t)json_array_size(all);
		char *url = mem_printf("%s%climit=%d%s%s", path, strchr(path, '?') ? '&' : '?',
				       (int)(left < PAGE ? left : PAGE), *cursor ? "&cursor=" : "",
				       cursor);
		rc = api(c, "GET", url, NULL, &page, e);
		free(url);
		free(cursor);
		cursor = NULL;
		if (!rc) {
			json_array_extend(all, json_object_get(page, "items"));
			cursor = url_quote(jx_get_str(page, "next_cursor", ""));
		}
		json_decref(page);
	} while (!rc && *cursor && (int64_t)json_array_size(all) < max);
	free(cursor);
	if (rc)
		json_decref(all);
	*out = rc ? NULL : all;
	return rc;
}

char *url_quote(const char *s)
{
	struct buf b = BUF_INIT;

	for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
		if (isalnum(*p) || strchr("-._~", *p))
			buf_putc(&b, (char)*p);
		else
			buf_printf(&b, "%%%02X", *p);
	}
	return buf_detach(&b);
}

void url_put_query(struct buf *b, const char *name, const char *value)
{
	if (!value)
		return;
	char *q = url_quote(value);
	buf_printf(b, "%c%s=%s", strchr(b->data, '?') ? '&' : '?', name, q);
	free(q);
}

int post_verb(struct cli *c, int argc, char **argv, const char *kind, const char *verb)
{
	struct err e;
	json_t *answer;
	int code = opt_parse(NULL, 0, &argc, argv, 1, 1);

	if (code)
		return code;
	char *q = url_quote(argv[0]), *path = mem_printf("%s/%s/%s", kind, q, verb);
	if (api(c, "POST", path, NULL, &answer, &e))
		code = fail(&e);
	else if (c->json && answer)
		json_print(answer);
	else if (!c->quiet)
		printf("%s %s\n", argv[0], jx_get_str(answer, "state", verb));
	json_decref(answer);
	free(path);
	free(q);
	return code;
}
