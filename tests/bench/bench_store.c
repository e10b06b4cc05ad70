/* Digest, archive and store speed against the machine's own: memcpy-like hashing, dd-like writing.
 *   build/bench/bench_store [FOLDER]     writes and removes about 1 GB there (default /tmp)
 */
#include "base/clk.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "store/artifact.h"
#include "store/safetensors.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BYTES ((size_t)256 << 20)

static void line(const char *what, double bytes, double seconds)
{
	printf("%-44s %8.0f MB/s  (%.2f s)\n", what, bytes / 1e6 / seconds, seconds);
}

static void need(enum rc rc, const struct err *e)
{
	if (rc) {
		fprintf(stderr, "%s\n", e->text);
		exit(1);
	}
}

static void bench_sha(const char *data)
{
	char hex[SHA256_HEX_SIZE];

	for (int portable = 0; portable < 2; portable++) {
		sha256_use_portable(portable);
		double t = clk_mono_s();
		sha256_of(data, BYTES, hex);
		line(portable ? "sha256, plain C" : "sha256, SHA instructions", (double)BYTES,
		     clk_mono_s() - t);
	}
	sha256_use_portable(0);
}

static void bench_plain_write(const char *dir, const char *data)
{
	struct err e;
	char path[PATH_MAX];

	str_fmt(path, sizeof(path), "%s/plain", dir);
	double t = clk_mono_s();
	need(fs_write_durable(path, data, BYTES, &e), &e);
	line("file written and fsynced (the disk's limit)", (double)BYTES, clk_mono_s() - t);
	unlink(path);
}

static void bench_publish(struct store *s, const char *data, struct artifact_ref *ref)
{
	struct err e;
	struct artifact_writer *w;
	char tmp[PATH_MAX];

	need(store_tmp(s, tmp, sizeof(tmp), &e), &e);
	double t = clk_mono_s();
	need(artifact_begin("checkpoint", tmp, &w, &e), &e);
	need(artifact_add_mem(w, "model.safetensors", data, BYTES, &e), &e);
	need(artifact_publish(w, NULL, s, ref, &e), &e);
	line("checkpoint written, hashed, read back, durable", (double)BYTES, clk_mono_s() - t);
	t = clk_mono_s();
	need(artifact_verify(s, ref->digest, &e), &e);
	line("checkpoint verified (archive and members)", (double)BYTES, clk_mono_s() - t);
}

static void bench_small(struct store *s)
{
	struct err e;
	const int n = 200;
	double t = clk_mono_s();

	for (int i = 0; i < n; i++) {
		struct artifact_writer *w;
		struct artifact_ref ref;
		char tmp[PATH_MAX];
		need(store_tmp(s, tmp, sizeof(tmp), &e), &e);
		need(artifact_begin("dataset", tmp, &w, &e), &e);
		need(artifact_add_mem(w, "data.jsonl", &i, sizeof(i), &e), &e);
		need(artifact_publish(w, NULL, s, &ref, &e), &e);
	}
	printf("%-44s %8.0f /s\n", "small datasets published, durable", n / (clk_mono_s() - t));
}

int main(int argc, char **argv)
{
	struct err e;
	struct store *s;
	struct rng r;
	struct artifact_ref ref;
	char dir[PATH_MAX];
	char *data = mem_try(BYTES);

	str_fmt(dir, sizeof(dir), "%.4000s/pawl-bench-XXXXXX", argc > 1 ? argv[1] : "/tmp");
	if (!data || !mkdtemp(dir))
		return 1;
	rng_open(&r, 1, RNG_TEST, 0, 0, 0);
	for (size_t i = 0; i < BYTES; i += 4) {
		uint32_t x = rng_u32(&r);
		memcpy(data + i, &x, 4);
	}
	bench_sha(data);
	bench_plain_write(dir, data);
	need(store_open(dir, true, &s, &e), &e);
	bench_publish(s, data, &ref);
	bench_small(s);
	store_close(s);
	need(fs_remove_tree(dir, &e), &e);
	return 0;
}
