#include "worker/method/judge_template.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/method/uni.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Yuan et al. 2024, figure 2, with its typographic quotes and line breaks. */
static const char additive_5[] =
	"Review the user’s question and the corresponding response using the additive 5-point\n"
	"scoring system described below. Points are accumulated based on the satisfaction of each\n"
	"criterion:\n"
	"- Add 1 point if the response is relevant and provides some information related to\n"
	"the user’s inquiry, even if it is incomplete or contains some irrelevant content.\n"
	"- Add another point if the response addresses a substantial portion of the user’s question,\n"
	"but does not completely resolve the query or provide a direct answer.\n"
	"- Award a third point if the response answers the basic elements of the user’s question in a\n"
	"useful way, regardless of whether it seems to have been written by an AI Assistant or if it\n"
	"has elements typically found in blogs or search results.\n"
	"- Grant a fourth point if the response is clearly written from an AI Assistant’s perspective,\n"
	"addressing the user’s question directly and comprehensively, and is well-organized and\n"
	"helpful, even if there is slight room for improvement in clarity, conciseness or focus.\n"
	"- Bestow a fifth point for a response that is impeccably tailored to the user’s question\n"
	"by an AI Assistant, without extraneous information, reflecting expert knowledge, and\n"
	"demonstrating a high-quality, engaging, and insightful answer.\n"
	"\n"
	"User: {prompt}\n"
	"<response>{response}</response>\n"
	"\n"
	"After examining the user’s instruction and the response:\n"
	"- Briefly justify your total score, up to 100 words.\n"
	"- Conclude with the score using the format: “Score: <total points>”\n"
	"Remember to assess from the AI Assistant perspective, utilizing web search knowledge as\n"
	"necessary. To evaluate the response in alignment with this additive scoring model, we’ll\n"
	"systematically attribute points based on the outlined criteria.";

/* Li et al. 2023, self-curation; the parts for prompt and answer are ours. */
static const char choice_1_5[] =
	"Below is an instruction from an user and a candidate answer. Evaluate whether or not the "
	"answer is a good example of how AI Assistant should respond to the user's instruction. "
	"Please assign a score using the following 5-point scale:\n"
	"1: It means the answer is incomplete, vague, off-topic, controversial, or not exactly what "
	"the user asked for. For example, some content seems missing, numbered list does not start "
	"from the beginning, the opening sentence repeats user's question. Or the response is from "
	"another person's perspective with their personal experience (e.g. taken from blog posts), "
	"or looks like an answer from a forum. Or it contains promotional text, navigation text, or "
	"other irrelevant information.\n"
	"2: It means the answer addresses most of the asks from the user. It does not directly "
	"address the user's question. For example, it only provides a high-level methodology instead "
	"of the exact solution to user's question.\n"
	"3: It means the answer is helpful but not written by an AI Assistant. It addresses all the "
	"basic asks from the user. It is complete and self contained with the drawback that the "
	"response is not written from an AI assistant's perspective, but from other people's "
	"perspective. The content looks like an excerpt from a blog post, web page, or web search "
	"results. For example, it contains personal experience or opinion, mentions comments section, "
	"or share on social media, etc.\n"
	"4: It means the answer is written from an AI assistant's perspective with a clear focus of "
	"addressing the instruction. It provide a complete, clear, and comprehensive response to "
	"user's question or instruction without missing or irrelevant information. It is well "
	"organized, self-contained, and written in a helpful tone. It has minor room for improvement, "
	"e.g. more concise and focused.\n"
	"5: It means it is a perfect answer from an AI Assistant. It has a clear focus on being a "
	"helpful AI Assistant, where the response looks like intentionally written to address the "
	"user's question or instruction without any irrelevant sentences. The answer provides high "
	"quality content, demonstrating expert knowledge in the area, is very well written, logical, "
	"easy-to-follow, engaging and insightful.\n"
	"\n"
	"Instruction: {prompt}\n"
	"<response>{response}</response>\n"
	"\n"
	"Please first provide a brief reasoning you used to derive the rating score, and then write "
	"\"Score: <rating>\" in the last line.";

static const struct {
	const char *name, *text, *words;
	int64_t min_milli, max_milli;
} built_in[] = {
	{"additive-5", additive_5, "score|得分|评分|점수", 0, 5000},
	{"choice-1-5", choice_1_5, "score|得分|评分|점수", 1000, 5000},
};

#define N_BUILT_IN (sizeof(built_in) / sizeof(built_in[0]))

const char *const *judge_template_names(void)
{
	static const char *names[N_BUILT_IN + 1];

	for (size_t i = 0; i < N_BUILT_IN; i++)
		names[i] = built_in[i].name;
	return names;
}

static char *lower_of(const char *s)
{
	struct buf out = BUF_INIT;
	size_t len = strlen(s);
	char utf8[4];
	uint32_t cp;

	for (size_t i = 0; i < len;) {
		i += (size_t)uni_next(s + i, len - i, &cp);
		buf_append(&out, utf8, (size_t)utf8_encode(uni_lower(cp), utf8));
	}
	return buf_detach(&out);
}

/* "score|rating:" -> words, trimmed, without a last colon. */
static enum rc take_words(struct judge_template *t, const char *pattern, struct err *e)
{
	int n = 0;
	char *next;

	if (strpbrk(pattern, "\\()[]{}^$*+?<>"))
		return err_set(e, RC_INVALID,
			       "judge template \"%s\": pattern \"%.80s\" must be words separated by "
			       "\"|\", such as \"score|rating\"; it is no regular expression",
			       t->name, pattern);
	t->words = lower_of(pattern);
	for (char *p = t->words; p; p = next) {
		next = strchr(p, '|');
		if (next)
			*next++ = 0;
		p += strspn(p, " \t");
		for (size_t len = strlen(p); len > 0 && strchr(" \t:", p[len - 1]); len--)
			p[len - 1] = 0;
		if (!*p || n == JUDGE_WORDS_MAX)
			return err_set(e, RC_INVALID,
				       "judge template \"%s\": pattern needs 1 to %d words, none empty",
				       t->name, JUDGE_WORDS_MAX);
		t->rule.words[n++] = p;
	}
	t->rule.words[n] = NULL;
	return RC_OK;
}

static enum rc check_text(const struct judge_template *t, struct err *e)
{
	static const char *const slots[] = {"{prompt}", "{response}"};

	if (strlen(t->text) > JUDGE_TEXT_MAX)
		return err_set(e, RC_INVALID, "judge template \"%s\": text has %zu bytes, at most %u",
			       t->name, strlen(t->text), JUDGE_TEXT_MAX);
	for (int i = 0; i < 2; i++)
		if (!strstr(t->text, slots[i]))
			return err_set(e, RC_INVALID,
				       "judge template \"%s\": text must contain \"%s\"", t->name,
				       slots[i]);
	return RC_OK;
}

static enum rc make(struct judge_template *out, const char *name, const char *text,
		    const char *words, struct err *e)
{
	enum rc rc;

	str_copy(out->name, sizeof(out->name), name);
	out->text = mem_str(text);
	sha256_of(text, strlen(text), out->sha256);
	rc = check_text(out, e);
	if (rc == RC_OK)
		rc = take_words(out, words, e);
	return rc;
}

enum rc judge_template_named(const char *name, struct judge_template *out, struct err *e)
{
	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < N_BUILT_IN; i++) {
		if (strcmp(built_in[i].name, name) != 0)
			continue;
		out->rule.min_milli = built_in[i].min_milli;
		out->rule.max_milli = built_in[i].max_milli;
		out->rule.integer = true;
		return make(out, name, built_in[i].text, built_in[i].words, e);
	}
	return err_set(e, RC_INVALID,
		       "judge template \"%.80s\" is unknown; there are \"additive-5\", \"choice-1-5\", "
		       "or an object with name and text", name);
}

static enum rc take_bounds(const json_t *spec, struct judge_template *out, struct err *e)
{
	double min = 0, max = 5;
	enum rc rc;

	out->rule.integer = true;
	if ((rc = jx_opt_f64(spec, "min", -1000, 1000, &min, e)) != RC_OK ||
	    (rc = jx_opt_f64(spec, "max", -1000, 1000, &max, e)) != RC_OK ||
	    (rc = jx_opt_bool(spec, "integer", &out->rule.integer, e)) != RC_OK)
		return rc;
	out->rule.min_milli = llround(min * 1000);
	out->rule.max_milli = llround(max * 1000);
	if (out->rule.min_milli >= out->rule.max_milli || out->rule.min_milli < 0)
		return err_set(e, RC_INVALID, "min %g and max %g: expected 0 <= min < max", min, max);
	return RC_OK;
}

enum rc judge_template_of(const json_t *spec, struct judge_template *out, struct err *e)
{
	static const char *const known[] = {"name", "text", "pattern", "min", "max", "integer", NULL};
	const char *name = "custom", *text = NULL, *pattern = "score";
	enum rc rc;

	memset(out, 0, sizeof(*out));
	if (!spec || json_is_null(spec))
		return judge_template_named(JUDGE_TEMPLATE_DEFAULT, out, e);
	if (json_is_string(spec))
		return judge_template_named(json_string_value(spec), out, e);
	if (!json_is_object(spec))
		return err_set(e, RC_INVALID, "judge.template must be a name or an object");
	if ((rc = jx_only(spec, known, e)) != RC_OK ||
	    (rc = jx_opt_str(spec, "name", &name, e)) != RC_OK ||
	    (rc = jx_str(spec, "text", &text, e)) != RC_OK ||
	    (rc = jx_opt_str(spec, "pattern", &pattern, e)) != RC_OK ||
	    (rc = take_bounds(spec, out, e)) != RC_OK)
		return err_wrap(e, "judge.template");
	rc = make(out, name, text, pattern, e);
	if (rc != RC_OK)
		judge_template_release(out);
	return rc;
}

void judge_template_release(struct judge_template *t)
{
	free(t->text);
	free(t->words);
	memset(t, 0, sizeof(*t));
}

/* True when s, just behind a "<", goes on as "response" or "/response". */
static bool opens_tag(const char *s)
{
	s += strspn(s, " \t\r\n");
	if (*s == '/')
		s++;
	s += strspn(s, " \t\r\n");
	return strncasecmp(s, "response", 8) == 0;
}

static void put_untrusted(const char *s, struct buf *out)
{
	for (; *s; s++) {
		buf_putc(out, *s);
		if (*s == '<' && opens_tag(s + 1))
			buf_putc(out, ' ');
	}
}

void judge_template_render(const struct judge_template *t, const char *prompt, const char *response,
			   struct buf *out)
{
	for (const char *p = t->text; *p;) {
		if (strncmp(p, "{prompt}", 8) == 0) {
			put_untrusted(prompt, out);
			p += 8;
		} else if (strncmp(p, "{response}", 10) == 0) {
			put_untrusted(response, out);
			p += 10;
		} else {
			buf_putc(out, *p++);
		}
	}
}
