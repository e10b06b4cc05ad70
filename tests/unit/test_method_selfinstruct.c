#include "base/jsonx.h"
#include "base/mem.h"
#include "tests/test.h"
#include "worker/method/selfinstruct.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void test_method_selfinstruct__request(void)
{
	const char *shots[] = {"  Write\n a  poem about:: ", "Sum these numbers"};
	struct buf b = BUF_INIT;

	si_request(shots, 2, &b);
	CHECK_STR(b.data, "Come up with a series of tasks:\n1. Write a poem about\n"
			  "2. Sum these numbers\n3.");
	buf_release(&b);
}

void test_method_selfinstruct__splitting(void)
{
	const char *text =
		" First task\nstill first.\n10. Second 1. task\n11 . Third\n12.Fourth\n13. ";
	char *items[SI_ITEMS_MAX];
	int n = si_split(text, strlen(text), items);

	CHECK_EQ(n, 4);
	CHECK_STR(items[0], " First task\nstill first.");
	CHECK_STR(items[1], "Second 1. task");
	CHECK_STR(items[2], "Third\n12.Fourth");
	CHECK_STR(items[3], "");
	for (int i = 0; i < n; i++)
		free(items[i]);
}

void test_method_selfinstruct__splitting_is_bounded(void)
{
	struct buf b = BUF_INIT;
	char *items[SI_ITEMS_MAX];
	int n;

	for (int i = 0; i < 500; i++)
		buf_puts(&b, "\n1. x");
	n = si_split(b.data, b.len, items);
	CHECK_EQ(n, SI_ITEMS_MAX);
	for (int i = 0; i < n; i++)
		free(items[i]);
	buf_release(&b);
}

void test_method_selfinstruct__stop_words(void)
{
	CHECK_EQ(si_cut("one\n\ntwo", 8), 3);
	CHECK_EQ(si_cut("one\n16. two\n\n", 13), 3);
	CHECK_EQ(si_cut("the year 16 .", 13), 9);
	CHECK_EQ(si_cut("plain", 5), 5);
	CHECK_EQ(si_cut("", 0), 0);
}

void test_method_selfinstruct__only_the_first_letter_changes(void)
{
	struct si_rules compat = si_rules_default;
	char *a = si_clean(&si_rules_default, "  write SQL\tfor  NASA \n"), *b;

	compat.capitalize = true;
	b = si_clean(&compat, "write SQL for NASA");
	CHECK_STR(a, "Write SQL for NASA");
	CHECK_STR(b, "Write sql for nasa");
	free(a);
	free(b);
}

void test_method_selfinstruct__filters_in_order(void)
{
	static const struct {
		const char *text;
		enum si_reason want;
	} t[] = {
		{"", SI_EMPTY},
		{"Too short now", SI_TOO_SHORT},
		{"Exactly four words here", SI_OK},
		{"Describe what this Image shows", SI_KEYWORD},
		{"Describe the imagery of it", SI_OK},
		{"Open the file, then go", SI_KEYWORD},
		{"Please go to the shop", SI_KEYWORD},
		{"Explain a mapping of roads", SI_OK},
		{"Draw—or do not draw it", SI_KEYWORD},
		{"Write a program that sorts numbers", SI_PROGRAM},
		{"Write A Program that sorts numbers", SI_PROGRAM},
		{"Write a programme that sorts numbers", SI_PROGRAM},
		{"\"Quoted\" tasks are not wanted", SI_PUNCTUATION},
		{"Élan vital is what exactly", SI_NON_ASCII},
	};
	struct buf b = BUF_INIT;

	for (size_t i = 0; i < sizeof t / sizeof t[0]; i++)
		CHECK_STR(si_reason_text(si_check(&si_rules_default, t[i].text)),
			  si_reason_text(t[i].want));
	for (int i = 0; i < 151; i++)
		buf_puts(&b, i ? " word" : "word");
	CHECK_EQ(si_check(&si_rules_default, b.data), SI_TOO_LONG);
	b.data[b.len - 5] = 0;
	CHECK_EQ(si_check(&si_rules_default, b.data), SI_OK);
	buf_release(&b);
}

void test_method_selfinstruct__acceptance_is_sequential(void)
{
	struct si_pool *p = si_pool_new(&si_rules_default);
	double f = -1;

	si_pool_seed(p, "a b c d e f g h i j");
	CHECK_EQ(si_pool_try(p, "A b c d e f g x y z", &f), SI_OK); /* 0.7 is not above 0.7 */
	CHECK_NEAR(f, 0.7, 0);
	CHECK_EQ(si_pool_try(p, "A b c d e f g x y w", &f), SI_SIMILAR); /* to the one just taken */
	CHECK_EQ(si_pool_try(p, "a B c d  e f g h i j", NULL), SI_DUPLICATE);
	si_pool_free(p);
}

void test_method_selfinstruct__other_scripts(void)
{
	struct si_rules any = si_rules_default;
	struct si_pool *p;

	any.any_script = true;
	p = si_pool_new(&any);
	CHECK_EQ(si_pool_try(p, "写一首关于大海的诗", NULL), SI_OK);
	CHECK_EQ(si_pool_try(p, "写一首关于大海的歌", NULL), SI_SIMILAR);
	CHECK_EQ(si_pool_try(p, "写一首关于大海的诗", NULL), SI_DUPLICATE);
	CHECK_EQ(si_pool_try(p, "大海", NULL), SI_TOO_SHORT);
	CHECK_EQ(si_pool_try(p, "넓은 바다에 대한 짧은 시를 써 주세요", NULL), SI_OK);
	CHECK_EQ(si_pool_try(p, "넓은 바다에 대한 짧은 노래를 써 주세요", NULL), SI_SIMILAR); /* 6 of 7 */
	CHECK_EQ(si_pool_try(p, "넓은  바다에 대한 짧은 시를 써 주세요", NULL), SI_DUPLICATE);
	si_pool_free(p);
}

/* The 175 seed tasks among themselves, in order. */
void test_method_selfinstruct__real_seeds(void)
{
	FILE *f = fopen(test_data("datasets/self_instruct_seed_tasks.jsonl"), "r");
	struct si_pool *p = si_pool_new(&si_rules_default);
	char *line = NULL;
	size_t cap = 0;
	int count[SI_N_REASONS] = {0}, n = 0;

	CHECK(f != NULL);
	while (getline(&line, &cap, f) > 0) {
		json_t *row = json_loads(line, 0, NULL);
		char *s = si_clean(&si_rules_default, jx_get_str(row, "instruction", ""));
		count[si_pool_try(p, s, NULL)]++;
		n++;
		free(s);
		json_decref(row);
	}
	fclose(f);
	free(line);
	si_pool_free(p);
	CHECK_EQ(n, 175);
	CHECK_EQ(count[SI_OK], 170);
	CHECK_EQ(count[SI_TOO_SHORT], 2);
	CHECK_EQ(count[SI_PROGRAM], 1);
	CHECK_EQ(count[SI_SIMILAR], 2);
}
