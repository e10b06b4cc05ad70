#include "server/http.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"
#include "server/forwarded.h"
#include "server/reply.h"
#include "server/server.h"
#include "server/slow.h"

#include <civetweb.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define WRITE_SLICE (256u * 1024)
#define READ_MS 20000 /* for one piece of a body: a JSON body, or 256 KiB of an upload */
#define HEADERS_MAX 64 /* CivetWeb drops what comes after these without a word */

struct http {
	struct mg_context *ctx;
	struct server *srv;
	struct http_opts o;
	char *hosts; /* owned; comma list */
	int port;
};

/* --- addresses and hosts ------------------------------------------------------------------ */

bool http_is_loopback(const char *host)
{
	return strcmp(host, "localhost") == 0 || str_starts(host, "127.") ||
	       strcmp(host, "::1") == 0 || strcmp(host, "[::1]") == 0;
}

enum rc http_listen_parse(const char *text, char *host, size_t size, int *port, struct err *e)
{
	const char *colon = strrchr(text, ':');
	const char *digits = colon ? colon + 1 : text;
	size_t host_len = colon ? (size_t)(colon - text) : 0;
	size_t n = strlen(digits);
	int64_t value;

	if (n > 1 && (digits[n - 1] == 's' || digits[n - 1] == 'r'))
		return err_set(
			e, RC_INVALID,
			"listen address \"%s\" asks for TLS (suffix '%c'), which this server does "
			"not "
			"speak; listen on plain HTTP at 127.0.0.1 and put a reverse proxy in front",
			text, digits[n - 1]);
	if (!str_to_i64(digits, &value) || value < 0 || value > 65535)
		return err_set(e, RC_INVALID, "listen address \"%s\": expected host:port", text);
	if (host_len >= size)
		return err_set(e, RC_INVALID, "listen address \"%s\": host is too long", text);
	if (host_len)
		str_fmt(host, size, "%.*s", (int)host_len, text);
	else
		str_copy(host, size, colon ? "0.0.0.0" : "127.0.0.1");
	*port = (int)value;
	return RC_OK;
}

/* Host part of "host", "host:port", "[v6]" or "[v6]:port". */
static struct str host_only(const char *text)
{
	const char *end;

	if (text[0] == '[' && (end = strchr(text, ']')))
		return (struct str){text + 1, (size_t)(end - text - 1)};
	end = strchr(text, ':');
	return (struct str){text, end ? (size_t)(end - text) : strlen(text)};
}

bool http_host_allowed(const char *host, const char *hosts)
{
	struct str want = host_only(host);

	while (*hosts) {
		size_t n = strcspn(hosts, ",");
		struct str item = str_trim((struct str){hosts, n});

		if (item.len == 1 && item.p[0] == '*')
			return true;
		if (want.len && item.len == want.len && strncasecmp(item.p, want.p, want.len) == 0)
			return true;
		hosts += n + (hosts[n] == ',');
	}
	return false;
}

static char *hosts_list(const struct http_opts *o, const char *listen_host)
{
	struct buf b = BUF_INIT;
	const char *url = strstr(o->public_url, "://");

	buf_printf(&b, "localhost,127.0.0.1,::1,%s", listen_host);
	if (url) {
		const char *h = url + 3;
		struct str host;
		char *copy = mem_strn(h, strcspn(h, "/"));

		host = host_only(copy);
		buf_printf(&b, ",%.*s", (int)host.len, host.p);
		free(copy);
	}
	if (o->allowed_hosts[0])
		buf_printf(&b, ",%s", o->allowed_hosts);
	return buf_detach(&b);
}

/* --- the gate ------------------------------------------------------------------------------ */

static bool has_control(const char *s)
{
	for (; s && *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return true;
	return false;
}

/* %00 to %1f and %7f; a tab is allowed. */
static bool has_encoded_control(const char *s)
{
	for (; s && *s; s++) {
		char hex[3] = {0};
		long v;

		if (*s != '%' || !isxdigit((unsigned char)s[1]) || !isxdigit((unsigned char)s[2]))
			continue;
		hex[0] = s[1], hex[1] = s[2];
		v = strtol(hex, NULL, 16);
		if ((v < 0x20 && v != '\t') || v == 0x7f)
			return true;
	}
	return false;
}

static int count_header(const struct mg_request_info *ri, const char *name)
{
	int n = 0;

	for (int i = 0; i < ri->num_headers; i++)
		n += strcasecmp(ri->http_headers[i].name, name) == 0;
	return n;
}

/* Digits alone: CivetWeb reads "0x10" as 0 and "5, 5" as 5 where others read something else. */
static bool length_is_plain(const struct mg_request_info *ri)
{
	for (int i = 0; i < ri->num_headers; i++) {
		const char *v = ri->http_headers[i].value;
		size_t n = strlen(v);

		if (strcasecmp(ri->http_headers[i].name, "Content-Length") == 0 &&
		    (!n || n > 18 || strspn(v, "0123456789") != n))
			return false;
	}
	return true;
}

/* NULL when the request may pass, else why not. */
static const char *gate_reason(const struct http *h, const struct mg_request_info *ri, int *status)
{
	const char *host = NULL;

	*status = 431;
	if (ri->num_headers >= HEADERS_MAX)
		return "too many headers";
	*status = 400;
	for (int i = 0; i < ri->num_headers; i++) {
		if (strcasecmp(ri->http_headers[i].name, "Host") == 0)
			host = ri->http_headers[i].value;
		if (has_control(ri->http_headers[i].value) || has_control(ri->http_headers[i].name))
			return "a header holds a control character";
	}
	if (!ri->local_uri || ri->local_uri[0] != '/')
		return "the request target is not a path";
	if (has_control(ri->local_uri) || has_encoded_control(ri->local_uri))
		return "the path holds a control character";
	if (has_control(ri->query_string) || has_encoded_control(ri->query_string))
		return "the query holds a control character";
	if (count_header(ri, "Content-Length") > 1)
		return "more than one Content-Length";
	if (!length_is_plain(ri))
		return "Content-Length is no plain number";
	if (count_header(ri, "Host") > 1)
		return "more than one Host";
	if (count_header(ri, "Transfer-Encoding") > 0) {
		*status = count_header(ri, "Content-Length") ? 400 : 411;
		return "Transfer-Encoding is not accepted; send Content-Length";
	}
	if (!host || !host[0])
		return "no Host header";
	*status = 421;
	if (!http_host_allowed(host, h->hosts))
		return "this Host is not served here; see server.allowed_hosts";
	return NULL;
}

/* CivetWeb would decode in place and cut the path at a NUL; so it does not decode at all. */
static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static char *url_decode(struct req *r, const char *s, size_t len, bool plus)
{
	char *out = arena_take(&r->arena, len + 1);
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		char c = s[i];

		if (c == '+' && plus)
			c = ' ';
		else if (c == '%' && i + 2 < len && hex_value(s[i + 1]) >= 0 &&
			 hex_value(s[i + 2]) >= 0) {
			c = (char)(hex_value(s[i + 1]) * 16 + hex_value(s[i + 2]));
			i += 2;
		}
		out[n++] = c;
	}
	out[n] = 0;
	return out;
}

/* The last X-Forwarded-For is that of the proxy next to us. */
static const char *client_of(struct req *r, const struct http *h, const struct mg_request_info *ri)
{
	const char *header = NULL;
	char addr[FORWARDED_ADDR_MAX];

	for (int i = 0; i < ri->num_headers; i++)
		if (strcasecmp(ri->http_headers[i].name, "X-Forwarded-For") == 0)
			header = ri->http_headers[i].value;
	if (header && forwarded_client(ri->remote_addr, header, h->o.trusted_proxies, addr))
		return arena_str(&r->arena, addr);
	return ri->remote_addr;
}

static void req_open(struct req *r, struct http *h, struct mg_connection *conn,
		     const struct mg_request_info *ri)
{
	uint8_t raw[8];

	memset(r, 0, sizeof *r);
	random_bytes(raw, sizeof raw);
	for (size_t i = 0; i < sizeof raw; i++)
		snprintf(r->id + 2 * i, 3, "%02x", raw[i]);
	r->srv = h->srv;
	r->conn = conn;
	r->method = ri->request_method;
	r->query = ri->query_string ? ri->query_string : "";
	r->body_len = ri->content_length;
	r->head = strcmp(r->method, "HEAD") == 0;
	r->started_us = (int64_t)(clk_mono_s() * 1e6);
	arena_init(&r->arena);
	r->remote = client_of(r, h, ri);
	r->path = ri->local_uri ? url_decode(r, ri->local_uri, strlen(ri->local_uri), false) : "/";
}

static void req_close(struct req *r)
{
	struct server_stats *st = &r->srv->stats;
	int64_t us = (int64_t)(clk_mono_s() * 1e6) - r->started_us;
	int class = r->status / 100;

	if (r->status == 0)
		reply_problem(r, 500, "internal", "the handler gave no answer");
	if (class >= 1 && class <= 5)
		atomic_fetch_add_explicit(&st->requests[class], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&st->request_us, us, memory_order_relaxed);
	log_line(r->status >= 500 ? LOG_WARN : LOG_DEBUG, "http", "request",
		 "id=%s method=%s path=%s status=%d us=%lld who=%s", r->id, r->method, r->path,
		 r->status, (long long)us, r->who.name);
	buf_release(&r->headers);
	buf_release(&r->body);
	buf_release(&r->answer);
	arena_release(&r->arena);
}

/* CivetWeb's begin_request: every request, before any routing of its own. Answering here keeps
 * its file server, CORS replies and form parser out of reach. */
static int begin_request(struct mg_connection *conn)
{
	const struct mg_request_info *ri = mg_get_request_info(conn);
	struct http *h = mg_get_user_data(mg_get_context(conn));
	struct server_stats *st = &h->srv->stats;
	struct req r;
	int status, busy = atomic_fetch_add(&st->in_flight, 1) + 1;
	const char *why;

	req_open(&r, h, conn, ri);
	why = gate_reason(h, ri, &status);
	if (why) {
		atomic_fetch_add(&st->refused_gate, 1);
		r.close = true;
		reply_problem(&r, status, "bad-request", "%s", why);
	} else if (busy > h->o.threads - HTTP_RESERVED_THREADS && !h->o.always(r.method, r.path)) {
		atomic_fetch_add(&st->refused_busy, 1);
		r.close = true;
		req_add_header(&r, "Retry-After", "2");
		reply_problem(&r, 503, "busy", "all request threads are taken");
	} else {
		h->o.handle(&r);
	}
	status = r.status;
	req_close(&r);
	atomic_fetch_sub(&st->in_flight, 1);
	return status ? status : 500;
}

/* What CivetWeb refuses by itself, before begin_request: malformed or too long a head, a time-out. Its
 * words stay out, they may repeat what came. */
static int refused_early(struct mg_connection *conn, int status, const char *message)
{
	struct http *h = mg_get_user_data(mg_get_context(conn));
	struct buf b = BUF_INIT, body = BUF_INIT;

	(void)message;
	atomic_fetch_add(&h->srv->stats.refused_gate, 1);
	buf_printf(&body,
		   "{\"detail\":\"the request cannot be read\",\"status\":%d,\"title\":\"%s\","
		   "\"type\":\"bad-request\"}\n",
		   status, http_status_text(status));
	buf_printf(&b,
		   "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: "
		   "application/problem+json\r\nContent-Length: %zu\r\n\r\n",
		   status, http_status_text(status), body.len);
	buf_append(&b, body.data, body.len);
	mg_write(conn, b.data, b.len);
	mg_disable_connection_keep_alive(conn);
	buf_release(&body);
	buf_release(&b);
	return 0;
}

static int log_message(const struct mg_connection *conn, const char *message)
{
	(void)conn;
	log_debug("http", "civetweb", "message=%s", message);
	return 1;
}

/* --- start and stop ------------------------------------------------------------------------ */

enum rc http_start(const struct http_opts *o, struct server *srv, struct http **out, struct err *e)
{
	char host[256], ports[300], threads[16], text[256] = "";
	const char *options[] = {"listening_ports",
				 ports,
				 "num_threads",
				 threads,
				 "connection_queue",
				 "64",
				 "listen_backlog",
				 "256",
				 "request_timeout_ms",
				 "20000",
				 "enable_keep_alive",
				 "yes",
				 "keep_alive_timeout_ms",
				 "2000",
				 "tcp_nodelay",
				 "1",
				 "max_request_size",
				 "16384",
				 "enable_directory_listing",
				 "no",
				 "cgi_pattern",
				 "",
				 "ssi_pattern",
				 "",
				 "access_control_allow_origin",
				 "",
				 "access_control_allow_methods",
				 "",
				 "access_control_allow_headers",
				 "",
				 "decode_url",
				 "no",
				 NULL};
	struct mg_callbacks cb = {.begin_request = begin_request,
				  .http_error = refused_early,
				  .log_message = log_message};
	struct mg_error_data error = {.text = text, .text_buffer_size = sizeof text};
	struct http *h = mem_new(sizeof *h);
	struct mg_init_data init = {&cb, h, options};
	struct mg_server_port bound[1];
	int port;
	enum rc rc = http_listen_parse(o->listen, host, sizeof host, &port, e);

	if (!rc)
		rc = slow_start(e);
	if (rc) {
		free(h);
		return rc;
	}
	str_fmt(ports, sizeof ports, "%s:%d", strcmp(host, "localhost") ? host : "127.0.0.1", port);
	str_fmt(threads, sizeof threads, "%d", o->threads);
	h->srv = srv;
	h->o = *o;
	h->hosts = hosts_list(o, host);
	mg_init_library(0);
	h->ctx = mg_start2(&init, &error);
	if (!h->ctx) {
		slow_stop();
		free(h->hosts);
		free(h);
		return err_set(e, RC_IO, "cannot listen on %s: %s", ports, text);
	}
	h->port = mg_get_server_ports(h->ctx, 1, bound) > 0 ? bound[0].port : port;
	*out = h;
	return RC_OK;
}

int http_port(const struct http *h)
{
	return h->port;
}

void http_stop(struct http *h)
{
	if (!h)
		return;
	mg_stop(h->ctx);
	slow_stop();
	mg_exit_library();
	free(h->hosts);
	free(h);
}

/* --- reading ------------------------------------------------------------------------------- */

const char *req_header(const struct req *r, const char *name)
{
	return mg_get_header(r->conn, name);
}

const char *req_cookie(struct req *r, const char *name)
{
	const char *all = req_header(r, "Cookie");
	size_t n = strlen(name);

	while (all && *all) {
		size_t len;

		all += strspn(all, "; ");
		len = strcspn(all, ";");
		if (len > n && strncmp(all, name, n) == 0 && all[n] == '=')
			return arena_strn(&r->arena, all + n + 1, len - n - 1);
		all += len;
	}
	return NULL;
}

const char *req_query(struct req *r, const char *name)
{
	const char *p = r->query;
	size_t n = strlen(name);

	while (*p) {
		size_t len = strcspn(p, "&");

		if (len > n && strncmp(p, name, n) == 0 && p[n] == '=')
			return url_decode(r, p + n + 1, len - n - 1, true);
		p += len + (p[len] == '&');
	}
	return NULL;
}

bool req_query_each(struct req *r, bool (*see)(void *ctx, const char *name), void *ctx)
{
	const char *p = r->query;

	while (*p) {
		size_t len = strcspn(p, "&"), key = strcspn(p, "=&");

		if (len && !see(ctx, url_decode(r, p, key, true)))
			return false;
		p += len + (p[len] == '&');
	}
	return true;
}

bool req_query_i64(struct req *r, const char *name, int64_t dflt, int64_t min, int64_t max,
		   int64_t *out)
{
	const char *text = req_query(r, name);

	*out = dflt;
	if (!text || !text[0])
		return true;
	if (str_to_i64(text, out) && *out >= min && *out <= max)
		return true;
	reply_problem(r, 400, "invalid",
		      "query parameter \"%s\" is \"%s\"; expected a number from %lld to %lld", name,
		      text, (long long)min, (long long)max);
	return false;
}

bool req_query_f64(struct req *r, const char *name, double dflt, double *out)
{
	const char *text = req_query(r, name);

	*out = dflt;
	if (!text || !text[0] || str_to_f64(text, out))
		return true;
	reply_problem(r, 400, "invalid", "query parameter \"%s\" is \"%s\"; expected a number",
		      name, text);
	return false;
}

int req_read(struct req *r, void *out, size_t size)
{
	const struct mg_request_info *ri = mg_get_request_info(r->conn);
	struct slow_read slow;
	const char *expect;
	int got;

	if (r->body_len <= 0 || r->body_read >= r->body_len)
		return 0;
	expect = r->body_read == 0 ? req_header(r, "Expect") : NULL;
	if (expect && strcasecmp(expect, "100-continue") == 0)
		mg_write(r->conn, "HTTP/1.1 100 Continue\r\n\r\n", 25);
	if ((int64_t)size > r->body_len - r->body_read)
		size = (size_t)(r->body_len - r->body_read);
	slow_begin(&slow, ri->remote_addr, ri->remote_port, READ_MS);
	got = mg_read(r->conn, out, size);
	slow_end(&slow);
	if (got <= 0) {
		r->broken = r->close = true;
		return -1;
	}
	r->body_read += got;
	atomic_fetch_add_explicit(&r->srv->stats.bytes_in, got, memory_order_relaxed);
	return got;
}

enum rc req_keep_body(struct req *r, size_t size_max, struct err *e)
{
	enum rc rc = req_body(r, size_max, &r->body, e);

	r->has_body = rc == RC_OK;
	return rc;
}

enum rc req_body(struct req *r, size_t size_max, struct buf *out, struct err *e)
{
	if (r->has_body) {
		buf_append(out, r->body.data ? r->body.data : "", r->body.len);
		return RC_OK;
	}
	if (r->body_len > (int64_t)size_max) {
		r->close = true;
		return err_set(e, RC_INVALID,
			       "request body has %lld bytes; at most %zu are accepted",
			       (long long)r->body_len, size_max);
	}
	if (r->body_len > 0)
		buf_reserve(out, (size_t)r->body_len);
	while (r->body_len > 0 && r->body_read < r->body_len) {
		int got = req_read(r, out->data + out->len, (size_t)(r->body_len - r->body_read));

		if (got < 0)
			return err_set(e, RC_INVALID, "request body ended after %lld of %lld bytes",
				       (long long)r->body_read, (long long)r->body_len);
		out->len += (size_t)got;
	}
	if (out->data)
		out->data[out->len] = 0;
	return RC_OK;
}

/* --- writing ------------------------------------------------------------------------------- */

static const struct {
	int status;
	const char *text;
} statuses[] = {
	{200, "OK"},
	{201, "Created"},
	{202, "Accepted"},
	{204, "No Content"},
	{206, "Partial Content"},
	{302, "Found"},
	{303, "See Other"},
	{304, "Not Modified"},
	{400, "Bad Request"},
	{401, "Unauthorized"},
	{403, "Forbidden"},
	{404, "Not Found"},
	{405, "Method Not Allowed"},
	{406, "Not Acceptable"},
	{408, "Request Timeout"},
	{409, "Conflict"},
	{410, "Gone"},
	{411, "Length Required"},
	{412, "Precondition Failed"},
	{413, "Content Too Large"},
	{415, "Unsupported Media Type"},
	{416, "Range Not Satisfiable"},
	{421, "Misdirected Request"},
	{422, "Unprocessable Content"},
	{414, "URI Too Long"},
	{428, "Precondition Required"},
	{431, "Request Header Fields Too Large"},
	{429, "Too Many Requests"},
	{500, "Internal Server Error"},
	{501, "Not Implemented"},
	{505, "HTTP Version Not Supported"},
	{503, "Service Unavailable"},
	{507, "Insufficient Storage"},
};

const char *http_status_text(int status)
{
	for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
		if (statuses[i].status == status)
			return statuses[i].text;
	return "Unknown";
}

void req_add_header(struct req *r, const char *name, const char *fmt, ...)
{
	char value[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(value, sizeof value, fmt, ap);
	va_end(ap);
	for (char *p = value; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	buf_printf(&r->headers, "%s: %s\r\n", name, value);
}

/* What CivetWeb will do after us: it looks at the request's Connection header and version. */
static bool keeps_alive(const struct req *r)
{
	const char *connection = req_header(r, "Connection");
	const struct mg_request_info *ri = mg_get_request_info(r->conn);

	if (r->close || atomic_load(&r->srv->stopping))
		return false;
	if (r->body_len > 0 && r->body_read < r->body_len)
		return false; /* Unread body bytes must never be taken for the next request. */
	if (connection)
		return strcasestr(connection, "keep-alive") != NULL;
	return ri->http_version && strcmp(ri->http_version, "1.1") == 0;
}

static void write_head(struct req *r, struct buf *b, int status, const char *type, int64_t len)
{
	time_t now = (time_t)(clk_now_ms() / 1000);
	bool keep = len >= 0 && keeps_alive(r);
	struct tm tm;
	char date[40];

	gmtime_r(&now, &tm);
	strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
	if (!keep) {
		r->close = true;
		mg_disable_connection_keep_alive(r->conn);
	}
	buf_printf(b, "HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: %s\r\nX-Request-Id: %s\r\n",
		   status, http_status_text(status), date, keep ? "keep-alive" : "close", r->id);
	buf_puts(b, "X-Content-Type-Options: nosniff\r\nReferrer-Policy: same-origin\r\n"
		    "Cross-Origin-Resource-Policy: same-origin\r\nCross-Origin-Opener-Policy: "
		    "same-origin\r\n");
	if (type)
		buf_printf(b, "Content-Type: %s\r\n", type);
	if (len >= 0 && status != 304 && status != 204)
		buf_printf(b, "Content-Length: %lld\r\n", (long long)len);
	if (r->headers.len)
		buf_append(b, r->headers.data, r->headers.len);
	buf_puts(b, "\r\n");
}

static bool send_all(struct req *r, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0 && !r->broken) {
		size_t slice = len < WRITE_SLICE ? len : WRITE_SLICE;
		int n = mg_write(r->conn, p, slice);

		if (n <= 0) {
			r->broken = r->close = true;
			mg_disable_connection_keep_alive(r->conn);
			break;
		}
		atomic_fetch_add_explicit(&r->srv->stats.bytes_out, n, memory_order_relaxed);
		p += n;
		len -= (size_t)n;
	}
	return !r->broken;
}

/* Whether the answer is to be sent: the first one, and not in a probe. */
static bool begins(struct req *r, int status)
{
	void (*ending)(struct req *, int) = r->ending;

	if (r->status)
		return false;
	r->status = status;
	r->ending = NULL;
	if (ending && !r->probe)
		ending(r, status);
	return !r->probe;
}

void req_send(struct req *r, int status, const char *type, const void *data, size_t len)
{
	struct buf b = BUF_INIT;
	bool body = !r->head && status != 304 && status != 204;

	if (!begins(r, status))
		return;
	write_head(r, &b, status, type, (int64_t)len);
	if (body && len <= WRITE_SLICE)
		buf_append(&b, data, len); /* One segment for small answers. */
	if (send_all(r, b.data, b.len) && body && len > WRITE_SLICE)
		send_all(r, data, len);
	buf_release(&b);
}

void req_begin(struct req *r, int status, const char *type, int64_t len)
{
	struct buf b = BUF_INIT;

	if (!begins(r, status))
		return;
	write_head(r, &b, status, type, len);
	send_all(r, b.data, b.len);
	buf_release(&b);
}

bool req_write(struct req *r, const void *data, size_t len)
{
	if (r->head || r->probe)
		return true;
	return send_all(r, data, len);
}

void req_abort(struct req *r)
{
	r->close = r->broken = true;
	mg_disable_connection_keep_alive(r->conn);
}
