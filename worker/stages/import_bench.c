/* Benchmarks, brought into the store as rows that `bench` reads. Part of `import`.
 *
 * out  bench: the rows of worker/method/bench.h with "id" (<set>/<line>) and "set", the file's name
 */
#include "worker/stages/stages.h"

#include "base/fs.h"
#include "base/jsonl.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "worker/method/bench.h"
#include "worker/stage.h"

#include <string.h>

static void set_name(const char *path, char out[64])
{
	const char *slash = strrchr(path, '/');

	str_copy(out, 64, slash ? slash + 1 : path);
	out[strcspn(out, ".")] = 0;
}

static enum rc read_file(struct stage_ctx *ctx, const char *path, struct stage_rows *rows,
			 struct err *e)
{
	struct jsonl *lines = NULL;
	json_t *raw = NULL, *row = NULL;
	char set[64];
	enum rc rc = fs_exists(path)
			     ? jsonl_open(path, &lines, e)
			     : err_set(e, RC_NOTFOUND, "there is no file %s on this worker", path);

	set_name(path, set);
	while (rc == RC_OK && (rc = jsonl_next(lines, &raw, e)) == RC_OK && raw) {
		rc = bench_read(raw, &row, e);
		json_decref(raw);
		if (rc == RC_OK) {
			json_object_set_new(
				row, "id",
				json_sprintf("%s/%lld", set, (long long)jsonl_line(lines)));
			json_object_set_new(row, "set", json_string(set));
			rc = stage_rows_add(rows, row, e);
			json_decref(row);
		}
		if (rc != RC_OK)
			err_wrap(e, "%s:%lld", path, (long long)jsonl_line(lines));
		else if (stage_must_abort(ctx))
			rc = stage_stopped(ctx, e);
	}
	jsonl_close(lines);
	return rc;
}

enum rc stage_import_bench(struct stage_ctx *ctx, struct err *e)
{
	const json_t *sources = json_object_get(stage_section(ctx, "data"), "bench"), *source;
	struct stage_rows rows = {.fd = -1};
	size_t i;
	enum rc rc = stage_rows_open(ctx, "bench", &rows, e);

	json_array_foreach((json_t *)(uintptr_t)sources, i, source)
	{
		if (rc == RC_OK)
			rc = read_file(ctx, jx_get_str(source, "path", ""), &rows, e);
	}
	if (rc == RC_OK && rows.n == 0)
		rc = err_set(e, RC_INVALID, "data.bench: no rows");
	if (rc == RC_OK) {
		stage_final(ctx, "import.bench", json_integer(rows.n));
		rc = stage_rows_finish(&rows, NULL, e);
	}
	stage_rows_release(&rows);
	return rc == RC_OK ? RC_OK : err_wrap(e, "data.bench");
}
