/* `make check-gpu`: every operation, then whole models, on the device of this machine beside the CPU's
 * tables, which tests/unit compares with double precision. Run it under compute-sanitizer where that is
 * installed. */
#include "tests/gpu/parity.h"
#include "tests/gpu/whole.h"

#include <stdio.h>

int main(void)
{
	static const char *const tables[] = {"cuda-f32", "cuda", "cuda-steady"};
	struct gpu cpu = {.k = kern_cpu(), .pool = kern_pool_new(0)};
	int bad = 0;

	for (int i = 0; i < 3; i++) {
		struct gpu g;

		if (!gpu_open(&g, tables[i]))
			return GPU_NONE;
		printf("%s\n", g.name);
		bad += gpu_parity(&g, &cpu, true);
		bad += whole_all(&g, true);
		gpu_close(&g);
	}
	kern_pool_free(cpu.pool);
	printf("%s\n", bad ? "some results are too far off" : "all results agree");
	return bad ? 1 : 0;
}
