/* A file to an object: in one request, or in parts sent side by side.
 *
 *   begin -> parts (each signed by its own digest) -> complete
 *                                                  -> conflict: begin again
 *         -> failed: abort, so that nothing unseen is paid for
 */
#include "store/s3_call.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/s3_xml.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SENDERS 4      /* parts under way at once */
#define FRESH_STARTS 3 /* whole uploads after a conflict */

struct upload {
	struct s3 *s;
	const char *key, *path;
	int64_t size, part;
	int64_t n_parts;
	char id[1024];
	char (*etags)[96];
	int fd;
	pthread_mutex_t lock;
	int64_t next; /* part to be taken, from 0 */
	enum rc rc;
	struct err e;
};

static enum rc put_whole(struct s3 *s, const char *key, const char *path, int64_t size,
			 const char *hex, bool create, struct err *e)
{
	struct s3_call c = {.method = "PUT", .key = key, .payload = hex};

	if (size) {
		c.file = path;
		c.file_size = size;
	}
	if (create)
		c.headers[c.n_headers++] = (struct sigv4_pair){"If-None-Match", "*"};
	enum rc rc = s3_send(s, &c, e);
	buf_release(&c.answer);
	return rc;
}

static enum rc begin(struct upload *u, struct err *e)
{
	struct s3_call c = {
		.method = "POST", .key = u->key, .query = {{"uploads", ""}}, .n_query = 1};
	enum rc rc = s3_send(u->s, &c, e);

	if (!rc && (!s3_xml_find(c.answer.data ? c.answer.data : "", c.answer.len,
				 "InitiateMultipartUploadResult/UploadId", u->id, sizeof(u->id)) ||
		    !*u->id))
		rc = err_set(e, RC_CORRUPT, "%s: the service names no upload", u->key);
	buf_release(&c.answer);
	return rc;
}

static enum rc send_part(struct upload *u, int64_t i, struct err *e)
{
	char number[16], hex[SHA256_HEX_SIZE];
	int64_t at = i * u->part, len = u->size - at < u->part ? u->size - at : u->part;
	enum rc rc = fs_sha256_range(u->fd, u->path, at, len, hex, e);

	if (rc)
		return rc;
	str_fmt(number, sizeof(number), "%lld", (long long)i + 1);
	struct s3_call c = {.method = "PUT",
			    .key = u->key,
			    .payload = hex,
			    .file = u->path,
			    .file_offset = at,
			    .file_size = len,
			    .query = {{"partNumber", number}, {"uploadId", u->id}},
			    .n_query = 2};
	rc = s3_send(u->s, &c, e);
	if (!rc && !*c.etag)
		rc = err_set(e, RC_CORRUPT, "%s: part %s has no ETag", u->key, number);
	str_copy(u->etags[i], sizeof(u->etags[i]), c.etag);
	buf_release(&c.answer);
	return rc;
}

static void *sender(void *arg)
{
	struct upload *u = arg;

	for (;;) {
		struct err e = {0};

		pthread_mutex_lock(&u->lock);
		int64_t i = u->rc ? u->n_parts : u->next++;
		pthread_mutex_unlock(&u->lock);
		if (i >= u->n_parts)
			return NULL;
		enum rc rc = send_part(u, i, &e);
		if (rc) {
			pthread_mutex_lock(&u->lock);
			if (!u->rc) { /* The first one tells why. */
				u->rc = rc;
				u->e = e;
			}
			pthread_mutex_unlock(&u->lock);
		}
	}
}

static enum rc send_parts(struct upload *u, struct err *e)
{
	pthread_t threads[SENDERS];
	int n = 0;

	u->next = 0;
	u->rc = RC_OK;
	while (n < SENDERS - 1 && n + 1 < u->n_parts &&
	       !pthread_create(&threads[n], NULL, sender, u))
		n++;
	sender(u);
	while (n > 0)
		pthread_join(threads[--n], NULL);
	return u->rc ? err_set(e, u->rc, "%s", u->e.text) : RC_OK;
}

static void escape(const char *text, struct buf *out)
{
	for (; *text; text++)
		if (*text == '&' || *text == '<' || *text == '>' || *text == '"')
			buf_printf(out, "&#%d;", *text);
		else
			buf_putc(out, *text);
}

/* Is the whole there although no answer said so? */
static bool arrived(struct upload *u)
{
	int64_t size;

	return !s3_head(u->s, u->key, &size, NULL) && size == u->size;
}

/* *conflict: S3 asks for a whole new upload. */
static enum rc complete(struct upload *u, bool create, bool *conflict, struct err *e)
{
	struct buf body = BUF_INIT;

	buf_puts(&body, "<CompleteMultipartUpload>");
	for (int64_t i = 0; i < u->n_parts; i++) {
		buf_printf(&body, "<Part><PartNumber>%lld</PartNumber><ETag>", (long long)i + 1);
		escape(u->etags[i], &body);
		buf_puts(&body, "</ETag></Part>");
	}
	buf_puts(&body, "</CompleteMultipartUpload>");
	struct s3_call c = {.method = "POST",
			    .key = u->key,
			    .body = body.data,
			    .body_len = body.len,
			    .query = {{"uploadId", u->id}},
			    .n_query = 1};
	if (create)
		c.headers[c.n_headers++] = (struct sigv4_pair){"If-None-Match", "*"};
	enum rc rc = s3_send(u->s, &c, e);
	*conflict = c.status == 409;
	/* The upload is gone when an earlier try got through and its answer did not. */
	if (rc == RC_NOTFOUND && arrived(u))
		rc = RC_OK;
	buf_release(&c.answer);
	buf_release(&body);
	return rc;
}

static void abort_upload(struct upload *u)
{
	struct s3_call c = {
		.method = "DELETE", .key = u->key, .query = {{"uploadId", u->id}}, .n_query = 1};
	struct err e = {0};
	enum rc rc = s3_send(u->s, &c, &e);

	if (rc && rc != RC_NOTFOUND)
		log_warn("s3", "upload_left", "key=%s reason=%s", u->key, e.text);
	buf_release(&c.answer);
}

static enum rc put_parts(struct upload *u, bool create, struct err *e)
{
	bool conflict = true;
	enum rc rc = RC_OK;

	for (int n = 0; n < FRESH_STARTS && conflict; n++) {
		conflict = false;
		if ((rc = begin(u, e)))
			return rc;
		rc = send_parts(u, e);
		if (!rc)
			rc = complete(u, create, &conflict, e);
		if (rc)
			abort_upload(u);
	}
	return rc;
}

enum rc s3_put_file(struct s3 *s, const char *key, const char *path, int64_t size, const char *hex,
		    bool create, struct err *e)
{
	struct upload u = {.s = s,
			   .key = key,
			   .path = path,
			   .size = size,
			   .part = s3_part(s),
			   .lock = PTHREAD_MUTEX_INITIALIZER};

	if (size > S3_OBJECT_MAX)
		return err_set(e, RC_INVALID, "%s: %lld bytes; an object has at most %lld", path,
			       (long long)size, (long long)S3_OBJECT_MAX);
	if (size <= u.part)
		return put_whole(s, key, path, size, hex, create, e);
	while ((size + u.part - 1) / u.part > S3_PARTS_MAX)
		u.part *= 2;
	u.n_parts = (size + u.part - 1) / u.part;
	u.fd = open(path, O_RDONLY | O_CLOEXEC);
	if (u.fd < 0)
		return err_set(e, RC_IO, "open %s: %m", path);
	u.etags = mem_array((size_t)u.n_parts, sizeof(*u.etags));
	enum rc rc = put_parts(&u, create, e);
	free(u.etags);
	close(u.fd);
	return rc;
}
