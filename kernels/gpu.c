/* Finds the shared object of GPU kernels when the program runs: nothing is linked against it, so that
 * the same program works on machines without a GPU. */
#include "kernels/gpu.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY "pawl-cuda.so"

static const struct kern_gpu *loaded;

/* Beside the program, or in the lib folder next to its own. */
static bool library_path(char *out, size_t size, int turn)
{
	static const char *const where[] = {"", "../lib/pawl/", "../lib/"};
	char program[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
	char *slash;

	if (n <= 0 || turn >= (int)(sizeof where / sizeof *where))
		return false;
	program[n] = 0;
	slash = strrchr(program, '/');
	if (!slash)
		return false;
	slash[1] = 0;
	return (size_t)snprintf(out, size, "%s%s%s", program, where[turn], LIBRARY) < size;
}

static void *open_library(char *why, size_t size)
{
	const char *given = getenv("PAWL_CUDA");
	char path[PATH_MAX + 64];
	void *lib;

	if (given && *given) {
		lib = dlopen(given, RTLD_NOW | RTLD_LOCAL);
		if (!lib)
			snprintf(why, size, "%s", dlerror());
		return lib;
	}
	for (int turn = 0; library_path(path, sizeof path, turn); turn++) {
		if (access(path, R_OK) != 0)
			continue;
		lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
		if (!lib)
			snprintf(why, size, "%s", dlerror());
		return lib;
	}
	snprintf(why, size, "%s is not beside the program (it is built where nvcc is, or PAWL_CUDA "
			    "names it)", LIBRARY);
	return NULL;
}

const struct kern_gpu *kern_gpu(char *why, size_t size)
{
	const struct kern_gpu *g;
	void *lib;

	if (loaded)
		return loaded;
	lib = open_library(why, size);
	if (!lib)
		return NULL;
	g = dlsym(lib, "pawl_gpu");
	if (!g || g->version != KERN_GPU_VERSION || g->table_size != sizeof(struct kern)) {
		snprintf(why, size, "%s was built for another version of this program", LIBRARY);
		dlclose(lib);
		return NULL;
	}
	loaded = g;
	return g;
}

const struct kern *kern_gpu_table(const struct kern_gpu *g, const char *name)
{
	for (int i = 0; g->tables[i]; i++)
		if (strcmp(g->tables[i]->name, name) == 0)
			return g->tables[i];
	return NULL;
}
