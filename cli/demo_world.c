/* `pawl demo world DIR [IFT EFT EVAL POOL TEST]`: the files of the demo world in any size, for
 * trying things out and for tests. */
#include "cli/demo_parts.h"

#include "base/fs.h"
#include "base/str.h"

int demo_world_main(int argc, char **argv)
{
	struct world_sizes n = {.ift = 200, .eft = 120, .eval = 12, .pool = 40, .test = 10};
	uint32_t *const sizes[] = {&n.ift, &n.eft, &n.eval, &n.pool, &n.test};
	struct err e;
	double human;

	if (argc < 2 || argc > 7) {
		fputs("usage: pawl demo world DIR [IFT EFT EVAL POOL TEST]\n", stderr);
		return 64;
	}
	for (int i = 2; i < argc; i++) {
		int64_t v;

		if (!str_to_i64(argv[i], &v) || v < 1 || v > 1000000) {
			fprintf(stderr, "pawl demo world: \"%s\" is no number from 1 to 1000000\n", argv[i]);
			return 64;
		}
		*sizes[i - 2] = (uint32_t)v;
	}
	if (fs_mkdirs(argv[1], &e) || world_write(argv[1], 1, &n, &human, &e)) {
		fprintf(stderr, "pawl demo world: %s\n", e.text);
		return 1;
	}
	printf("mean true score of the demonstrations: %.2f\n", human);
	return 0;
}
