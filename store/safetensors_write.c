/* Writing tensor files: one, or several and the index that says which tensor is in which. */
#include "store/safetensors.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Written by hand and not through jansson: the order of the tensors is the caller's. */
static void put_header(struct buf *b, const struct st_tensor *t, size_t n, const json_t *metadata)
{
	size_t at = 0;

	buf_append(b, "\0\0\0\0\0\0\0\0{", 9);
	if (metadata) {
		buf_puts(b, "\"__metadata__\":");
		jx_dump(metadata, b);
		buf_puts(b, n ? "," : "");
	}
	for (size_t i = 0; i < n; i++) {
		json_t *name = json_string(t[i].name);
		jx_dump(name, b);
		json_decref(name);
		buf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", st_dtype_name(t[i].dtype));
		for (int k = 0; k < t[i].ndim; k++)
			buf_printf(b, "%s%lld", k ? "," : "", (long long)t[i].shape[k]);
		buf_printf(b, "],\"data_offsets\":[%zu,%zu]}%s", at, at + t[i].size_bytes,
			   i + 1 < n ? "," : "");
		at += t[i].size_bytes;
	}
	buf_putc(b, '}');
	while (b->len % ST_ALIGN)
		buf_putc(b, ' ');
	uint64_t len = b->len - 8;
	for (int i = 0; i < 8; i++)
		b->data[i] = (char)(len >> (8 * i));
}

static enum rc check_write(const struct st_tensor *t, size_t n, const char *path, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		if (t[i].ndim < 0 || t[i].ndim > ST_NDIM_MAX || t[i].dtype >= ST_DTYPES ||
		    (size_t)st_elements(&t[i]) * st_dtype_size(t[i].dtype) != t[i].size_bytes)
			return err_set(e, RC_INVALID, "%s: tensor \"%s\": shape and size disagree",
				       path, t[i].name);
	}
	return RC_OK;
}

static enum rc put_fed(int fd, const char *path, const struct st_tensor *t, size_t i,
		       const struct st_feed *feed, void *piece, struct err *e)
{
	for (size_t at = 0; at < t->size_bytes;) {
		size_t len = t->size_bytes - at < ST_PIECE ? t->size_bytes - at : ST_PIECE;
		enum rc rc = feed->fill(feed->ctx, i, at, piece, len, e);
		if (!rc)
			rc = fs_write_all(fd, path, piece, len, e);
		if (rc)
			return rc;
		at += len;
	}
	return RC_OK;
}

/* Tensors [from, to) of the list, which `feed` knows by their place in the whole of it. */
static enum rc write_all(int fd, const char *path, const struct st_tensor *t, size_t from,
			 size_t to, const json_t *metadata, const struct st_feed *feed,
			 struct err *e)
{
	struct buf head = BUF_INIT;
	void *piece = feed ? mem_new(ST_PIECE) : NULL;

	put_header(&head, t + from, to - from, metadata);
	enum rc rc = fs_write_all(fd, path, head.data, head.len, e);
	for (size_t i = from; i < to && !rc; i++)
		rc = feed ? put_fed(fd, path, &t[i], i, feed, piece, e)
			  : fs_write_all(fd, path, t[i].data, t[i].size_bytes, e);
	free(piece);
	buf_release(&head);
	return rc;
}

static enum rc write_file(const char *path, const struct st_tensor *t, size_t from, size_t to,
			  const json_t *metadata, const struct st_feed *feed, struct err *e)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		return err_set(e, err_from_errno(errno), "create %s: %m", path);
	enum rc rc = write_all(fd, path, t, from, to, metadata, feed, e);
	if (close(fd) && !rc)
		rc = err_set(e, err_from_errno(errno), "close %s: %m", path);
	if (rc)
		unlink(path);
	return rc;
}

enum rc st_write_fed(const char *path, const struct st_tensor *tensors, size_t n,
		     const json_t *metadata, const struct st_feed *feed, struct err *e)
{
	enum rc rc = check_write(tensors, n, path, e);

	return rc ? rc : write_file(path, tensors, 0, n, metadata, feed, e);
}

enum rc st_write(const char *path, const struct st_tensor *tensors, size_t n,
		 const json_t *metadata, struct err *e)
{
	return st_write_fed(path, tensors, n, metadata, NULL, e);
}

/* --- several files ---------------------------------------------------------------------------- */

void st_file_path(char *out, size_t size, const char *dir, const char *stem, int i, int n)
{
	if (n == 1)
		str_fmt(out, size, "%s/%s.safetensors", dir, stem);
	else
		str_fmt(out, size, "%s/%s-%05d-of-%05d.safetensors", dir, stem, i + 1, n);
}

/* Neighbouring tensors as long as they fit; the file of each into `file`, how many there are back.
 */
static int plan(const struct st_tensor *t, size_t n, size_t max, int *file)
{
	size_t in_file = 0;
	int k = 0;

	for (size_t i = 0; i < n; i++) {
		if (in_file > 0 && t[i].size_bytes > max - in_file) {
			k++;
			in_file = 0;
		}
		file[i] = k;
		in_file = t[i].size_bytes > max ? max : in_file + t[i].size_bytes;
	}
	return k + 1;
}

static enum rc write_index(const struct st_set *s, const struct st_tensor *t, size_t n,
			   const int *file, int n_files, struct err *e)
{
	json_t *map = json_object();
	char path[PATH_MAX];
	size_t total = 0;

	for (size_t i = 0; i < n; i++) {
		st_file_path(path, sizeof(path), s->dir, s->stem, file[i], n_files);
		json_object_set_new(map, t[i].name, json_string(strrchr(path, '/') + 1));
		total += t[i].size_bytes;
	}
	json_t *index = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)total,
				  "weight_map", map);
	char *text = json_dumps(index, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENSURE_ASCII);
	struct buf b = BUF_INIT;
	buf_puts(&b, text);
	buf_putc(&b, '\n');
	str_fmt(path, sizeof(path), "%s/%s" ST_INDEX, s->dir, s->stem);
	enum rc rc = fs_write_durable(path, b.data, b.len, e);
	buf_release(&b);
	free(text);
	json_decref(index);
	return rc;
}

static enum rc write_files(const struct st_set *s, const struct st_tensor *t, size_t n,
			   const int *file, int n_files, struct err *e)
{
	char path[PATH_MAX];
	size_t from = 0;
	enum rc rc = RC_OK;

	for (int i = 0; i < n_files && !rc; i++) {
		size_t to = from;

		while (to < n && file[to] == i)
			to++;
		st_file_path(path, sizeof(path), s->dir, s->stem, i, n_files);
		rc = write_file(path, t, from, to, s->metadata, s->feed, e);
		from = to;
	}
	return !rc && n_files > 1 ? write_index(s, t, n, file, n_files, e) : rc;
}

/* What would be read in place of what is written, or was written of what could not be. */
static void remove_files(const struct st_set *s, int n_files)
{
	char path[PATH_MAX];

	str_fmt(path, sizeof(path), "%s/%s" ST_INDEX, s->dir, s->stem);
	unlink(path);
	for (int i = 0; i < n_files; i++) {
		st_file_path(path, sizeof(path), s->dir, s->stem, i, n_files);
		unlink(path);
	}
}

enum rc st_write_set(const struct st_set *s, const struct st_tensor *tensors, size_t n,
		     int *n_files, struct err *e)
{
	if (strlen(s->dir) + strlen(s->stem) > PATH_MAX - 64)
		return err_set(e, RC_INVALID, "path is too long");
	enum rc rc = check_write(tensors, n, s->dir, e);
	if (rc)
		return rc;
	int *file = mem_array(n + 1, sizeof(*file));
	int count = plan(tensors, n, s->file_max, file);
	remove_files(s, count);
	rc = write_files(s, tensors, n, file, count, e);
	if (rc)
		remove_files(s, count);
	else if (n_files)
		*n_files = count;
	free(file);
	return rc;
}
