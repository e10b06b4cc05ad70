/* The judge's answer: any bytes give a score within the bounds, or a reason. */
#include "base/check.h"
#include "tests/fuzz/fuzz.h"
#include "worker/method/judge_template.h"
#include "worker/method/winrate.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct judge_template whole, half;
	struct judge_score s;

	if (!whole.text) {
		json_t *spec = json_pack("{s:s, s:s, s:f, s:b}", "text", "{prompt}{response}",
					 "pattern", "score|rating|得分", "max", 10.0, "integer", 0);
		if (judge_template_of(NULL, &whole, NULL) != RC_OK ||
		    judge_template_of(spec, &half, NULL) != RC_OK)
			abort();
		json_decref(spec);
	}
	s = judge_parse(&whole.rule, (const char *)data, size, true);
	ASSERT(s.reason != JUDGE_OK || (s.milli >= 0 && s.milli <= 5000 && s.milli % 1000 == 0));
	ASSERT(s.reason < JUDGE_N_REASONS);
	s = judge_parse(&half.rule, (const char *)data, size, true);
	ASSERT(s.reason != JUDGE_OK || (s.milli >= 0 && s.milli <= 10000));
	(void)winrate_parse((const char *)data, size);
	return 0;
}

void fuzz_seed(struct buf *out)
{
	buf_puts(out,
		 "Relevant and polite.\n**Score:** “4” / 5, 得分：３ or [[2]] out of 5. [[A]]");
}
