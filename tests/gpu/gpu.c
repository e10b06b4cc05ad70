#include "tests/gpu/gpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

bool gpu_open(struct gpu *g, const char *table)
{
	char why[256] = "";
	const struct kern_gpu *lib = kern_gpu(why, sizeof why);
	struct kern_open o = {0};

	if (!lib || lib->devices(why, sizeof why) == 0) {
		printf("no GPU to run on: %s\n", why);
		return false;
	}
	g->k = kern_gpu_table(lib, table);
	g->pool = g->k ? g->k->open(&o, why, sizeof why) : NULL;
	if (!g->pool) {
		printf("%s: %s\n", table, g->k ? why : "no such table");
		return false;
	}
	g->k->describe(g->pool, g->name, sizeof g->name);
	return true;
}

void gpu_close(struct gpu *g)
{
	g->k->close(g->pool);
}

static void give_up(const char *what)
{
	fprintf(stderr, "%s\n", what);
	exit(1);
}

void gpu_check(const struct gpu *g)
{
	const char *why = g->k->fault(g->pool);

	if (why)
		give_up(why);
}

void *gpu_room(const struct gpu *g, size_t bytes)
{
	void *p = g->k->alloc(g->pool, bytes);

	if (!p) {
		fprintf(stderr, "%zu MiB are refused; %zu MiB are left\n", bytes >> 20,
			g->k->room(g->pool) >> 20);
		exit(1);
	}
	return p;
}

static float *random_floats(size_t n, float scale, uint32_t seed)
{
	float *x = malloc((n ? n : 1) * sizeof *x);

	if (!x)
		give_up("out of memory");
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525u + 1013904223u;
		x[i] = scale * ((float)(seed >> 8) / 8388608.0f - 1.0f);
	}
	return x;
}

float *gpu_floats(const struct gpu *g, size_t n, float scale, uint32_t seed, float *here)
{
	float *x = random_floats(n, scale, seed), *there = gpu_room(g, n * sizeof *x);

	g->k->put(g->pool, there, x, n * sizeof *x);
	if (here)
		memcpy(here, x, n * sizeof *x);
	free(x);
	return there;
}

void *gpu_numbers(const struct gpu *g, size_t n, float scale, uint32_t seed, float *here)
{
	float *wide = gpu_floats(g, n, scale, seed, NULL);
	void *there = gpu_room(g, n * kern_act(g->k));

	g->k->narrow(g->pool, there, wide, n);
	if (here)
		gpu_read(g, here, there, n);
	gpu_free(g, wide);
	return there;
}

void *gpu_poison(const struct gpu *g, size_t n)
{
	size_t bytes = n * kern_act(g->k);
	void *there = gpu_room(g, bytes), *nan = malloc(bytes ? bytes : 1);

	if (!nan)
		give_up("out of memory");
	memset(nan, 0xff, bytes);
	g->k->put(g->pool, there, nan, bytes);
	free(nan);
	return there;
}

void gpu_read(const struct gpu *g, float *here, const void *act, size_t n)
{
	float *wide = gpu_room(g, n * sizeof *wide);

	g->k->widen(g->pool, wide, act, n);
	g->k->get(g->pool, here, wide, n * sizeof *wide);
	gpu_free(g, wide);
}

void gpu_free(const struct gpu *g, void *p)
{
	g->k->release(g->pool, p, 0);
}

double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
