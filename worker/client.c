#include "worker/client.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fetch.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/str.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOB_TIMEOUT_MS (6 * 3600 * 1000LL) /* The lease, not this clock, ends a slow upload. */
#define URL_MAX 1024
#define BACKOFF_MAX_MS 15000
#define PUTS_MAX 4

static enum rc code_of(int status)
{
	static const struct {
		int status;
		enum rc rc;
	} map[] = {{401, RC_DENIED}, {403, RC_DENIED},      {404, RC_NOTFOUND}, {408, RC_TIMEOUT},
		   {409, RC_STALE},  {429, RC_UNREACHABLE}, {507, RC_FULL}};

	if (status >= 200 && status < 300)
		return RC_OK;
	for (size_t i = 0; i < sizeof map / sizeof *map; i++)
		if (map[i].status == status)
			return map[i].rc;
	return status >= 500 ? RC_UNREACHABLE : RC_INVALID;
}

/* The sentence of a problem document, else the status. */
static enum rc refuse(const struct fetch_resp *r, const char *what, struct err *e)
{
	json_t *v = NULL;
	enum rc rc = code_of(r->status);
	const char *detail = "";

	if (r->body.len > 0 && jx_parse(r->body.data, r->body.len, what, &v, NULL) == RC_OK)
		detail = jx_get_str(v, "detail", jx_get_str(v, "title", ""));
	/* 409 is also the answer to a wrong order of things; only "stale" takes the job away. */
	if (rc == RC_STALE && v && !str_ends(jx_get_str(v, "type", ""), "stale"))
		rc = RC_CONFLICT;
	err_set(e, rc, "%s: HTTP %d%s%s", what, r->status, *detail ? ": " : "", detail);
	json_decref(v);
	return rc;
}

static enum rc read_reply(const struct fetch_resp *r, const char *what, json_t **reply,
			  struct err *e)
{
	if (!reply)
		return RC_OK;
	*reply = NULL;
	if (r->status == 204 || r->body.len == 0)
		return RC_OK;
	return jx_parse(r->body.data, r->body.len, what, reply, e);
}

enum rc client_post(const struct client *c, const char *what, json_t *body, int64_t timeout_ms,
		    json_t **reply, struct err *e)
{
	char url[URL_MAX];
	struct buf text = BUF_INIT;
	struct fetch_resp r = {0};

	jx_dump(body, &text);
	json_decref(body);
	str_fmt(url, sizeof url, "%s/api/v1/worker/%s", c->url, what);
	struct fetch_req q = {.method = "POST",
			      .url = url,
			      .token = c->token,
			      .body = text.data,
			      .body_len = text.len,
			      .timeout_ms = timeout_ms};
	enum rc rc = fetch(&q, &r, e);
	if (rc == RC_OK)
		rc = code_of(r.status) == RC_OK ? read_reply(&r, what, reply, e) : refuse(&r, what, e);
	fetch_resp_release(&r);
	buf_release(&text);
	return rc;
}

/* --- blobs ----------------------------------------------------------------------------------- */

static void blob_url(const struct client *c, const char *digest, char out[URL_MAX])
{
	str_fmt(out, URL_MAX, "%s/api/v1/worker/blobs/%s", c->url, digest);
}

enum rc client_blob_has(const struct client *c, const char *digest, bool *has, struct err *e)
{
	char url[URL_MAX];
	struct fetch_resp r = {0};

	blob_url(c, digest, url);
	struct fetch_req q = {.method = "HEAD", .url = url, .token = c->token};
	enum rc rc = fetch(&q, &r, e);
	*has = rc == RC_OK && r.status == 200;
	if (rc == RC_OK && r.status != 200 && r.status != 404)
		rc = refuse(&r, "looking for a blob", e);
	fetch_resp_release(&r);
	return rc;
}

static enum rc put_whole(const struct client *c, const char *digest, const char *path,
			 struct err *e)
{
	char url[URL_MAX];
	struct fetch_resp r = {0};

	blob_url(c, digest, url);
	struct fetch_req q = {.method = "PUT",
			      .url = url,
			      .token = c->token,
			      .body_file = path,
			      .content_type = "application/x-tar",
			      .timeout_ms = BLOB_TIMEOUT_MS};
	enum rc rc = fetch(&q, &r, e);
	if (rc == RC_OK && code_of(r.status) != RC_OK)
		rc = refuse(&r, "sending a blob", e);
	fetch_resp_release(&r);
	return rc;
}

/* Where to go on; -1 when the server has all of it. */
static enum rc upload_offset(const struct client *c, const char *url, int64_t *offset, struct err *e)
{
	struct fetch_req q = {.method = "GET", .url = url, .token = c->token};
	struct fetch_resp r = {0};
	json_t *v = NULL;
	enum rc rc = fetch(&q, &r, e);

	if (rc == RC_OK && code_of(r.status) != RC_OK)
		rc = refuse(&r, "looking for an upload", e);
	if (rc == RC_OK)
		rc = read_reply(&r, "looking for an upload", &v, e);
	if (rc == RC_OK)
		*offset = jx_get_bool(v, "existed", false) ? -1 : jx_get_i64(v, "offset", 0);
	json_decref(v);
	fetch_resp_release(&r);
	return rc;
}

static enum rc put_piece(const struct client *c, const char *url, const char *path, int64_t at,
			 int64_t size, struct err *e)
{
	char to[URL_MAX + 64];
	struct fetch_resp r = {0};

	str_fmt(to, sizeof to, "%s?offset=%lld&size=%lld", url, (long long)at, (long long)size);
	struct fetch_req q = {.method = "PUT",
			      .url = to,
			      .token = c->token,
			      .body_file = path,
			      .body_offset = at,
			      .body_size = size - at < c->piece ? size - at : c->piece,
			      .content_type = "application/x-tar",
			      .timeout_ms = BLOB_TIMEOUT_MS};
	enum rc rc = fetch(&q, &r, e);
	if (rc == RC_OK && code_of(r.status) != RC_OK)
		rc = refuse(&r, "sending a piece of a blob", e);
	fetch_resp_release(&r);
	return rc;
}

/* Each piece anew from where the server is; given up when PUTS_MAX in a row brought it no further. */
static enum rc put_pieces(const struct client *c, const char *digest, const char *path, int64_t size,
			  struct err *e)
{
	char url[URL_MAX];
	int64_t at = 0, before = -1;
	int futile = 0;
	enum rc rc;

	blob_url(c, digest, url);
	size_t len = strlen(url);
	str_fmt(url + len, sizeof url - len, "/upload");
	while ((rc = upload_offset(c, url, &at, e)) == RC_OK && at >= 0) {
		futile = at > before ? 0 : futile + 1;
		before = at;
		if (futile == PUTS_MAX)
			return err_set(e, RC_UNREACHABLE, "blob %.12s stays at %lld of %lld bytes",
				       digest, (long long)at, (long long)size);
		/* All of it may be there and not yet be named: then nothing more is sent. */
		rc = put_piece(c, url, path, at, size, e);
		if (rc != RC_OK && rc != RC_CONFLICT && rc != RC_UNREACHABLE && rc != RC_TIMEOUT)
			return rc;
		if (rc != RC_OK && futile > 0)
			clk_sleep_ms(client_backoff_ms(futile));
		*e = (struct err){0};
	}
	return rc;
}

enum rc client_blob_put(const struct client *c, const char *digest, const char *path,
			struct err *e)
{
	int64_t size = fs_size(path);

	return size > c->piece ? put_pieces(c, digest, path, size, e)
			       : put_whole(c, digest, path, e);
}

struct blob_file {
	int fd;
	const char *path;
	enum rc rc;
	struct err e;
};

static int write_sink(void *ctx, const void *data, size_t len)
{
	struct blob_file *f = ctx;

	f->rc = fs_write_all(f->fd, f->path, data, len, &f->e);
	return f->rc != RC_OK;
}

enum rc client_blob_get(const struct client *c, const char *digest, const char *path,
			struct err *e)
{
	char url[URL_MAX];
	struct fetch_resp r = {0};
	struct blob_file f = {.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644),
			      .path = path};

	if (f.fd < 0)
		return err_set(e, RC_IO, "%s: %m", path);
	blob_url(c, digest, url);
	struct fetch_req q = {.method = "GET",
			      .url = url,
			      .token = c->token,
			      .timeout_ms = BLOB_TIMEOUT_MS,
			      .sink = write_sink,
			      .sink_ctx = &f};
	enum rc rc = fetch(&q, &r, e);
	if (f.rc != RC_OK) /* Not the server's fault: the disk is full, or ill. */
		rc = err_set(e, f.rc, "%s", f.e.text);
	if (rc == RC_OK && r.status != 200)
		rc = err_set(e, code_of(r.status) == RC_OK ? RC_INVALID : code_of(r.status),
			     "fetching blob %.12s: HTTP %d", digest, r.status);
	if (close(f.fd) != 0 && rc == RC_OK)
		rc = err_set(e, RC_IO, "%s: %m", path);
	fetch_resp_release(&r);
	return rc;
}

/* --- log ------------------------------------------------------------------------------------- */

/* "X-Log-Size: N" of an answer. */
static void read_log_size(void *ctx, const char *line, size_t len)
{
	static const char name[] = "x-log-size:";
	char value[32];

	if (len <= sizeof name - 1 || strncasecmp(line, name, sizeof name - 1) != 0)
		return;
	struct str v = str_trim((struct str){line + sizeof name - 1, len - (sizeof name - 1)});
	if (v.len >= sizeof value)
		return;
	memcpy(value, v.p, v.len);
	value[v.len] = 0;
	(void)str_to_i64(value, ctx);
}

enum rc client_log(const struct client *c, const char *job, const char *token, int64_t attempt,
		   int64_t offset, const void *data, size_t len, int64_t *have, struct err *e)
{
	char url[URL_MAX];
	struct fetch_resp r = {0};

	*have = -1;
	str_fmt(url, sizeof url,
		"%s/api/v1/worker/log?job=%s&token=%s&attempt=%lld&offset=%lld", c->url, job, token,
		(long long)attempt, (long long)offset);
	struct fetch_req q = {.method = "POST",
			      .url = url,
			      .token = c->token,
			      .body = data,
			      .body_len = len,
			      .content_type = "application/octet-stream",
			      .timeout_ms = 20000,
			      .on_header = read_log_size,
			      .sink_ctx = have};
	enum rc rc = fetch(&q, &r, e);
	if (rc == RC_OK && code_of(r.status) != RC_OK)
		rc = refuse(&r, "sending log", e);
	fetch_resp_release(&r);
	return rc;
}

int64_t client_backoff_ms(int n)
{
	uint16_t dice;
	int64_t cap = n > 6 ? BACKOFF_MAX_MS : 250LL << n;

	random_bytes(&dice, sizeof dice);
	if (cap > BACKOFF_MAX_MS)
		cap = BACKOFF_MAX_MS;
	return cap / 2 + cap / 2 * dice / 65536;
}
