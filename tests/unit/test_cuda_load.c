/* Weights on their way to a device: from files in its own format as they are, from others through
 * floats; the same bits either way. */
#include "base/fs.h"
#include "base/str.h"
#include "tests/cuda_util.h"
#include "tests/ref64_toys.h"
#include "worker/model/model_export.h"
#include "worker/model/model_source.h"
#include "worker/model/weights.h"

#include <fcntl.h>
#include <unistd.h>

static struct err e;

/* A toy in files of that type, and what they hold as a model in memory. */
static struct model *saved(const struct toy_kind *kind, enum st_dtype type, char *dir, size_t size)
{
	struct export_opts o = {type, EXPORT_SHARD_BYTES};
	struct model *m = toy_model(&kind->c, 7), *back = NULL;
	char plain[4200];

	str_fmt(plain, sizeof plain, "%s/plain", test_tmpdir());
	str_fmt(dir, size, "%s/files", test_tmpdir());
	CHECK_RC(model_save(m, plain, &e), RC_OK);
	CHECK_RC(model_export(plain, dir, &o, NULL, &e), RC_OK);
	CHECK_RC(model_load(dir, &back, &e), RC_OK);
	CHECK_RC(fs_remove_tree(plain, &e), RC_OK);
	model_free(m);
	return back;
}

static void check_same_slabs(const struct gpu *g, const struct weights *a, const struct weights *b)
{
	char *x = malloc(a->bytes), *y = malloc(a->bytes);

	CHECK(x && y && a->bytes == b->bytes);
	g->k->get(g->pool, x, a->slab, a->bytes);
	g->k->get(g->pool, y, b->slab, b->bytes);
	CHECK(memcmp(x, y, a->bytes) == 0);
	free(x);
	free(y);
}

static void check_load(const char *table, enum st_dtype type, enum kern_format f,
		       enum weights_use use)
{
	struct gpu g = emulated(table);
	struct model *m, *layout = NULL;
	struct weights files, memory;
	char dir[4200];

	for (size_t i = 0; i < n_toy_kinds; i++) {
		m = saved(&toy_kinds[i], type, dir, sizeof dir);
		CHECK_RC(model_load_layout(dir, 0, 1, &layout, &e), RC_OK);
		CHECK(!layout->params);
		CHECK_RC(weights_bring(&files, layout, g.k, g.pool, f, use, &e), RC_OK);
		CHECK_RC(weights_bring(&memory, m, g.k, g.pool, f, use, &e), RC_OK);
		check_same_slabs(&g, &files, &memory);
		weights_release(&files);
		weights_release(&memory);
		model_free(layout);
		model_free(m);
		CHECK_RC(fs_remove_tree(dir, &e), RC_OK);
	}
	gpu_close(&g);
}

void test_cuda_load__bfloat16_as_it_lies(void)
{
	check_load("cuda", ST_BF16, KERN_BF16, WEIGHTS_GENERATE);
	check_load("cuda", ST_BF16, KERN_Q8, WEIGHTS_TRAIN);
	check_load("cuda", ST_BF16, KERN_FP8, WEIGHTS_GENERATE);
}

void test_cuda_load__other_types_through_floats(void)
{
	check_load("cuda", ST_F32, KERN_BF16, WEIGHTS_TRAIN);
	check_load("cuda-f32", ST_BF16, KERN_F32, WEIGHTS_GENERATE);
}

/* The last element of the last tensor in the file becomes an infinity. */
void test_cuda_load__what_is_no_number_is_refused_by_name(void)
{
	struct gpu g = emulated("cuda");
	char dir[4200], path[4300];
	struct model *m = saved(&toy_kinds[0], ST_BF16, dir, sizeof dir), *layout = NULL;
	const uint16_t infinity = 0x7f80;
	struct weights w;
	int fd;

	str_fmt(path, sizeof path, "%s/model.safetensors", dir);
	fd = open(path, O_WRONLY);
	CHECK(fd >= 0 && lseek(fd, -(off_t)sizeof infinity, SEEK_END) > 0);
	CHECK(write(fd, &infinity, sizeof infinity) == sizeof infinity && close(fd) == 0);
	CHECK_RC(model_load_layout(dir, 0, 1, &layout, &e), RC_OK);
	CHECK_RC(weights_bring(&w, layout, g.k, g.pool, KERN_BF16, WEIGHTS_TRAIN, &e), RC_INVALID);
	CHECK(strstr(e.text, "tensor ") && strstr(e.text, "is not finite"));
	CHECK(!w.slab);
	model_free(layout);
	model_free(m);
	gpu_close(&g);
}
