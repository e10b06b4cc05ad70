/* Whose request it is when a reverse proxy stands before us: the right-most address of X-Forwarded-For
 * that is no proxy of ours. What stands left of it anybody may have written. Pure. */
#pragma once

#include <stdbool.h>

#define FORWARDED_ADDR_MAX 48

/* `peer` and `trusted` (comma list of addresses); header: NULL or X-Forwarded-For. False when the peer is no
 * trusted proxy or the header names nobody: then the peer is who asks. */
bool forwarded_client(const char *peer, const char *header, const char *trusted,
		      char out[FORWARDED_ADDR_MAX]);
