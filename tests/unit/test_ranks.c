/* Several ranks are one: losses, gradients, updates, files and generated tokens of two and four
 * ranks beside those of one. Ranks are threads here, each with its own part of the model; that they
 * may be processes is test_collective's.
 *
 * Why the numbers of n ranks are not those of one to the last bit: a row of a product over heads or
 * feed-forward columns is one chain over all of them on one rank, and n chains added up on n. Each
 * such sum moves by a few units of the last place of its largest term, twice a layer each way;
 * NEAR (of the largest element of a tensor) is some thirty times what is seen. The same n twice
 * gives the same bits. */
#include "tests/kern_util.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "store/volume.h"
#include "kernels/collective.h"
#include "worker/model/infer.h"
#include "worker/model/shard.h"
#include "worker/train/scorer.h"
#include "worker/train/trainer.h"
#include "worker/train/trainer_inner.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { VOCAB = 61, N_EX = 11, RANKS = 4, STEPS = 3 };
#define NEAR 3e-5

static struct model_config toy(bool tied)
{
	struct model_config c = {.arch = "llama",
				 .vocab = VOCAB, /* no multiple of 2 or 4 */
				 .dim = 32,
				 .n_layers = 2,
				 .n_heads = 8,
				 .n_kv_heads = 4,
				 .head_dim = 8,
				 .ffn_dim = 48,
				 .max_pos = 64,
				 .rope_theta = 10000,
				 .rms_eps = 1e-5f,
				 .tied = tied,
				 .qkv_bias = !tied,
				 .bos_id = 1,
				 .pad_id = -1,
				 .eos_ids = {2},
				 .n_eos = 1};

	if (c.qkv_bias)
		str_copy(c.arch, sizeof c.arch, "qwen2");
	return c;
}

static struct model *toy_model(bool tied)
{
	struct model_config c = toy(tied);
	struct model *m = NULL;
	struct err e = {0};
	uint32_t seed = 5;

	CHECK_RC(model_new(&c, &m, &e), RC_OK);
	model_init(m, 7);
	for (size_t i = 0; i < m->n_params; i++)
		m->params[i] *= m->params[i] == 1 ? 1 + 0.1f * number(&seed) : 5;
	return m;
}

static int32_t tokens[4096];

/* --- one job, on so many ranks ---------------------------------------------------------------- */

struct job {
	const struct model *whole;
	const struct lora *adapter; /* of the whole, or NULL */
	bool pairs, data;	    /* preference steps; ranks divide the batch */
	struct train_opts o;
	int steps, first;
	const char *save, *load; /* folders of states, or NULL */
	const char *files;	 /* the whole model: ranks take a layout of their part; or NULL */
	/* What comes out, of the whole: */
	float *grads, *params, *m, *v; /* of the last step */
	struct train_metrics metrics[STEPS];
	/* Called by every rank after each step, or NULL. */
	void (*after)(struct job *j, struct trainer *tr);
};

struct rank {
	struct job *j;
	int fd, rank, n;
	pthread_t thread;
};

static struct coll *open_rank(const struct rank *r)
{
	struct coll_shm o = {.fd = r->fd, .rank = r->rank, .n = r->n, .timeout_s = 60};
	char why[COLL_WHY];
	struct coll *c = r->n > 1 ? coll_shm_open(&o, why, sizeof why) : NULL;

	CHECK(r->n == 1 || c);
	return c;
}

static void step_of(struct job *j, struct trainer *tr, int step)
{
	struct train_example ex[N_EX];
	struct train_pair pairs[N_EX];
	struct train_metrics m;
	struct err e = {0};

	for (int i = 0; i < N_EX; i++) {
		int32_t *at = tokens + 90 * i + 7 * step;

		ex[i] = (struct train_example){at, at + 20, 2 + i % 3, 3 + i * 5 % 8, 1};
		pairs[i] = (struct train_pair){at,	  at + 20,	 at + 50, 1 + i % 4,
					       2 + i % 8, 1 + i * 3 % 8, -20 - i, -22 + i % 3, 0};
	}
	if (j->pairs)
		CHECK_RC(trainer_dpo_step(tr, pairs, N_EX, ex, 3, step, &m, &e), RC_OK);
	else
		CHECK_RC(trainer_sft_step(tr, ex, N_EX, step, &m, &e), RC_OK);
	if (coll_rank(tr->o.tensor) == 0 && coll_rank(tr->o.data) == 0)
		j->metrics[step - j->first] = m;
}

/* A slab of parts into one of the whole, whichever way it is divided. */
static void bring(struct job *j, struct trainer *tr, const float *slab, bool spread, float *to)
{
	size_t from = tr->own.from, n = tr->own.to - from;
	struct err e = {0};

	if (!to)
		return;
	if (tr->o.tensor)
		CHECK_RC(shard_join(tr->o.tensor, tr->set.tensors, tr->set.n_tensors, slab,
				    j->adapter ? j->adapter->tensors : j->whole->tensors,
				    coll_rank(tr->o.tensor) == 0 ? to : NULL, &e),
			 RC_OK);
	else /* Threads: each writes its own. */
		memcpy(to + from, spread ? slab : slab + from, n * sizeof *to);
}

static struct lora *part_of_adapter(const struct job *j, const struct model *part)
{
	struct lora *l = NULL;
	struct err e = {0};

	if (!j->adapter)
		return NULL;
	CHECK_RC(lora_new(&part->cfg, &j->adapter->s, 3, &l, &e), RC_OK);
	shard_cut(l->tensors, l->n_tensors, l->params, j->adapter->tensors, j->adapter->params);
	return l;
}

static void *train_rank(void *arg)
{
	const struct rank *r = arg;
	struct job *j = r->j;
	struct coll *coll = open_rank(r);
	struct train_opts o = j->o;
	struct kern_pool *pool = kern_pool_new(1);
	struct model *m = NULL;
	struct trainer *tr = NULL;
	struct err e = {0};

	if (j->files)
		CHECK_RC(model_load_layout(j->files, r->rank, r->n, &m, &e), RC_OK);
	else
		CHECK_RC(shard_model(j->whole, j->data ? 0 : r->rank, j->data ? 1 : r->n, &m, &e),
			 RC_OK);
	CHECK(!j->files == !!m->params);
	o.lora = part_of_adapter(j, m);
	o.tensor = j->data ? NULL : coll;
	o.data = j->data ? coll : NULL;
	CHECK_RC(trainer_new(m, kern_cpu(), pool, &o, &tr, &e), RC_OK);
	if (j->load)
		CHECK_RC(trainer_load_state(tr, j->load, NULL, &e), RC_OK);
	for (int i = 0; i < j->steps; i++) {
		step_of(j, tr, j->first + i);
		if (j->after)
			j->after(j, tr);
	}
	CHECK_RC(trainer_pull(tr, &e), RC_OK);
	bring(j, tr, tr->grads, false, j->grads);
	bring(j, tr, tr->set.params, false, j->params);
	bring(j, tr, tr->adam_m, true, j->m);
	bring(j, tr, tr->adam_v, true, j->v);
	if (j->save)
		CHECK_RC(trainer_save_state(tr, j->save, NULL, &e), RC_OK);
	trainer_free(tr);
	lora_free(o.lora);
	model_free(m);
	kern_pool_free(pool);
	coll_close(coll);
	return NULL;
}

static void run_ranks(int n, void *(*body)(void *), struct job *j)
{
	struct rank ranks[RANKS];
	int fd = memfd_create("ranks", MFD_CLOEXEC);

	fill_ids(tokens, 4096, VOCAB);
	CHECK_EQ(ftruncate(fd, (off_t)coll_shm_bytes(n)), 0);
	for (int i = 0; i < n; i++) {
		ranks[i] = (struct rank){j, fd, i, n, 0};
		CHECK_EQ(pthread_create(&ranks[i].thread, NULL, body, &ranks[i]), 0);
	}
	for (int i = 0; i < n; i++)
		pthread_join(ranks[i].thread, NULL);
	close(fd);
}

static size_t slab_of(const struct job *j)
{
	return j->adapter ? j->adapter->n_params : j->whole->n_params;
}

static struct job job_of(const struct model *whole, const struct lora *adapter, bool pairs)
{
	struct job j = {.whole = whole, .adapter = adapter, .pairs = pairs, .steps = STEPS};
	size_t n = slab_of(&j);

	j.o = train_opts_default();
	j.o.max_length = 32;
	j.o.schedule.lr = 1e-3;
	j.o.seed = 42;
	j.o.dropout = 0.1;
	j.o.micro_tokens = 48; /* several packs a step */
	j.o.dpo.nll_coef = 0.2;
	j.grads = calloc(n, sizeof(float));
	j.params = calloc(n, sizeof(float));
	j.m = calloc(n, sizeof(float));
	j.v = calloc(n, sizeof(float));
	CHECK(j.grads && j.params && j.m && j.v);
	return j;
}

static void job_release(struct job *j)
{
	free(j->grads);
	free(j->params);
	free(j->m);
	free(j->v);
}

/* Of each tensor, as a share of its largest element in `b`. */
static double distance(const struct job *j, const float *a, const float *b)
{
	const struct tensor_ref *t = j->adapter ? j->adapter->tensors : j->whole->tensors;
	int n = j->adapter ? j->adapter->n_tensors : j->whole->n_tensors;
	double worst = 0;

	for (int i = 0; i < n; i++) {
		double largest = 1e-12, off = 0;

		for (size_t k = t[i].offset; k < t[i].offset + tensor_size(&t[i]); k++) {
			largest = fmax(largest, fabs((double)b[k]));
			off = fmax(off, fabs((double)a[k] - (double)b[k]));
		}
		worst = fmax(worst, off / largest);
	}
	return worst;
}

static void same_bits(const struct job *a, const struct job *b)
{
	size_t bytes = slab_of(a) * sizeof(float);

	CHECK_EQ(memcmp(a->grads, b->grads, bytes), 0);
	CHECK_EQ(memcmp(a->params, b->params, bytes), 0);
	CHECK_EQ(memcmp(a->m, b->m, bytes), 0);
	CHECK_EQ(memcmp(a->v, b->v, bytes), 0);
	CHECK_EQ(memcmp(a->metrics, b->metrics, sizeof a->metrics), 0);
}

static void near_metrics(const struct job *a, const struct job *b)
{
	for (int i = 0; i < a->steps; i++) {
		const struct train_metrics *x = &a->metrics[i], *y = &b->metrics[i];

		CHECK_NEAR(x->loss, y->loss, NEAR * fabs(y->loss));
		CHECK_NEAR(x->grad_norm, y->grad_norm, NEAR * y->grad_norm);
		CHECK_NEAR(x->margin, y->margin, NEAR * (1 + fabs(y->margin)));
		CHECK_NEAR(x->logp_chosen, y->logp_chosen, NEAR * (1 + fabs(y->logp_chosen)));
		CHECK_NEAR(x->mean_token_accuracy, y->mean_token_accuracy, 1e-12);
		CHECK_NEAR(x->num_tokens, y->num_tokens, 0);
		CHECK_NEAR(x->entropy, y->entropy, NEAR * y->entropy);
		CHECK_NEAR(x->logit_chosen, y->logit_chosen, NEAR * (1 + fabs(y->logit_chosen)));
	}
}

/* AdamW's first steps are the signs of gradients: where one is nearly zero, rounding turns it. So
 * gradients are compared after one step, and of three steps the losses. */
static void compare(const struct model *whole, const struct lora *adapter, bool pairs, bool data,
		    int n, bool recompute)
{
	struct job one = job_of(whole, adapter, pairs), many = job_of(whole, adapter, pairs);
	struct job again = job_of(whole, adapter, pairs);

	one.steps = many.steps = again.steps = 1;
	many.data = again.data = data;
	many.o.recompute = again.o.recompute = recompute;
	run_ranks(1, train_rank, &one);
	run_ranks(n, train_rank, &many);
	run_ranks(n, train_rank, &again);
	same_bits(&many, &again);
	CHECK_NEAR(distance(&one, many.grads, one.grads), 0, NEAR);
	CHECK_NEAR(distance(&one, many.m, one.m), 0, NEAR);
	near_metrics(&many, &one);
	one.steps = many.steps = STEPS;
	one.o.schedule.lr = many.o.schedule.lr = 1e-5;
	run_ranks(1, train_rank, &one);
	run_ranks(n, train_rank, &many);
	near_metrics(&many, &one);
	job_release(&one);
	job_release(&many);
	job_release(&again);
}

static struct lora *toy_adapter(const struct model *m, unsigned targets)
{
	struct lora_settings s = {.r = 4, .alpha = 8, .targets = targets};
	struct lora *l = NULL;
	struct err e = {0};
	uint32_t seed = 17;

	CHECK_RC(lora_new(&m->cfg, &s, 3, &l, &e), RC_OK);
	for (size_t i = 0; i < l->n_params; i++)
		l->params[i] += 0.05f * number(&seed);
	return l;
}

void test_ranks__hold_a_model_together_sft(void)
{
	struct model *tied = toy_model(true), *untied = toy_model(false);

	for (int n = 2; n <= RANKS; n += 2) {
		compare(tied, NULL, false, false, n, false);
		compare(untied, NULL, false, false, n, true);
	}
	model_free(tied);
	model_free(untied);
}

void test_ranks__hold_a_model_together_dpo(void)
{
	struct model *m = toy_model(true);

	for (int n = 2; n <= RANKS; n += 2)
		compare(m, NULL, true, false, n, n == 2);
	model_free(m);
}

void test_ranks__hold_an_adapter_together(void)
{
	struct model *m = toy_model(false);
	struct lora *all = toy_adapter(m, MODEL_ALL_PARTS),
		    *two = toy_adapter(m, MODEL_V | MODEL_O);

	for (int n = 2; n <= RANKS; n += 2) {
		compare(m, all, true, false, n, false);
		compare(m, two, false, false, n, true);
	}
	lora_free(all);
	lora_free(two);
	model_free(m);
}

void test_ranks__divide_batches(void)
{
	struct model *m = toy_model(true);

	for (int n = 2; n <= RANKS; n++) {
		compare(m, NULL, false, true, n, false);
		compare(m, NULL, true, true, n, false);
	}
	model_free(m);
}

/* --- ZeRO ------------------------------------------------------------------------------------- */

static pthread_mutex_t gathered_lock = PTHREAD_MUTEX_INITIALIZER;
static float *gathered[STEPS];

/* The summed gradient, each rank its part of it. */
static void gather_gradient(struct job *j, struct trainer *tr)
{
	size_t from = tr->own.from;
	int step = (int)tr->adam_steps - 1;

	pthread_mutex_lock(&gathered_lock);
	if (!gathered[step])
		gathered[step] = calloc(slab_of(j), sizeof(float));
	memcpy(gathered[step] + from, tr->grads + from, (tr->own.to - from) * sizeof(float));
	pthread_mutex_unlock(&gathered_lock);
}

/* Given the same gradients: parameters and moments of an optimizer that is not divided. Without
 * clipping, whose factor is a sum over parts. */
void test_ranks__divided_moments_are_the_undivided_ones_to_the_last_bit(void)
{
	struct model *whole = toy_model(true), *m = NULL;
	struct job many = job_of(whole, NULL, true);
	struct kern_pool *pool = kern_pool_new(1);
	struct train_metrics out = {0};
	struct trainer *tr = NULL;
	struct err e = {0};

	many.data = true;
	many.o.clip_norm = 0;
	many.after = gather_gradient;
	run_ranks(3, train_rank, &many);
	CHECK_RC(shard_model(whole, 0, 1, &m, &e), RC_OK);
	CHECK_RC(trainer_new(m, kern_cpu(), pool, &many.o, &tr, &e), RC_OK);
	for (int i = 0; i < STEPS; i++) {
		memcpy(tr->grads, gathered[i], m->n_params * sizeof(float));
		CHECK_RC(trainer_update(tr, i, &out, &e), RC_OK);
		free(gathered[i]);
	}
	CHECK_EQ(memcmp(m->params, many.params, m->n_params * sizeof(float)), 0);
	CHECK_EQ(memcmp(tr->adam_m, many.m, m->n_params * sizeof(float)), 0);
	CHECK_EQ(memcmp(tr->adam_v, many.v, m->n_params * sizeof(float)), 0);
	trainer_free(tr);
	model_free(m);
	model_free(whole);
	kern_pool_free(pool);
	job_release(&many);
}

/* Written by `from` ranks, read by `to`. */
static void through_files(const struct model *m, const struct lora *adapter, int from, bool data,
			  int to, bool data_after)
{
	struct job a = job_of(m, adapter, false), b = job_of(m, adapter, false);
	char dir[4096];

	str_fmt(dir, sizeof dir, "%s/state-%d%d%d%d%d", test_tmpdir(), from, data, to, data_after,
		adapter != NULL);
	a.data = data;
	a.save = b.load = dir;
	b.data = data_after;
	b.steps = 0;
	run_ranks(from, train_rank, &a);
	run_ranks(to, train_rank, &b);
	CHECK_EQ(memcmp(a.m, b.m, slab_of(&a) * sizeof(float)), 0);
	CHECK_EQ(memcmp(a.v, b.v, slab_of(&a) * sizeof(float)), 0);
	job_release(&a);
	job_release(&b);
}

void test_ranks__states_are_read_by_any_number_of_ranks(void)
{
	struct model *m = toy_model(true);
	struct lora *l = toy_adapter(m, MODEL_ALL_PARTS);
	char path[4200];
	struct err e = {0};
	json_t *v = NULL;

	through_files(m, NULL, 4, true, 1, false);
	through_files(m, NULL, 1, false, 3, true);
	through_files(m, NULL, 2, true, 4, true);
	through_files(m, NULL, 4, false, 2, false);
	through_files(m, NULL, 2, false, 1, false);
	through_files(m, NULL, 2, false, 3, true);
	through_files(m, l, 2, false, 4, false);
	through_files(m, l, 1, false, 2, false);
	/* In files of 10 kB. */
	volume_bytes_set(10000);
	through_files(m, NULL, 1, false, 1, false);
	through_files(m, NULL, 2, true, 1, false);
	str_fmt(path, sizeof path, "%s/state-21100/state.json", test_tmpdir());
	CHECK_RC(jx_load(path, 4096, &v, &e), RC_OK);
	CHECK(jx_get_i64(v, "shards", 0) == 2 && jx_get_i64(v, "parts", 0) > 1);
	json_decref(v);
	through_files(m, NULL, 3, true, 4, true);
	through_files(m, NULL, 4, false, 2, false);
	through_files(m, NULL, 1, false, 3, true);
	through_files(m, l, 2, false, 1, false);
	lora_free(l);
	model_free(m);
}

/* --- files ------------------------------------------------------------------------------------ */

static void same_files(const char *a, const char *b, const char *name)
{
	char path[4200];
	struct buf x = BUF_INIT, y = BUF_INIT;
	struct err e = {0};

	str_fmt(path, sizeof path, "%s/%s", a, name);
	CHECK_RC(fs_read(path, 1u << 26, &x, &e), RC_OK);
	str_fmt(path, sizeof path, "%s/%s", b, name);
	CHECK_RC(fs_read(path, 1u << 26, &y, &e), RC_OK);
	CHECK(x.len > 0 && x.len == y.len && memcmp(x.data, y.data, x.len) == 0);
	buf_release(&x);
	buf_release(&y);
}

struct saved {
	struct job j; /* first: run_ranks() hands out a job */
	char from[4096], to[4096];
};

static void *save_rank(void *arg)
{
	const struct rank *r = arg;
	const struct saved *s = (const struct saved *)r->j;
	struct coll *coll = open_rank(r);
	struct model *read = NULL, *cut = NULL;
	struct err e = {0};

	CHECK_RC(model_load_part(s->from, r->rank, r->n, &read, &e), RC_OK);
	CHECK_RC(shard_model(s->j.whole, r->rank, r->n, &cut, &e), RC_OK);
	CHECK_EQ(read->n_params, cut->n_params);
	CHECK_EQ(memcmp(read->params, cut->params, cut->n_params * sizeof(float)), 0);
	CHECK(r->n == 1 || cut->n_params < s->j.whole->n_params * 2 / (size_t)r->n);
	CHECK_RC(shard_save(coll, read, s->to, &e), RC_OK);
	model_free(read);
	model_free(cut);
	coll_close(coll);
	return NULL;
}

/* Every file of the folder. */
static size_t same_folders(const char *a, const char *b)
{
	struct err e = {0};
	char **x;
	size_t n, m;

	CHECK_RC(fs_list(b, &x, &m, &e), RC_OK);
	fs_list_free(x);
	CHECK_RC(fs_list(a, &x, &n, &e), RC_OK);
	CHECK_EQ(n, m);
	for (size_t i = 0; i < n; i++)
		same_files(a, b, x[i]);
	fs_list_free(x);
	return n;
}

static size_t save_whole(const char *name)
{
	struct model *m = toy_model(false), *back = NULL;
	struct saved s = {.j = {.whole = m}};
	struct err e = {0};
	size_t files = 0;

	str_fmt(s.from, sizeof s.from, "%s/%s", test_tmpdir(), name);
	CHECK_RC(model_save(m, s.from, &e), RC_OK);
	for (int n = 2; n <= RANKS; n += 2) {
		str_fmt(s.to, sizeof s.to, "%s/%s-by-%d", test_tmpdir(), name, n);
		run_ranks(n, save_rank, &s.j);
		CHECK_RC(model_load(s.to, &back, &e), RC_OK);
		CHECK_EQ(memcmp(back->params, m->params, m->n_params * sizeof(float)), 0);
		model_free(back);
		files = same_folders(s.from, s.to);
	}
	model_free(m);
	return files;
}

void test_ranks__read_their_parts_and_write_the_whole(void)
{
	CHECK_EQ(save_whole("whole"), 2); /* config.json and one file */
	volume_bytes_set(20000);
	CHECK(save_whole("several") > 4);
}

/* Wide enough for blocks of eight bits in every rank's part. */
static struct model *wide_model(void)
{
	struct model_config c = toy(false);
	struct model *m = NULL;
	struct err e = {0};

	c.dim = 64;
	c.head_dim = 16;
	c.ffn_dim = 128;
	CHECK_RC(model_new(&c, &m, &e), RC_OK);
	model_init(m, 7);
	return m;
}

/* Frozen weights from the files straight into this rank's slab: what a rank that had its part as floats
 * computes, to the last bit. */
void test_ranks__frozen_parts_come_from_the_files(void)
{
	struct model *m = wide_model();
	struct lora *l = toy_adapter(m, MODEL_ALL_PARTS);
	char dir[4096];
	struct err e = {0};

	str_fmt(dir, sizeof dir, "%s/whole", test_tmpdir());
	CHECK_RC(model_save(m, dir, &e), RC_OK);
	for (int n = 1; n <= 2; n++) {
		struct job floats = job_of(m, l, true), files = job_of(m, l, true);

		floats.o.base = files.o.base = TRAIN_BASE_Q8;
		files.files = dir;
		run_ranks(n, train_rank, &floats);
		run_ranks(n, train_rank, &files);
		same_bits(&floats, &files);
		job_release(&floats);
		job_release(&files);
	}
	lora_free(l);
	model_free(m);
}

struct merged {
	struct job j; /* first */
	char from[4096], to[4096];
};

static void *merge_rank(void *arg)
{
	const struct rank *r = arg;
	const struct merged *s = (const struct merged *)r->j;
	struct coll *coll = open_rank(r);
	struct kern_pool *pool = kern_pool_new(1);
	struct model *layout = NULL;
	struct lora *part;
	struct err e = {0};

	CHECK_RC(model_load_layout(s->from, r->rank, r->n, &layout, &e), RC_OK);
	part = part_of_adapter(&s->j, layout);
	CHECK_RC(shard_merge_save(coll, part, &layout->cfg, s->from, s->to, kern_cpu(), pool, &e), RC_OK);
	lora_free(part);
	model_free(layout);
	kern_pool_free(pool);
	coll_close(coll);
	return NULL;
}

/* The bytes that one process with the whole adapter writes. */
void test_ranks__merge_their_adapter_into_the_files(void)
{
	struct model *m = toy_model(false);
	struct lora *l = toy_adapter(m, MODEL_ALL_PARTS);
	struct merged s = {.j = {.whole = m, .adapter = l}};
	struct kern_pool *pool = kern_pool_new(1);
	char one[4096];
	struct err e = {0};

	str_fmt(s.from, sizeof s.from, "%s/whole", test_tmpdir());
	str_fmt(one, sizeof one, "%s/one", test_tmpdir());
	CHECK_RC(model_save(m, s.from, &e), RC_OK);
	CHECK_RC(lora_merge_save(l, s.from, one, kern_cpu(), pool, &e), RC_OK);
	for (int n = 2; n <= RANKS; n += 2) {
		str_fmt(s.to, sizeof s.to, "%s/merged-%d", test_tmpdir(), n);
		run_ranks(n, merge_rank, &s.j);
		same_files(one, s.to, "model.safetensors");
		same_files(one, s.to, "config.json");
	}
	kern_pool_free(pool);
	lora_free(l);
	model_free(m);
}

static void *save_nowhere(void *arg)
{
	const struct rank *r = arg;
	const struct saved *s = (const struct saved *)r->j;
	struct coll *coll = open_rank(r);
	struct model *cut = NULL;
	struct err e = {0};

	CHECK_RC(shard_model(s->j.whole, r->rank, r->n, &cut, &e), RC_OK);
	CHECK(shard_save(coll, cut, s->to, &e) != RC_OK);
	CHECK(strstr(e.text, "nowhere"));
	model_free(cut);
	coll_close(coll);
	return NULL;
}

/* A disk that is full, or not there, ends all with its cause; nobody waits for the next piece. */
void test_ranks__who_cannot_write_tells_the_others(void)
{
	struct model *m = toy_model(false);
	struct saved s = {.j = {.whole = m}, .to = "/proc/nowhere/model"};

	run_ranks(2, save_nowhere, &s.j);
	model_free(m);
}

void test_ranks__what_cannot_be_divided_is_refused_with_the_reason(void)
{
	struct model_config c = toy(true), part;
	struct err e = {0};

	CHECK_RC(shard_config(&c, 0, 3, &part, &e), RC_UNSUPPORTED);
	CHECK(strstr(e.text, "key/value heads: 4 is not a multiple of 3"));
	c.n_heads = c.n_kv_heads = 6;
	CHECK_RC(shard_config(&c, 0, 3, &part, &e), RC_OK);
	CHECK_EQ(part.n_heads, 2);
	c.ffn_dim = 50;
	CHECK_RC(shard_config(&c, 0, 3, &part, &e), RC_UNSUPPORTED);
	CHECK(strstr(e.text, "50 is not a multiple of 3"));
	c.vocab = 10;
	c.n_ranks = 4;
	for (int r = 0, at = 0; r < 4; r++) {
		c.rank = r;
		CHECK_EQ(model_vocab_span(&c).from, at);
		at += model_vocab_span(&c).n;
		CHECK(r < 3 || at == 10);
	}
}

/* --- generation ------------------------------------------------------------------------------- */

enum { N_REQS = 5, SAMPLES = 3, MAX_NEW = 20 };

struct generation {
	struct job j; /* first */
	const char *dir;
	enum kern_format weights;
	int32_t out[N_REQS][SAMPLES][MAX_NEW];
	int n[N_REQS][SAMPLES];
	float logp[30]; /* of a given text */
};

static void keep(struct generation *g, struct infer *f)
{
	struct err e = {0};

	CHECK_RC(infer_score(f, tokens, 30, 1, g->logp, &e), RC_OK);
	for (int i = 0; i < N_REQS; i++)
		for (int s = 0; s < SAMPLES; s++) {
			struct infer_result r = infer_result(f, i, s);

			g->n[i][s] = r.n_tokens;
			memcpy(g->out[i][s], r.tokens, (size_t)r.n_tokens * sizeof(int32_t));
		}
}

static void *generate_rank(void *arg)
{
	const struct rank *r = arg;
	struct generation *g = (struct generation *)r->j, other = {0};
	struct infer_opts o = {
		.weights = g->weights, .kv_tokens = 2048, .max_batch = 4, .chunk = 8};
	struct kern_pool *pool = kern_pool_new(1);
	struct infer *f = NULL;
	struct err e = {0};
	int index;

	o.coll = open_rank(r);
	CHECK_RC(infer_open(g->dir, kern_cpu(), pool, &o, &f, &e), RC_OK);
	for (int i = 0; i < N_REQS; i++) {
		struct infer_req q = {.prompt = tokens + 11 * i,
				      .n_prompt = 5 + 4 * i,
				      .max_new = MAX_NEW,
				      .sampling = {i == 0 ? 0 : 0.8f, i == 1 ? 1 : 0.9f, 0},
				      .name = {9, 1, 2, (uint64_t)i, 0},
				      .n = SAMPLES};

		CHECK_RC(infer_add(f, &q, &index, &e), RC_OK);
	}
	CHECK_RC(infer_run(f, NULL, NULL, &e), RC_OK);
	keep(r->rank == 0 ? g : &other, f);
	infer_free(f);
	kern_pool_free(pool);
	coll_close(o.coll);
	return NULL;
}

static void same_tokens(bool tied, enum kern_format weights)
{
	struct model *m = toy_model(tied);
	struct generation one = {.weights = weights}, many;
	char dir[4096];
	struct err e = {0};

	str_fmt(dir, sizeof dir, "%s/model-%d", test_tmpdir(), tied);
	CHECK_RC(model_save(m, dir, &e), RC_OK);
	one.dir = dir;
	many = one;
	run_ranks(1, generate_rank, &one.j);
	CHECK_EQ(one.n[0][0], MAX_NEW);
	for (int n = 2; n <= RANKS; n += 2) {
		run_ranks(n, generate_rank, &many.j);
		CHECK_EQ(memcmp(one.n, many.n, sizeof one.n), 0);
		CHECK_EQ(memcmp(one.out, many.out, sizeof one.out), 0);
		for (int i = 0; i < 29; i++)
			CHECK_NEAR(many.logp[i], one.logp[i],
				   (weights == KERN_F32 ? NEAR : 0.02) * (1 + fabs(one.logp[i])));
	}
	model_free(m);
}

void test_ranks__generate_the_same_tokens(void)
{
	same_tokens(true, KERN_F32);
	same_tokens(false, KERN_F32);
}
