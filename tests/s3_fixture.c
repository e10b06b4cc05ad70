#include "tests/s3_fixture.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"
#include "store/sigv4.h"
#include "tests/test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define OBJECTS 4096
#define UPLOADS 64
#define PARTS 512
#define HEADERS 32

struct object {
	char *key, *data;
	size_t len;
};

struct upload {
	char id[16], *key;
	struct object parts[PARTS]; /* by number */
};

static struct {
	pthread_mutex_t lock;
	int fd, requests, refused, page, n_uploads;
	int64_t ahead_s;
	struct object objects[OBJECTS];
	struct upload uploads[UPLOADS];
	struct {
		char method[8], part[64], code[40];
		int times, arg;
		enum s3_fault fault;
	} fault;
} srv = {.lock = PTHREAD_MUTEX_INITIALIZER, .page = 1000};

struct request {
	int fd;
	char *text, *body; /* owned; body inside text */
	size_t body_len;
	char *method, *target, *path, *raw_query, *key;
	struct sigv4_pair query[16], headers[HEADERS];
	size_t n_query, n_headers;
	bool head;
};

/* --- reading ---------------------------------------------------------------------------------- */

static void decode(char *s)
{
	char *out = s;

	for (; *s; s++) {
		unsigned v;
		if (*s == '%' && sscanf(s + 1, "%2x", &v) == 1) {
			*out++ = (char)v;
			s += 2;
		} else {
			*out++ = *s;
		}
	}
	*out = 0;
}

static const char *find(const struct sigv4_pair *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcasecmp(list[i].name, name))
			return list[i].value;
	return NULL;
}

static const char *header(const struct request *r, const char *name)
{
	return find(r->headers, r->n_headers, name);
}

static const char *query(const struct request *r, const char *name)
{
	return find(r->query, r->n_query, name);
}

static bool read_head(struct request *r, struct buf *in)
{
	char *end, chunk[8192];

	while (!in->data || !(end = strstr(in->data, "\r\n\r\n"))) {
		ssize_t n = read(r->fd, chunk, sizeof(chunk));
		if (n <= 0 || in->len > 65536)
			return false;
		buf_append(in, chunk, (size_t)n);
	}
	size_t head = (size_t)(end - in->data) + 4;
	const char *len = strcasestr(in->data, "\r\nContent-Length:");
	r->body_len = len && len < end ? strtoul(len + 17, NULL, 10) : 0;
	while (in->len < head + r->body_len) {
		ssize_t n = read(r->fd, chunk, sizeof(chunk));
		if (n <= 0)
			return false;
		buf_append(in, chunk, (size_t)n);
	}
	CHECK(in->len == head + r->body_len); /* One request at a time. */
	r->text = buf_detach(in);
	r->text[head - 4] = 0;
	r->body = r->text + head;
	return true;
}

static void split(struct request *r)
{
	char *save, *line = strtok_r(r->text, "\r\n", &save), *words;

	r->method = strtok_r(line, " ", &words);
	r->target = strtok_r(NULL, " ", &words);
	while ((line = strtok_r(NULL, "\r\n", &save)) && r->n_headers < HEADERS) {
		char *colon = strchr(line, ':');
		*colon = 0;
		r->headers[r->n_headers++] =
			(struct sigv4_pair){line, colon + 1 + strspn(colon + 1, " ")};
	}
	r->path = mem_str(r->target);
	r->raw_query = strchr(r->path, '?');
	if (r->raw_query) {
		*r->raw_query++ = 0;
		for (char *p = strtok_r(r->raw_query, "&", &save); p && r->n_query < 16;
		     p = strtok_r(NULL, "&", &save)) {
			char *eq = strchr(p, '=');
			if (eq)
				*eq++ = 0;
			decode(p);
			if (eq)
				decode(eq);
			r->query[r->n_query++] = (struct sigv4_pair){p, eq ? eq : ""};
		}
	}
	r->key = mem_str(r->path);
	decode(r->key);
	r->head = !strcmp(r->method, "HEAD");
}

/* --- answering -------------------------------------------------------------------------------- */

static bool send_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

/* `cut`: bytes of the body before the line breaks, or -1. */
static bool answer(struct request *r, int status, const char *extra, const char *body, size_t len,
		   int cut)
{
	struct buf b = BUF_INIT;
	char date[64];
	time_t now = time(NULL) + srv.ahead_s;
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	buf_printf(&b, "HTTP/1.1 %d X\r\nDate: %s\r\nContent-Length: %zu\r\n%s\r\n", status, date,
		   len, extra);
	bool ok = send_all(r->fd, b.data, b.len);
	if (ok && !r->head)
		ok = send_all(r->fd, body, cut >= 0 && (size_t)cut < len ? (size_t)cut : len);
	buf_release(&b);
	return ok && cut < 0;
}

static bool refuse(struct request *r, int status, const char *code)
{
	char xml[256];

	snprintf(xml, sizeof(xml),
		 "<?xml version=\"1.0\"?>\n<Error><Code>%s</Code><Message>told to "
		 "&amp; did</Message></Error>",
		 code);
	return answer(r, status, "Content-Type: application/xml\r\n", xml, strlen(xml), -1);
}

/* --- who is asking ---------------------------------------------------------------------------- */

static const char *verify(struct request *r)
{
	const char *auth = header(r, "Authorization"), *sha = header(r, "x-amz-content-sha256"),
		   *date = header(r, "x-amz-date");
	struct sigv4_pair used[HEADERS];
	struct buf want = BUF_INIT;
	char hex[SHA256_HEX_SIZE], names[1024], *save;
	struct tm tm = {0};
	size_t n = 0;

	if (!auth || !sha || !date || !strptime(date, "%Y%m%dT%H%M%SZ", &tm))
		return "AccessDenied";
	if (llabs(timegm(&tm) - (time(NULL) + srv.ahead_s)) > 900)
		return "RequestTimeTooSkewed";
	const char *list = strstr(auth, "SignedHeaders=");
	snprintf(names, sizeof(names), "%.*s", list ? (int)strcspn(list + 14, ",") : 0,
		 list ? list + 14 : "");
	for (char *p = strtok_r(names, ";", &save); p; p = strtok_r(NULL, ";", &save))
		used[n++] = (struct sigv4_pair){p, header(r, p) ? header(r, p) : ""};
	const struct sigv4_req q = {.method = r->method,
				    .path = r->path,
				    .query = r->query,
				    .n_query = r->n_query,
				    .headers = used,
				    .n_headers = n,
				    .payload = sha,
				    .region = "us-east-1",
				    .service = "s3",
				    .time = date,
				    .key_id = S3_FIXTURE_ID,
				    .secret = S3_FIXTURE_SECRET};
	sigv4_authorization(&q, &want);
	bool same = !strcmp(want.data, auth);
	buf_release(&want);
	sha256_of(r->body, r->body_len, hex);
	if (!same || !list || !strstr(list, "host"))
		return "SignatureDoesNotMatch";
	return strcmp(hex, sha) ? "XAmzContentSHA256Mismatch" : NULL;
}

/* --- what is asked ---------------------------------------------------------------------------- */

static struct object *object(const char *key)
{
	for (int i = 0; i < OBJECTS; i++)
		if (srv.objects[i].key && !strcmp(srv.objects[i].key, key))
			return &srv.objects[i];
	return NULL;
}

static void store_object(const char *key, const char *data, size_t len)
{
	struct object *o = object(key);

	for (int i = 0; !o && i < OBJECTS; i++)
		if (!srv.objects[i].key)
			o = &srv.objects[i];
	CHECK(o != NULL);
	if (!o->key)
		o->key = mem_str(key);
	free(o->data);
	o->data = mem_strn(data, len);
	o->len = len;
}

static struct upload *upload(const char *id)
{
	for (int i = 0; id && i < UPLOADS; i++)
		if (srv.uploads[i].key && !strcmp(srv.uploads[i].id, id))
			return &srv.uploads[i];
	return NULL;
}

static void upload_free(struct upload *u)
{
	for (int i = 0; i < PARTS; i++)
		free(u->parts[i].data);
	free(u->key);
	memset(u, 0, sizeof(*u));
}

static bool get(struct request *r, int cut, bool ranges)
{
	const struct object *o = object(r->key);
	const char *range = header(r, "Range");
	unsigned long long a = 0, b;
	char extra[128] = "ETag: \"not-a-hash\"\r\n";

	if (!o)
		return refuse(r, 404, "NoSuchKey");
	size_t from = 0, len = o->len;
	if (range && ranges) {
		int n = sscanf(range, "bytes=%llu-%llu", &a, &b);
		if (n < 1 || a >= o->len)
			return refuse(r, 416, "InvalidRange");
		from = (size_t)a;
		len = n == 2 && b + 1 < o->len ? (size_t)(b + 1 - a) : o->len - from;
		snprintf(extra, sizeof(extra), "Content-Range: bytes %llu-%zu/%zu\r\n", a,
			 from + len - 1, o->len);
	}
	return answer(r, range && ranges ? 206 : 200, extra, o->data + from, len, cut);
}

static bool put(struct request *r)
{
	struct upload *u = upload(query(r, "uploadId"));
	char extra[64];

	if (query(r, "uploadId")) {
		int i = (int)strtol(query(r, "partNumber"), NULL, 10);
		if (!u)
			return refuse(r, 404, "NoSuchUpload");
		CHECK(i >= 1 && i < PARTS);
		free(u->parts[i].data);
		u->parts[i].data = mem_strn(r->body, r->body_len);
		u->parts[i].len = r->body_len;
		snprintf(extra, sizeof(extra), "ETag: \"part&%d\"\r\n", i);
		return answer(r, 200, extra, "", 0, -1);
	}
	if (header(r, "If-None-Match") && object(r->key))
		return refuse(r, 412, "PreconditionFailed");
	store_object(r->key, r->body, r->body_len);
	return answer(r, 200, "ETag: \"whole\"\r\n", "", 0, -1);
}

static bool post(struct request *r)
{
	struct upload *u = upload(query(r, "uploadId"));
	struct buf all = BUF_INIT;
	char xml[160], part[160];

	if (query(r, "uploads")) {
		for (u = srv.uploads; u->key; u++)
			;
		u->key = mem_str(r->key);
		snprintf(u->id, sizeof(u->id), "u+/%d", ++srv.n_uploads);
		snprintf(xml, sizeof(xml),
			 "<InitiateMultipartUploadResult xmlns=\"http://s3\"><UploadId>%s"
			 "</UploadId></InitiateMultipartUploadResult>",
			 u->id);
		return answer(r, 200, "", xml, strlen(xml), -1);
	}
	if (!u)
		return refuse(r, 404, "NoSuchUpload");
	if (header(r, "If-None-Match") && object(r->key))
		return refuse(r, 412, "PreconditionFailed");
	for (int i = 1; i < PARTS; i++) {
		snprintf(part, sizeof(part),
			 "<PartNumber>%d</PartNumber><ETag>&#34;part&#38;%d&#34;</ETag>", i, i);
		if (strstr(r->body, part))
			buf_append(&all, u->parts[i].data, u->parts[i].len);
	}
	store_object(r->key, all.data, all.len);
	buf_release(&all);
	upload_free(u);
	return answer(r, 200, "", "<CompleteMultipartUploadResult/>", 32, -1);
}

static bool delete (struct request *r)
{
	struct object *o = object(r->key);
	struct upload *u = upload(query(r, "uploadId"));

	if (u) {
		upload_free(u);
	} else if (o) {
		free(o->key);
		free(o->data);
		*o = (struct object){0};
	}
	return answer(r, 204, "", "", 0, -1);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void put_escaped(struct buf *b, const char *text)
{
	for (; *text; text++)
		if (*text == '&' || *text == '<')
			buf_puts(b, *text == '&' ? "&amp;" : "&lt;");
		else
			buf_putc(b, *text);
}

/* Names below a prefix after `start`, folded at '/' when asked; a page of them. */
static bool list(struct request *r)
{
	const char *prefix = query(r, "prefix"), *token = query(r, "continuation-token"),
		   *keys[OBJECTS], *last = "";
	size_t skip = strlen(r->key), n = 0, end;
	struct buf b = BUF_INIT;
	int given = 0;
	bool more = false;

	for (int i = 0; i < OBJECTS; i++)
		if (srv.objects[i].key && str_starts(srv.objects[i].key, r->key) &&
		    str_starts(srv.objects[i].key + skip + 1, prefix))
			keys[n++] = srv.objects[i].key + skip + 1;
	qsort(keys, n, sizeof(*keys), by_text);
	buf_puts(&b, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult "
		     "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
	for (size_t i = 0; i < n; i++) {
		const char *slash = strchr(keys[i] + strlen(prefix), '/');
		end = query(r, "delimiter") && slash ? (size_t)(slash - keys[i]) + 1
						     : strlen(keys[i]);
		if ((token && strncmp(keys[i], token, end) <= 0) ||
		    (end == strlen(last) && !strncmp(keys[i], last, end)))
			continue;
		if (given++ == srv.page) {
			more = true;
			break;
		}
		bool folder = end < strlen(keys[i]);
		last = mem_strn(keys[i], end);
		buf_printf(&b, folder ? "<CommonPrefixes><Prefix>" : "<Contents><Key>");
		put_escaped(&b, last);
		buf_printf(&b,
			   folder ? "</Prefix></CommonPrefixes>"
				  : "</Key><LastModified>2024-05-01T10:20:30.000Z</LastModified>"
				    "<Size>7</Size></Contents>");
	}
	buf_printf(&b, "<IsTruncated>%s</IsTruncated>", more ? "true" : "false");
	if (more)
		buf_puts(&b, "<NextContinuationToken>");
	if (more)
		put_escaped(&b, last);
	buf_puts(&b, more ? "</NextContinuationToken></ListBucketResult>" : "</ListBucketResult>");
	bool ok = answer(r, 200, "", b.data, b.len, -1);
	buf_release(&b);
	return ok;
}

static bool act(struct request *r)
{
	const char *code = verify(r);

	if (code) {
		srv.refused += strcmp(code, "RequestTimeTooSkewed") != 0;
		return refuse(r, 403, code);
	}
	if (query(r, "list-type"))
		return list(r);
	if (!strcmp(r->method, "PUT"))
		return put(r);
	if (!strcmp(r->method, "POST"))
		return post(r);
	if (!strcmp(r->method, "DELETE"))
		return delete (r);
	return get(r, -1, true);
}

/* Does what the fault says. *handled tells whether there was one for this request. */
static bool misbehave(struct request *r, bool *handled)
{
	int null;

	*handled = srv.fault.times > 0 && !strcmp(srv.fault.method, r->method) &&
		   strstr(r->target, srv.fault.part);
	if (!*handled)
		return true;
	srv.fault.times--;
	switch (srv.fault.fault) {
	case S3_FAULT_STATUS:
		return refuse(r, srv.fault.arg, srv.fault.code);
	case S3_FAULT_ERROR_200:
		return refuse(r, 200, srv.fault.code);
	case S3_FAULT_GARBLE:
		return answer(r, 200, "", "<a><b>&nope;</a>", (size_t)srv.fault.arg, -1);
	case S3_FAULT_CUT:
		return get(r, srv.fault.arg, true);
	case S3_FAULT_NO_RANGES:
		return get(r, -1, false);
	case S3_FAULT_LOST_REPLY:
		null = r->fd;
		r->fd = -1;
		act(r);
		r->fd = null;
		return false;
	case S3_FAULT_SILENT:
		pthread_mutex_unlock(&srv.lock);
		(void)!read(r->fd, &null, 1); /* Until the client hangs up. */
		pthread_mutex_lock(&srv.lock);
		return false;
	}
	return false;
}

static bool serve_one(int fd)
{
	struct request r = {.fd = fd};
	struct buf in = BUF_INIT;
	bool handled;

	if (!read_head(&r, &in)) {
		buf_release(&in);
		return false;
	}
	split(&r);
	pthread_mutex_lock(&srv.lock);
	srv.requests++;
	bool go_on = misbehave(&r, &handled);
	if (!handled)
		go_on = act(&r);
	pthread_mutex_unlock(&srv.lock);
	free(r.text);
	free(r.path);
	free(r.key);
	return go_on;
}

static void *serve(void *arg)
{
	int fd = (int)(intptr_t)arg;

	while (serve_one(fd))
		;
	close(fd);
	return NULL;
}

static void *accept_all(void *arg)
{
	(void)arg;
	for (;;) {
		int fd = accept(srv.fd, NULL, NULL);
		pthread_t t;
		if (fd < 0)
			return NULL;
		CHECK(!pthread_create(&t, NULL, serve, (void *)(intptr_t)fd));
		pthread_detach(t);
	}
}

void s3_fixture_start(char *url, size_t size)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	pthread_t t;

	srv.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(!bind(srv.fd, (struct sockaddr *)&a, len) && !listen(srv.fd, 64));
	CHECK(!getsockname(srv.fd, (struct sockaddr *)&a, &len));
	CHECK(!pthread_create(&t, NULL, accept_all, NULL));
	pthread_detach(t);
	setenv("AWS_ACCESS_KEY_ID", S3_FIXTURE_ID, 1);
	setenv("AWS_SECRET_ACCESS_KEY", S3_FIXTURE_SECRET, 1);
	unsetenv("AWS_SESSION_TOKEN");
	unsetenv("AWS_REGION");
	unsetenv("AWS_DEFAULT_REGION");
	setenv("TMPDIR", test_tmpdir(), 1);
	str_fmt(url, size,
		"s3://test-bucket/some/prefix?endpoint=http://"
		"127.0.0.1:%d&retry_ms=1&tries=6&stall_s=1",
		ntohs(a.sin_port));
}

void s3_fixture_fault(const char *method, const char *part, int times, enum s3_fault fault, int arg,
		      const char *code)
{
	pthread_mutex_lock(&srv.lock);
	str_copy(srv.fault.method, sizeof(srv.fault.method), method);
	str_copy(srv.fault.part, sizeof(srv.fault.part), part);
	str_copy(srv.fault.code, sizeof(srv.fault.code), code ? code : "");
	srv.fault.times = times;
	srv.fault.fault = fault;
	srv.fault.arg = arg;
	pthread_mutex_unlock(&srv.lock);
}

void s3_fixture_clock(int64_t ahead_s)
{
	srv.ahead_s = ahead_s;
}

void s3_fixture_page(int names)
{
	srv.page = names;
}

int s3_fixture_requests(void)
{
	return srv.requests;
}

int s3_fixture_refused(void)
{
	return srv.refused;
}

int s3_fixture_uploads(void)
{
	int n = 0;

	for (int i = 0; i < UPLOADS; i++)
		n += srv.uploads[i].key != NULL;
	return n;
}

int s3_fixture_objects(void)
{
	int n = 0;

	for (int i = 0; i < OBJECTS; i++)
		n += srv.objects[i].key != NULL;
	return n;
}
