/* The worker's GPUs through a library that a file commands (tests/nvml/fake.c): figures, errors, a GPU that
 * is lost, a driver that hangs, and libraries that lack half of it. */
#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "tests/test.h"
#include "worker/gpu_guard.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct err e;
static _Atomic int ill;

static void fell_ill(void *ctx)
{
	atomic_fetch_add((_Atomic int *)ctx, 1);
}

/* What the driver says from now on. */
static void say(const char *text)
{
	char path[PATH_MAX], next[PATH_MAX];

	str_fmt(path, sizeof path, "%s/nvml", test_tmpdir());
	str_fmt(next, sizeof next, "%s/nvml.next", test_tmpdir());
	CHECK_RC(fs_write_durable(next, text, strlen(text), &e), RC_OK);
	CHECK(rename(next, path) == 0);
	setenv("NVML_FAKE", path, 1);
}

/* Which library: "" or "old/". */
static void library(const char *which)
{
	char program[PATH_MAX - 100], path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);

	CHECK(n > 0);
	program[n > 0 ? n : 0] = 0;
	*strrchr(program, '/') = 0;
	str_fmt(path, sizeof path, "%s/nvml/%slibnvidia-ml.so.1", program, which);
	setenv("PAWL_NVML", path, 1);
	unsetenv("CUDA_VISIBLE_DEVICES");
}

static struct gpu_guard *started(int64_t silent_ms)
{
	struct gpu_guard_opts o = {0, 5, silent_ms, fell_ill, &ill};
	struct gpu_guard *g = NULL;

	atomic_store(&ill, 0);
	CHECK_RC(gpu_guard_start(&o, &g, &e), RC_OK);
	gpu_guard_look(g, 10000);
	return g;
}

static json_t *told(struct gpu_guard *g)
{
	json_t *o = json_object();

	gpu_guard_tell(g, o);
	return o;
}

static double figure(const json_t *o, size_t i, const char *name)
{
	const json_t *v = json_object_get(json_array_get(json_object_get(o, "gpus"), i), name);

	return v ? json_number_value(v) : -1;
}

#define WELL "0 load 97\n0 memload 41\n0 used 3072\n0 total 81920\n0 temp 61\n0 power 512500\n0 ecc 2\n"

void test_gpu_guard__figures_of_every_gpu_a_job_uses(void)
{
	struct gpu_guard *g;
	char why[200];
	json_t *o;

	library("");
	say("devices 2\n" WELL "1 load 5\n");
	g = started(60000);
	o = told(g);
	CHECK_EQ(json_array_size(json_object_get(o, "gpus")), 1);
	CHECK_NEAR(figure(o, 0, "device"), 0, 0);
	CHECK_NEAR(figure(o, 0, "load"), 0.97, 1e-12);
	CHECK_NEAR(figure(o, 0, "memory_load"), 0.41, 1e-12);
	CHECK_NEAR(figure(o, 0, "memory_mib"), 3072, 0);
	CHECK_NEAR(figure(o, 0, "memory_total_mib"), 81920, 0);
	CHECK_NEAR(figure(o, 0, "temperature"), 61, 0);
	CHECK_NEAR(figure(o, 0, "power"), 512.5, 1e-9);
	CHECK_NEAR(figure(o, 0, "ecc_errors"), 2, 0);
	CHECK_NEAR(figure(o, 0, "xid"), -1, 0);
	CHECK_STR(jx_get_str(json_array_get(json_object_get(o, "gpus"), 0), "name", ""), "Fake GPU 0");
	CHECK(!json_object_get(o, "unhealthy") && gpu_guard_well(g, why, sizeof why) && !why[0]);
	json_decref(o);
	gpu_guard_widen(g, 3); /* The driver has two. */
	gpu_guard_look(g, 10000);
	o = told(g);
	CHECK_EQ(json_array_size(json_object_get(o, "gpus")), 2);
	CHECK_NEAR(figure(o, 1, "device"), 1, 0);
	CHECK_NEAR(figure(o, 1, "load"), 0.05, 1e-12);
	CHECK_NEAR(figure(o, 1, "temperature"), -1, 0); /* not supported */
	json_decref(o);
	CHECK_EQ(atomic_load(&ill), 0);
	gpu_guard_stop(g);
}

/* From a well GPU to what `text` says; expects to be told why, or nothing for NULL. */
static void expect(const char *text, const char *want)
{
	struct gpu_guard *g;
	char why[200];

	say("devices 2\n" WELL);
	g = started(60000);
	gpu_guard_widen(g, 2);
	gpu_guard_look(g, 10000);
	CHECK(gpu_guard_well(g, why, sizeof why));
	say(text);
	gpu_guard_look(g, 10000);
	gpu_guard_look(g, 10000);
	CHECK_EQ(gpu_guard_well(g, why, sizeof why), !want);
	CHECK_STR(why, want ? want : "");
	CHECK_EQ(atomic_load(&ill), want ? 1 : 0);
	say("devices 2\n" WELL); /* What happened has happened. */
	gpu_guard_look(g, 10000);
	CHECK_EQ(gpu_guard_well(g, why, sizeof why), !want);
	gpu_guard_stop(g);
}

void test_gpu_guard__what_makes_a_gpu_unfit(void)
{
	library("");
	expect("devices 2\n" WELL "0 xid 79\n", "GPU 0: XID 79, fell off the bus");
	expect("devices 2\n" WELL "1 xid 140\n", "GPU 1: XID 140");
	expect("devices 2\n" WELL "1 xid 31\n1 xid 48\n", "GPU 1: XID 48, double bit memory error");
	expect("devices 2\n0 ecc 3\n", "GPU 0: 1 new uncorrected memory error");
	expect("devices 2\n0 pending 1\n", "GPU 0: must be reset to replace memory rows");
	expect("devices 2\n0 pending 1\n0 failed 1\n", "GPU 0: memory rows could not be replaced");
	expect("devices 2\n1 error 15\n", "GPU 1: lost to the driver");
	expect("devices 2\n0 error 16\n", "GPU 0: must be reset");
}

/* A program's own mistakes, questions that fail, errors from before. */
void test_gpu_guard__what_does_not(void)
{
	library("");
	expect("devices 2\n" WELL "0 xid 13\n0 xid 31\n0 xid 43\n0 xid 45\n", NULL);
	expect("devices 2\n0 error 999\n", NULL);
	expect("devices 2\n0 ecc 2\n", NULL);
	expect("", NULL);
}

void test_gpu_guard__a_driver_that_hangs(void)
{
	struct gpu_guard *g;
	char why[200];
	json_t *o;

	library("");
	say(WELL);
	g = started(50);
	CHECK(gpu_guard_well(g, why, sizeof why));
	say(WELL "0 hang 1\n");
	while (gpu_guard_well(g, why, sizeof why))
		clk_sleep_ms(5);
	CHECK(strstr(why, "GPU 0: the driver has not answered for "));
	o = told(g); /* Nobody waits for it. */
	CHECK(json_object_get(o, "unhealthy") && figure(o, 0, "load") > 0.9);
	json_decref(o);
	say(WELL);
	while (!gpu_guard_well(g, why, sizeof why))
		clk_sleep_ms(5);
	CHECK_EQ(atomic_load(&ill), 0);
	gpu_guard_stop(g);
}

void test_gpu_guard__an_old_library(void)
{
	struct gpu_guard *g;
	char why[200];
	json_t *o;

	library("old/");
	say(WELL "0 xid 79\n");
	g = started(60000);
	o = told(g);
	CHECK_NEAR(figure(o, 0, "load"), 0.97, 1e-12);
	CHECK_NEAR(figure(o, 0, "power"), -1, 0);
	CHECK_NEAR(figure(o, 0, "ecc_errors"), -1, 0);
	CHECK(!json_object_get(json_array_get(json_object_get(o, "gpus"), 0), "name"));
	json_decref(o);
	CHECK(gpu_guard_well(g, why, sizeof why));
	say("0 error 15\n");
	gpu_guard_look(g, 10000);
	CHECK(!gpu_guard_well(g, why, sizeof why));
	CHECK_STR(why, "GPU 0: lost to the driver");
	gpu_guard_stop(g);
}

void test_gpu_guard__nothing_to_watch(void)
{
	struct gpu_guard_opts o = {3, 5, 60000, fell_ill, &ill};
	struct gpu_guard *g;
	char why[200];

	library("");
	say("devices 2\n");
	CHECK_RC(gpu_guard_start(&o, &g, &e), RC_NOTFOUND);
	CHECK(!g && strstr(e.text, "no GPU 3"));
	say("init 9\n");
	o.device = 0;
	CHECK_RC(gpu_guard_start(&o, &g, &e), RC_NOTFOUND);
	CHECK(strstr(e.text, "code 9"));
	setenv("PAWL_NVML", "/nowhere/libnvidia-ml.so.1", 1);
	CHECK_RC(gpu_guard_start(&o, &g, &e), RC_NOTFOUND);
	CHECK(strstr(e.text, "/nowhere"));
	/* A worker without any is well and has nothing to tell. */
	json_t *none = told(NULL);
	CHECK(gpu_guard_well(NULL, why, sizeof why) && json_object_size(none) == 0);
	json_decref(none);
	gpu_guard_look(NULL, 1000);
	gpu_guard_widen(NULL, 2);
	gpu_guard_stop(NULL);
}
