/* The memory plan of training: what it decides, and that the process takes what it says. */
#include "tests/kern_util.h"

#include "worker/model/model.h"
#include "worker/train/memory.h"
#include "worker/train/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { VOCAB = 4000, LENGTH = 64, PAIRS = 24 };

static struct model *some_model(int layers)
{
	struct model_config c = {.arch = "llama",
				 .vocab = VOCAB,
				 .dim = 256,
				 .n_layers = layers,
				 .n_heads = 4,
				 .n_kv_heads = 4,
				 .head_dim = 64,
				 .ffn_dim = 704,
				 .max_pos = 2 * LENGTH,
				 .rope_theta = 10000,
				 .rms_eps = 1e-5f,
				 .tied = true,
				 .bos_id = 1,
				 .pad_id = -1,
				 .eos_ids = {2},
				 .n_eos = 1};
	struct model *m = NULL;
	struct err e = {0};

	CHECK_RC(model_new(&c, &m, &e), RC_OK);
	model_init(m, 3);
	return m;
}

static struct train_opts some_opts(void)
{
	struct train_opts o = train_opts_default();

	o.max_length = 2 * LENGTH;
	o.micro_tokens = 2048;
	o.schedule.lr = 1e-4;
	return o;
}

/* Short prompts: nearly every row is a target, so that the whole of each buffer is used. */
static void step(struct model *m, const struct train_opts *o)
{
	struct kern_pool *pool = kern_pool_new(2);
	struct train_pair p[PAIRS];
	struct train_metrics out;
	struct trainer *tr = NULL;
	struct err e = {0};
	static int32_t ids[PAIRS + 2 * LENGTH + 8];

	for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
		ids[i] = (int32_t)(i * 7919 % VOCAB);
	for (int i = 0; i < PAIRS; i++)
		p[i] = (struct train_pair){.prompt = ids + i,
					   .n_prompt = 4,
					   .chosen = ids + i + 4,
					   .n_chosen = LENGTH,
					   .rejected = ids + i + LENGTH,
					   .n_rejected = LENGTH,
					   .ref_chosen = -500,
					   .ref_rejected = -500};
	CHECK_RC(trainer_new(m, kern_cpu(), pool, o, &tr, &e), RC_OK);
	CHECK_RC(trainer_dpo_step(tr, p, PAIRS, NULL, 0, 0, &out, &e), RC_OK);
	trainer_free(tr);
	kern_pool_free(pool);
}

void test_train_memory__recomputes_only_when_nothing_else_fits(void)
{
	struct model *m = some_model(4);
	struct train_opts o = some_opts();
	struct memory_plan p, q;
	struct err e = {0};

	CHECK_RC(memory_plan(m, kern_cpu(), &o, 0, &p, &e), RC_OK);
	CHECK(!p.recompute && p.activations == p.kept && p.recomputed < p.kept / 2);
	CHECK_EQ(p.weights, m->n_params * sizeof(float));
	CHECK_EQ(p.gradients, p.weights);
	CHECK_EQ(p.moments, 2 * p.weights);
	CHECK_EQ(p.needed, p.gradients + p.moments + p.activations + p.head + p.scratch);
	CHECK_RC(memory_plan(m, kern_cpu(), &o, p.needed, &q, &e), RC_OK);
	CHECK(!q.recompute);
	CHECK_RC(memory_plan(m, kern_cpu(), &o, p.needed - 1, &q, &e), RC_OK);
	CHECK(q.recompute && q.needed == p.needed - p.kept + p.recomputed);
	CHECK_RC(memory_plan(m, kern_cpu(), &o, q.needed, &p, &e), RC_OK);
	CHECK_RC(memory_plan(m, kern_cpu(), &o, q.needed - 1, &p, &e), RC_NOMEM);
	CHECK(strstr(e.text, "micro_tokens") && strstr(e.text, "lora_r"));
	o.recompute = true;
	CHECK_RC(memory_plan(m, kern_cpu(), &o, 0, &p, &e), RC_OK);
	CHECK(p.recompute);
	model_free(m);
}

void test_train_memory__little_memory_changes_no_bit(void)
{
	struct model *a = some_model(2), *b = some_model(2);
	struct train_opts o = some_opts();
	struct memory_plan p;
	struct trainer *none = NULL;
	struct kern_pool *pool = kern_pool_new(1);
	struct err e = {0};

	step(a, &o);
	CHECK_RC(memory_plan(b, kern_cpu(), &o, 0, &p, &e), RC_OK);
	o.memory_bytes = p.needed - 1;
	step(b, &o);
	check_same(a->params, b->params, a->n_params);
	o.memory_bytes = p.needed / 4;
	CHECK_RC(trainer_new(b, kern_cpu(), pool, &o, &none, &e), RC_NOMEM);
	model_free(a);
	model_free(b);
	kern_pool_free(pool);
}

static double status_mib(const char *key)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	double kib = -1;

	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, key, strlen(key)) == 0)
			kib = strtod(line + strlen(key), NULL);
	if (f)
		fclose(f);
	return kib / 1024;
}

/* In a process of its own: the peak of its resident size belongs to this step. */
void test_train_memory__peak_is_what_the_plan_says(void)
{
#if defined(__SANITIZE_ADDRESS__)
	SKIP("the sanitizer takes memory of its own");
#endif
	double plan = 0, peak = 0, got[2];
	int fd[2], status = 0;
	pid_t pid;

	CHECK(pipe(fd) == 0);
	CHECK((pid = fork()) >= 0);
	if (pid == 0) {
		double before = status_mib("VmRSS:");
		struct model *m = some_model(8);
		struct train_opts o = some_opts();
		struct memory_plan p;
		struct err e = {0};

		CHECK_RC(memory_plan(m, kern_cpu(), &o, 0, &p, &e), RC_OK);
		step(m, &o);
		got[0] = (double)(p.weights + p.needed) / (1 << 20);
		got[1] = status_mib("VmHWM:") - before;
		_exit(write(fd[1], got, sizeof got) == sizeof got ? 0 : 1);
	}
	close(fd[1]);
	CHECK_EQ(read(fd[0], got, sizeof got), (ssize_t)sizeof got);
	plan = got[0];
	peak = got[1];
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	close(fd[0]);
	fprintf(stderr, "# plan %.1f MiB, peak %.1f MiB\n", plan, peak);
	CHECK_NEAR(peak / plan, 1, 0.1);
}
