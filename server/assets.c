#include "server/assets.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/str.h"
#include "server/reply.h"
#include "server/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

#define ASSET_SIZE_MAX (16u << 20)

/* Checked in a browser with Preact: nothing inline, nothing foreign, text only. */
#define CSP                                                                                        \
	"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "          \
	"connect-src 'self'; worker-src 'self'; font-src 'self'; manifest-src 'self'; "            \
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "                            \
	"require-trusted-types-for 'script'; trusted-types pawl"

static const struct asset *asset_find(const char *path)
{
	for (const struct asset *a = asset_table; a->path; a++)
		if (strcmp(a->path, path) == 0)
			return a;
	return NULL;
}

static bool takes_gzip(const struct req *r)
{
	const char *accept = req_header(r, "Accept-Encoding");

	return accept && strcasestr(accept, "gzip");
}

static void send_inflated(struct req *r, const struct asset *a)
{
	z_stream z = {0};
	struct buf out = BUF_INIT;
	int rc = inflateInit2(&z, 15 + 16);

	z.next_in = (Bytef *)(uintptr_t)a->gz;
	z.avail_in = (uInt)a->gz_len;
	while (rc == Z_OK && out.len < ASSET_SIZE_MAX) {
		buf_reserve(&out, 65536);
		z.next_out = (Bytef *)out.data + out.len;
		z.avail_out = 65535;
		rc = inflate(&z, Z_NO_FLUSH);
		out.len = z.total_out;
	}
	inflateEnd(&z);
	req_send(r, 200, a->type, out.data, out.len);
	buf_release(&out);
}

static void send_asset(struct req *r, const struct asset *a)
{
	const char *have = req_header(r, "If-None-Match");
	bool hashed = str_starts(a->path, "/assets/");

	req_add_header(r, "Cache-Control",
		       hashed ? "public, max-age=31536000, immutable" : "no-cache");
	req_add_header(r, "ETag", "\"%s\"", a->etag);
	req_add_header(r, "Vary", "Accept-Encoding");
	req_add_header(r, "Content-Security-Policy", "%s", CSP);
	if (have && strstr(have, a->etag)) {
		req_send(r, 304, NULL, NULL, 0);
	} else if (takes_gzip(r)) {
		req_add_header(r, "Content-Encoding", "gzip");
		req_send(r, 200, a->type, a->gz, a->gz_len);
	} else {
		send_inflated(r, a);
	}
}

static const struct {
	const char *suffix, *type;
} types[] = {
	{".html", "text/html; charset=utf-8"},
	{".js", "text/javascript; charset=utf-8"},
	{".css", "text/css; charset=utf-8"},
	{".json", "application/json"},
	{".map", "application/json"},
	{".svg", "image/svg+xml"},
	{".png", "image/png"},
	{".ico", "image/x-icon"},
	{".woff2", "font/woff2"},
	{".webmanifest", "application/manifest+json"},
};

static bool path_is_plain(const char *path)
{
	for (const char *p = path; *p; p++)
		if (p[0] == '.' && (p == path || p[-1] == '/'))
			return false; /* No dot files, no dot-dot. */
	return true;
}

/* Development: files straight from a folder. */
static bool send_from_disk(struct req *r, const char *path)
{
	char file[SERVER_URL_MAX + 1024];
	const char *type = "application/octet-stream";
	struct buf data = BUF_INIT;
	bool found;

	if (!path_is_plain(path) || strlen(path) >= 1000)
		return false;
	str_fmt(file, sizeof file, "%s%s", r->srv->web_dir, path);
	found = path[strlen(path) - 1] != '/' &&
		fs_read(file, ASSET_SIZE_MAX, &data, NULL) == RC_OK;
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (str_ends(path, types[i].suffix))
			type = types[i].type;
	if (found) {
		req_add_header(r, "Cache-Control", "no-store");
		req_add_header(r, "Content-Security-Policy", "%s", CSP);
		req_send(r, 200, type, data.data, data.len);
	}
	buf_release(&data);
	return found;
}

/* A page address of the UI: no file suffix in its last segment. */
static bool is_page(const char *path)
{
	if (str_starts(path, "/jobs/"))
		return true; /* Job ids have dots. */
	return !strchr(strrchr(path, '/'), '.') && !str_starts(path, "/assets/");
}

void assets_serve(struct req *r)
{
	const struct asset *a;

	if (r->srv->web_dir[0]) {
		if (send_from_disk(r, r->path) ||
		    (is_page(r->path) && send_from_disk(r, "/index.html")))
			return;
	} else {
		a = asset_find(r->path);
		if (!a && is_page(r->path))
			a = asset_find("/index.html");
		if (a) {
			send_asset(r, a);
			return;
		}
	}
	reply_problem(r, 404, "not-found", "no such page: %s", r->path);
}

void assets_send_openapi(struct req *r)
{
	send_asset(r, asset_find("/api/v1/openapi.json"));
}
