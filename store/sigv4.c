#include "store/sigv4.h"

#include "base/mem.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ALGORITHM "AWS4-HMAC-SHA256"
#define DATE_LEN 8 /* of the time: "20150830" */

void sigv4_time(int64_t s, char out[SIGV4_TIME_SIZE])
{
	time_t t = (time_t)s;
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(out, SIGV4_TIME_SIZE, "%Y%m%dT%H%M%SZ", &tm);
}

void sigv4_encode(const char *text, bool keep_slash, struct buf *out)
{
	for (const char *p = text; *p; p++) {
		unsigned char c = (unsigned char)*p;

		if ((c < 0x80 && isalnum(c)) || strchr("-._~", c) || (c == '/' && keep_slash))
			buf_putc(out, *p);
		else
			buf_printf(out, "%%%02X", c);
	}
}

/* Sorting works on whole texts: encoded "name=value" for the query, "name:value" for headers. */
struct entry {
	char *name, *value; /* owned */
	size_t at;	    /* place in the request: equal names keep their order */
};

static int by_name_value(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int d = strcmp(x->name, y->name);

	return d ? d : strcmp(x->value, y->value);
}

static int by_name_place(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int d = strcmp(x->name, y->name);

	return d ? d : (x->at > y->at) - (x->at < y->at);
}

static void entries_free(struct entry *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(list[i].name);
		free(list[i].value);
	}
	free(list);
}

static char *encoded(const char *text)
{
	struct buf b = BUF_INIT;

	sigv4_encode(text, false, &b);
	return buf_detach(&b);
}

void sigv4_query(const struct sigv4_pair *query, size_t n, struct buf *out)
{
	struct entry *list = mem_array(n + 1, sizeof(*list));

	for (size_t i = 0; i < n; i++)
		list[i] = (struct entry){encoded(query[i].name), encoded(query[i].value), i};
	qsort(list, n, sizeof(*list), by_name_value);
	for (size_t i = 0; i < n; i++)
		buf_printf(out, "%s%s=%s", i ? "&" : "", list[i].name, list[i].value);
	entries_free(list, n);
}

static char *lower(const char *name)
{
	char *s = mem_str(name);

	for (char *p = s; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return s;
}

/* Without space at both ends, and every run of white space one blank. */
static char *trimmed(const char *value)
{
	struct buf b = BUF_INIT;

	for (const char *p = value; *p; p++) {
		bool space = isspace((unsigned char)*p);

		if (!space)
			buf_putc(&b, *p);
		else if (b.len && b.data[b.len - 1] != ' ')
			buf_putc(&b, ' ');
	}
	if (b.len && b.data[b.len - 1] == ' ')
		b.data[--b.len] = 0;
	return buf_detach(&b);
}

/* Headers of one name become one line, their values in the order of the request. */
static void put_headers(const struct sigv4_req *r, struct buf *out, struct buf *names)
{
	struct entry *list = mem_array(r->n_headers + 1, sizeof(*list));

	for (size_t i = 0; i < r->n_headers; i++)
		list[i] =
			(struct entry){lower(r->headers[i].name), trimmed(r->headers[i].value), i};
	qsort(list, r->n_headers, sizeof(*list), by_name_place);
	for (size_t i = 0; i < r->n_headers; i++) {
		if (i && !strcmp(list[i].name, list[i - 1].name)) {
			buf_printf(out, ",%s", list[i].value);
			continue;
		}
		buf_printf(out, "%s%s:%s", i ? "\n" : "", list[i].name, list[i].value);
		buf_printf(names, "%s%s", i ? ";" : "", list[i].name);
	}
	buf_putc(out, '\n');
	entries_free(list, r->n_headers);
}

void sigv4_canonical(const struct sigv4_req *r, struct buf *out, struct buf *signed_names)
{
	buf_printf(out, "%s\n%s\n", r->method, r->path);
	sigv4_query(r->query, r->n_query, out);
	buf_putc(out, '\n');
	put_headers(r, out, signed_names);
	buf_printf(out, "\n%s\n%s", signed_names->data ? signed_names->data : "", r->payload);
}

static void signing_key(const struct sigv4_req *r, uint8_t key[SHA256_SIZE])
{
	struct buf first = BUF_INIT;

	buf_printf(&first, "AWS4%s", r->secret);
	hmac_sha256(first.data, first.len, r->time, DATE_LEN, key);
	hmac_sha256(key, SHA256_SIZE, r->region, strlen(r->region), key);
	hmac_sha256(key, SHA256_SIZE, r->service, strlen(r->service), key);
	hmac_sha256(key, SHA256_SIZE, "aws4_request", 12, key);
	memset(first.data, 0, first.len);
	buf_release(&first);
}

void sigv4_authorization(const struct sigv4_req *r, struct buf *out)
{
	struct buf canonical = BUF_INIT, names = BUF_INIT, text = BUF_INIT;
	struct buf scope = BUF_INIT;
	char hex[SHA256_HEX_SIZE];
	uint8_t key[SHA256_SIZE], mac[SHA256_SIZE];

	sigv4_canonical(r, &canonical, &names);
	sha256_of(canonical.data, canonical.len, hex);
	buf_printf(&scope, "%.8s/%s/%s/aws4_request", r->time, r->region, r->service);
	buf_printf(&text, "%s\n%s\n%s\n%s", ALGORITHM, r->time, scope.data, hex);
	signing_key(r, key);
	hmac_sha256(key, sizeof(key), text.data, text.len, mac);
	sha256_hex(mac, hex);
	buf_printf(out, "%s Credential=%s/%s, SignedHeaders=%s, Signature=%s", ALGORITHM, r->key_id,
		   scope.data, names.data ? names.data : "", hex);
	memset(key, 0, sizeof(key));
	buf_release(&scope);
	buf_release(&text);
	buf_release(&names);
	buf_release(&canonical);
}
