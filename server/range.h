/* Sends a blob of the store, whole or one range of it, by the rules of RFC 9110: strong ETag, If-None-Match,
 * If-Range, 416 with the size, HEAD. Several ranges in one request get the whole file. CivetWeb's
 * own sender gets lengths wrong (a byte too many at the end of the file), so it is never used. */
#pragma once

#include "server/http.h"

enum range_kind { RANGE_WHOLE, RANGE_PART, RANGE_BAD };

/* header: NULL or a Range value. For a part sets [*from, *to], both inclusive. */
enum range_kind range_parse(const char *header, int64_t size, int64_t *from, int64_t *to);
/* The digest is the ETag. `name`: for Content-Disposition. */
void range_send(struct req *r, const char *digest, const char *name);
