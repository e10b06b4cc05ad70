#include "worker/gpu_watch.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "libnvidia-ml.so.1"

/* As nvml.h has them; the library's layouts never change under a name. */
struct nvml_utilization {
	unsigned gpu, memory;
};
struct nvml_memory {
	unsigned long long total, free, used;
};
struct nvml_event {
	void *device;
	unsigned long long type, data;
	unsigned gpu_instance, compute_instance;
};
enum { NVML_OK, NVML_TEMPERATURE_GPU = 0, NVML_UNCORRECTED = 1, NVML_VOLATILE = 0 };
#define NVML_XID 8ull

struct gpu_watch {
	void *library; /* owned; NULL when functions were given */
	void *device, *events;
	int (*utilization)(void *, struct nvml_utilization *);
	int (*memory)(void *, struct nvml_memory *);
	int (*temperature)(void *, int, unsigned *);
	int (*power)(void *, unsigned *); /* milliwatts */
	int (*ecc)(void *, int, int, unsigned long long *);
	int (*wait)(void *, struct nvml_event *, unsigned ms);
	int (*shutdown)(void);
	unsigned long long ecc_errors, xid; /* seen so far */
};

struct finder {
	void *library;
	void *(*given)(const char *name);
};

/* A function pointer of any type, through memory: C does not convert from void *. */
static void find(const struct finder *f, const char *name, void *fn)
{
	void *p = f->given ? f->given(name) : dlsym(f->library, name);

	memcpy(fn, &p, sizeof p);
}

/* The n-th of CUDA_VISIBLE_DEVICES, or n itself. */
static void visible(int n, char *out, size_t size)
{
	const char *list = getenv("CUDA_VISIBLE_DEVICES");

	str_fmt(out, size, "%d", n);
	if (!list || !*list)
		return;
	for (; n > 0 && strchr(list, ','); n--)
		list = strchr(list, ',') + 1;
	if (n == 0)
		str_fmt(out, size, "%.*s", (int)strcspn(list, ","), list);
}

static int open_device(const struct finder *f, int n, void **device)
{
	int (*by_index)(unsigned, void **), (*by_uuid)(const char *, void **);
	char name[96];
	int64_t index = 0;

	visible(n, name, sizeof name);
	find(f, "nvmlDeviceGetHandleByIndex_v2", &by_index);
	find(f, "nvmlDeviceGetHandleByUUID", &by_uuid);
	if (str_to_i64(name, &index) && index >= 0)
		return by_index ? by_index((unsigned)index, device) : -1;
	return by_uuid ? by_uuid(name, device) : -1;
}

/* XIDs come as events; a driver that has none is watched without. */
static void open_events(const struct finder *f, struct gpu_watch *w)
{
	int (*create)(void **), (*enlist)(void *, unsigned long long, void *);

	find(f, "nvmlEventSetCreate", &create);
	find(f, "nvmlDeviceRegisterEvents", &enlist);
	find(f, "nvmlEventSetWait_v2", &w->wait);
	if (!create || !enlist || !w->wait || create(&w->events) != NVML_OK ||
	    enlist(w->device, NVML_XID, w->events) != NVML_OK)
		w->events = NULL;
}

enum rc gpu_watch_open(int device, void *(*given)(const char *name), struct gpu_watch **out,
		       struct err *e)
{
	struct finder f = {given ? NULL : dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL), given};
	struct gpu_watch *w;
	int (*init)(void) = NULL;

	*out = NULL;
	if (!given && !f.library)
		return err_set(e, RC_NOTFOUND, "%s", dlerror());
	w = mem_new(sizeof *w);
	w->library = f.library;
	find(&f, "nvmlInit_v2", &init);
	find(&f, "nvmlShutdown", &w->shutdown);
	if (!init || init() != NVML_OK || open_device(&f, device, &w->device) != NVML_OK) {
		gpu_watch_close(w);
		return err_set(e, RC_NOTFOUND, "NVML knows no GPU %d", device);
	}
	find(&f, "nvmlDeviceGetUtilizationRates", &w->utilization);
	find(&f, "nvmlDeviceGetMemoryInfo", &w->memory);
	find(&f, "nvmlDeviceGetTemperature", &w->temperature);
	find(&f, "nvmlDeviceGetPowerUsage", &w->power);
	find(&f, "nvmlDeviceGetTotalEccErrors", &w->ecc);
	open_events(&f, w);
	if (w->ecc && w->ecc(w->device, NVML_UNCORRECTED, NVML_VOLATILE, &w->ecc_errors) != NVML_OK)
		w->ecc = NULL; /* It has no ECC, or it is off. */
	*out = w;
	return RC_OK;
}

void gpu_watch_close(struct gpu_watch *w)
{
	if (!w)
		return;
	if (w->device && w->shutdown)
		w->shutdown();
	if (w->library)
		dlclose(w->library);
	free(w);
}

static void set(json_t *o, const char *name, double v)
{
	json_object_set_new(o, name, json_real(v));
}

static void add_errors(struct gpu_watch *w, json_t *values)
{
	struct nvml_event event = {0};
	unsigned long long n = 0;

	if (w->ecc && w->ecc(w->device, NVML_UNCORRECTED, NVML_VOLATILE, &n) == NVML_OK) {
		if (n > w->ecc_errors)
			log_error("gpu", "ecc", "uncorrected=%llu", n);
		w->ecc_errors = n;
		set(values, "gpu/ecc_errors", (double)n);
	}
	while (w->events && w->wait(w->events, &event, 0) == NVML_OK) {
		if (!(event.type & NVML_XID))
			continue;
		w->xid = event.data;
		log_error("gpu", "xid", "number=%llu", event.data);
	}
	if (w->xid)
		set(values, "gpu/xid", (double)w->xid);
}

void gpu_watch_add(struct gpu_watch *w, json_t *values)
{
	struct nvml_utilization u;
	struct nvml_memory m;
	unsigned x;

	if (w->utilization && w->utilization(w->device, &u) == NVML_OK) {
		set(values, "gpu/load", u.gpu / 100.0);
		set(values, "gpu/memory_load", u.memory / 100.0);
	}
	if (w->memory && w->memory(w->device, &m) == NVML_OK)
		set(values, "gpu/memory_mib", (double)(m.used >> 20));
	if (w->temperature && w->temperature(w->device, NVML_TEMPERATURE_GPU, &x) == NVML_OK)
		set(values, "gpu/temperature", x);
	if (w->power && w->power(w->device, &x) == NVML_OK)
		set(values, "gpu/power", x / 1000.0);
	add_errors(w, values);
}
