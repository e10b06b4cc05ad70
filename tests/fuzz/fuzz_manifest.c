/* The manifest of an archive whose members are as they should be: any bytes in its place are
 * refused, or say of every member what is so.
 */
#include "base/fs.h"
#include "base/sha256.h"
#include "base/str.h"
#include "store/artifact.h"
#include "store/tar.h"
#include "tests/fuzz/fuzz.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const struct {
	const char *path, *text;
} members[] = {{"config.json", "{}"}, {"model.safetensors", "12345678"}};
#define N_MEMBERS (sizeof(members) / sizeof(*members))

static void add(struct tar_writer *w, const char *name, const void *data, size_t size,
		char hex[SHA256_HEX_SIZE])
{
	if (tar_member_begin(w, name, (int64_t)size, false, NULL) ||
	    tar_data(w, data, size, NULL) || tar_member_end(w, hex, NULL))
		abort();
}

static void check(const struct artifact *a, char hex[N_MEMBERS][SHA256_HEX_SIZE])
{
	if (a->n != N_MEMBERS || !json_is_object(a->manifest) || !a->kind)
		abort();
	for (size_t i = 0; i < N_MEMBERS; i++)
		if (strcmp(a->members[i].path, members[i].path) != 0 ||
		    strcmp(a->members[i].sha256, hex[i]) != 0 ||
		    a->members[i].size != (int64_t)strlen(members[i].text))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[64], hex[N_MEMBERS][SHA256_HEX_SIZE], ignored[SHA256_HEX_SIZE];
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	struct artifact *a;
	struct tar_writer *w;
	struct err e;
	int64_t bytes;

	str_fmt(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fd < 0 || tar_create(path, &w, NULL))
		abort();
	for (size_t i = 0; i < N_MEMBERS; i++)
		add(w, members[i].path, members[i].text, strlen(members[i].text), hex[i]);
	add(w, ARTIFACT_MANIFEST, size ? (const void *)data : "", size, ignored);
	if (tar_finish(w, false, ignored, &bytes, NULL))
		abort();
	if (!artifact_open_file(path, NULL, &a, &e)) {
		check(a, hex);
		artifact_close(a);
	}
	close(fd);
	return 0;
}

/* The manifest that the writer itself would have made. */
void fuzz_seed(struct buf *out)
{
	struct artifact_writer *w;
	struct artifact_ref ref;
	struct artifact *a;
	char path[PATH_MAX] = "/tmp/pawl-fuzz-XXXXXX";
	int fd = mkstemp(path);
	char *text;

	if (fd < 0 || artifact_begin("checkpoint", path, &w, NULL))
		abort();
	for (size_t i = 0; i < N_MEMBERS; i++)
		if (artifact_add_mem(w, members[i].path, members[i].text, strlen(members[i].text),
				     NULL))
			abort();
	if (artifact_finish(w, NULL, &ref, NULL) || artifact_open_file(path, NULL, &a, NULL))
		abort();
	text = json_dumps(a->manifest, JSON_COMPACT);
	buf_puts(out, text);
	free(text);
	artifact_close(a);
	close(fd);
	unlink(path);
}
