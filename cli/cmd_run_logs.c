/* run logs: what all attempts of a run wrote, by time. */
#include "cli/cli.h"
#include "cli/log_filter.h"

#include "base/buf.h"
#include "base/mem.h"

#include <stdlib.h>

int cmd_run_logs(struct cli *c, int argc, char **argv)
{
	const char *stage = NULL, *job = NULL, *grep = NULL, *since = NULL, *to = NULL;
	const struct opt opts[] = {{"--stage", OPT_VALUE, &stage},
				   {"--job", OPT_VALUE, &job},
				   {"--grep", OPT_VALUE, &grep},
				   {"--since", OPT_VALUE, &since},
				   {"--output|-o", OPT_VALUE, &to}};
	struct log_filter f = {0};
	struct buf path = BUF_INIT;
	struct target t;
	struct err e;
	int code = opt_parse(opts, 5, &argc, argv, 1, 1);

	if (code)
		return code;
	if (since && !log_since(since, &f.since_ms)) {
		fprintf(stderr,
			"pawl: --since: expected 30s, 10m, 2h, 1d or a time, found \"%s\"\n",
			since);
		return EXIT_USAGE;
	}
	char *q = url_quote(argv[0]);
	buf_printf(&path, "runs/%s/log/content", q);
	url_put_query(&path, "stage", stage);
	url_put_query(&path, "job", job);
	url_put_query(&path, "q", grep);
	url_put_query(&path, "case", grep ? "1" : NULL);
	enum rc rc = target_open(&t, to, &e);
	if (!rc) {
		f.out = t.out;
		f.prefixed = true;
		rc = api_stream(c, path.data, argv[0], log_filter_take, &f, &e);
		log_filter_end(&f);
		rc = target_close(&t, rc, &e);
	}
	buf_release(&path);
	free(q);
	return rc ? fail(&e) : EXIT_DONE;
}
