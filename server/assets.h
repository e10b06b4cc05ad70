/* The web UI's files: gzip members embedded at build time (build/assets.S, made by embed.sh), or
 * files of server.web_dir while developing. Names with a content hash are immutable; index.html is
 * the answer to every other page address, since the UI routes by itself. */
#pragma once

#include <stdint.h>

struct req;

struct asset {		  /* laid out by embed.sh: five 8-byte words */
	const char *path; /* "/index.html"; NULL ends the table */
	const char *type;
	const char *etag;
	const uint8_t *gz;
	uint64_t gz_len;
};

extern const struct asset asset_table[];

void assets_serve(struct req *r);
void assets_send_openapi(struct req *r);
