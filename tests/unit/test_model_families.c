/* Each family from its config.json to its logits: a plain decoder in double precision, written from
 * the formulas of the reference code and reading the tensor files by name, says what is right. */
#include "tests/kern_util.h"

#include "base/fs.h"
#include "base/str.h"
#include "store/safetensors.h"
#include "worker/model/infer.h"
#include "worker/model/model.h"

enum { VOCAB = 29, DIM = 24, FFN = 40, LAYERS = 2, LEN = 48, WIDE = 96 };

/* What the words of config.json mean, by hand. */
struct family {
	const char *what, *json; /* members besides the sizes */
	int heads, kv, head, window;
	bool bias, tied;
	double eps;
	double (*angle)(const struct family *f, double pos, int i);
	double theta;
};

struct plain {
	const struct family *f;
	struct st *st;
	double x[LEN][DIM], qkv[LEN][WIDE];
};

static double power_of(const struct family *f, int i)
{
	return pow(f->theta, -2.0 * i / f->head);
}

static double angle(const struct family *f, double pos, int i)
{
	return pos * power_of(f, i);
}

static double angle_linear4(const struct family *f, double pos, int i)
{
	return pos / 4 * power_of(f, i);
}

/* _compute_llama3_parameters: factor 8, low 1, high 4, original length 32. */
static double angle_llama3(const struct family *f, double pos, int i)
{
	double w = power_of(f, i), wave = 6.283185307179586 / w, smooth = (32 / wave - 1) / 3;

	if (wave < 32.0 / 4)
		return pos * w;
	if (wave > 32.0)
		return pos * w / 8;
	return pos * ((1 - smooth) * w / 8 + smooth * w);
}

static const struct family families[] = {
	{"Llama 2", "\"model_type\":\"llama\",\"rms_norm_eps\":1e-5", 4, 4, 6, 0, false, false,
	 1e-5, angle, 10000},
	{"Llama 3, heads wider than the model",
	 "\"model_type\":\"llama\",\"num_key_value_heads\":2,\"head_dim\":10,"
	 "\"rope_theta\":500000.0,\"rms_norm_eps\":1e-5,\"tie_word_embeddings\":true",
	 4, 2, 10, 0, false, true, 1e-5, angle, 500000},
	{"Llama 3.1",
	 "\"model_type\":\"llama\",\"num_key_value_heads\":1,\"head_dim\":12,\"rope_theta\":50.0,"
	 "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,"
	 "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":32}",
	 4, 1, 12, 0, false, false, 1e-6, angle_llama3, 50},
	{"linear scaling, new names",
	 "\"model_type\":\"llama\",\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":4.0,"
	 "\"rope_theta\":200.0}",
	 4, 4, 6, 0, false, false, 1e-6, angle_linear4, 200},
	{"Mistral 0.1",
	 "\"model_type\":\"mistral\",\"num_key_value_heads\":2,\"sliding_window\":5,"
	 "\"rms_norm_eps\":1e-5",
	 4, 2, 6, 5, false, false, 1e-5, angle, 10000},
	{"Mistral 0.2",
	 "\"model_type\":\"mistral\",\"num_key_value_heads\":2,\"sliding_window\":null,"
	 "\"rope_theta\":1000000.0",
	 4, 2, 6, 0, false, false, 1e-6, angle, 1000000},
	{"Qwen2, window written but not used",
	 "\"model_type\":\"qwen2\",\"num_key_value_heads\":2,\"sliding_window\":5,"
	 "\"use_sliding_window\":false,\"max_window_layers\":1,\"rope_theta\":1000000.0",
	 4, 2, 6, 0, true, false, 1e-6, angle, 1000000},
	{"Qwen2, tied",
	 "\"model_type\":\"qwen2\",\"num_key_value_heads\":4,\"tie_word_embeddings\":true,"
	 "\"head_dim\":8",
	 4, 4, 8, 0, true, true, 1e-6, angle, 10000},
};

#define N_FAMILIES (sizeof families / sizeof families[0])

static const float *tensor(const struct plain *p, int layer, const char *name)
{
	char full[128];
	const struct st_tensor *t;

	if (layer < 0)
		str_copy(full, sizeof full, name);
	else
		str_fmt(full, sizeof full, "model.layers.%d.%s", layer, name);
	t = st_find(p->st, full);
	CHECK(t && t->dtype == ST_F32);
	return t->data;
}

static void norm(const struct plain *p, double *y, const double *x, const float *w)
{
	double ss = 0;

	for (int i = 0; i < DIM; i++)
		ss += x[i] * x[i];
	for (int i = 0; i < DIM; i++)
		y[i] = (double)w[i] * x[i] / sqrt(ss / DIM + p->f->eps);
}

static void linear(double *y, const double *x, const float *w, const float *b, int out, int in)
{
	for (int o = 0; o < out; o++) {
		y[o] = b ? (double)b[o] : 0;
		for (int i = 0; i < in; i++)
			y[o] += (double)w[o * in + i] * x[i];
	}
}

/* q, k, v of one token, rotated: halves of a head turn against each other. */
static void project(struct plain *p, int layer, int t)
{
	static const char *const names[] = {"q", "k", "v"};
	const struct family *f = p->f;
	double h[DIM], *y = p->qkv[t];
	int n[] = {f->heads, f->kv, f->kv};

	norm(p, h, p->x[t], tensor(p, layer, "input_layernorm.weight"));
	for (int k = 0; k < 3; k++) {
		char w[64], b[64];

		str_fmt(w, sizeof w, "self_attn.%s_proj.weight", names[k]);
		str_fmt(b, sizeof b, "self_attn.%s_proj.bias", names[k]);
		linear(y, h, tensor(p, layer, w), f->bias ? tensor(p, layer, b) : NULL,
		       n[k] * f->head, DIM);
		for (int i = 0; k < 2 && i < n[k] * f->head / 2; i++) {
			int in_head = i % (f->head / 2), at = i / (f->head / 2) * f->head + in_head;
			double a = f->angle(f, t, in_head), u = y[at], v = y[at + f->head / 2];

			y[at] = u * cos(a) - v * sin(a);
			y[at + f->head / 2] = v * cos(a) + u * sin(a);
		}
		y += n[k] * f->head;
	}
}

/* A token sees itself and window - 1 tokens before it. */
static void attend(const struct plain *p, int t, double *out)
{
	const struct family *f = p->f;
	int d = f->head, from = f->window > 0 && t >= f->window ? t - f->window + 1 : 0;

	for (int h = 0; h < f->heads; h++) {
		int k = (f->heads + h / (f->heads / f->kv)) * d, v = k + f->kv * d;
		double s[LEN], sum = 0;

		for (int j = from; j <= t; j++) {
			s[j] = 0;
			for (int i = 0; i < d; i++)
				s[j] += p->qkv[t][h * d + i] * p->qkv[j][k + i];
			sum += s[j] = exp(s[j] / sqrt(d));
		}
		for (int i = 0; i < d; i++) {
			out[h * d + i] = 0;
			for (int j = from; j <= t; j++)
				out[h * d + i] += s[j] / sum * p->qkv[j][v + i];
		}
	}
}

static void layer(struct plain *p, int l)
{
	double out[WIDE], o[DIM], h[DIM], gate[FFN], up[FFN];

	for (int t = 0; t < LEN; t++)
		project(p, l, t);
	for (int t = 0; t < LEN; t++) {
		attend(p, t, out);
		linear(o, out, tensor(p, l, "self_attn.o_proj.weight"), NULL, DIM,
		       p->f->heads * p->f->head);
		for (int i = 0; i < DIM; i++)
			p->x[t][i] += o[i];
		norm(p, h, p->x[t], tensor(p, l, "post_attention_layernorm.weight"));
		linear(gate, h, tensor(p, l, "mlp.gate_proj.weight"), NULL, FFN, DIM);
		linear(up, h, tensor(p, l, "mlp.up_proj.weight"), NULL, FFN, DIM);
		for (int i = 0; i < FFN; i++)
			up[i] *= gate[i] / (1 + exp(-gate[i]));
		linear(o, up, tensor(p, l, "mlp.down_proj.weight"), NULL, DIM, FFN);
		for (int i = 0; i < DIM; i++)
			p->x[t][i] += o[i];
	}
}

static void plain_logits(struct plain *p, const int32_t *ids, double out[LEN][VOCAB])
{
	const float *embed = tensor(p, -1, "model.embed_tokens.weight");
	const float *head = p->f->tied ? embed : tensor(p, -1, "lm_head.weight");

	for (int t = 0; t < LEN; t++)
		for (int i = 0; i < DIM; i++)
			p->x[t][i] = (double)embed[ids[t] * DIM + i];
	for (int l = 0; l < LAYERS; l++)
		layer(p, l);
	for (int t = 0; t < LEN; t++) {
		double h[DIM];

		norm(p, h, p->x[t], tensor(p, -1, "model.norm.weight"));
		linear(out[t], h, head, NULL, VOCAB, DIM);
	}
}

/* A folder with the family's config.json as people write it, and random weights. */
static void write_model(const struct family *f, const char *dir)
{
	struct err e = {0};
	struct model_config cfg;
	struct model *m = NULL;
	char path[600], text[1024];
	uint32_t seed = 77;

	str_fmt(path, sizeof path, "%s/config.json", dir);
	str_fmt(text, sizeof text,
		"{%s,\"vocab_size\":%d,\"hidden_size\":%d,\"intermediate_size\":%d,"
		"\"num_hidden_layers\":%d,\"num_attention_heads\":%d,"
		"\"max_position_embeddings\":64,\"bos_token_id\":1,\"eos_token_id\":2}",
		f->json, VOCAB, DIM, FFN, LAYERS, f->heads);
	CHECK_RC(fs_mkdirs(dir, &e), RC_OK);
	CHECK_RC(fs_write_durable(path, text, strlen(text), &e), RC_OK);
	CHECK_RC(model_config_load(dir, &cfg, &e), RC_OK);
	CHECK_RC(model_new(&cfg, &m, &e), RC_OK);
	for (size_t i = 0; i < m->n_params; i++)
		m->params[i] = 0.4f * number(&seed);
	CHECK_RC(model_save(m, dir, &e), RC_OK);
	CHECK_RC(fs_write_durable(path, text, strlen(text), &e), RC_OK);
	model_free(m);
}

/* Largest difference to `want`, as a share of the largest logit. */
static double worst(const float *got, double want[LEN][VOCAB])
{
	double far = 0, top = 0;

	for (int t = 0; t < LEN; t++)
		for (int v = 0; v < VOCAB; v++) {
			far = fmax(far, fabs((double)got[t * VOCAB + v] - want[t][v]));
			top = fmax(top, fabs(want[t][v]));
		}
	return far / top;
}

void test_model_families__logits_are_those_of_the_formulas(void)
{
	struct kern_pool *pool = kern_pool_new(1);
	static float got[LEN * VOCAB];
	static double want[LEN][VOCAB];
	struct infer_opts o = {.kv_tokens = 1024};
	int32_t ids[LEN];
	struct err e = {0};

	for (int t = 0; t < LEN; t++)
		ids[t] = (t * t + 3 * t + 1) % VOCAB;
	for (size_t k = 0; k < N_FAMILIES; k++) {
		struct plain p = {.f = &families[k]};
		struct infer *inf = NULL;
		char dir[512];

		str_fmt(dir, sizeof dir, "%s/%zu", test_tmpdir(), k);
		write_model(p.f, dir);
		CHECK_RC(st_open(dir, &p.st, &e), RC_OK);
		plain_logits(&p, ids, want);
		CHECK_RC(infer_open(dir, kern_cpu(), pool, &o, &inf, &e), RC_OK);
		CHECK_RC(infer_logits(inf, ids, LEN, got, &e), RC_OK);
		printf("# %s: worst %.1e\n", p.f->what, worst(got, want));
		CHECK(worst(got, want) < 1e-5);
		infer_free(inf);
		st_close(p.st);
	}
	kern_pool_free(pool);
}

/* The test above can tell the families' differences apart. */
void test_model_families__every_setting_counts(void)
{
	static double a[LEN][VOCAB], b[LEN][VOCAB];
	static float as_float[LEN * VOCAB];
	int32_t ids[LEN];
	struct err e = {0};

	for (int t = 0; t < LEN; t++)
		ids[t] = (t * t + 3 * t + 1) % VOCAB;
	for (size_t k = 0; k < N_FAMILIES; k++) {
		struct family other = families[k];
		struct plain p = {.f = &families[k]};
		char dir[512];

		str_fmt(dir, sizeof dir, "%s/%zu", test_tmpdir(), k);
		write_model(p.f, dir);
		CHECK_RC(st_open(dir, &p.st, &e), RC_OK);
		plain_logits(&p, ids, a);
		other.window = other.window ? 0 : 5;
		other.angle = other.angle == angle ? angle_linear4 : angle;
		other.eps *= 100;
		for (int change = 0; change < 3; change++) {
			struct family one = families[k];

			one.window = change == 0 ? other.window : one.window;
			one.angle = change == 1 ? other.angle : one.angle;
			one.eps = change == 2 ? other.eps : one.eps;
			p.f = &one;
			plain_logits(&p, ids, b);
			for (int i = 0; i < LEN * VOCAB; i++)
				as_float[i] = (float)b[i / VOCAB][i % VOCAB];
			CHECK(worst(as_float, a) > 1e-4);
		}
		st_close(p.st);
	}
}
