/* Archives: the index, the manifest, and unpacking what was accepted. */
#include "store/artifact.h"

#include "base/fs.h"
#include "base/str.h"
#include "tests/fuzz/fuzz.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err e;
	struct artifact *a;
	char path[64];
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	str_fmt(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (!artifact_open_file(path, NULL, &a, &e)) {
		for (size_t i = 0; i < a->n; i++)
			if (a->members[i].offset < 0 || a->members[i].size < 0 ||
			    a->members[i].offset + a->members[i].size > (int64_t)size ||
			    strstr(a->members[i].path, ".."))
				abort();
		artifact_close(a);
	}
	close(fd);
	return 0;
}

void fuzz_seed(struct buf *out)
{
	struct artifact_writer *w;
	struct artifact_ref ref;
	char path[PATH_MAX] = "/tmp/pawl-fuzz-XXXXXX";
	int fd = mkstemp(path);

	if (fd < 0 || artifact_begin("checkpoint", path, &w, NULL) ||
	    artifact_add_mem(w, "data.jsonl", "{}\n", 3, NULL) ||
	    artifact_add_mem(w, "a.safetensors", "12345678", 8, NULL) ||
	    artifact_finish(w, NULL, &ref, NULL) || fs_read(path, 1 << 20, out, NULL))
		abort();
	close(fd);
	unlink(path);
}
