/* The health of a judge: figures and sentences, and what a fair judge must not be blamed for. */
#include "base/buf.h"
#include "tests/test.h"
#include "worker/method/health.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct health_limits limits = {.parse_fail = 0.05, .pile = 0.9, .position = 0.3,
					    .length = 0.8, .verbosity = 0.3, .min_judgements = 20};

/* 60 judgements of 20 answers, three of each: score of answer i, and how long it is. */
static struct health of(int64_t (*score)(int), int unreadable)
{
	struct health_score list[60];
	struct health h;

	for (int i = 0; i < 60; i++)
		list[i] = (struct health_score){.milli = 1000 * score(i / 3),
						.valid = i >= unreadable,
						.item = i / 3,
						.length = 10 + 7 * (i / 3)};
	health_init(&h);
	health_of_scores(&h, list, 60);
	return h;
}

static int64_t fair(int i) { return (i * 7 + 3) % 6; }
static int64_t four(int i) { return 4 + 0 * i; }
static int64_t longer(int i) { return i / 4; }
static int64_t shorter(int i) { return 5 - i / 4; }

static void says(const struct health *h, const char *want)
{
	struct buf out = BUF_INIT;

	buf_puts(&out, "");
	CHECK_EQ(health_alarms(h, &limits, &out), *want != 0);
	CHECK_STR(out.data, want);
	buf_release(&out);
}

void test_health__scores_of_judges(void)
{
	struct health h = of(fair, 0);

	says(&h, "");
	CHECK_NEAR(h.variance, 0, 1e-12);
	CHECK_NEAR(h.parse_fail, 0, 0);
	h = of(four, 0);
	says(&h, "100 % of the scores are 4");
	CHECK(isnan(h.length_score)); /* one score has no correlation */
	h = of(longer, 0);
	says(&h, "longer answers score higher (Spearman 0.98, limit 0.80)");
	h = of(shorter, 0);
	says(&h, "shorter answers score higher (Spearman -0.98, limit 0.80)");
	h = of(fair, 6);
	says(&h, "10 % of the judgements cannot be read (limit 5 %)");
	h = of(fair, 60);
	says(&h, "100 % of the judgements cannot be read (limit 5 %)");
	CHECK(isnan(h.pile) && isnan(h.variance));
	h.judgements = 19; /* too few to say anything */
	says(&h, "");
}

void test_health__variance_is_within_an_answer(void)
{
	struct health_score list[6] = {{1000, true, 0, 5}, {3000, true, 0, 5}, {2000, true, 1, 9},
				       {2000, true, 1, 9}, {5000, true, 2, 7}, {0, false, 2, 7}};
	struct health h;

	health_init(&h);
	health_of_scores(&h, list, 6);
	CHECK_NEAR(h.variance, 0.5, 1e-12); /* 1 and 0; one judgement alone has none */
	CHECK_NEAR(h.parse_fail, 1.0 / 6, 1e-12);
	CHECK_NEAR(h.pile, 0.4, 1e-12);
	CHECK_EQ(h.pile_milli, 2000);
}

void test_health__position_and_verbosity(void)
{
	struct health h;

	health_init(&h);
	h.compared = 50;
	h.first = 0.8;
	h.second = 0.1;
	h.unreadable = 0;
	says(&h, "the answer shown first wins 80 % of the comparisons in both orders, the second 10 %");
	h.first = 0.4; /* of two minds, but not one-sided */
	h.second = 0.4;
	says(&h, "");
	h.unreadable = 0.5;
	says(&h, "50 % of the comparisons cannot be read (limit 5 %)");
	health_init(&h);
	h.attacked = 10;
	h.verbosity = 0.6;
	h.control = 0.4; /* mere noise of its sampling */
	says(&h, "");
	h.control = 0;
	says(&h, "60 % of the answers score higher when a part of them is repeated (0 % when nothing is "
		 "changed)");
}

static void repeated(const char *text, const char *want)
{
	char *got = health_repeated(text);

	CHECK_STR(got, want);
	free(got);
}

void test_health__the_attack_says_nothing_new(void)
{
	repeated("Do this:\n- one\n* two\nBye", "- one\n* two\nDo this:\n- one\n* two\nBye");
	repeated("1. a\n2) b", "1. a\n2) b\n1. a\n2) b");
	repeated("First. Second.", "First. First. Second.");
	repeated("no end", "no end no end");
	repeated("", " ");
}
