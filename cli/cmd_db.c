/* db: what must not be lost, put aside and brought back. That is the store, the tokens and the
 * webhooks; Redis is made anew from them (`pawl-server rebuild`), so a backup needs neither it nor
 * a stop. */
#include "cli/cli.h"
#include "cli/tree.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/sha256.h"
#include "base/str.h"
#include "base/version.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MARK "backup.json" /* written last: without it a backup is not whole */
#define DOC_MAX ((size_t)64 << 20)
#define SERVER_MS 600000
#define SAID_MAX 20 /* problems told one by one */

static const char *data_dir(const struct cli *c)
{
	return c->data ? c->data : default_data_dir();
}

/* Documents before blobs: what they name was durable before they were written. */
static const struct {
	const char *name;
	bool blobs;
} parts[] = {{"store/docs", false}, {"tokens", false}, {"hooks", false}, {"store/blobs", true}};

static enum rc copy_parts(const char *from, const char *to, bool link, struct tree_sum *sum,
			  struct err *e)
{
	enum rc rc = RC_OK;

	for (size_t i = 0; !rc && i < sizeof(parts) / sizeof(parts[0]); i++) {
		char *a = mem_printf("%s/%s", from, parts[i].name),
		     *b = mem_printf("%s/%s", to, parts[i].name);
		rc = tree_copy(a, b, link && parts[i].blobs, sum, e);
		free(a);
		free(b);
	}
	char *a = mem_printf("%s/store/store.json", from),
	     *b = mem_printf("%s/store/store.json", to);
	if (!rc && !fs_exists(a))
		rc = err_set(e, RC_NOTFOUND,
			     "%s: there is no store (one in a bucket is backed up there)", from);
	if (!rc)
		rc = fs_copy(a, b, e);
	free(a);
	free(b);
	return rc;
}

static enum rc must_be_new(const char *dir, struct err *e)
{
	char **names = NULL;
	size_t n = 0;
	enum rc rc = fs_list(dir, &names, &n, NULL);

	if (!rc)
		fs_list_free(names);
	if (rc == RC_NOTFOUND)
		return RC_OK;
	return !rc && n == 0 && !rmdir(dir)
		       ? RC_OK
		       : err_set(e, RC_CONFLICT, "%s is there already: name a new folder", dir);
}

static enum rc mark(const char *dir, const struct tree_sum *sum, struct err *e)
{
	char at[CLK_TEXT_MAX], *path = mem_printf("%s/" MARK, dir), *text;
	enum rc rc;

	clk_text(clk_now_ms(), at);
	text = mem_printf("{\"made_at\":\"%s\",\"version\":\"%s\",\"files\":%lld,\"bytes\":%lld}\n",
			  at, version_text(), (long long)sum->files, (long long)sum->bytes);
	rc = fs_write_durable(path, text, strlen(text), e);
	free(text);
	free(path);
	return rc;
}

/* All that was written below it, and its own name. */
static enum rc make_durable(const char *part, const char *to, struct err *e)
{
	int fd = open(part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *folder = mem_str(to), *slash;
	enum rc rc = RC_OK;

	if (fd < 0 || syncfs(fd) || rename(part, to))
		rc = err_set(e, err_from_errno(errno), "%s: %m", part);
	if (fd >= 0)
		close(fd);
	while ((slash = strrchr(folder, '/')) && !slash[1] && slash > folder)
		*slash = 0;
	if (slash)
		*slash = 0;
	if (!rc)
		rc = fs_sync_dir(!slash ? "." : *folder ? folder : "/", e);
	free(folder);
	return rc;
}

/* `from` to `to` by way of a folder of another name, so that `to` is whole or absent. */
static enum rc copy_whole(const char *from, const char *to, bool link, bool marked,
			  struct tree_sum *sum, struct err *e)
{
	char *part = mem_printf("%.*s.part",
				(int)(strlen(to) - (strlen(to) > 1 && str_ends(to, "/"))), to);
	enum rc rc = must_be_new(to, e);

	umask(077); /* There are tokens in it. */

	if (!rc)
		rc = fs_remove_tree(part, e);
	if (!rc)
		rc = fs_mkdirs(part, e);
	if (!rc)
		rc = copy_parts(from, part, link, sum, e);
	if (!rc && marked)
		rc = mark(part, sum, e);
	if (!rc)
		rc = make_durable(part, to, e);
	free(part);
	return rc;
}

static int say_sum(const struct cli *c, const char *what, const char *dir,
		   const struct tree_sum *sum)
{
	if (c->json)
		printf("{\"files\":%lld,\"bytes\":%lld}\n", (long long)sum->files,
		       (long long)sum->bytes);
	else if (!c->quiet)
		printf("%s %s: %lld files, %.1f MB\n", dir, what, (long long)sum->files,
		       (double)sum->bytes / 1e6);
	return EXIT_DONE;
}

int cmd_db_backup(struct cli *c, int argc, char **argv)
{
	bool link = false;
	const struct opt opts[] = {{"--link", OPT_FLAG, &link}};
	struct tree_sum sum = {0};
	struct err e;
	int code = opt_parse(opts, 1, &argc, argv, 1, 1);

	if (code)
		return code;
	if (copy_whole(data_dir(c), argv[0], link, true, &sum, &e))
		return fail(&e);
	return say_sum(c, "made", argv[0], &sum);
}

int cmd_db_restore(struct cli *c, int argc, char **argv)
{
	struct tree_sum sum = {0};
	struct err e;
	char *path;
	int code = opt_parse(NULL, 0, &argc, argv, 1, 1);

	if (code)
		return code;
	path = mem_printf("%s/" MARK, argv[0]);
	if (!fs_exists(path)) {
		fprintf(stderr, "pawl: %s: no whole backup (there is no " MARK ")\n", argv[0]);
		code = EXIT_NOT_FOUND;
	}
	free(path);
	if (code)
		return code;
	if (copy_whole(argv[0], data_dir(c), false, false, &sum, &e))
		return fail(&e);
	if (!c->quiet && !c->json)
		fprintf(stderr, "`pawl up --data %s` brings its runs back\n", data_dir(c));
	return say_sum(c, "restored", data_dir(c), &sum);
}

/* --- check -------------------------------------------------------------------------------------
 */

struct checking {
	const char *root; /* of the store */
	bool deep;
	int64_t docs, blobs, bad;
};

__attribute__((format(printf, 2, 3))) static void problem_is(struct checking *k, const char *fmt,
							     ...)
{
	va_list ap;

	if (k->bad++ >= SAID_MAX)
		return;
	va_start(ap, fmt);
	fputs("pawl: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}

/* "…/ab12….tar" -> digest; false for another name. */
static bool blob_digest(const char *path, char digest[SHA256_HEX_SIZE])
{
	const char *name = strrchr(path, '/') + 1;

	if (strlen(name) != SHA256_HEX_SIZE - 1 + 4 || !str_ends(name, ".tar"))
		return false;
	str_copy(digest, SHA256_HEX_SIZE, name);
	return sha256_hex_valid(digest);
}

static enum rc see_blob(void *ctx, const char *path, struct err *e)
{
	struct checking *k = ctx;
	char digest[SHA256_HEX_SIZE], got[SHA256_HEX_SIZE];

	(void)e;
	k->blobs++;
	if (!blob_digest(path, digest))
		problem_is(k, "%s: not the name of a blob", path);
	else if (k->deep && (fs_sha256(path, got, NULL, NULL) || strcmp(got, digest) != 0))
		problem_is(k, "%s: its bytes are not what its name says", path);
	return RC_OK;
}

static bool given_up(const struct checking *k, const char *run, const char *digest)
{
	char *path = mem_printf("%s/docs/given-up/%.60s.json", k->root, run);
	json_t *doc = NULL;
	bool gone = !jx_load(path, DOC_MAX, &doc, NULL) &&
		    (json_object_get(json_object_get(doc, "digests"), digest) ||
		     json_object_get(json_object_get(doc, "asked"), digest));

	json_decref(doc);
	free(path);
	return gone;
}

/* What a completion manifest says was made must be there. */
static void see_manifest(struct checking *k, const char *path, const json_t *manifest)
{
	const json_t *out;
	size_t i;

	json_array_foreach(json_object_get(manifest, "outputs"), i, out)
	{
		const char *digest = jx_get_str(out, "digest", "");
		char *blob = mem_printf("%s/blobs/%.2s/%s.tar", k->root, digest, digest);
		if (!fs_exists(blob) && !given_up(k, jx_get_str(manifest, "run", ""), digest))
			problem_is(k, "%s: its output %.12s is not in the store", path, digest);
		free(blob);
	}
}

static enum rc see_doc(void *ctx, const char *path, struct err *e)
{
	struct checking *k = ctx;
	json_t *v = NULL;
	struct buf b = BUF_INIT;
	struct err why;

	(void)e;
	k->docs++;
	if (str_ends(path, ".jsonl")) {
		if (fs_read(path, DOC_MAX, &b, &why))
			problem_is(k, "%s", why.text);
		/* A last line without its end is that of a crash, and is left out. */
		for (char *p = b.data, *end; p && (end = strchr(p, '\n')); p = end + 1) {
			if (jx_parse(p, (size_t)(end - p), path, &v, &why))
				problem_is(k, "%s", why.text);
			json_decref(v);
			v = NULL;
		}
		buf_release(&b);
	} else if (str_ends(path, ".json")) {
		if (jx_load(path, DOC_MAX, &v, &why))
			problem_is(k, "%s", why.text);
		else if (strstr(path, "/docs/jobs/"))
			see_manifest(k, path, v);
		json_decref(v);
	}
	return RC_OK;
}

/* pawl-server VERB on the Redis that `pawl up` runs in this folder; -1 when none runs. */
static int server_says(const char *dir, const char *verb)
{
	char *socket = mem_printf("%s/redis/redis.sock", dir);
	char *redis = mem_printf("--redis=unix:%s", socket),
	     *store = mem_printf("--store=file://%s/store", dir);
	char *data = mem_printf("--data-dir=%s", dir),
	     *beside = mem_printf("%s/pawl-server", proc_self_dir());
	const char *const argv[] = {access(beside, X_OK) ? "pawl-server" : beside,
				    verb,
				    redis,
				    store,
				    data,
				    "--log-level=error",
				    NULL};
	struct proc_opts o = {.argv = argv};
	struct buf b = BUF_INIT;
	struct err e;
	int status = 0, code = -1;

	if (fs_exists(socket)) {
		if (proc_run(&o, NULL, 0, DOC_MAX, SERVER_MS, &b, &status, &e))
			code = fail(&e);
		else
			code = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILED;
		fputs(b.data ? b.data : "", stdout);
	}
	buf_release(&b);
	free(socket);
	free(redis);
	free(store);
	free(data);
	free(beside);
	return code;
}

int cmd_db_check(struct cli *c, int argc, char **argv)
{
	bool deep = false;
	const struct opt opts[] = {{"--deep", OPT_FLAG, &deep}};
	struct checking k = {0};
	char *root, *docs, *blobs, *mark_path;
	struct err e;
	enum rc rc;
	int code = opt_parse(opts, 1, &argc, argv, 0, 1);

	if (code)
		return code;
	const char *dir = argc ? argv[0] : data_dir(c);
	root = mem_printf("%s/store", dir);
	docs = mem_printf("%s/docs", root);
	blobs = mem_printf("%s/blobs", root);
	mark_path = mem_printf("%s/store.json", root);
	k.root = root;
	k.deep = deep;
	rc = fs_exists(mark_path) ? RC_OK : err_set(&e, RC_NOTFOUND, "%s: there is no store", dir);
	if (!rc)
		rc = tree_each(docs, see_doc, &k, &e);
	if (!rc)
		rc = tree_each(blobs, see_blob, &k, &e);
	code = rc ? fail(&e) : k.bad ? EXIT_FAILED : EXIT_DONE;
	if (!rc && c->json)
		printf("{\"documents\":%lld,\"blobs\":%lld,\"problems\":%lld}\n", (long long)k.docs,
		       (long long)k.blobs, (long long)k.bad);
	else if (!rc && !c->quiet)
		printf("%lld documents, %lld blobs%s: %lld problems\n", (long long)k.docs,
		       (long long)k.blobs, deep ? " read" : "", (long long)k.bad);
	if (!rc && !c->json && server_says(dir, "check") > 0)
		code = EXIT_FAILED;
	free(root);
	free(docs);
	free(blobs);
	free(mark_path);
	return code;
}

int cmd_db_migrate(struct cli *c, int argc, char **argv)
{
	int code = opt_parse(NULL, 0, &argc, argv, 0, 0);

	if (code)
		return code;
	code = server_says(data_dir(c), "migrate");
	if (code < 0) {
		fprintf(stderr, "pawl: no Redis runs in %s: `pawl up` migrates when it starts\n",
			data_dir(c));
		return EXIT_UNREACHABLE;
	}
	return code;
}
