/* The demo world: its texts can be read back, its parts share nothing, its truth is what the words
 * say, and the same seed makes the same files.
 */
#include "base/buf.h"
#include "base/fs.h"
#include "base/sha256.h"
#include "base/str.h"
#include "cli/demo_parts.h"
#include "cli/world.h"
#include "cli/world_data.h"
#include "tests/test.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void test_world__text_and_meaning_agree(void)
{
	struct buf text = BUF_INIT;

	for (uint32_t i = 0; i < 500; i++) {
		struct world_request q, back;
		struct world_answer a, read;
		struct rng r;

		world_request(7, WORLD_TEST, i, &q);
		rng_open(&r, 7, RNG_TEST, 0, i, 0);
		world_demonstrate(&q, &r, 0.3, (int)rng_below(&r, 3), &a);
		buf_clear(&text);
		world_prompt_text(&q, &text);
		CHECK(world_read_request(text.data, &back));
		CHECK(memcmp(q.asked, back.asked, sizeof q.asked) == 0);
		CHECK_EQ(q.place, back.place);
		buf_clear(&text);
		world_answer_text(&q, &a, &text);
		world_read_answer(text.data, &read);
		CHECK_EQ(read.n, a.n);
		CHECK(memcmp(read.listed, a.listed, a.n * sizeof *a.listed) == 0);
	}
	buf_release(&text);
}

void test_world__truth_counts_what_is_there(void)
{
	static const struct {
		const char *answer;
		int present, extra, score, right;
	} cases[] = {
		{"Pack for the lake: tent, rope, lamp, soap, cup.", 5, 0, 5, 1},
		{"Pack for the lake: cup, soap, lamp, rope, tent.", 5, 0, 5, 1},
		{"Pack for the lake: tent, rope.", 2, 0, 2, 0},
		{"Pack for the lake: tent, tent, tent.", 1, 2, 0, 0},
		{"Pack for the lake: tent, rope, lamp, soap, cup, kite.", 5, 1, 4, 0},
		{"Pack for the lake: tent, qqq.", 1, 1, 0, 0},
		{"", 0, 0, 0, 0},
	};
	struct world_request q;

	CHECK(world_read_request("Please write a packing list for the lake: tent, rope, lamp, soap and cup.",
				 &q));
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct world_answer a;
		struct world_truth t;

		world_read_answer(cases[i].answer, &a);
		t = world_judge(&q, &a);
		CHECK_EQ(t.present, cases[i].present);
		CHECK_EQ(t.extra, cases[i].extra);
		CHECK_EQ(t.score, cases[i].score);
		CHECK_EQ(t.right, cases[i].right);
	}
	CHECK(!world_read_request("Pack tent and rope.", &q));
}

static uint64_t set_of(const struct world_request *q)
{
	uint64_t mask = 0;

	for (int i = 0; i < WORLD_ASKED; i++)
		mask |= (uint64_t)1 << q->asked[i];
	return mask;
}

void test_world__parts_share_no_request(void)
{
	enum { N = 400 };
	static uint64_t seen[WORLD_PARTS][N];

	for (int p = 0; p < WORLD_PARTS; p++)
		for (uint32_t i = 0; i < N; i++) {
			struct world_request q;

			world_request(3, (enum world_part)p, i, &q);
			seen[p][i] = set_of(&q);
		}
	for (int p = 0; p < WORLD_PARTS; p++)
		for (int o = p + 1; o < WORLD_PARTS; o++)
			for (int i = 0; i < N; i++)
				for (int j = 0; j < N; j++)
					CHECK(seen[p][i] != seen[o][j]);
}

static void digest_of(const char *dir, const char *name, char out[SHA256_HEX_SIZE])
{
	char path[PATH_MAX];
	struct buf b = BUF_INIT;
	struct err e = {0};

	snprintf(path, sizeof path, "%s/%s", dir, name);
	CHECK_RC(fs_read(path, 64u << 20, &b, &e), RC_OK);
	sha256_of(b.data, b.len, out);
	buf_release(&b);
}

void test_world__same_seed_same_files(void)
{
	static const char *const files[] = {"ift.jsonl",  "eft.jsonl",  "eval.jsonl",
					    "prompts.jsonl", "test.jsonl", "base/tokenizer.json",
					    "base/config.json", "base/model.safetensors"};
	static const struct world_sizes sizes = {50, 40, 20, 30, 10, 15};
	char dir[3][PATH_MAX];
	double human[3];
	struct err e = {0};

	for (int i = 0; i < 3; i++) {
		snprintf(dir[i], sizeof dir[i], "%s/%d", test_tmpdir(), i);
		CHECK_RC(world_write(dir[i], i == 2 ? 2 : 1, &sizes, &human[i], &e), RC_OK);
	}
	CHECK_NEAR(human[0], human[1], 0);
	CHECK(human[0] > 2.5 && human[0] < 4);
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		char a[SHA256_HEX_SIZE], b[SHA256_HEX_SIZE], c[SHA256_HEX_SIZE];

		digest_of(dir[0], files[i], a);
		digest_of(dir[1], files[i], b);
		digest_of(dir[2], files[i], c);
		CHECK_STR(a, b);
		/* The vocabulary and the shape do not depend on the seed; everything else does. */
		if (!strstr(files[i], "base/tok") && !strstr(files[i], "base/conf"))
			CHECK(strcmp(a, c) != 0);
	}
}

void test_world__scorer_answers_line_by_line(void)
{
	char in[] = "{\"id\":\"x\",\"prompt\":\"What do I take to the lake? I must have tent, rope, lamp, "
		    "soap and cup.\",\"response\":\"Pack for the lake: tent, cup.\"}\n";
	char out[256] = "";
	FILE *f = fmemopen(in, strlen(in), "r"), *o = fmemopen(out, sizeof out, "w");

	CHECK_EQ(demo_score_main(f, o), 0);
	fclose(f);
	fclose(o);
	CHECK_STR(out, "{\"correct\":false,\"extra\":0,\"id\":\"x\",\"present\":2,\"score\":2}\n");
}
