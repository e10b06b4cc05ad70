/* The truth of the demo world as a program, so that it is wired in like any verifiable reward:
 *
 *   pawl demo score     {"id","prompt","response"} -> {"id","score","correct","present","extra"}
 *   pawl demo compare   {"id","prompt","a","b"}    -> {"id","winner":"a"|"b"|"tie"}
 *
 * One answer a line, in the order asked. A prompt that is no request of this world is an error.
 */
#include "cli/demo_parts.h"

#include "base/jsonx.h"
#include "cli/world.h"

#include <stdlib.h>

static enum rc judge_text(const json_t *row, const char *field, struct world_truth *t, struct err *e)
{
	const char *prompt, *text;
	struct world_request q;
	struct world_answer a;
	enum rc rc;

	if ((rc = jx_str(row, "prompt", &prompt, e)) || (rc = jx_str(row, field, &text, e)))
		return rc;
	if (!world_read_request(prompt, &q))
		return err_set(e, RC_INVALID, "prompt: names not exactly %d things", WORLD_ASKED);
	world_read_answer(text, &a);
	*t = world_judge(&q, &a);
	return RC_OK;
}

static enum rc score_row(const json_t *row, json_t **answer, struct err *e)
{
	struct world_truth t;
	const char *id = jx_get_str(row, "id", "");
	enum rc rc = judge_text(row, "response", &t, e);

	if (rc)
		return rc;
	*answer = json_pack("{s:s, s:i, s:b, s:i, s:i}", "id", id, "score", t.score, "correct", t.right,
			    "present", t.present, "extra", t.extra);
	return RC_OK;
}

static enum rc compare_row(const json_t *row, json_t **answer, struct err *e)
{
	struct world_truth a, b;
	const char *id = jx_get_str(row, "id", "");
	enum rc rc;

	if ((rc = judge_text(row, "a", &a, e)) || (rc = judge_text(row, "b", &b, e)))
		return rc;
	*answer = json_pack("{s:s, s:s}", "id", id, "winner",
			    a.score > b.score   ? "a"
			    : a.score < b.score ? "b"
						: "tie");
	return RC_OK;
}

static int each_line(FILE *in, FILE *out, enum rc (*row)(const json_t *, json_t **, struct err *))
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t len;
	long number = 0;
	int code = 0;

	while (!code && (len = getline(&line, &cap, in)) > 0) {
		struct err e = {0};
		json_t *question = NULL, *answer = NULL;
		char *text;

		number++;
		if (jx_parse(line, (size_t)len, "stdin", &question, &e) || row(question, &answer, &e)) {
			fprintf(stderr, "pawl demo: line %ld: %s\n", number, e.text);
			code = 1;
		} else {
			text = jx_text(answer);
			fprintf(out, "%s\n", text);
			free(text);
		}
		json_decref(question);
		json_decref(answer);
	}
	free(line);
	return code || fflush(out) ? 1 : 0;
}

int demo_score_main(FILE *in, FILE *out)
{
	return each_line(in, out, score_row);
}

int demo_compare_main(FILE *in, FILE *out)
{
	return each_line(in, out, compare_row);
}
