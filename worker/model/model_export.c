#include "worker/model/model_export.h"

#include "base/check.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/model/dtype.h"
#include "worker/model/model_source.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define DISK_RESERVE ((int64_t)16 << 20) /* for everything that is not weights */

struct export_run {
	const struct export_opts *o;
	struct model_source src;
	struct st_tensor *list; /* owned; what the files will hold, in order */
	int n_files;
	size_t total;
	float *wide; /* owned; [ST_PIECE / 2] */
	char tmp[PATH_MAX];
};

static void list_tensors(struct export_run *r)
{
	const struct model *m = r->src.layout;

	r->list = model_file_list(m);
	for (int i = 0; i < m->n_tensors; i++) {
		r->list[i].dtype = r->o->dtype;
		r->list[i].size_bytes = tensor_size(&m->tensors[i]) * st_dtype_size(r->o->dtype);
		r->total += r->list[i].size_bytes;
	}
}

/* A piece of tensor i, read and narrowed. */
static enum rc fill(void *ctx, size_t i, size_t at, void *out, size_t len, struct err *e)
{
	struct export_run *r = ctx;
	size_t elem = st_dtype_size(r->o->dtype), n = len / elem, first = at / elem, bad;
	enum rc rc = model_source_read(&r->src, (int)i, first, n, r->wide, e);

	if (rc != RC_OK)
		return rc;
	bad = dtype_narrow(out, r->wide, r->o->dtype, n);
	if (bad == n)
		return RC_OK;
	return err_set(e, RC_INVALID, "tensor %s: element %zu is %g, which overflows %s",
		       r->list[i].name, first + bad, (double)r->wide[bad],
		       st_dtype_name(r->o->dtype));
}

/* Some sources have none; then it says what config.json says. */
static enum rc write_generation(const struct export_run *r, struct err *e)
{
	static const char *const keys[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
	char path[PATH_MAX + 32];
	json_t *config, *out;
	enum rc rc;

	str_fmt(path, sizeof path, "%s/generation_config.json", r->tmp);
	if (fs_exists(path))
		return RC_OK;
	config = model_config_json(&r->src.layout->cfg);
	out = json_pack("{s:b}", "_from_model_config", 1);
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
		if (json_object_get(config, keys[i]))
			json_object_set(out, keys[i], json_object_get(config, keys[i]));
	rc = model_write_json(r->tmp, "generation_config.json", out, e);
	json_decref(config);
	json_decref(out);
	return rc;
}

static enum rc write_all(struct export_run *r, struct err *e)
{
	const struct model *m = r->src.layout;
	int64_t need = (int64_t)r->total + DISK_RESERVE, have;
	const struct st_feed feed = {fill, r};
	enum rc rc = fs_mkdirs(r->tmp, e);

	if (rc != RC_OK)
		return rc;
	have = fs_free_bytes(r->tmp);
	if (have >= 0 && have < need)
		return err_set(e, RC_FULL, "the weights need %lld MiB, %lld MiB are free",
			       (long long)(need >> 20), (long long)(have >> 20));
	if ((rc = model_save_config(m, r->tmp, r->o->dtype, e)) != RC_OK ||
	    (rc = model_copy_companions(m->dir, r->tmp, e)) != RC_OK ||
	    (rc = write_generation(r, e)) != RC_OK)
		return rc;
	return model_write_list(r->list, (size_t)m->n_tensors, r->tmp, r->o->shard_bytes_max, &feed,
				&r->n_files, e);
}

static enum rc check_target(const char *to, struct export_run *r, struct err *e)
{
	char **names = NULL;
	size_t n = 0, len = strlen(to);

	while (len > 1 && to[len - 1] == '/')
		len--;
	if (len == 0 || len > PATH_MAX - 64)
		return err_set(e, RC_INVALID, "the name of the new folder has %zu bytes", len);
	str_fmt(r->tmp, sizeof r->tmp, "%.*s.pawl-tmp", (int)len, to);
	if (!fs_exists(to))
		return RC_OK;
	if (fs_list(to, &names, &n, NULL) == RC_OK)
		fs_list_free(names);
	else
		n = 1;
	return n ? err_set(e, RC_CONFLICT, "%s exists and is not an empty folder", to) : RC_OK;
}

enum rc model_export(const char *from, const char *to, const struct export_opts *o,
		     struct export_report *report, struct err *e)
{
	struct export_run r = {.o = o};
	enum rc rc = check_target(to, &r, e);

	ASSERT(dtype_is_weight(o->dtype));
	if (rc != RC_OK || (rc = model_source_open(from, &r.src, e)) != RC_OK)
		return rc;
	list_tensors(&r);
	r.wide = mem_array(ST_PIECE / 2, sizeof *r.wide);
	rc = fs_remove_tree(r.tmp, e); /* What an earlier export left when it died. */
	if (rc == RC_OK)
		rc = write_all(&r, e);
	if (rc == RC_OK)
		rc = fs_commit_dir(r.tmp, to, e);
	if (rc != RC_OK)
		fs_remove_tree(r.tmp, NULL);
	else if (report)
		*report = (struct export_report){r.n_files, r.total};
	model_source_close(&r.src);
	free(r.list);
	free(r.wide);
	return rc == RC_OK ? RC_OK : err_wrap(e, "export to %s", to);
}
