/* S3's XML: read to its end or refused; what is found lies within its bounds. */
#include "store/s3_xml.h"

#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static enum rc element(void *ctx, const char *path, const char *text, struct err *e)
{
	(void)e;
	*(size_t *)ctx += strlen(path) + strlen(text);
	return RC_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t total = 0;
	struct s3_xml_sink sink = {element, &total};
	char found[40], root[40];
	struct err e;
	enum rc rc = s3_xml_read((const char *)data, size, "fuzz", &sink, &e);

	if (rc != RC_OK && (rc != RC_CORRUPT || !e.text[0]))
		abort();
	(void)s3_xml_find((const char *)data, size, "ListBucketResult/Contents/Key", found, sizeof(found));
	s3_xml_root((const char *)data, size, root, sizeof(root));
	if (strlen(found) >= sizeof(found) || strlen(root) >= sizeof(root))
		abort();
	return 0;
}

void fuzz_seed(struct buf *out)
{
	buf_puts(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3/\">"
		      "<Name>b</Name><IsTruncated>true</IsTruncated><Contents><Key>a&amp;b&#233;</Key>"
		      "<Size>12</Size></Contents><!-- x -->"
		      "<NextContinuationToken>1/2=</NextContinuationToken>"
		      "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes></ListBucketResult>");
}
