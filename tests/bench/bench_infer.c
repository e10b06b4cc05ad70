/* Prints tokens per second of generation: single stream, batches, samples that share a prompt.
 * Usage: bench_infer [threads [MODEL_DIR]]   without a directory: a random model of the demo's shape
 */
#include "base/clk.h"
#include "kernels/kernels.h"
#include "worker/model/infer.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Processor seconds of all threads: what remains comparable when others use the machine. */
static double cpu_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct model *demo_shape(void)
{
	struct model_config cfg = {.arch = "llama", .vocab = 900, .dim = 128, .n_layers = 4,
				   .n_heads = 4, .n_kv_heads = 4, .head_dim = 32, .ffn_dim = 352,
				   .max_pos = 512, .rope_theta = 10000, .rms_eps = 1e-5f, .bos_id = 1,
				   .pad_id = -1, .eos_ids = {2}, .n_eos = 1};
	struct model *m;

	if (model_new(&cfg, &m, NULL))
		return NULL;
	model_init(m, 1);
	return m;
}

static void measure(const struct model *m, struct kern_pool *pool, int prompts, int n, int n_prompt,
		    int max_new)
{
	struct infer_opts o = {.kv_tokens = 64 * 512, .max_batch = 64};
	int32_t prompt[512];
	struct infer *f;
	struct err e;

	if (infer_new(m, kern_cpu(), pool, &o, &f, &e)) {
		puts(e.text);
		return;
	}
	for (int i = 0; i < prompts; i++) {
		struct infer_req q = {.prompt = prompt, .n_prompt = n_prompt, .sampling = {0.7f, 0.9f, 0},
				      .max_new = max_new, .n = n,
				      .name = {1, RNG_TEST, 0, (uint64_t)i, 0}};
		for (int k = 0; k < n_prompt; k++)
			prompt[k] = 1 + (i * 131 + k * 7) % (m->cfg.vocab - 1);
		if (infer_add(f, &q, NULL, &e))
			puts(e.text);
	}
	double cpu = cpu_s();
	infer_run(f, NULL, NULL, &e);
	cpu = cpu_s() - cpu;
	const struct infer_stats *s = infer_stats(f);
	printf("%3d prompts x %d of %3d + %3d: %7.0f sampled/s, %7.0f with prompts, %.2f s; "
	       "%7.0f sampled per processor second\n",
	       prompts, n, n_prompt, max_new, (double)s->sampled_tokens / s->seconds,
	       (double)(s->sampled_tokens + s->prefill_tokens) / s->seconds, s->seconds,
	       (double)s->sampled_tokens / cpu);
	infer_free(f);
}

int main(int argc, char **argv)
{
	struct kern_pool *pool = kern_pool_new(argc > 1 ? (int)strtol(argv[1], NULL, 10) : 0);
	struct model *m = NULL;
	struct err e;

	if (argc > 2 && model_load(argv[2], &m, &e))
		puts(e.text);
	if (argc <= 2)
		m = demo_shape();
	if (!m)
		return 1;
	printf("%s, %d threads, %zu weights\n", kern_cpu()->name, kern_pool_threads(pool), m->n_weights);
	measure(m, pool, 1, 1, 1, 300);
	measure(m, pool, 16, 1, 32, 200);
	measure(m, pool, 64, 1, 32, 200);
	measure(m, pool, 64, 4, 32, 200);
	measure(m, pool, 256, 1, 250, 4);
	model_free(m);
	kern_pool_free(pool);
	return 0;
}
