/* Reviews counted: how many, who agrees with the judge and with whom else. Pure.
 *
 * A judge that names the better answer is never "wrong" in the class agree/disagree: kappa would be zero
 * whatever people say. So both name one of two answers in an order that says nothing (pair_key.h), and
 * the table is of first and second.
 */
#include "server/review.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "server/kappa.h"
#include "server/pair_key.h"
#include "server/reply.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define REVIEWERS_MAX 20 /* compared with each other */

/* 1 agrees, -1 does not, 0 passed. */
static int verdict_of(const json_t *line)
{
	const char *v = jx_get_str(line, "verdict", "");

	return strcmp(v, "agree") == 0 ? 1 : strcmp(v, "disagree") == 0 ? -1 : 0;
}

static json_t *number(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}

static json_t *agreement_json(const int64_t table[4])
{
	struct kappa k = kappa_of(table, 2);
	json_t *v = json_pack("{s:I, s:I, s:[[I, I], [I, I]]}", "n", (json_int_t)k.n, "agree",
			      (json_int_t)k.agree, "table", (json_int_t)table[0],
			      (json_int_t)table[1], (json_int_t)table[2], (json_int_t)table[3]);

	json_put(v, "share", number(k.share));
	json_put(v, "low", number(k.low));
	json_put(v, "high", number(k.high));
	json_put(v, "kappa", number(k.kappa));
	json_put(v, "se", number(k.se));
	json_put(v, "kappa_low", number(k.kappa_low));
	json_put(v, "kappa_high", number(k.kappa_high));
	return v;
}

/* Row: the class of one rater, column: of the other. +1 is the chosen answer. */
static void tally(int64_t table[4], const char *key, int one, int other)
{
	bool chosen_first = pair_key_chosen_first(key);
	int row = chosen_first == (one > 0) ? 0 : 1, column = chosen_first == (other > 0) ? 0 : 1;

	table[2 * row + column]++;
}

json_t *review_majority(const json_t *lines)
{
	json_t *votes = json_object(), *line, *v;
	const char *key;
	size_t i;

	json_array_foreach(lines, i, line)
	{
		key = jx_get_str(line, "key", "");
		if (verdict_of(line))
			json_object_set_new(votes, key,
					    json_integer(jx_get_i64(votes, key, 0) + verdict_of(line)));
	}
	json_object_foreach(votes, key, v)
	{
		json_int_t sum = json_integer_value(v);

		json_integer_set(v, sum > 0 ? 1 : sum < 0 ? -1 : 0);
	}
	return votes;
}

/* {name: {key: verdict}}, passes included. */
static json_t *by_person(const json_t *lines)
{
	json_t *all = json_object(), *line, *mine;
	const char *name;
	size_t i;

	json_array_foreach(lines, i, line)
	{
		name = jx_get_str(line, "by", "");
		mine = json_object_get(all, name);
		if (!mine)
			json_object_set_new(all, name, mine = json_object());
		json_object_set_new(mine, jx_get_str(line, "key", ""), json_integer(verdict_of(line)));
	}
	return all;
}

static json_t *person_json(const char *name, const json_t *mine)
{
	int64_t table[4] = {0}, skipped = 0;
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)mine, key, v)
	{
		int said = (int)json_integer_value(v);

		skipped += !said;
		if (said)
			tally(table, key, 1, said);
	}
	return json_pack("{s:s, s:I, s:I, s:o}", "by", name, "reviewed",
			 (json_int_t)json_object_size(mine) - (json_int_t)skipped, "skipped",
			 (json_int_t)skipped, "agreement", agreement_json(table));
}

/* Of the pairs both gave a verdict on; NULL when there is none. */
static json_t *two_json(const char *a, const json_t *of_a, const char *b, const json_t *of_b)
{
	int64_t table[4] = {0};
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)of_a, key, v)
	{
		int one = (int)json_integer_value(v), other = (int)jx_get_i64(of_b, key, 0);

		if (one && other)
			tally(table, key, one, other);
	}
	return table[0] + table[1] + table[2] + table[3]
		       ? json_pack("{s:s, s:s, s:o}", "a", a, "b", b, "agreement", agreement_json(table))
		       : NULL;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names of all reviewers, sorted; heap. */
static const char **names_of(const json_t *people, size_t *n)
{
	const char **names = mem_array(json_object_size(people) + 1, sizeof *names), *name;
	json_t *v;

	*n = 0;
	json_object_foreach((json_t *)(uintptr_t)people, name, v) names[(*n)++] = name;
	qsort(names, *n, sizeof *names, by_name);
	return names;
}

static json_t *between(const json_t *people, const char **names, size_t n)
{
	json_t *list = json_array(), *one;

	n = n < REVIEWERS_MAX ? n : REVIEWERS_MAX;
	for (size_t i = 0; i < n; i++)
		for (size_t k = i + 1; k < n; k++) {
			one = two_json(names[i], json_object_get(people, names[i]), names[k],
				       json_object_get(people, names[k]));
			if (one)
				json_array_append_new(list, one);
		}
	return list;
}

json_t *review_summary(const json_t *lines, int64_t pairs)
{
	json_t *votes = review_majority(lines), *people = by_person(lines), *list = json_array(), *v;
	int64_t table[4] = {0}, split = 0;
	const char *name, **names;
	size_t n;

	json_object_foreach(votes, name, v)
	{
		int sum = (int)json_integer_value(v);

		split += !sum;
		if (sum)
			tally(table, name, 1, sum);
	}
	names = names_of(people, &n);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, person_json(names[i], json_object_get(people, names[i])));
	v = json_pack("{s:I, s:I, s:I, s:o, s:o, s:o}", "pairs", (json_int_t)pairs, "reviewed",
		      (json_int_t)json_object_size(votes), "split", (json_int_t)split, "agreement",
		      agreement_json(table), "reviewers", list, "between", between(people, names, n));
	free(names);
	json_decref(votes);
	json_decref(people);
	return v;
}
