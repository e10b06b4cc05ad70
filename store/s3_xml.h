/* The little XML that S3 answers with: elements with text, no more. Attributes are skipped;
 * DOCTYPE, CDATA, unknown entities, a depth over S3_XML_DEPTH and anything torn are refused.
 *
 * Reads bounded memory that stays with the caller. Names come without a namespace's prefix.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define S3_XML_DEPTH 16
#define S3_XML_NAME_MAX 64

/* element() is called at the end of each: `path` is "ListBucketResult/Contents/Key", `text` what
 * stood in it, decoded ("" when it held elements). Non-zero return ends the reading with that code.
 */
struct s3_xml_sink {
	enum rc (*element)(void *ctx, const char *path, const char *text, struct err *e);
	void *ctx;
};

/* RC_CORRUPT with what was found and at which byte. `what` names the document in errors. */
enum rc s3_xml_read(const char *data, size_t len, const char *what, const struct s3_xml_sink *sink,
		    struct err *e);
/* Text of the first element with this path, "" when there is none; false when torn. */
bool s3_xml_find(const char *data, size_t len, const char *path, char *out, size_t size);
/* Names the root element without reading further; "" when there is none. */
void s3_xml_root(const char *data, size_t len, char *out, size_t size);
