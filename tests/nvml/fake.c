/* An NVML that says what a file wants: a shared object to be loaded in place of libnvidia-ml.so.1.
 *
 * NVML_FAKE names the file, which is read anew in every call. Its lines:
 *   devices 2        how many there are (1)
 *   init 9           what nvmlInit_v2 returns (0)
 *   0 load 97        of device 0: load, memload (per cent), used, total (MiB), temp (C), power (mW),
 *                    ecc (uncorrected errors), pending, failed (memory rows)
 *   0 xid 79         an event, each line once for every set that had enlisted before
 *   0 error 15       every question about it is answered with this code
 *   0 hang 1         every question about it waits until this is gone
 * A figure that is not there is not supported (3). With NVML_FAKE_OLD only the functions of an old
 * driver exist: no power, ECC, rows, events or names.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEVICES 8
enum { OK, NOT_SUPPORTED = 3, NOT_FOUND = 6, TIMEOUT = 10 };

struct device {
	int index;
};
struct set {
	int listens[DEVICES], taken[DEVICES];
};
struct event {
	void *device;
	unsigned long long type, data;
	unsigned gpu_instance, compute_instance;
};

static struct device devices[DEVICES] = {{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}};

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h);
int nvmlDeviceGetHandleByUUID(const char *name, void **h);
int nvmlDeviceGetUtilizationRates(void *h, unsigned u[2]);
int nvmlDeviceGetMemoryInfo(void *h, unsigned long long m[3]);
int nvmlDeviceGetTemperature(void *h, int sensor, unsigned *t);

/* The n-th value of `key`; of the whole machine when device is -1. Count of them in *count. */
static int value(int device, const char *key, int n, long long *out, int *count)
{
	const char *path = getenv("NVML_FAKE");
	FILE *f = path ? fopen(path, "re") : NULL;
	char line[128], word[32];
	long long v;
	int d, seen = 0, found = 0;

	while (f && fgets(line, sizeof line, f)) {
		if (sscanf(line, "%d %31s %lld", &d, word, &v) != 3) {
			d = -1;
			if (sscanf(line, "%31s %lld", word, &v) != 2)
				continue;
		}
		if (d != device || strcmp(word, key) != 0)
			continue;
		if (seen++ == n) {
			*out = v;
			found = 1;
		}
	}
	if (f)
		fclose(f);
	if (count)
		*count = seen;
	return found;
}

/* The code for a question about the device, after any hanging. */
static int asked(void *h)
{
	const struct timespec pause = {0, 10000000};
	int i = ((struct device *)h)->index;
	long long v = 0;

	while (value(i, "hang", 0, &v, NULL))
		nanosleep(&pause, NULL);
	return value(i, "error", 0, &v, NULL) ? (int)v : OK;
}

static int number(void *h, const char *key, long long *v)
{
	int code = asked(h);

	if (code != OK)
		return code;
	return value(((struct device *)h)->index, key, 0, v, NULL) ? OK : NOT_SUPPORTED;
}

int nvmlInit_v2(void)
{
	long long v = 0;

	return value(-1, "init", 0, &v, NULL) ? (int)v : OK;
}

int nvmlShutdown(void)
{
	return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h)
{
	long long n = 1;

	(void)value(-1, "devices", 0, &n, NULL);
	if (i >= DEVICES || i >= (unsigned)n)
		return NOT_FOUND;
	*h = &devices[i];
	return OK;
}

int nvmlDeviceGetHandleByUUID(const char *name, void **h)
{
	return strncmp(name, "GPU-", 4) == 0
		       ? nvmlDeviceGetHandleByIndex_v2((unsigned)strtoul(name + 4, NULL, 10), h)
		       : NOT_FOUND;
}

int nvmlDeviceGetUtilizationRates(void *h, unsigned u[2])
{
	long long a = 0, b = 0;
	int code = number(h, "load", &a);

	(void)value(((struct device *)h)->index, "memload", 0, &b, NULL);
	u[0] = (unsigned)a;
	u[1] = (unsigned)b;
	return code;
}

int nvmlDeviceGetMemoryInfo(void *h, unsigned long long m[3])
{
	long long total = 0, used = 0;
	int code = number(h, "total", &total);

	(void)value(((struct device *)h)->index, "used", 0, &used, NULL);
	m[0] = (unsigned long long)total << 20;
	m[2] = (unsigned long long)used << 20;
	m[1] = m[0] - m[2];
	return code;
}

int nvmlDeviceGetTemperature(void *h, int sensor, unsigned *t)
{
	long long v = 0;
	int code = sensor == 0 ? number(h, "temp", &v) : NOT_SUPPORTED;

	*t = (unsigned)v;
	return code;
}

#ifndef NVML_FAKE_OLD
int nvmlDeviceGetName(void *h, char *name, unsigned size);
int nvmlDeviceGetPowerUsage(void *h, unsigned *mw);
int nvmlDeviceGetTotalEccErrors(void *h, int type, int counter, unsigned long long *n);
int nvmlDeviceGetRemappedRows(void *h, unsigned *corrected, unsigned *uncorrected,
			      unsigned *pending, unsigned *failed);
int nvmlEventSetCreate(void **out);
int nvmlDeviceRegisterEvents(void *h, unsigned long long types, void *set);
int nvmlEventSetWait_v2(void *set, struct event *e, unsigned ms);
int nvmlEventSetFree(void *set);

int nvmlDeviceGetName(void *h, char *name, unsigned size)
{
	snprintf(name, size, "Fake GPU %d", ((struct device *)h)->index);
	return OK;
}

int nvmlDeviceGetPowerUsage(void *h, unsigned *mw)
{
	long long v = 0;
	int code = number(h, "power", &v);

	*mw = (unsigned)v;
	return code;
}

int nvmlDeviceGetTotalEccErrors(void *h, int type, int counter, unsigned long long *n)
{
	long long v = 0;
	int code = type == 1 && counter == 0 ? number(h, "ecc", &v) : NOT_SUPPORTED;

	*n = (unsigned long long)v;
	return code;
}

int nvmlDeviceGetRemappedRows(void *h, unsigned *corrected, unsigned *uncorrected,
			      unsigned *pending, unsigned *failed)
{
	long long p = 0, f = 0;
	int code = number(h, "pending", &p);

	(void)value(((struct device *)h)->index, "failed", 0, &f, NULL);
	*corrected = *uncorrected = 0;
	*pending = (unsigned)p;
	*failed = (unsigned)f;
	return code;
}

int nvmlEventSetCreate(void **out)
{
	*out = calloc(1, sizeof(struct set));
	return *out ? OK : 20;
}

int nvmlDeviceRegisterEvents(void *h, unsigned long long types, void *set)
{
	struct set *s = set;
	int i = ((struct device *)h)->index;
	long long v = 0;

	if (types != 8)
		return 2;
	(void)value(i, "xid", -1, &v, &s->taken[i]);
	s->listens[i] = 1;
	return OK;
}

int nvmlEventSetWait_v2(void *set, struct event *e, unsigned ms)
{
	struct set *s = set;
	long long v = 0;

	(void)ms;
	for (int i = 0; i < DEVICES; i++) {
		if (!s->listens[i] || !value(i, "xid", s->taken[i], &v, NULL))
			continue;
		s->taken[i]++;
		*e = (struct event){&devices[i], 8, (unsigned long long)v, 0, 0};
		return OK;
	}
	return TIMEOUT;
}

int nvmlEventSetFree(void *set)
{
	free(set);
	return OK;
}
#endif
