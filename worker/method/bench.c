#include "worker/method/bench.h"

#include "base/jsonx.h"
#include "base/str.h"

#include <ctype.h>
#include <string.h>

static json_t *with_category(json_t *out, const json_t *row)
{
	static const char *const keys[] = {"category", "subject"};

	for (int i = 0; i < 2; i++)
		if (json_is_string(json_object_get(row, keys[i])))
			json_object_set(out, "category", json_object_get(row, keys[i]));
	return out;
}

/* Index of the label in the list; -1: not there. A number from 1 stands for a letter, as in ARC. */
static int label_at(const json_t *labels, size_t n, const char *want)
{
	for (size_t i = 0; i < n; i++) {
		char letter[2] = {(char)('A' + i), 0}, digit[3];
		const char *label = json_string_value(json_array_get(labels, i));

		str_fmt(digit, sizeof digit, "%d", (int)i + 1);
		if (label ? strcmp(label, want) == 0
			  : strcmp(letter, want) == 0 || strcmp(digit, want) == 0)
			return (int)i;
	}
	return -1;
}

static enum rc choice_row(const json_t *row, const char *question, json_t *texts,
			  const json_t *labels, json_t **out, struct err *e)
{
	const json_t *key = json_object_get(row, "answerKey");
	size_t n = json_array_size(texts);
	int64_t at = -1;

	if (!key)
		key = json_object_get(row, "answer");
	if (json_is_integer(key))
		at = json_integer_value(key);
	else if (json_is_string(key))
		at = label_at(labels, n, json_string_value(key));
	if (n < 2 || n > BENCH_CHOICES_MAX)
		return err_set(e, RC_INVALID, "%zu choices, expected 2 to %d", n,
			       BENCH_CHOICES_MAX);
	for (size_t i = 0; i < n; i++)
		if (json_string_length(json_array_get(texts, i)) == 0)
			return err_set(e, RC_INVALID, "choice %zu is no text", i + 1);
	if (at < 0 || (size_t)at >= n)
		return err_set(e, RC_INVALID,
			       "\"answerKey\" (or \"answer\") names none of the %zu choices", n);
	*out = with_category(json_pack("{s:s, s:s, s:O, s:I}", "kind", "choice", "question",
				       question, "choices", texts, "answer", (json_int_t)at),
			     row);
	return RC_OK;
}

/* ARC's own: choices are objects with text and label. */
static enum rc arc_row(const json_t *row, const json_t *q, json_t **out, struct err *e)
{
	json_t *texts = json_array(), *labels = json_array(), *choices = NULL, *c;
	const char *stem;
	size_t i;
	enum rc rc = jx_str(q, "stem", &stem, e);

	if (rc == RC_OK)
		rc = jx_arr(q, "choices", &choices, e);
	json_array_foreach(choices, i, c)
	{
		json_array_append_new(texts, json_string(jx_get_str(c, "text", "")));
		json_array_append_new(labels, json_string(jx_get_str(c, "label", "")));
	}
	if (rc == RC_OK)
		rc = choice_row(row, stem, texts, labels, out, e);
	json_decref(texts);
	json_decref(labels);
	return rc;
}

static enum rc chat_row(const json_t *row, json_t *turns, json_t **out, struct err *e)
{
	json_t *refs = json_object_get(row, "reference");
	size_t n = json_array_size(turns);

	if (n < 1 || n > 2)
		return err_set(e, RC_INVALID, "%zu turns, expected 1 or 2", n);
	for (size_t i = 0; i < n; i++)
		if (json_string_length(json_array_get(turns, i)) == 0)
			return err_set(e, RC_INVALID, "turn %zu is no text", i + 1);
	if (refs && (!json_is_array(refs) || json_array_size(refs) != n))
		return err_set(e, RC_INVALID, "\"reference\": expected one text for each turn");
	*out = with_category(json_pack("{s:s, s:O, s:O*}", "kind", "chat", "turns", turns, "reference",
				       refs), row);
	return RC_OK;
}

enum rc bench_read(const json_t *row, json_t **out, struct err *e)
{
	const json_t *q = json_object_get(row, "question");
	json_t *choices = json_object_get(row, "choices");
	const char *question, *text, *response;
	char number[BENCH_NUMBER_MAX];
	enum rc rc;

	*out = NULL;
	if (json_is_array(json_object_get(row, "turns")))
		return chat_row(row, json_object_get(row, "turns"), out, e);
	if (json_is_object(q))
		return arc_row(row, q, out, e);
	if (!q) {
		if ((rc = jx_str(row, "prompt", &question, e)) != RC_OK ||
		    (rc = jx_str(row, "response", &response, e)) != RC_OK)
			return err_wrap(e, "no \"question\", so prompt and response are expected");
		*out = with_category(json_pack("{s:s, s:s, s:s}", "kind", "likelihood", "question",
					       question, "response", response),
				     row);
		return RC_OK;
	}
	if ((rc = jx_str(row, "question", &question, e)) != RC_OK)
		return rc;
	if (json_is_object(choices))
		return choice_row(row, question, json_object_get(choices, "text"),
				  json_object_get(choices, "label"), out, e);
	if (json_is_array(choices))
		return choice_row(row, question, choices, NULL, out, e);
	if ((rc = jx_str(row, "answer", &text, e)) != RC_OK)
		return rc;
	if (!bench_number(text, number))
		return err_set(e, RC_INVALID, "\"answer\" has no number");
	*out = with_category(json_pack("{s:s, s:s, s:s}", "kind", "exact", "question", question,
				       "answer", number),
			     row);
	return RC_OK;
}

/* --- numbers --------------------------------------------------------------------------------- */

/* The number at p, written plainly; 0: none begins here, else its length in the text. */
static size_t number_at(const char *p, char out[BENCH_NUMBER_MAX])
{
	size_t i = 0, n = 0;
	bool point = false;

	if (p[i] == '-' && isdigit((unsigned char)p[i + 1]))
		out[n++] = p[i++];
	if (!isdigit((unsigned char)p[i]))
		return 0;
	for (; p[i] && n < BENCH_NUMBER_MAX - 1; i++) {
		if (p[i] == ',' && !point && isdigit((unsigned char)p[i + 1]))
			continue;
		if (p[i] == '.' && !point && isdigit((unsigned char)p[i + 1]))
			point = true;
		else if (!isdigit((unsigned char)p[i]))
			break;
		out[n++] = p[i];
	}
	while (point && (out[n - 1] == '0' || out[n - 1] == '.'))
		if (out[--n] == '.')
			break;
	out[n] = 0;
	size_t sign = out[0] == '-', zeros = 0;
	while (out[sign + zeros] == '0' && isdigit((unsigned char)out[sign + zeros + 1]))
		zeros++;
	memmove(out + sign, out + sign + zeros, n - sign - zeros + 1);
	if (strcmp(out, "-0") == 0)
		memmove(out, out + 1, 2);
	return i;
}

bool bench_number(const char *text, char out[BENCH_NUMBER_MAX])
{
	const char *mark = strstr(text, "####");
	char one[BENCH_NUMBER_MAX];
	bool any = false;

	for (const char *p = mark ? mark + 4 : text; *p;) {
		/* The sign of a difference is not that of a number: 5-3 ends in 3. */
		bool after_digit = *p == '-' && p > text && isdigit((unsigned char)p[-1]);
		size_t n = after_digit ? 0 : number_at(p, one);

		if (n > 0) {
			str_copy(out, BENCH_NUMBER_MAX, one);
			any = true;
			if (mark)
				return true;
		}
		p += n > 0 ? n : 1;
	}
	return any;
}
