#include "store/safetensors.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INDEX_BYTES_MAX ((size_t)64 << 20)
#define SHARDS_MAX 4096

struct file {
	char *name;
	struct fs_map map;
	json_t *header; /* owns the names of the tensors */
};

struct st {
	struct file *files;
	size_t n_files;
	struct st_tensor *t; /* sorted by name */
	size_t n, cap;
};

static const struct {
	const char *name;
	size_t size;
} dtypes[] = {
#define X(name, size) {#name, size},
	ST_DTYPE_LIST(X)
#undef X
};

size_t st_dtype_size(enum st_dtype t)
{
	return dtypes[t].size;
}

const char *st_dtype_name(enum st_dtype t)
{
	return dtypes[t].name;
}

int64_t st_elements(const struct st_tensor *t)
{
	int64_t n = 1;

	for (int i = 0; i < t->ndim; i++)
		n *= t->shape[i];
	return n;
}

static enum rc bad(struct err *e, const char *what, const char *name, const char *why)
{
	return err_set(e, RC_CORRUPT, "%s: tensor \"%s\": %s", what, name, why);
}

static enum rc read_shape(const json_t *shape, struct st_tensor *t, const char *what, struct err *e)
{
	size_t bytes = st_dtype_size(t->dtype), i;
	json_t *v;

	if (!json_is_array(shape) || json_array_size(shape) > ST_NDIM_MAX)
		return bad(e, what, t->name, "shape is not a list of at most 8 numbers");
	t->ndim = (int)json_array_size(shape);
	json_array_foreach(shape, i, v) {
		json_int_t d = json_is_integer(v) ? json_integer_value(v) : -1;
		if (d < 0)
			return bad(e, what, t->name, "shape holds something else than sizes");
		if (d && bytes > (size_t)INT64_MAX / (size_t)d)
			return bad(e, what, t->name, "shape is too large");
		t->shape[i] = d;
		bytes *= (size_t)d;
	}
	t->size_bytes = bytes;
	return RC_OK;
}

static enum rc read_dtype(const char *text, struct st_tensor *t, const char *what, struct err *e)
{
	for (int i = 0; i < ST_DTYPES; i++)
		if (!strcmp(dtypes[i].name, text)) {
			t->dtype = (enum st_dtype)i;
			return RC_OK;
		}
	return err_set(e, RC_CORRUPT, "%s: tensor \"%s\": unknown type \"%s\"", what, t->name, text);
}

/* `data` is the start of the data part, `size` its length. */
static enum rc read_tensor(const json_t *v, struct st_tensor *t, const uint8_t *data, size_t size,
			   const char *what, struct err *e)
{
	static const char *const known[] = {"dtype", "shape", "data_offsets", NULL};
	const char *dtype;
	json_t *off;

	if (!json_is_object(v))
		return bad(e, what, t->name, "is not described by an object");
	if (jx_only(v, known, e) || jx_str(v, "dtype", &dtype, e) ||
	    jx_arr(v, "data_offsets", &off, e)) {
		if (e)
			e->code = RC_CORRUPT;
		err_wrap(e, "%s: tensor \"%s\"", what, t->name);
		return RC_CORRUPT;
	}
	enum rc rc = read_dtype(dtype, t, what, e);
	if (!rc)
		rc = read_shape(json_object_get(v, "shape"), t, what, e);
	if (rc)
		return rc;
	const json_t *b = json_array_get(off, 0), *f = json_array_get(off, 1);
	if (json_array_size(off) != 2 || !json_is_integer(b) || !json_is_integer(f))
		return bad(e, what, t->name, "data_offsets is not two numbers");
	int64_t begin = json_integer_value(b), end = json_integer_value(f);
	if (begin < 0 || end < begin || (uint64_t)end > size)
		return err_set(e, RC_CORRUPT,
			       "%s: tensor \"%s\": bytes %lld to %lld lie outside the data (%zu bytes)",
			       what, t->name, (long long)begin, (long long)end, size);
	if ((size_t)(end - begin) != t->size_bytes)
		return err_set(e, RC_CORRUPT,
			       "%s: tensor \"%s\": shape needs %zu bytes, offsets give %lld", what,
			       t->name, t->size_bytes, (long long)(end - begin));
	t->data = data + begin;
	if (t->size_bytes && (uintptr_t)t->data % st_dtype_size(t->dtype))
		return bad(e, what, t->name, "data is not aligned to its type");
	return RC_OK;
}

static int by_data(const void *a, const void *b)
{
	const struct st_tensor *x = a, *y = b;

	if (x->data != y->data)
		return (const char *)x->data < (const char *)y->data ? -1 : 1;
	return (x->size_bytes > y->size_bytes) - (x->size_bytes < y->size_bytes);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct st_tensor *)a)->name, ((const struct st_tensor *)b)->name);
}

/* Each tensor begins where the one before ends; the last ends with the file. */
static enum rc check_cover(struct st_tensor *t, size_t n, const uint8_t *data, size_t size,
			   const char *what, struct err *e)
{
	const uint8_t *at = data;

	if (n)
		qsort(t, n, sizeof(*t), by_data);
	for (size_t i = 0; i < n; i++) {
		const uint8_t *p = t[i].data;
		if (p < at)
			return bad(e, what, t[i].name, "overlaps another tensor");
		if (p > at)
			return bad(e, what, t[i].name, "leaves a hole before it");
		at = p + t[i].size_bytes;
	}
	if (at != data + size)
		return err_set(e, RC_CORRUPT, "%s: %zu bytes after the last tensor", what,
			       (size_t)(data + size - at));
	return RC_OK;
}

static enum rc check_metadata(const json_t *meta, const char *what, struct err *e)
{
	const char *key;
	json_t *v;

	if (!json_is_object(meta))
		return err_set(e, RC_CORRUPT, "%s: __metadata__ is not an object", what);
	json_object_foreach((json_t *)meta, key, v) {
		if (!json_is_string(v))
			return err_set(e, RC_CORRUPT, "%s: __metadata__ \"%s\" is not a string", what,
				       key);
	}
	return RC_OK;
}

static struct st_tensor *room_for_one(struct st *s)
{
	if (s->n == s->cap) {
		s->cap = s->cap ? 2 * s->cap : 64;
		s->t = mem_grow(s->t, s->cap, sizeof(*s->t));
	}
	s->t[s->n] = (struct st_tensor){0};
	return &s->t[s->n];
}

static enum rc read_header(struct st *s, struct file *f, const uint8_t *data, size_t size,
			   const char *what, struct err *e)
{
	size_t first = s->n;
	const char *name;
	json_t *v;

	json_object_foreach(f->header, name, v) {
		enum rc rc;
		if (!strcmp(name, "__metadata__")) {
			rc = check_metadata(v, what, e);
		} else {
			struct st_tensor *t = room_for_one(s);
			t->name = name;
			rc = read_tensor(v, t, data, size, what, e);
			s->n += !rc;
		}
		if (rc)
			return rc;
	}
	return check_cover(s->t + first, s->n - first, data, size, what, e);
}

static enum rc read_file(struct st *s, struct file *f, const char *what, struct err *e)
{
	const uint8_t *p = f->map.data;
	size_t size = f->map.size;
	uint64_t len = 0;

	if (size < 8)
		return err_set(e, RC_CORRUPT, "%s: %zu bytes is too short for a header", what, size);
	for (int i = 7; i >= 0; i--)
		len = len << 8 | p[i];
	if (len > ST_HEADER_MAX || len > size - 8)
		return err_set(e, RC_CORRUPT, "%s: header of %llu bytes in a file of %zu bytes", what,
			       (unsigned long long)len, size);
	if (!len || p[8] != '{')
		return err_set(e, RC_CORRUPT, "%s: header does not begin with {", what);
	enum rc rc = jx_parse((const char *)p + 8, len, what, &f->header, e);
	if (rc) {
		if (e)
			e->code = RC_CORRUPT;
		return RC_CORRUPT;
	}
	return read_header(s, f, p + 8 + len, size - 8 - len, what, e);
}

static bool there(const char *path)
{
	char at[PATH_MAX];

	str_fmt(at, sizeof(at), "%s" ST_AT, path);
	return fs_exists(path) || fs_exists(at);
}

/* The file, or the bytes elsewhere that stand for it. */
static enum rc map_tensors(const char *path, struct fs_map *m, struct err *e)
{
	char at[PATH_MAX], full[PATH_MAX];
	json_t *v = NULL;
	const char *file, *slash = strrchr(path, '/');
	int64_t offset, size;

	str_fmt(at, sizeof(at), "%s" ST_AT, path);
	if (fs_exists(path) || !fs_exists(at))
		return fs_map(path, m, e);
	enum rc rc = jx_load(at, 2 * PATH_MAX, &v, e);
	if (!rc && ((rc = jx_str(v, "file", &file, e)) ||
		    (rc = jx_i64(v, "offset", 0, INT64_MAX, &offset, e)) ||
		    (rc = jx_i64(v, "size", 0, INT64_MAX, &size, e))))
		err_wrap(e, "%s", at);
	if (!rc) { /* Beside it, or anywhere. */
		str_fmt(full, sizeof(full), "%.*s%s", *file == '/' || !slash ? 0 : (int)(slash + 1 - path),
			path, file);
		rc = fs_map_range(full, offset, size, m, e);
	}
	json_decref(v);
	return rc;
}

static enum rc add_file(struct st *s, const char *path, const char *name, struct err *e)
{
	if (!(s->n_files & (s->n_files - 1)))
		s->files = mem_grow(s->files, s->n_files ? 2 * s->n_files : 1, sizeof(*s->files));
	struct file *f = &s->files[s->n_files];
	*f = (struct file){.name = mem_str(name)};
	s->n_files++;
	enum rc rc = map_tensors(path, &f->map, e);
	return rc ? rc : read_file(s, f, path, e);
}

static bool plain_file_name(const char *s)
{
	return s[0] && s[0] != '.' && !strchr(s, '/') && strlen(s) < 200;
}

static const struct file *file_of(const struct st *s, const void *data)
{
	for (size_t i = 0; i < s->n_files; i++) {
		const uint8_t *p = s->files[i].map.data;
		if ((const uint8_t *)data >= p && (const uint8_t *)data < p + s->files[i].map.size)
			return &s->files[i];
	}
	return NULL;
}

/* Every name of the map must be in the shard it names; no shard may hold anything else. */
static enum rc check_map(struct st *s, const json_t *map, const char *path, struct err *e)
{
	if (s->n)
		qsort(s->t, s->n, sizeof(*s->t), by_name);
	for (size_t i = 1; i < s->n; i++)
		if (!strcmp(s->t[i - 1].name, s->t[i].name))
			return bad(e, path, s->t[i].name, "is in two files");
	for (size_t i = 0; i < s->n; i++) {
		const char *want = json_string_value(json_object_get(map, s->t[i].name));
		const struct file *f = file_of(s, s->t[i].data);
		if (!want)
			return bad(e, path, s->t[i].name, "is not in the index");
		if (s->t[i].size_bytes && (!f || strcmp(f->name, want)))
			return bad(e, path, s->t[i].name, "is in another file than the index says");
	}
	const char *name;
	json_t *v;
	json_object_foreach((json_t *)map, name, v) {
		if (!st_find(s, name))
			return err_set(e, RC_CORRUPT, "%s: tensor \"%s\" is not in %s", path, name,
				       json_string_value(v));
	}
	return RC_OK;
}

static bool have_file(const struct st *s, const char *name)
{
	for (size_t i = 0; i < s->n_files; i++)
		if (!strcmp(s->files[i].name, name))
			return true;
	return false;
}

static enum rc open_shards(struct st *s, const char *dir, const json_t *map, const char *index,
			   struct err *e)
{
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)map, name, v) {
		char path[PATH_MAX];
		const char *file = json_string_value(v);
		if (!file || !plain_file_name(file))
			return bad(e, index, name, "its file is not a plain file name");
		if (have_file(s, file))
			continue;
		if (s->n_files == SHARDS_MAX)
			return err_set(e, RC_CORRUPT, "%s: more than %d files", index, SHARDS_MAX);
		str_fmt(path, sizeof(path), "%s/%s", dir, file);
		enum rc rc = add_file(s, path, file, e);
		if (rc)
			return rc;
	}
	return check_map(s, map, index, e);
}

static enum rc open_index(struct st *s, const char *dir, const char *index, struct err *e)
{
	json_t *top = NULL, *map = NULL;
	enum rc rc = jx_load(index, INDEX_BYTES_MAX, &top, e);

	if (!rc && (rc = jx_obj(top, "weight_map", &map, e)))
		err_wrap(e, "%s", index);
	if (!rc)
		rc = open_shards(s, dir, map, index, e);
	json_decref(top);
	return rc;
}

static enum rc open_set(struct st *s, const char *dir, const char *stem, struct err *e)
{
	char file[PATH_MAX];

	if (strlen(dir) > PATH_MAX - 256)
		return err_set(e, RC_INVALID, "path is too long");
	str_fmt(file, sizeof(file), "%s/%s" ST_INDEX, dir, stem);
	if (fs_exists(file))
		return open_index(s, dir, file, e);
	str_fmt(file, sizeof(file), "%s/%s.safetensors", dir, stem);
	if (!there(file))
		return err_set(e, RC_NOTFOUND, "%s: no %s.safetensors and no %s" ST_INDEX, dir, stem,
			       stem);
	return add_file(s, file, strrchr(file, '/') + 1, e);
}

static enum rc open_path(struct st *s, const char *path, struct err *e)
{
	struct stat st;

	if (strlen(path) > PATH_MAX - 256)
		return err_set(e, RC_INVALID, "path is too long");
	if (stat(path, &st) && !there(path))
		return err_set(e, err_from_errno(errno), "open %s: %m", path);
	if (!fs_exists(path) || !S_ISDIR(st.st_mode))
		return add_file(s, path, "model.safetensors", e);
	return open_set(s, path, "model", e);
}

/* Takes `s`, which is read or has failed. */
static enum rc opened(struct st *s, enum rc rc, struct st **out)
{
	*out = NULL;
	if (rc) {
		st_close(s);
		return rc;
	}
	if (s->n)
		qsort(s->t, s->n, sizeof(*s->t), by_name);
	*out = s;
	return RC_OK;
}

enum rc st_open(const char *path, struct st **out, struct err *e)
{
	struct st *s = mem_new(sizeof(*s));

	return opened(s, open_path(s, path, e), out);
}

enum rc st_open_set(const char *dir, const char *stem, struct st **out, struct err *e)
{
	struct st *s = mem_new(sizeof(*s));

	return opened(s, open_set(s, dir, stem, e), out);
}

enum rc st_open_mem(const void *data, size_t size, const char *what, struct st **out, struct err *e)
{
	struct st *s = mem_new(sizeof(*s));
	struct file borrowed = {.name = mem_str(what), .map = {data, size}};
	enum rc rc = read_file(s, &borrowed, what, e);

	borrowed.map = (struct fs_map){0}; /* Not ours to unmap. */
	s->files = mem_new(sizeof(*s->files));
	s->files[0] = borrowed;
	s->n_files = 1;
	return opened(s, rc, out);
}

void st_close(struct st *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_files; i++) {
		fs_unmap(&s->files[i].map);
		json_decref(s->files[i].header);
		free(s->files[i].name);
	}
	free(s->files);
	free(s->t);
	free(s);
}

size_t st_count(const struct st *s)
{
	return s->n;
}

size_t st_files(const struct st *s)
{
	return s->n_files;
}

const struct st_tensor *st_at(const struct st *s, size_t i)
{
	return &s->t[i];
}

const struct st_tensor *st_find(const struct st *s, const char *name)
{
	struct st_tensor want = {.name = name};

	return s->n ? bsearch(&want, s->t, s->n, sizeof(*s->t), by_name) : NULL;
}

const char *st_metadata(const struct st *s, const char *key)
{
	const json_t *meta = s->n_files ? json_object_get(s->files[0].header, "__metadata__") : NULL;

	return json_string_value(json_object_get(meta, key));
}
