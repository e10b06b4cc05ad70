/* Whether an answer declines instead of answering, told by how it opens: a rule of thumb to find such
 * rows by, in English; nothing is trained on it. Pure. */
#pragma once

#include <stdbool.h>

/* `text`: UTF-8, NULL is no refusal. Looks at the first two hundred bytes. */
bool refusal_is(const char *text);
