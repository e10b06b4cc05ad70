/* A data file as it is imported: plain or gzip, line by line, every row in a role and a format that
 * the first byte names. A plain file has as many rows as its lines say, or ends at the first that
 * is wrong.
 */
#include "base/check.h"
#include "base/jsonl.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "tests/fuzz/fuzz.h"
#include "worker/method/seed.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Rows that stand before the end or the first line that is no JSON. */
static int64_t rows_of(const char *text, size_t size, bool *all)
{
	int64_t n = 0;

	*all = true;
	for (size_t at = 0; at < size && *all;) {
		const char *nl = memchr(text + at, '\n', size - at);
		size_t len = nl ? (size_t)(nl - text) - at : size - at, skip = 0;
		json_t *row = NULL;

		while (skip < len && strchr(" \t\r", text[at + skip]) && text[at + skip])
			skip++;
		if (skip < len) {
			*all = jx_parse(text + at, len, "fuzz", &row, NULL) == RC_OK;
			n += *all;
		}
		json_decref(row);
		at += len + 1;
	}
	return n;
}

static void read_all(struct jsonl *lines, struct seed *s, enum seed_format format, int64_t *n,
		     bool *all)
{
	json_t *row = NULL;
	struct err e;
	enum rc rc;

	while ((rc = jsonl_next(lines, &row, &e)) == RC_OK && row) {
		int64_t before = (int64_t)json_array_size(s->rows);
		(void)seed_take(s, format, row, &e);
		ASSERT((int64_t)json_array_size(s->rows) >= before);
		json_decref(row);
		++*n;
		ASSERT(jsonl_line(lines) >= *n);
	}
	*all = rc == RC_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct judge_template tmpl;
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	unsigned how = size ? data[0] : 0;
	struct jsonl *lines;
	struct seed s;
	int64_t n = 0, want;
	bool all, want_all;
	char path[64];

	if (size) {
		data++;
		size--;
	}
	if (!tmpl.text && judge_template_of(NULL, &tmpl, NULL) != RC_OK)
		abort();
	str_fmt(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fd < 0 || (size && write(fd, data, size) != (ssize_t)size) ||
	    jsonl_open(path, &lines, NULL))
		abort();
	seed_open(&s, (enum seed_role)(how % SEED_N_ROLES), "en", &tmpl);
	read_all(lines, &s, (enum seed_format)(how / 8 % SEED_N_FORMATS), &n, &all);
	seed_finish(&s);
	if (size < 2 || data[0] != 0x1f || data[1] != 0x8b) {
		want = rows_of((const char *)data, size, &want_all);
		ASSERT(n == want && all == want_all);
	}
	seed_release(&s);
	jsonl_close(lines);
	close(fd);
	return 0;
}

void fuzz_seed(struct buf *out)
{
	buf_puts(out,
		 "A{\"prompt\":\"a\",\"response\":\"Score: 4\",\"score\":4}\n\n"
		 "{\"prompt\":\"b\",\"replies\":[{\"text\":\"x\",\"rank\":0},{\"text\":\"y\","
		 "\"rank\":1}]}\r\n"
		 "  "
		 "\t\n{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
		 "\"content\":\"r\"}]}\n[1,2]\n{\"prompt\":\"\\u00e9\"}");
}
