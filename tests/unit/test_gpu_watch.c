/* What is told of a GPU, from an NVML that says what the test wants. */
#include "tests/test.h"
#include "worker/gpu_watch.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static int device_of; /* which handle was asked for; -1 by UUID */
static bool with_ecc;
static unsigned long long ecc_now, xids[4];
static int n_xids, shut;

static int ok(void)
{
	return 0;
}
static int shutdown_once(void)
{
	shut++;
	return 0;
}
static int by_index(unsigned i, void **h)
{
	device_of = (int)i;
	*h = &device_of;
	return i < 4 ? 0 : 6;
}
static int by_uuid(const char *name, void **h)
{
	device_of = -1;
	*h = &device_of;
	return strcmp(name, "GPU-7") == 0 ? 0 : 6;
}
static int utilization(void *h, unsigned u[2])
{
	(void)h;
	u[0] = 97;
	u[1] = 41;
	return 0;
}
static int memory(void *h, unsigned long long m[3])
{
	(void)h;
	m[0] = 100ull << 30;
	m[2] = 3ull << 30;
	m[1] = m[0] - m[2];
	return 0;
}
static int temperature(void *h, int sensor, unsigned *t)
{
	(void)h;
	*t = 61;
	return sensor;
}
static int power(void *h, unsigned *mw)
{
	(void)h;
	*mw = 512500;
	return 0;
}
static int ecc(void *h, int type, int counter, unsigned long long *n)
{
	(void)h;
	*n = ecc_now;
	return with_ecc && type == 1 && counter == 0 ? 0 : 3;
}
static int create(void **set)
{
	*set = xids;
	return 0;
}
static int enlist(void *h, unsigned long long types, void *set)
{
	(void)h;
	return types == 8 && set == xids ? 0 : 2;
}
static int wait_event(void *set, void *event, unsigned ms)
{
	unsigned long long data[2] = {8, 0};

	(void)set;
	if (ms != 0 || n_xids == 0)
		return 10; /* time is up */
	data[1] = xids[--n_xids];
	memcpy((char *)event + sizeof(void *), data, sizeof data);
	return 0;
}

static void *lookup(const char *name)
{
#define FN(text, fn)                                                                               \
	if (strcmp(name, text) == 0) {                                                             \
		__typeof__(&fn) f = fn;                                                            \
		void *p;                                                                           \
		memcpy(&p, &f, sizeof p);                                                          \
		return p;                                                                          \
	}
	FN("nvmlInit_v2", ok)
	FN("nvmlShutdown", shutdown_once)
	FN("nvmlDeviceGetHandleByIndex_v2", by_index)
	FN("nvmlDeviceGetHandleByUUID", by_uuid)
	FN("nvmlDeviceGetUtilizationRates", utilization)
	FN("nvmlDeviceGetMemoryInfo", memory)
	FN("nvmlDeviceGetTemperature", temperature)
	FN("nvmlDeviceGetPowerUsage", power)
	FN("nvmlDeviceGetTotalEccErrors", ecc)
	FN("nvmlEventSetCreate", create)
	FN("nvmlDeviceRegisterEvents", enlist)
	FN("nvmlEventSetWait_v2", wait_event)
#undef FN
	return NULL;
}

static double value(const json_t *o, const char *name)
{
	return json_number_value(json_object_get(o, name));
}

void test_gpu_watch__figures_and_errors(void)
{
	struct gpu_watch *w;
	json_t *o = json_object();
	struct err e;

	unsetenv("CUDA_VISIBLE_DEVICES");
	with_ecc = true;
	ecc_now = 2;
	CHECK_RC(gpu_watch_open(1, lookup, &w, &e), RC_OK);
	CHECK_EQ(device_of, 1);
	gpu_watch_add(w, o);
	CHECK_NEAR(value(o, "gpu/load"), 0.97, 1e-12);
	CHECK_NEAR(value(o, "gpu/memory_load"), 0.41, 1e-12);
	CHECK_NEAR(value(o, "gpu/memory_mib"), 3072, 0);
	CHECK_NEAR(value(o, "gpu/temperature"), 61, 0);
	CHECK_NEAR(value(o, "gpu/power"), 512.5, 1e-9);
	CHECK_NEAR(value(o, "gpu/ecc_errors"), 2, 0);
	CHECK(!json_object_get(o, "gpu/xid"));
	xids[0] = 79;
	n_xids = 1;
	ecc_now = 3;
	gpu_watch_add(w, o);
	CHECK_NEAR(value(o, "gpu/xid"), 79, 0);
	CHECK_NEAR(value(o, "gpu/ecc_errors"), 3, 0);
	json_decref(o);
	gpu_watch_close(w);
	CHECK_EQ(shut, 1);
}

void test_gpu_watch__visible_devices(void)
{
	struct gpu_watch *w;
	json_t *o = json_object();
	struct err e;

	with_ecc = false;
	setenv("CUDA_VISIBLE_DEVICES", "3,GPU-7", 1);
	CHECK_RC(gpu_watch_open(0, lookup, &w, &e), RC_OK);
	CHECK_EQ(device_of, 3);
	gpu_watch_add(w, o);
	CHECK(!json_object_get(o, "gpu/ecc_errors"));
	gpu_watch_close(w);
	CHECK_RC(gpu_watch_open(1, lookup, &w, &e), RC_OK);
	CHECK_EQ(device_of, -1);
	gpu_watch_close(w);
	CHECK_RC(gpu_watch_open(9, lookup, &w, &e), RC_NOTFOUND);
	CHECK(!w);
	json_decref(o);
}
