/* Training examples and the order in which they are seen. */
#include "tests/test.h"

#include "base/jsonx.h"
#include "worker/stages/examples.h"

#include <stdlib.h>
#include <string.h>


static struct err e;

void test_stage_examples__every_epoch_sees_every_item_once(void)
{
	struct order o;
	const uint32_t *items;

	order_init(&o, 1, RNG_SFT, 0, 0, 37, 8);
	CHECK_EQ(order_steps_per_epoch(&o), 5);
	for (int epoch = 0; epoch < 3; epoch++) {
		int seen[37] = {0};

		for (int s = 0; s < 5; s++) {
			uint32_t n = order_step(&o, epoch * 5 + s, &items);

			CHECK_EQ(n, s < 4 ? 8 : 5);
			for (uint32_t i = 0; i < n; i++)
				seen[items[i]]++;
		}
		for (int i = 0; i < 37; i++)
			CHECK_EQ(seen[i], 1);
	}
	order_release(&o);
}

void test_stage_examples__a_step_is_a_pure_function(void)
{
	struct order a, b;
	const uint32_t *x, *y;

	order_init(&a, 9, RNG_DPO, 2, 0, 100, 16);
	order_init(&b, 9, RNG_DPO, 2, 0, 100, 16);
	for (int s = 0; s < 20; s++)
		(void)order_step(&a, s, &x);
	uint32_t n = order_step(&a, 3, &x); /* Back, after having been ahead. */
	CHECK_EQ(order_step(&b, 3, &y), n);
	CHECK_EQ(memcmp(x, y, n * sizeof *x), 0);
	order_release(&b);
	order_init(&b, 9, RNG_DPO, 3, 0, 100, 16); /* Another iteration: another order. */
	(void)order_step(&b, 3, &y);
	CHECK(memcmp(x, y, n * sizeof *x) != 0);
	order_release(&a);
	order_release(&b);
}

static json_t *pairs(const char *text)
{
	json_t *v;

	CHECK_RC(jx_parse(text, strlen(text), "pairs", &v, &e), RC_OK);
	return v;
}

void test_stage_examples__pairs_keep_their_place(void)
{
	struct examples x = {0};
	json_t *rows = pairs("[{\"id\":\"a\",\"prompt_tokens\":[1,2,3],\"chosen\":{\"tokens\":[4,5,6]},"
			     "\"rejected\":{\"tokens\":[7]}},"
			     "{\"id\":\"b\",\"prompt_tokens\":[1],\"chosen\":{\"tokens\":[2]},"
			     "\"rejected\":{\"tokens\":[3]}}]");

	CHECK_RC(examples_add_pairs(&x, rows, 8, 5, &e), RC_OK);
	CHECK_EQ(x.n, 4);
	CHECK_EQ(x.too_long, 1);
	CHECK_EQ(x.items[0].n_response, 0);
	CHECK_EQ(x.items[1].n_response, 0);
	CHECK_EQ(x.items[2].response[0], 2);
	CHECK_EQ(x.items[3].response[0], 3);
	examples_release(&x);
	json_decref(rows);
}

void test_stage_examples__pairs_refuse_strange_ids(void)
{
	struct examples x = {0};
	json_t *rows = pairs("[{\"id\":\"a\",\"prompt_tokens\":[1,9],\"chosen\":{\"tokens\":[4]},"
			     "\"rejected\":{\"tokens\":[7]}}]");

	CHECK_RC(examples_add_pairs(&x, rows, 8, 50, &e), RC_INVALID);
	CHECK(strstr(e.text, "prompt_tokens[1]") != NULL);
	examples_release(&x);
	json_decref(rows);
}
