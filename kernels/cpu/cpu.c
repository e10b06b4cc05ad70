/* Picks the instruction set when the program starts. */
#include "kernels/cpu/cpu.h"
#include "kernels/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct kern *kern_cpu_named(const char *name)
{
	if (strcmp(name, "plain") == 0)
		return &kern_plain;
#if defined(__x86_64__)
	bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
	bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
		      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
		      __builtin_cpu_supports("avx512dq");

	if (strcmp(name, "avx2") == 0 && avx2)
		return &kern_avx2;
	if (strcmp(name, "avx512") == 0 && avx512)
		return &kern_avx512;
	if (strcmp(name, "avx512bf16") == 0 && avx512 && __builtin_cpu_supports("avx512bf16") &&
	    __builtin_cpu_supports("avx512vnni"))
		return &kern_avx512bf16;
#endif
	return NULL;
}

const struct kern *kern_cpu(void)
{
	static const char *const best_first[] = {"avx512bf16", "avx512", "avx2", "plain"};
	const char *forced = getenv("PAWL_KERNELS");
	const struct kern *k = NULL;

	if (forced && *forced && strncmp(forced, "cuda", 4) != 0) {
		k = kern_cpu_named(forced);
		if (k)
			return k;
		fprintf(stderr, "PAWL_KERNELS=%s is unknown or not supported here; ignored\n",
			forced);
	}
	for (size_t i = 0; !k && i < sizeof best_first / sizeof best_first[0]; i++)
		k = kern_cpu_named(best_first[i]);
	return k;
}
