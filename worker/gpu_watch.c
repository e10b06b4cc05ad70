#include "worker/gpu_watch.h"

#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#include <dlfcn.h>
#include <math.h>
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
enum {
	NVML_OK,
	NVML_TEMPERATURE_GPU = 0,
	NVML_UNCORRECTED = 1,
	NVML_VOLATILE = 0,
	NVML_GPU_IS_LOST = 15,
	NVML_RESET_REQUIRED = 16,
};
#define NVML_XID 8ull

struct gpu_watch {
	void *library; /* owned; NULL when functions were given */
	void *device, *events;
	int (*utilization)(void *, struct nvml_utilization *);
	int (*memory)(void *, struct nvml_memory *);
	int (*temperature)(void *, int, unsigned *);
	int (*power)(void *, unsigned *); /* milliwatts */
	int (*ecc)(void *, int, int, unsigned long long *);
	int (*rows)(void *, unsigned *corrected, unsigned *uncorrected, unsigned *pending,
		    unsigned *failed);
	int (*wait)(void *, struct nvml_event *, unsigned ms);
	int (*free_events)(void *);
	int (*shutdown)(void);
	unsigned long long ecc_errors, xid; /* seen so far */
	char name[96], why[GPU_WHY_MAX];
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
		str_fmt(out, size, "%.*s", (int)(strcspn(list, ",") % size), list);
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
	find(f, "nvmlEventSetFree", &w->free_events);
	if (!create || !enlist || !w->wait || create(&w->events) != NVML_OK) {
		w->events = NULL;
	} else if (enlist(w->device, NVML_XID, w->events) != NVML_OK) {
		if (w->free_events)
			w->free_events(w->events);
		w->events = NULL;
	}
}

static const char *library_name(void)
{
	const char *given = getenv("PAWL_NVML");

	return given && *given ? given : LIBRARY;
}

static void find_readings(const struct finder *f, struct gpu_watch *w)
{
	int (*name)(void *, char *, unsigned);

	find(f, "nvmlDeviceGetUtilizationRates", &w->utilization);
	find(f, "nvmlDeviceGetMemoryInfo", &w->memory);
	find(f, "nvmlDeviceGetTemperature", &w->temperature);
	find(f, "nvmlDeviceGetPowerUsage", &w->power);
	find(f, "nvmlDeviceGetTotalEccErrors", &w->ecc);
	find(f, "nvmlDeviceGetRemappedRows", &w->rows);
	find(f, "nvmlDeviceGetName", &name);
	if (!name || name(w->device, w->name, sizeof w->name) != NVML_OK)
		w->name[0] = 0;
	w->name[sizeof w->name - 1] = 0;
	if (w->ecc && w->ecc(w->device, NVML_UNCORRECTED, NVML_VOLATILE, &w->ecc_errors) != NVML_OK)
		w->ecc = NULL; /* It has no ECC, or it is off. */
}

enum rc gpu_watch_open(int device, void *(*given)(const char *name), struct gpu_watch **out,
		       struct err *e)
{
	struct finder f = {given ? NULL : dlopen(library_name(), RTLD_NOW | RTLD_LOCAL), given};
	struct gpu_watch *w;
	int (*init)(void) = NULL;
	int code = -1;

	*out = NULL;
	if (!given && !f.library)
		return err_set(e, RC_NOTFOUND, "%s", dlerror());
	w = mem_new(sizeof *w);
	w->library = f.library;
	find(&f, "nvmlInit_v2", &init);
	find(&f, "nvmlShutdown", &w->shutdown);
	if (init)
		code = init();
	if (code != NVML_OK)
		w->shutdown = NULL;
	if (code == NVML_OK)
		code = open_device(&f, device, &w->device);
	if (code != NVML_OK) {
		gpu_watch_close(w);
		return err_set(e, RC_NOTFOUND, "NVML knows no GPU %d (code %d)", device, code);
	}
	find_readings(&f, w);
	open_events(&f, w);
	*out = w;
	return RC_OK;
}

void gpu_watch_close(struct gpu_watch *w)
{
	if (!w)
		return;
	if (w->events && w->free_events)
		w->free_events(w->events);
	if (w->shutdown)
		w->shutdown();
	if (w->library)
		dlclose(w->library);
	free(w);
}

const char *gpu_watch_name(const struct gpu_watch *w)
{
	return w->name;
}

const char *gpu_watch_why(const struct gpu_watch *w)
{
	return w->why;
}

/* --- errors ----------------------------------------------------------------------------------- */

/* Words of NVIDIA's list; `ours` are brought about by programs and say nothing of the GPU. */
static const struct xid {
	unsigned number;
	bool ours;
	const char *words;
} xids[] = {
	{13, true, ""},
	{31, true, ""},
	{43, true, ""},
	{45, true, ""},
	{68, true, ""},
	{109, true, ""},
	{48, false, "double bit memory error"},
	{62, false, "its microcontroller halted"},
	{63, false, "a memory row was replaced"},
	{64, false, "a memory row could not be replaced"},
	{74, false, "NVLink error"},
	{79, false, "fell off the bus"},
	{92, false, "many single bit memory errors"},
	{94, false, "contained memory error"},
	{95, false, "uncontained memory error"},
	{119, false, "its system processor does not answer"},
	{120, false, "its system processor failed"},
};

static const struct xid *xid_of(unsigned long long number)
{
	static const struct xid other = {0, false, ""};

	for (size_t i = 0; i < sizeof xids / sizeof *xids; i++)
		if (xids[i].number == number)
			return &xids[i];
	return &other;
}

/* The first cause stays. */
static void condemn(struct gpu_watch *w, const char *why)
{
	if (w->why[0])
		return;
	str_copy(w->why, sizeof w->why, why);
	log_error("gpu", "unhealthy", "reason=\"%s\"", why);
}

/* Whether a call told something. Some codes are about the GPU itself. */
static bool told(struct gpu_watch *w, int code)
{
	if (code == NVML_GPU_IS_LOST)
		condemn(w, "lost to the driver");
	else if (code == NVML_RESET_REQUIRED)
		condemn(w, "must be reset");
	return code == NVML_OK;
}

static void on_xid(struct gpu_watch *w, unsigned long long number)
{
	const struct xid *x = xid_of(number);
	char why[GPU_WHY_MAX];

	w->xid = number;
	log_error("gpu", "xid", "number=%llu", number);
	str_fmt(why, sizeof why, "XID %llu%s%s", number, x->words[0] ? ", " : "", x->words);
	if (!x->ours)
		condemn(w, why);
}

static void look_for_memory_errors(struct gpu_watch *w, struct gpu_look *out)
{
	unsigned corrected = 0, uncorrected = 0, pending = 0, failed = 0;
	unsigned long long n = 0;
	char why[GPU_WHY_MAX];

	if (w->ecc && told(w, w->ecc(w->device, NVML_UNCORRECTED, NVML_VOLATILE, &n))) {
		str_fmt(why, sizeof why, "%llu new uncorrected memory error%s",
			n - w->ecc_errors, n - w->ecc_errors == 1 ? "" : "s");
		if (n > w->ecc_errors) {
			log_error("gpu", "ecc", "uncorrected=%llu", n);
			condemn(w, why);
		}
		w->ecc_errors = n;
		out->ecc_errors = (double)n;
	}
	if (!w->rows || !told(w, w->rows(w->device, &corrected, &uncorrected, &pending, &failed)))
		return;
	if (failed)
		condemn(w, "memory rows could not be replaced");
	else if (pending)
		condemn(w, "must be reset to replace memory rows");
}

static void look_for_xids(struct gpu_watch *w, struct gpu_look *out)
{
	struct nvml_event event = {0};

	while (w->events && told(w, w->wait(w->events, &event, 0)))
		if (event.type & NVML_XID)
			on_xid(w, event.data);
	if (w->xid)
		out->xid = (double)w->xid;
}

/* --- figures ---------------------------------------------------------------------------------- */

void gpu_watch_look(struct gpu_watch *w, struct gpu_look *out)
{
	struct nvml_utilization u;
	struct nvml_memory m;
	unsigned x;

	*out = (struct gpu_look){NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
	if (w->utilization && told(w, w->utilization(w->device, &u))) {
		out->load = u.gpu / 100.0;
		out->memory_load = u.memory / 100.0;
	}
	if (w->memory && told(w, w->memory(w->device, &m))) {
		out->memory_mib = (double)(m.used >> 20);
		out->memory_total_mib = (double)(m.total >> 20);
	}
	if (w->temperature && told(w, w->temperature(w->device, NVML_TEMPERATURE_GPU, &x)))
		out->temperature = x;
	if (w->power && told(w, w->power(w->device, &x)))
		out->power = x / 1000.0;
	look_for_memory_errors(w, out);
	look_for_xids(w, out);
}

void gpu_watch_add(struct gpu_watch *w, json_t *values)
{
	struct gpu_look l;

	gpu_watch_look(w, &l);
	jx_put_known(values, "gpu/load", l.load);
	jx_put_known(values, "gpu/memory_load", l.memory_load);
	jx_put_known(values, "gpu/memory_mib", l.memory_mib);
	jx_put_known(values, "gpu/temperature", l.temperature);
	jx_put_known(values, "gpu/power", l.power);
	jx_put_known(values, "gpu/ecc_errors", l.ecc_errors);
	jx_put_known(values, "gpu/xid", l.xid);
}
