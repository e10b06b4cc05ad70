/* Settings files. */
#include "base/conf.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err e;
	struct conf *c = conf_new();

	(void)conf_load_text(c, "fuzz", (const char *)data, size, &e);
	(void)conf_str(c, "server.listen");
	(void)conf_i64(c, "server.threads");
	(void)conf_bool(c, "log.json");
	(void)conf_f64(c, "worker.price_per_hour");
	conf_free(c);
	return 0;
}

void fuzz_seed(struct buf *out)
{
	buf_puts(out, "# comment\nserver.listen = 127.0.0.1:1\nserver.threads=12\nlog.json = yes\n"
		      "worker.price_per_hour = 1.25\n\n");
}
