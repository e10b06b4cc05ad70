#include "worker/stages/stages.h"
#include "worker/stage.h"

#include <string.h>

const struct stage stage_table[] = {
	{"import", stage_import},
	{"pair", stage_pair},
	{NULL, NULL},
};

const struct stage *stage_find(const char *name)
{
	for (const struct stage *s = stage_table; s->name; s++)
		if (strcmp(s->name, name) == 0)
			return s;
	return NULL;
}
