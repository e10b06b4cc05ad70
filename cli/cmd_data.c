/* pawl data ..., pawl ckpt ...: what a run made. */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fetch.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"
#include "store/artifact.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define TRIES 8 /* without any progress between them */

int cmd_data_ls(struct cli *c, int argc, char **argv)
{
	static const char *const columns[] = {"DIGEST:digest@short", "RUN:run", "ITER:iter",
					      "STAGE:stage", "ROLE:role", "ROWS:rows",
					      "SIZE:size_bytes@bytes", "AGE:created_at@age", NULL};
	const char *run = NULL, *iter = NULL, *stage = NULL;
	const struct opt opts[] = {{"--run", OPT_VALUE, &run},
				   {"--iter", OPT_VALUE, &iter},
				   {"--stage", OPT_VALUE, &stage}};
	struct buf path = BUF_INIT;
	struct err e;
	json_t *rows;
	int code = opt_parse(opts, 3, &argc, argv, 0, 0);

	if (code)
		return code;
	buf_puts(&path, "datasets");
	url_put_query(&path, "run", run);
	url_put_query(&path, "iter", iter);
	url_put_query(&path, "stage", stage);
	enum rc rc = api_list(c, path.data, 100000, &rows, &e);
	code = rc ? fail(&e) : show_rows(c, rows, columns);
	json_decref(rows);
	buf_release(&path);
	return code;
}

/* A short form, "3f2a", is looked up in the list of `kind`: "checkpoints" or "datasets". */
static enum rc full_digest(struct cli *c, const char *kind, const char *text,
			   char out[SHA256_HEX_SIZE], struct err *e)
{
	json_t *rows;
	const json_t *v;
	size_t i, hits = 0, len = strlen(text);

	if (sha256_hex_valid(text)) {
		str_copy(out, SHA256_HEX_SIZE, text);
		return RC_OK;
	}
	if (len < 4 || len > 64)
		return err_set(e, RC_INVALID, "\"%s\" is no digest (at least its first 4 digits)", text);
	enum rc rc = api_list(c, kind, 100000, &rows, e);
	if (rc)
		return rc;
	out[0] = 0;
	json_array_foreach(rows, i, v) {
		const char *d = jx_get_str(v, "digest", "");
		if (!strncmp(d, text, len) && strcmp(d, out)) {
			str_copy(out, SHA256_HEX_SIZE, d);
			hits++;
		}
	}
	json_decref(rows);
	if (hits == 1)
		return RC_OK;
	return err_set(e, hits ? RC_CONFLICT : RC_NOTFOUND, "%zu %s begin with \"%s\"", hits,
		       kind, text);
}

struct export {
	const char *run, *iter, *stage, *role, *out;
	const char *rows[9]; /* values of row_filters */
};

/* Which rows: "--min-score" is the server's min_score. */
static const char *const row_filters[][2] = {
	{"--min-score", "min_score"},	{"--max-score", "max_score"},	{"--min-margin", "min_margin"},
	{"--max-margin", "max_margin"}, {"--min-length", "min_length"}, {"--max-length", "max_length"},
	{"--query|-q", "q"},		{"--flag", "flag"},		{"--sort", "sort"}};
#define N_ROW_FILTERS (sizeof(row_filters) / sizeof(row_filters[0]))

/* Digests to export: the one named, or all of a stage, in the server's order. */
static enum rc export_list(struct cli *c, const struct export *x, const char *digest, json_t **out,
			   struct err *e)
{
	struct buf path = BUF_INIT;
	char full[SHA256_HEX_SIZE];
	enum rc rc = RC_OK;

	if (digest) {
		rc = full_digest(c, "datasets", digest, full, e);
		*out = rc ? NULL : json_pack("[{s:s}]", "digest", full);
		return rc;
	}
	buf_puts(&path, "datasets");
	url_put_query(&path, "run", x->run);
	url_put_query(&path, "iter", x->iter);
	url_put_query(&path, "stage", x->stage);
	rc = api_list(c, path.data, 100000, out, e);
	buf_release(&path);
	if (!rc && !json_array_size(*out))
		rc = err_set(e, RC_NOTFOUND, "no dataset of stage %s in run %s", x->stage, x->run);
	return rc;
}

static enum rc export_one(struct cli *c, const struct export *x, const char *digest, FILE *out,
			  struct err *e)
{
	struct buf path = BUF_INIT;
	char *q = url_quote(digest), what[90];

	buf_printf(&path, "datasets/%s/export", q);
	for (size_t i = 0; i < N_ROW_FILTERS; i++)
		url_put_query(&path, row_filters[i][1], x->rows[i]);
	str_fmt(what, sizeof(what), "dataset %.64s", digest);
	enum rc rc = api_stream(c, path.data, what, to_file, out, e);
	buf_release(&path);
	free(q);
	return rc;
}

static enum rc export_all(struct cli *c, const struct export *x, const json_t *list, FILE *out,
			  struct err *e)
{
	const json_t *v;
	size_t i;
	enum rc rc = RC_OK;

	json_array_foreach(list, i, v) {
		if (x->role && json_object_get(v, "role") && strcmp(jx_get_str(v, "role", ""), x->role))
			continue;
		rc = export_one(c, x, jx_get_str(v, "digest", ""), out, e);
		if (rc)
			break;
	}
	return rc;
}

int cmd_data_export(struct cli *c, int argc, char **argv)
{
	struct export x = {0};
	struct opt opts[5 + N_ROW_FILTERS] = {{"--run", OPT_VALUE, &x.run},
					      {"--iter", OPT_VALUE, &x.iter},
					      {"--stage", OPT_VALUE, &x.stage},
					      {"--role", OPT_VALUE, &x.role},
					      {"--output|-o", OPT_VALUE, &x.out}};
	struct err e;
	json_t *list = NULL;
	struct target t;
	int code;

	for (size_t i = 0; i < N_ROW_FILTERS; i++)
		opts[5 + i] = (struct opt){row_filters[i][0], OPT_VALUE, &x.rows[i]};
	code = opt_parse(opts, sizeof(opts) / sizeof(opts[0]), &argc, argv, 0, 1);
	if (code)
		return code;
	if (!argc && (!x.run || !x.stage)) {
		fputs("pawl: data export needs DIGEST, or --run and --stage\n", stderr);
		return EXIT_USAGE;
	}
	enum rc rc = export_list(c, &x, argc ? argv[0] : NULL, &list, &e);
	if (!rc && !(rc = target_open(&t, x.out, &e)))
		rc = target_close(&t, export_all(c, &x, list, t.out, &e), &e);
	json_decref(list);
	return rc ? fail(&e) : EXIT_DONE;
}

/* One line for each reviewer, for what most of them say, and for each two who saw the same pairs. */
static int show_reviews(struct cli *c, const json_t *answer)
{
	static const char *const columns[] = {
		"REVIEWER:by", "REVIEWED:reviewed", "SKIPPED:skipped", "AGREE:agreement.share@num",
		"KAPPA:agreement.kappa@num", "FROM:agreement.kappa_low@num",
		"TO:agreement.kappa_high@num", NULL};
	const json_t *sum = json_object_get(answer, "summary"), *v;
	json_t *rows = json_deep_copy(json_object_get(sum, "reviewers"));
	size_t i;

	if (c->json) {
		json_print(sum);
	} else {
		json_array_append_new(rows, json_pack("{s:s, s:O?, s:O?}", "by", "(most)", "reviewed",
						      json_object_get(sum, "reviewed"), "agreement",
						      json_object_get(sum, "agreement")));
		json_array_foreach(json_object_get(sum, "between"), i, v)
			json_array_append_new(rows, json_pack("{s:s++, s:O?, s:O?}", "by",
				jx_get_str(v, "a", ""), " / ", jx_get_str(v, "b", ""), "reviewed",
				json_object_get(json_object_get(v, "agreement"), "n"), "agreement",
				json_object_get(v, "agreement")));
		table_print(stdout, rows, columns);
	}
	json_decref(rows);
	return EXIT_DONE;
}

int cmd_data_reviews(struct cli *c, int argc, char **argv)
{
	const char *run = NULL, *to = NULL;
	bool summary = false;
	const struct opt opts[] = {{"--run", OPT_VALUE, &run},
				   {"--summary", OPT_FLAG, &summary},
				   {"--output|-o", OPT_VALUE, &to}};
	struct buf path = BUF_INIT;
	char full[SHA256_HEX_SIZE];
	json_t *answer = NULL;
	struct target t;
	struct err e;
	enum rc rc = RC_OK;
	int code = opt_parse(opts, 3, &argc, argv, 0, 1);

	if (code)
		return code;
	if (!argc == !run) {
		fputs("pawl: data reviews needs DIGEST, or --run\n", stderr);
		return EXIT_USAGE;
	}
	char *q = url_quote(argc ? argv[0] : run);
	if (argc)
		rc = full_digest(c, "datasets", argv[0], full, &e);
	buf_printf(&path, "%s/%s/reviews%s", argc ? "datasets" : "runs", argc && !rc ? full : q,
		   summary ? "" : "/export");
	if (!rc && summary)
		rc = api(c, "GET", path.data, NULL, &answer, &e);
	else if (!rc && !(rc = target_open(&t, to, &e)))
		rc = target_close(&t, api_stream(c, path.data, argc ? argv[0] : run, to_file, t.out, &e), &e);
	code = rc ? fail(&e) : summary ? show_reviews(c, answer) : EXIT_DONE;
	json_decref(answer);
	buf_release(&path);
	free(q);
	return code;
}

int cmd_ckpt_ls(struct cli *c, int argc, char **argv)
{
	static const char *const columns[] = {"DIGEST:digest", "RUN:run", "NAME:name", "ITER:iter",
					      "STAGE:stage", "KIND:kind", "SIZE:size_bytes@bytes",
					      "AGE:created_at@age", NULL};
	const char *run = NULL;
	const struct opt opts[] = {{"--run", OPT_VALUE, &run}};
	struct buf path = BUF_INIT;
	struct err e;
	json_t *rows;
	int code = opt_parse(opts, 1, &argc, argv, 0, 0);

	if (code)
		return code;
	buf_puts(&path, "checkpoints");
	url_put_query(&path, "run", run);
	enum rc rc = api_list(c, path.data, 100000, &rows, &e);
	code = rc ? fail(&e) : show_rows(c, rows, columns);
	json_decref(rows);
	buf_release(&path);
	return code;
}

/* A download that goes on where the last try ended. */
struct download {
	int fd;
	int64_t at;       /* bytes in the file */
	int status;
	struct buf error; /* body of an answer that is no content */
};

static void on_status(void *ctx, const char *line, size_t len)
{
	struct download *d = ctx;
	const char *sp = memchr(line, ' ', len);

	if (len < 12 || strncasecmp(line, "HTTP/", 5) || !sp)
		return;
	d->status = (int)strtol(sp + 1, NULL, 10);
	/* The server sends everything: what we have is not asked for again but replaced. */
	if (d->status == 200 && d->at && !ftruncate(d->fd, 0))
		d->at = 0;
}

static int on_content(void *ctx, const void *data, size_t len)
{
	struct download *d = ctx;
	const char *p = data;

	if (d->status != 200 && d->status != 206) {
		if (d->error.len < 65536)
			buf_append(&d->error, data, len);
		return 0;
	}
	while (len) {
		ssize_t n = pwrite(d->fd, p, len, d->at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return 1;
		p += n;
		len -= (size_t)n;
		d->at += n;
	}
	return 0;
}

static enum rc one_try(struct cli *c, const char *url, struct download *d, struct err *e)
{
	char range[64];
	const char *headers[] = {range, NULL};
	struct fetch_resp r;
	struct fetch_req q = {.method = "GET", .url = url, .token = c->token, .headers = headers,
			      .sink = on_content, .sink_ctx = d, .on_header = on_status,
			      .timeout_ms = -1};

	str_fmt(range, sizeof(range), "Range: bytes=%lld-", (long long)d->at);
	d->status = 0;
	buf_clear(&d->error);
	buf_reserve(&d->error, 0);
	enum rc rc = fetch(&q, &r, e);
	if (rc == RC_CANCELLED)
		rc = err_set(e, err_from_errno(errno), "write: %m");
	fetch_resp_release(&r);
	if (!rc && d->status != 200 && d->status != 206 && d->status != 416)
		rc = problem(d->status, d->error.data, d->error.len, e);
	return rc; /* 416: nothing is left to ask for; the digest will tell. */
}

/* Tries until all is there, or nothing comes any more. */
static enum rc try_all(struct cli *c, const char *url, struct download *d, struct err *e)
{
	enum rc rc = RC_CANCELLED;

	err_set(e, rc, "interrupted");
	for (int tries = 0; tries < TRIES && !cli_stop; tries++) {
		int64_t before = d->at;
		rc = one_try(c, url, d, e);
		if (rc != RC_UNREACHABLE && rc != RC_TIMEOUT)
			break;
		if (d->at > before)
			tries = 0;
		clk_sleep_ms(200 << (tries < 6 ? tries : 6));
	}
	return rc;
}

static enum rc download(struct cli *c, const char *digest, const char *part, struct err *e)
{
	char got[SHA256_HEX_SIZE] = "";
	struct download d = {.fd = open(part, O_RDWR | O_CREAT | O_CLOEXEC, 0644)};
	enum rc rc = RC_OK;

	if (d.fd < 0)
		return err_set(e, err_from_errno(errno), "create %s: %m", part);
	char *url = mem_printf("%s/api/v1/checkpoints/%s/content", c->server, digest);
	/* What an earlier try left may be rubbish: then once more from the start. */
	for (int round = 0; round < 2 && !rc && strcmp(got, digest); round++) {
		d.at = round ? 0 : fs_size(part);
		if (round && ftruncate(d.fd, 0))
			rc = err_set(e, err_from_errno(errno), "truncate %s: %m", part);
		if (d.at > 0 && !c->quiet)
			fprintf(stderr, "going on at byte %lld of %s\n", (long long)d.at, part);
		bool fresh = d.at == 0;
		if (!rc)
			rc = try_all(c, url, &d, e);
		if (!rc)
			rc = fs_sha256(part, got, NULL, e);
		if (fresh)
			break;
	}
	free(url);
	buf_release(&d.error);
	close(d.fd);
	if (!rc && strcmp(got, digest)) {
		unlink(part);
		rc = err_set(e, RC_CORRUPT, "%s: digest is %s, expected %s; it was removed", part, got,
			     digest);
	}
	return rc;
}

/* An archive to `file`, durably. */
static enum rc get_archive(struct cli *c, const char *digest, const char *file, struct err *e)
{
	char part[PATH_MAX];

	str_fmt(part, sizeof(part), "%.4080s.part", file);
	enum rc rc = download(c, digest, part, e);
	return rc ? rc : fs_commit(part, file, e);
}

/* It and its volumes; their number, and the size of all. What is there of them from before is not asked for
 * again. */
static enum rc get_all(struct cli *c, const char *digest, const char *file, size_t *volumes,
		       int64_t *size, struct err *e)
{
	char path[PATH_MAX], got[SHA256_HEX_SIZE];
	json_t *list = NULL;
	const json_t *v;
	size_t i;
	enum rc rc = get_archive(c, digest, file, e);

	if (!rc)
		rc = artifact_volumes(file, &list, e);
	*volumes = json_array_size(list);
	*size = rc ? 0 : fs_size(file);
	json_array_foreach(list, i, v)
	{
		const char *hex = jx_get_str(v, "digest", "");

		*size += jx_get_i64(v, "size", 0);
		if (!rc)
			rc = artifact_volume_path(file, i, path, sizeof(path), e);
		if (rc || (!fs_sha256(path, got, NULL, NULL) && !strcmp(got, hex)))
			continue;
		if (!c->quiet)
			fprintf(stderr, "volume %zu of %zu\n", i + 1, *volumes);
		rc = get_archive(c, hex, path, e);
	}
	json_decref(list);
	return rc;
}

int cmd_ckpt_get(struct cli *c, int argc, char **argv)
{
	const char *out = NULL, *unpack = NULL;
	const struct opt opts[] = {{"--output|-o", OPT_VALUE, &out}, {"--unpack", OPT_VALUE, &unpack}};
	char digest[SHA256_HEX_SIZE], file[PATH_MAX];
	size_t volumes = 0;
	int64_t size = 0;
	struct err e;
	int code = opt_parse(opts, 2, &argc, argv, 1, 1);

	if (code)
		return code;
	enum rc rc = full_digest(c, "checkpoints", argv[0], digest, &e);
	if (rc)
		return fail(&e);
	cli_catch_signals();
	if (out)
		str_fmt(file, sizeof(file), "%.4000s", out);
	else
		str_fmt(file, sizeof(file), "%s.tar", digest);
	rc = get_all(c, digest, file, &volumes, &size, &e);
	if (!rc && unpack)
		rc = artifact_unpack_file(file, digest, unpack, &e);
	if (!rc && unpack && !out)
		artifact_remove(file, volumes);
	if (rc)
		return fail(&e);
	if (c->json)
		printf("{\"digest\":\"%s\",\"size_bytes\":%lld,\"volumes\":%zu}\n", digest,
		       (long long)size, volumes);
	else
		puts(unpack ? unpack : file);
	return EXIT_DONE;
}

static void print_sum(const json_t *v, const char *name, const char *text)
{
	const json_t *sum = json_object_get(v, name);

	printf("%-8s %6lld blobs %10.1f MB  %s\n", name, (long long)jx_get_i64(sum, "blobs", 0),
	       (double)jx_get_i64(sum, "bytes", 0) / 1e6, text);
}

int cmd_ckpt_gc(struct cli *c, int argc, char **argv)
{
	static const char *const texts[][2] = {
		{"kept", "named by a run"},
		{"young", "made or asked for in the last day"},
		{"marked", "named by nothing; waits for a second look, a day later"},
		{"trashed", "named by nothing for a day: put aside, and back when asked for"},
		{"dropped", "three days in the trash: gone"},
		{"given_up", "models and states that runs which are over do not keep"}};
	static const char *const names[] = {"keep_last", "keep_every", "keep_best", "keep_states"};
	const char *keep[4] = {0};
	bool dry = false;
	const struct opt opts[] = {{"--dry-run", OPT_FLAG, &dry},
				   {"--keep-last", OPT_VALUE, &keep[0]},
				   {"--keep-every", OPT_VALUE, &keep[1]},
				   {"--keep-best", OPT_VALUE, &keep[2]},
				   {"--keep-states", OPT_VALUE, &keep[3]}};
	struct err e;
	struct buf path = BUF_INIT;
	json_t *v;
	int code = opt_parse(opts, 5, &argc, argv, 0, 0);

	if (code)
		return code;
	if (!dry && (keep[0] || keep[1] || keep[2] || keep[3])) {
		fputs("pawl: --keep-… shows what would go, with --dry-run; what goes is as the server is "
		      "configured (server.keep_last, …)\n",
		      stderr);
		return EXIT_USAGE;
	}
	buf_puts(&path, "store/garbage");
	for (int i = 0; i < 4; i++)
		url_put_query(&path, names[i], keep[i]);
	enum rc rc = api(c, dry ? "GET" : "POST", path.data, NULL, &v, &e);
	buf_release(&path);
	if (rc)
		return fail(&e);
	if (c->json)
		json_print(v);
	else
		for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
			print_sum(v, texts[i][0], texts[i][1]);
	json_decref(v);
	return EXIT_DONE;
}

int cmd_ckpt_rm(struct cli *c, int argc, char **argv)
{
	char digest[SHA256_HEX_SIZE], *path;
	json_t *answer = NULL;
	struct err e;
	int code = opt_parse(NULL, 0, &argc, argv, 1, 1);

	if (code)
		return code;
	if (full_digest(c, "checkpoints", argv[0], digest, &e))
		return fail(&e);
	if (!confirmed(c, "Give up checkpoint %s for good", digest))
		return EXIT_FAILED;
	path = mem_printf("checkpoints/%s", digest);
	if (api(c, "DELETE", path, NULL, &answer, &e))
		code = fail(&e);
	else if (c->json)
		json_print(answer);
	else if (!c->quiet)
		printf("%s given up\n", digest);
	json_decref(answer);
	free(path);
	return code;
}

int cmd_ckpt_verify(struct cli *c, int argc, char **argv)
{
	struct err e;
	struct artifact *a;
	int code = opt_parse(NULL, 0, &argc, argv, 1, 2);

	if (code)
		return code;
	if (artifact_open_file(argv[0], argc > 1 ? argv[1] : NULL, &a, &e))
		return fail(&e);
	if (c->json) {
		json_t *v = json_pack("{s:s,s:O}", "digest", a->digest, "manifest", a->manifest);
		json_print(v);
		json_decref(v);
	} else {
		printf("%s: %s, %zu members, digest %s\n", argv[0], a->kind, a->n, a->digest);
	}
	artifact_close(a);
	return EXIT_DONE;
}
