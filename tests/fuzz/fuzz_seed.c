/* Seed data: any JSON lines are taken, left out or refused, in every role; the splits hold. */
#include "base/check.h"
#include "base/jsonx.h"
#include "tests/fuzz/fuzz.h"
#include "worker/method/seed.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct judge_template tmpl;
	struct seed lists[SEED_N_ROLES];
	struct err e;

	if (!tmpl.text && judge_template_of(NULL, &tmpl, NULL) != RC_OK)
		abort();
	for (int r = 0; r < SEED_N_ROLES; r++)
		seed_open(&lists[r], (enum seed_role)r, "en", &tmpl);
	for (size_t at = 0; at < size;) {
		const char *line = (const char *)data + at, *nl = memchr(line, '\n', size - at);
		size_t len = nl ? (size_t)(nl - line) : size - at;
		json_t *row;
		at += len + 1;
		if (jx_parse(line, len, "fuzz", &row, &e) != RC_OK)
			continue;
		for (int r = 0; r < SEED_N_ROLES; r++)
			(void)seed_take(&lists[r], SEED_AUTO, row, &e);
		json_decref(row);
	}
	for (int r = 0; r < SEED_N_ROLES; r++)
		seed_finish(&lists[r]);
	seed_split(lists, 1, 2);
	ASSERT_LE(json_array_size(lists[SEED_IFT].rows), 2);
	for (int r = 0; r < SEED_N_ROLES; r++)
		seed_release(&lists[r]);
	return 0;
}

void fuzz_seed(struct buf *out)
{
	buf_puts(out, "{\"prompt\":\"a\",\"response\":\"Score: 4\",\"score\":4}\n"
		      "{\"prompt\":\"b\",\"replies\":[{\"text\":\"x\",\"rank\":0},{\"text\":\"y\","
		      "\"rank\":1}]}\n"
		      "{\"prompt_id\":\"1\",\"prompt_text\":\"c\",\"response_text\":\"d\","
		      "\"quality_score\":0.5}\n"
		      "{\"prompt_id\":\"1\",\"prompt_text\":\"c\",\"response_text\":\"e\","
		      "\"quality_score\":0.25}\n"
		      "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":"
		      "\"assistant\",\"content\":\"r\"}]}\n"
		      "{\"tree_state\":\"ready_for_export\",\"prompt\":{\"text\":\"t\",\"lang\":"
		      "\"en\",\"replies\":"
		      "[{\"role\":\"assistant\",\"text\":\"u\",\"rank\":0,\"replies\":[{\"text\":"
		      "\"v\",\"replies\":"
		      "[{\"role\":\"assistant\",\"text\":\"1\",\"rank\":0},{\"role\":\"assistant\","
		      "\"text\":\"2\","
		      "\"rank\":1}]}]},{\"role\":\"assistant\",\"text\":\"w\",\"rank\":1}]}}\n");
}
