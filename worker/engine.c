#include "worker/engine.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/str.h"
#include "kernels/gpu.h"
#include "worker/gpu_watch.h"

#include <stdlib.h>
#include <string.h>

#define WATCH_MS 1000

static const char *asked(void)
{
	const char *name = getenv("PAWL_KERNELS");

	return name ? name : "";
}

static const char *gpu_name(enum kern_format format)
{
	if (str_starts(asked(), "cuda"))
		return asked();
	return format == KERN_F32 ? "cuda-f32" : "cuda-steady";
}

/* NULL says why. */
static const struct kern *gpu_table(enum kern_format format, char *why, size_t size)
{
	const struct kern_gpu *g = kern_gpu(why, size);
	const struct kern *k;

	if (!g || g->devices(why, size) == 0)
		return NULL;
	k = kern_gpu_table(g, gpu_name(format));
	if (!k)
		str_fmt(why, size, "there is no such table; cuda, cuda-steady and cuda-f32 are known");
	return k;
}

enum rc engine_table(enum kern_format format, const struct kern **k, struct err *e)
{
	bool must = str_starts(asked(), "cuda");
	char why[256] = "";

	*k = NULL;
	if (must || !*asked())
		*k = gpu_table(format, why, sizeof why);
	if (!*k && must)
		return err_set(e, RC_NOTFOUND, "PAWL_KERNELS=%s: %s", asked(), why);
	if (!*k)
		*k = kern_cpu();
	return RC_OK;
}

static int device_number(void)
{
	const char *text = getenv("PAWL_DEVICE");
	int64_t n = 0;

	return text && str_to_i64(text, &n) && n >= 0 && n < 1024 ? (int)n : 0;
}

enum rc engine_open(struct engine *g, enum kern_format format, int threads, struct err *e)
{
	struct kern_open o = {.threads = threads, .device = device_number()};
	char why[256] = "", device[280];
	struct err none;
	enum rc rc = engine_table(format, &g->kern, e);

	if (rc != RC_OK)
		return rc;
	g->pool = g->kern->open(&o, why, sizeof why);
	if (!g->pool)
		return err_set(e, RC_IO, "%s: %s", g->kern->name, why);
	g->kern->describe(g->pool, device, sizeof device);
	if (g->kern->host)
		str_copy(g->name, sizeof g->name, g->kern->name);
	else
		str_fmt(g->name, sizeof g->name, "%s %s", g->kern->name, device);
	if (!g->kern->host && gpu_watch_open(o.device, NULL, &g->watch, &none) != RC_OK)
		log_info("engine", "not_watched", "reason=%s", none.text);
	if (!g->kern->host)
		log_info("engine", "device", "kernels=%s device=%d name=%s room_mib=%zu",
			 g->kern->name, o.device, device, g->kern->room(g->pool) >> 20);
	return RC_OK;
}

void engine_close(struct engine *g)
{
	gpu_watch_close(g->watch);
	if (g->pool)
		g->kern->close(g->pool);
	*g = (struct engine){0};
}

void engine_watch(struct engine *g, json_t *values)
{
	int64_t now = clk_mono_ms();

	if (!g->watch || now - g->watched_ms < WATCH_MS)
		return;
	g->watched_ms = now;
	gpu_watch_add(g->watch, values);
}

void engine_settings(const char *kernels, int device, const char *nvml)
{
	char number[16];

	if (*kernels)
		(void)setenv("PAWL_KERNELS", kernels, 1);
	if (*nvml)
		(void)setenv("PAWL_NVML", nvml, 1);
	str_fmt(number, sizeof number, "%d", device);
	if (device > 0)
		(void)setenv("PAWL_DEVICE", number, 1);
}
