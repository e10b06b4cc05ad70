/* Model directories of a given shape with random weights, for measuring: BF16 on disk, so that the
 * 1.1 B shape takes 2.2 GB. */
#include "tests/bench/engine.h"

#include "base/fs.h"
#include "base/mem.h"
#include "store/safetensors.h"
#include "worker/model/model.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All matrices are windows of one random slab, so that little memory is needed. */
static uint16_t *random_bf16(size_t n)
{
	uint16_t *p = mem_array(n, sizeof *p);
	uint64_t x = 88172645463325252u;

	for (size_t i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		/* The sum of four bytes: nearly normal, deviation 0.02. */
		float v = (float)((x & 255) + (x >> 8 & 255) + (x >> 16 & 255) + (x >> 24 & 255));
		uint32_t bits;

		v = (v - 510) * (0.02f / 148);
		memcpy(&bits, &v, sizeof bits);
		p[i] = (uint16_t)(bits >> 16);
	}
	return p;
}

static struct model_config config_of(const struct bench_args *a)
{
	int s[7], eos = 2;
	struct model_config c = {.arch = "llama",
				 .rope_theta = 1e4f,
				 .rms_eps = 1e-5f,
				 .bos_id = 1,
				 .pad_id = -1,
				 .n_eos = 1};

	/* dim,ffn,layers,heads,kv_heads,vocab,max_pos */
	if (bench_list(a, "shape", "288,768,6,6,6,32000,1024", s, 7) != 7)
		bench_die("bench_engine: shape=dim,ffn,layers,heads,kv_heads,vocab,max_pos");
	c.dim = s[0];
	c.ffn_dim = s[1];
	c.n_layers = s[2];
	c.n_heads = s[3];
	c.n_kv_heads = s[4];
	c.head_dim = s[0] / s[3];
	c.vocab = s[5];
	c.max_pos = s[6];
	c.eos_ids[0] = eos;
	c.tied = bench_int(a, "tied", 1) != 0;
	return c;
}

static void write_weights(const struct model *m, const char *dir)
{
	struct st_tensor *t = mem_array((size_t)m->n_tensors, sizeof *t);
	size_t largest = (size_t)m->cfg.vocab * (size_t)m->cfg.dim, n;
	uint16_t *matrix = random_bf16(largest + 65536);
	uint16_t *ones = mem_array((size_t)m->cfg.dim, sizeof *ones);
	struct err e = {0};
	char path[4200];

	for (int i = 0; i < m->cfg.dim; i++)
		ones[i] = 0x3f80;
	for (int i = 0; i < m->n_tensors; i++) {
		const struct tensor_ref *r = &m->tensors[i];

		n = (size_t)r->rows * (r->cols ? (size_t)r->cols : 1);
		t[i] = (struct st_tensor){.name = r->name,
					  .dtype = ST_BF16,
					  .ndim = r->cols ? 2 : 1,
					  .shape = {r->rows, r->cols},
					  .data = r->cols ? matrix + (size_t)i * 160 : ones,
					  .size_bytes = n * 2};
	}
	snprintf(path, sizeof path, "%s/model.safetensors", dir);
	bench_check(st_write(path, t, (size_t)m->n_tensors, NULL, &e), &e);
	free(t);
	free(matrix);
	free(ones);
}

void bench_model(const struct bench_args *a)
{
	struct model_config c = config_of(a);
	const char *dir = bench_str(a, "dir", NULL);
	struct err e = {0};
	struct model *m;
	char path[4200];
	json_t *j;

	bench_known(a, "shape tied dir");
	if (!dir)
		bench_die("bench_engine: model needs dir=");
	bench_check(model_new(&c, &m, &e),
		    &e); /* its table of tensors; the weights stay untouched */
	write_weights(m, dir);
	snprintf(path, sizeof path, "%s/config.json", dir);
	j = model_config_json(&c);
	if (json_dump_file(j, path, JSON_INDENT(1)))
		bench_die("bench_engine: %s cannot be written", path);
	printf("params %zu\n", m->n_weights);
	json_decref(j);
	model_free(m);
}
