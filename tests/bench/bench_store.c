/* The store beside the disk it stands on.
 *
 *	build/bench/store [FOLDER] [MIB] [ROUNDS] [VOLUME_MIB]
 *
 * A synthetic checkpoint of MIB (256) in files of a quarter of a volume is streamed into a store
 *and read back with its digests, in turn with dd writing (conv=fsync) and reading as much there,
 *ROUNDS (5) times; medians and ratios of the pairs. Files are put out of the page cache before they
 *are read, by dd through it and past it (iflag=direct). Hashing and small artifacts beside.
 */
#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/rng.h"
#include "base/str.h"
#include "store/artifact.h"
#include "store/volume.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define BLOCK ((size_t)1 << 20)
#define SOURCE_MAX ((int64_t)1 << 30)
#define ROUNDS_MAX 99

struct bench {
	char dir[PATH_MAX - 64];
	struct store *s;
	char *block; /* random; each piece of the checkpoint is this with its place written over it
		      */
	int64_t bytes, volume;
	char source[64]; /* what dd writes: as much of the same kind in memory, or zeros */
};

static void need(enum rc rc, const struct err *e)
{
	if (rc) {
		fprintf(stderr, "%s\n", e->text);
		exit(1);
	}
}

static void line(const char *what, double bytes, double seconds)
{
	printf("%-52s %8.0f MB/s  (%.2f s)\n", what, bytes / 1e6 / seconds, seconds);
}

/* --- dd -------------------------------------------------------------------------------------- */

static double dd(const char *in, const char *out, int64_t bytes, const char *flag)
{
	char from[PATH_MAX + 8], to[PATH_MAX + 8], count[40];
	struct err e;
	struct proc p;
	int status;

	str_fmt(from, sizeof from, "if=%s", in);
	str_fmt(to, sizeof to, "of=%s", out);
	str_fmt(count, sizeof count, "count=%lld", (long long)(bytes >> 20));
	const char *argv[] = {"dd", from, to, "bs=1M", count, "status=none", flag, NULL};
	struct proc_opts o = {.argv = argv, .extra_fd = -1};
	double t = clk_mono_s();
	need(proc_start(&o, &p, &e), &e);
	need(proc_wait(&p, 600000, &status, &e), &e);
	t = clk_mono_s() - t;
	proc_release(&p);
	if (status) {
		fprintf(stderr, "dd failed\n");
		exit(1);
	}
	return t;
}

static void out_of_cache(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		(void)fsync(fd);
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		close(fd);
	}
}

/* A disk may make short work of zeros. */
static void make_source(struct bench *b)
{
	str_copy(b->source, sizeof b->source, "/dev/shm/pawl-bench-XXXXXX");
	int fd = b->bytes <= SOURCE_MAX ? mkstemp(b->source) : -1;

	for (int64_t at = 0; fd >= 0 && at < b->bytes; at += (int64_t)BLOCK) {
		memcpy(b->block, &at, sizeof at);
		if (write(fd, b->block, BLOCK) != (ssize_t)BLOCK)
			exit(1);
	}
	if (fd >= 0)
		close(fd);
	else
		str_copy(b->source, sizeof b->source, "/dev/zero");
}

/* --- ours ------------------------------------------------------------------------------------ */

static enum rc fill(void *ctx, int64_t at, void *out, size_t len, struct err *e)
{
	const struct bench *b = ctx;

	(void)e;
	memcpy(out, b->block, len);
	for (size_t i = 0; i + sizeof at <= len; i += 4096)
		memcpy((char *)out + i, &at, sizeof at);
	return RC_OK;
}

/* Seconds from nothing to a checkpoint that is durable and named. `salt`: another one each time. */
static double publish(struct bench *b, int salt, struct artifact_ref *ref)
{
	struct artifact_feed feed = {fill, b};
	struct artifact_writer *w;
	struct err e;
	char tmp[PATH_MAX], name[64];
	double t = clk_mono_s();

	need(store_tmp(b->s, tmp, sizeof tmp, &e), &e);
	need(artifact_begin("checkpoint", tmp, &w, &e), &e);
	artifact_volume_max(w, b->volume);
	need(artifact_add_mem(w, "config.json", &salt, sizeof salt, &e), &e);
	int64_t member = b->volume / 4 > 64 << 20 ? b->volume / 4 - (1 << 20) : 64 << 20;
	for (int64_t at = 0, i = 1; at < b->bytes; at += member, i++) {
		int64_t n = b->bytes - at < member ? b->bytes - at : member;

		str_fmt(name, sizeof name, "model-%05lld-of-%05lld.safetensors", (long long)i,
			(long long)((b->bytes + member - 1) / member));
		need(artifact_add_fed(w, name, n, &feed, &e), &e);
	}
	need(artifact_publish(w, NULL, b->s, ref, &e), &e);
	return clk_mono_s() - t;
}

/* As a worker opens an input. */
static double read_all(struct bench *b, const char *digest)
{
	struct artifact *a;
	struct err e;
	double t = clk_mono_s();

	need(artifact_open(b->s, digest, &a, &e), &e);
	t = clk_mono_s() - t;
	artifact_close(a);
	return t;
}

/* --- side by side ---------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *x, int n)
{
	qsort(x, (size_t)n, sizeof *x, by_value);
	return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

static void told(const char *what, double *dd_s, double *ours_s, int n, double bytes)
{
	double ratio[ROUNDS_MAX];

	for (int i = 0; i < n; i++)
		ratio[i] = dd_s[i] / ours_s[i];
	double d = median(dd_s, n), o = median(ours_s, n), m = median(ratio, n);
	printf("%-36s dd %6.0f MB/s  ours %6.0f MB/s  ratio %.2f (%.2f to %.2f)\n", what,
	       bytes / 1e6 / d, bytes / 1e6 / o, m, ratio[0], ratio[n - 1]);
}

/* One at a time, so that large ones need their room but once. */
static void dd_turn(struct bench *b, double *wrote, double *did_read, double *direct)
{
	char plain[PATH_MAX];

	str_fmt(plain, sizeof plain, "%s/plain", b->dir);
	*wrote = dd(b->source, plain, b->bytes, "conv=fsync");
	out_of_cache(plain);
	*did_read = dd(plain, "/dev/null", b->bytes, "iflag=fullblock");
	out_of_cache(plain);
	*direct = dd(plain, "/dev/null", b->bytes, "iflag=direct");
	unlink(plain);
}

/* Every archive of it. */
static void each_archive(struct bench *b, const char *digest, void (*see)(const char *path))
{
	char root[PATH_MAX], path[PATH_MAX];
	json_t *volumes;
	const json_t *v;
	struct err e;
	size_t i;

	need(store_path(b->s, digest, root, sizeof root, &e), &e);
	need(artifact_volumes(root, &volumes, &e), &e);
	json_array_foreach(volumes, i, v)
	{
		need(store_path(b->s, jx_get_str(v, "digest", ""), path, sizeof path, &e), &e);
		see(path);
	}
	json_decref(volumes);
	see(root);
}

static void drop(const char *path)
{
	unlink(path);
}

static void our_turn(struct bench *b, int salt, double *wrote, double *did_read)
{
	struct artifact_ref ref;

	*wrote = publish(b, salt, &ref);
	each_archive(b, ref.digest, out_of_cache);
	*did_read = read_all(b, ref.digest);
	each_archive(b, ref.digest, drop);
}

static void side_by_side(struct bench *b, int rounds)
{
	double w[2][ROUNDS_MAX], r[2][ROUNDS_MAX], direct[ROUNDS_MAX], again[ROUNDS_MAX];

	for (int i = 0; i < rounds; i++)
		for (int k = 0; k < 2; k++) /* Each goes first in turn. */
			if ((i + k) % 2)
				our_turn(b, i, &w[1][i], &r[1][i]);
			else
				dd_turn(b, &w[0][i], &r[0][i], &direct[i]);
	memcpy(again, r[1], sizeof again);
	told("written, hashed, durable", w[0], w[1], rounds, (double)b->bytes);
	told("read and hashed", r[0], r[1], rounds, (double)b->bytes);
	told("the same, and dd past the cache", direct, again, rounds, (double)b->bytes);
}

static void bench_sha(const struct bench *b)
{
	char hex[SHA256_HEX_SIZE];

	for (int portable = 0; portable < 2; portable++) {
		sha256_use_portable(portable);
		double t = clk_mono_s();
		for (int i = 0; i < 256; i++)
			sha256_of(b->block, BLOCK, hex);
		line(portable ? "sha256, plain C" : "sha256, SHA instructions", 256.0 * BLOCK,
		     clk_mono_s() - t);
	}
	sha256_use_portable(0);
	struct sha256 x, y;
	sha256_init(&x);
	sha256_init(&y);
	double t = clk_mono_s();
	for (int i = 0; i < 256; i++)
		sha256_add_both(&x, &y, b->block, BLOCK);
	line("sha256, two of the same bytes", 256.0 * BLOCK, clk_mono_s() - t);
}

static void bench_small(struct bench *b)
{
	struct err e;
	const int n = 100;
	double t = clk_mono_s();

	for (int i = 0; i < n; i++) {
		struct artifact_writer *w;
		struct artifact_ref ref;
		char tmp[PATH_MAX];

		need(store_tmp(b->s, tmp, sizeof(tmp), &e), &e);
		need(artifact_begin("dataset", tmp, &w, &e), &e);
		need(artifact_add_mem(w, "data.jsonl", &i, sizeof(i), &e), &e);
		need(artifact_publish(w, NULL, b->s, &ref, &e), &e);
	}
	printf("%-52s %8.0f /s\n", "small datasets published, durable", n / (clk_mono_s() - t));
}

int main(int argc, char **argv)
{
	struct bench b = {.block = mem_new(BLOCK)};
	struct rusage use;
	struct err e;
	struct rng r;
	int64_t mib = 256, rounds = 5, volume = VOLUME_BYTES >> 20;

	str_fmt(b.dir, sizeof b.dir, "%.3900s/pawl-bench-XXXXXX", argc > 1 ? argv[1] : "/tmp");
	if ((argc > 2 && !str_to_i64(argv[2], &mib)) ||
	    (argc > 3 && !str_to_i64(argv[3], &rounds)) ||
	    (argc > 4 && !str_to_i64(argv[4], &volume)) || mib < 1 || volume < 1 || rounds < 1 ||
	    rounds > ROUNDS_MAX || !mkdtemp(b.dir))
		return 1;
	b.bytes = mib << 20;
	b.volume = volume << 20;
	rng_open(&r, 1, RNG_TEST, 0, 0, 0);
	for (size_t i = 0; i < BLOCK; i += 4) {
		uint32_t x = rng_u32(&r);
		memcpy(b.block + i, &x, 4);
	}
	need(store_open(b.dir, true, &b.s, &e), &e);
	bench_sha(&b);
	make_source(&b);
	side_by_side(&b, (int)rounds);
	bench_small(&b);
	store_close(b.s);
	if (strncmp(b.source, "/dev/shm", 8) == 0)
		unlink(b.source);
	need(fs_remove_tree(b.dir, &e), &e);
	free(b.block);
	getrusage(RUSAGE_SELF, &use);
	printf("%-52s %8.1f MiB\n", "memory at its most", (double)use.ru_maxrss / 1024);
	return 0;
}
