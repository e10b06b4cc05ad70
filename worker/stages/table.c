#include "worker/stages/stages.h"
#include "worker/stage.h"

#include <string.h>

const struct stage stage_table[] = {
	{"import", stage_import},
	{"eft", stage_eft},
	{"sft", stage_sft},
	{"protegi", stage_protegi},
	{"prompts", stage_prompts},
	{"generate", stage_generate},
	{"judge", stage_judge},
	{"pair", stage_pair},
	{"reference", stage_reference},
	{"dpo", stage_dpo},
	{"versus", stage_versus},
	{"health", stage_health},
	{"bench", stage_bench},
	{"eval", stage_eval},
	{NULL, NULL},
};

const struct stage *stage_find(const char *name)
{
	for (const struct stage *s = stage_table; s->name; s++)
		if (strcmp(s->name, name) == 0)
			return s;
	return NULL;
}
