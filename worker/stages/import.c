/* What a run starts from, brought into the store: the base model (shard 0) and the seed data
 * (shard 1, rules in worker/method/seed.h), and other models that the spec names. Files named in the
 * spec must be visible here.
 *
 * in   params.what: "model", "data", "judge" (judge.checkpoint), "external",
 *      "reference" (dpo.reference_model); by hand shard 0 and 1 say it as well
 * out  a model (checkpoint)
 *      or, of the data: ift, eft, eval, prompts, test (datasets), those that spec.data names
 * Everything is checked before it is taken: the model loads as a configuration, tensors and a
 * tokenizer that fit each other; an unreadable row ends the job with file, line and field.
 */
#include "worker/stages/stages.h"

#include "base/fs.h"
#include "base/jsonl.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"
#include "store/artifact.h"
#include "worker/method/seed.h"
#include "worker/model/model_source.h"
#include "worker/model/token.h"
#include "worker/stage.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define IMPORT_FILES_MAX 256
#define IMPORT_ROWS_MAX (4u << 20)

/* --- base model ------------------------------------------------------------------------------ */

static enum rc check_model(const char *dir, struct err *e)
{
	struct model_source src;
	struct tokenizer *tok = NULL;
	enum rc rc = model_source_open(dir, &src, e);

	if (rc != RC_OK)
		return rc;
	rc = tokenizer_load(dir, &tok, e);
	if (rc == RC_OK && tokenizer_vocab(tok) > src.layout->cfg.vocab)
		rc = err_set(e, RC_INVALID, "%s: the tokenizer has ids up to %d, the model only %d",
			     dir, tokenizer_vocab(tok) - 1, src.layout->cfg.vocab - 1);
	model_source_close(&src);
	tokenizer_free(tok);
	return rc;
}

/* Weights, configuration, tokenizer; no notes, pictures or other formats' weights, and not what
 * `tar xf` of a checkpoint leaves beside them. */
static bool belongs(const char *name)
{
	static const char *const endings[] = {".json", ".safetensors", ".model", ".jinja"};
	static const char *const names[] = {"merges.txt", "vocab.txt", "LICENSE", "LICENSE.txt"};

	if (name[0] == '.' || strcmp(name, ARTIFACT_MANIFEST) == 0)
		return false;
	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
		if (str_ends(name, endings[i]))
			return true;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static enum rc copy_model(struct stage_ctx *ctx, const char *from, const char *to, struct err *e)
{
	char **names, a[PATH_MAX], b[PATH_MAX];
	size_t n;
	enum rc rc = fs_list(from, &names, &n, e);

	if (rc != RC_OK)
		return rc;
	for (size_t i = 0; rc == RC_OK && i < n; i++) {
		if (!belongs(names[i]))
			continue;
		str_fmt(a, sizeof(a), "%s/%s", from, names[i]);
		str_fmt(b, sizeof(b), "%s/%s", to, names[i]);
		rc = stage_must_abort(ctx) ? stage_stopped(ctx, e) : fs_copy(a, b, e);
		stage_progress(ctx, (int64_t)i + 1, (int64_t)n, "files");
	}
	fs_list_free(names);
	return rc;
}

/* Models a run may bring along. */
static const struct model_wanted {
	const char *what, *section, *key, *name, *part; /* part: of the section; NULL: itself */
} wanted[] = {
	{"model", NULL, "base_model", "M0", NULL},
	{"judge", "judge", "checkpoint", "judge", NULL},
	{"external", "external", "checkpoint", "external", NULL},
	{"reference", "dpo", "reference_model", "reference", NULL},
	{"writer", "protegi", "checkpoint", "writer", "writer"},
};

static enum rc import_model(struct stage_ctx *ctx, const struct model_wanted *w, struct err *e)
{
	const json_t *section = w->section ? stage_section(ctx, w->section) : ctx->spec;
	const json_t *from = w->part ? json_object_get(section, w->part) : section;
	const char *dir = jx_get_str(from, w->key, "");
	char out[PATH_MAX];
	enum rc rc;

	if (!*dir)
		return err_set(e, RC_INVALID, "%s is missing: the path of a model folder", w->key);
	if (!fs_exists(dir))
		return err_set(e, RC_NOTFOUND, "%s: there is no folder %s on this worker", w->key,
			       dir);
	if (strlen(dir) > PATH_MAX - 512)
		return err_set(e, RC_INVALID, "%s: path of %zu bytes", w->key, strlen(dir));
	rc = check_model(dir, e);
	if (rc == RC_CORRUPT && e)
		e->code = RC_INVALID; /* Somebody's file: another attempt would read the same. */
	if (rc != RC_OK)
		return err_wrap(e, "%s", w->key);
	if ((rc = stage_output_begin(ctx, "model", out, sizeof(out), e)) != RC_OK ||
	    (rc = copy_model(ctx, dir, out, e)) != RC_OK)
		return rc;
	return stage_output_commit(ctx, "model", "checkpoint", json_pack("{s:s}", "name", w->name), e);
}

/* --- seed data ------------------------------------------------------------------------------- */

struct importing {
	struct stage_ctx *ctx;
	struct judge_template tmpl;
	struct seed lists[SEED_N_ROLES]; /* rows NULL: not asked for */
	json_t *files[SEED_N_ROLES];     /* [{"name","sha256","rows"}]; owned */
};

static enum rc hash_file(const char *path, char out[SHA256_HEX_SIZE], struct err *e)
{
	struct fs_map m;
	enum rc rc = fs_map(path, &m, e);

	if (rc != RC_OK)
		return rc;
	sha256_of(m.data ? (const void *)m.data : "", m.size, out);
	fs_unmap(&m);
	return RC_OK;
}

static enum rc read_file(struct importing *im, struct seed *s, const char *path,
			 enum seed_format format, struct err *e)
{
	struct jsonl *lines = NULL;
	json_t *row = NULL;
	int64_t before = s->read;
	enum rc rc = jsonl_open(path, &lines, e);

	while (rc == RC_OK && (rc = jsonl_next(lines, &row, e)) == RC_OK && row) {
		rc = seed_take(s, format, row, e);
		json_decref(row);
		if (rc == RC_OK && json_array_size(s->rows) > IMPORT_ROWS_MAX)
			rc = err_set(e, RC_INVALID, "more than %u rows", IMPORT_ROWS_MAX);
		if (rc != RC_OK)
			err_wrap(e, "%s:%lld", path, (long long)jsonl_line(lines));
		else if (s->read % 256 == 0 && stage_must_abort(im->ctx))
			rc = stage_stopped(im->ctx, e);
	}
	jsonl_close(lines);
	if (rc == RC_OK && s->read == before)
		rc = err_set(e, RC_INVALID, "%s: no rows in it", path);
	return rc;
}

static enum rc read_source(struct importing *im, struct seed *s, const json_t *source,
			   struct err *e)
{
	static const char *const known[] = {"path", "format", NULL};
	const char *path, *format = "auto", *name;
	char digest[SHA256_HEX_SIZE];
	int64_t before = s->read;
	enum rc rc;

	if ((rc = jx_only(source, known, e)) != RC_OK ||
	    (rc = jx_str(source, "path", &path, e)) != RC_OK ||
	    (rc = jx_opt_str(source, "format", &format, e)) != RC_OK)
		return rc;
	if (!fs_exists(path))
		return err_set(e, RC_NOTFOUND, "there is no file %s on this worker", path);
	if (seed_format_of(format) == SEED_N_FORMATS)
		return err_set(e, RC_INVALID,
			       "format \"%s\" is unknown: expected auto, oasst, pairs, ranked, "
			       "scored, judge, "
			       "chat or prompts",
			       format);
	if ((rc = hash_file(path, digest, e)) != RC_OK ||
	    (rc = read_file(im, s, path, seed_format_of(format), e)) != RC_OK)
		return rc;
	name = strrchr(path, '/');
	json_array_append_new(im->files[s->role],
			      json_pack("{s:s, s:s, s:I}", "name", name ? name + 1 : path, "sha256",
					digest, "rows", (json_int_t)(s->read - before)));
	return RC_OK;
}

static enum rc read_role(struct importing *im, enum seed_role role, struct err *e)
{
	const json_t *data = stage_section(im->ctx, "data");
	const json_t *sources = json_object_get(data, seed_role_name(role)), *source;
	size_t i;
	enum rc rc = RC_OK;

	if (json_array_size(sources) == 0)
		return RC_OK;
	if (json_array_size(sources) > IMPORT_FILES_MAX)
		return err_set(e, RC_INVALID, "data.%s: more than %d files", seed_role_name(role),
			       IMPORT_FILES_MAX);
	seed_open(&im->lists[role], role, jx_get_str(data, "lang", "en"), &im->tmpl);
	im->files[role] = json_array();
	json_array_foreach(sources, i, source)
		if ((rc = read_source(im, &im->lists[role], source, e)) != RC_OK)
			return err_wrap(e, "data.%s[%zu]", seed_role_name(role), i);
	seed_finish(&im->lists[role]);
	return RC_OK;
}

static json_t *skips_json(const struct seed *s)
{
	json_t *v = json_object();

	for (int k = 0; k < SEED_N_SKIPS; k++)
		if (s->skipped[k] > 0)
			json_object_set_new(v, seed_skip_text((enum seed_skip)k),
					    json_integer(s->skipped[k]));
	return v;
}

static enum rc none_left(const struct seed *s, struct err *e)
{
	json_t *skips = skips_json(s);
	char *text = jx_text(skips);
	enum rc rc = err_set(e, RC_INVALID, "data.%s: none of %lld rows can be used; left out: %s",
			     seed_role_name(s->role), (long long)s->read, text);

	free(text);
	json_decref(skips);
	return rc;
}

static enum rc write_role(struct importing *im, enum seed_role role, struct err *e)
{
	struct seed *s = &im->lists[role];
	struct stage_rows rows = {.fd = -1};
	json_t *meta, *row;
	char name[64];
	size_t i;
	enum rc rc;

	if (!s->rows)
		return RC_OK;
	if (json_array_size(s->rows) == 0)
		return none_left(s, e);
	rc = stage_rows_open(im->ctx, seed_role_name(role), &rows, e);
	json_array_foreach(s->rows, i, row) {
		if (rc == RC_OK)
			rc = stage_rows_add(&rows, row, e);
	}
	meta = json_pack("{s:I, s:o, s:O}", "read", (json_int_t)s->read, "left_out", skips_json(s),
			 "files", im->files[role]);
	if (rc == RC_OK)
		rc = stage_rows_finish(&rows, meta, e);
	else
		json_decref(meta);
	stage_rows_release(&rows);
	str_fmt(name, sizeof(name), "import.%s", seed_role_name(role));
	stage_final(im->ctx, name, json_integer((json_int_t)json_array_size(s->rows)));
	log_info("import", "data", "role=%s read=%lld rows=%zu", seed_role_name(role),
		 (long long)s->read, json_array_size(s->rows));
	return rc;
}

static enum rc import_data(struct stage_ctx *ctx, struct err *e)
{
	struct importing im = {.ctx = ctx};
	int64_t ift_max = jx_get_i64(stage_section(ctx, "data"), "ift_max", 0);
	enum rc rc = judge_template_of(json_object_get(stage_section(ctx, "judge"), "template"),
				       &im.tmpl, e);

	for (int r = 0; rc == RC_OK && r < SEED_N_ROLES; r++)
		rc = read_role(&im, (enum seed_role)r, e);
	if (rc == RC_OK)
		seed_split(im.lists, ctx->seed, ift_max);
	for (int r = 0; rc == RC_OK && r < SEED_N_ROLES; r++) {
		rc = write_role(&im, (enum seed_role)r, e);
		stage_progress(ctx, r + 1, SEED_N_ROLES, "datasets");
	}
	for (int r = 0; r < SEED_N_ROLES; r++) {
		seed_release(&im.lists[r]);
		json_decref(im.files[r]);
	}
	judge_template_release(&im.tmpl);
	return rc;
}

enum rc stage_import(struct stage_ctx *ctx, struct err *e)
{
	const char *what = jx_get_str(ctx->params, "what", ctx->shard == 0 ? "model" : "data");

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (strcmp(wanted[i].what, what) == 0)
			return import_model(ctx, &wanted[i], e);
	return strcmp(what, "bench") == 0 ? stage_import_bench(ctx, e) : import_data(ctx, e);
}
