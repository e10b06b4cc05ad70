#include "server/refusal.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>

#define LOOK 200

/* Enough by themselves. */
static const char *const declines[] = {
	"i cannot ",	 "i can not ",	   "i can't ",	       "i am unable",
	"i'm unable",	 "i am not able",  "i'm not able",     "i won't ",
	"i will not ",	 "i must decline", "as an ai",	       "i refuse",
	"i do not feel", "i don't feel",   "i'm afraid i can", "i am afraid i can"};

/* Polite openings that answers have too: they count when the same sentence or the next one
 * declines. */
static const char *const regrets[] = {"i'm sorry",   "i am sorry",    "sorry",	     "i apologize",
				      "i apologise", "unfortunately", "my apologies"};
static const char *const denials[] = {"cannot ",      "can't ", "can not ", "unable to ",
				      "not able to ", "won't ", "will not "};

/* Lower case, typewriter apostrophes, without what stands before the first letter. */
static void simplify(const char *text, char out[LOOK + 1])
{
	size_t n = 0;

	while (*text && !isalpha((unsigned char)*text))
		text++;
	while (*text && n < LOOK) {
		if (strncmp(text, "\xe2\x80\x99", 3) == 0) {
			out[n++] = '\'';
			text += 3;
		} else {
			out[n++] = (char)tolower((unsigned char)*text++);
		}
	}
	out[n] = '\0';
}

static bool opens(const char *text, const char *const *with, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strncmp(text, with[i], strlen(with[i])) == 0)
			return true;
	return false;
}

bool refusal_is(const char *text)
{
	char s[LOOK + 1];

	if (!text)
		return false;
	simplify(text, s);
	if (opens(s, declines, sizeof declines / sizeof *declines))
		return true;
	if (!opens(s, regrets, sizeof regrets / sizeof *regrets))
		return false;
	for (size_t i = 0; i < sizeof denials / sizeof *denials; i++)
		if (strstr(s, denials[i]))
			return true;
	return false;
}
