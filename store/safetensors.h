/* Tensor files, https://github.com/huggingface/safetensors: eight bytes little-endian header
 * length, a JSON header, data. A model is one file or several with model.safetensors.index.json.
 *
 * What is read is mapped, never copied. Everything a header says is checked before any tensor is given
 * out: known type, shape times type equals the byte range, ranges in bounds, without hole or
 * overlap, no name twice, data aligned to its type. Knows nothing of archives.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define ST_HEADER_MAX 100000000u /* the format's own bound */
#define ST_NDIM_MAX 8
#define ST_ALIGN 4096 /* where st_write begins the data */

#define ST_DTYPE_LIST(X)                                                                    \
	X(F64, 8) X(F32, 4) X(F16, 2) X(BF16, 2) X(I64, 8) X(I32, 4) X(I16, 2) X(I8, 1)     \
	X(U64, 8) X(U32, 4) X(U16, 2) X(U8, 1) X(BOOL, 1) X(F8_E4M3, 1) X(F8_E5M2, 1)

enum st_dtype {
#define X(name, size) ST_##name,
	ST_DTYPE_LIST(X)
#undef X
	ST_DTYPES
};

struct st_tensor {
	const char *name;
	enum st_dtype dtype;
	int ndim;
	int64_t shape[ST_NDIM_MAX];
	const void *data;  /* mapped, read-only; valid until st_close */
	size_t size_bytes;
};

struct st;

/* A file, or a folder with model.safetensors or model.safetensors.index.json. Instead of any of these
 * tensor files there may be NAME.at, {"file","offset","size"}: its bytes as they lie in that file, an
 * archive that was not unpacked (artifact_unpack_mapped). */
#define ST_AT ".at"
enum rc st_open(const char *path, struct st **out, struct err *e);
/* DIR/STEM.safetensors or what DIR/STEM.safetensors.index.json names, whichever st_write_set() left. */
#define ST_INDEX ".safetensors.index.json"
enum rc st_open_set(const char *dir, const char *stem, struct st **out, struct err *e);
void st_close(struct st *s);
size_t st_count(const struct st *s);
size_t st_files(const struct st *s);
const struct st_tensor *st_at(const struct st *s, size_t i); /* sorted by name */
const struct st_tensor *st_find(const struct st *s, const char *name); /* NULL when absent */
/* Value of "__metadata__" in the first file; NULL when absent. */
const char *st_metadata(const struct st *s, const char *key);

/* Tensors in the order given, data contiguous and beginning at a multiple of ST_ALIGN. The same
 * tensors give the same bytes. `metadata`: object of strings or NULL. Not fsynced: it is going
 * into an archive. The file is removed on failure. */
enum rc st_write(const char *path, const struct st_tensor *tensors, size_t n, const json_t *metadata,
		 struct err *e);

/* The same for data that is made while it is written: tensors[i].data is not looked at. fill() gives
 * bytes at .. at + len of tensor i; it is asked in order, for at most ST_PIECE bytes at a time. */
#define ST_PIECE ((size_t)1 << 20) /* a multiple of every type's size */
struct st_feed {
	enum rc (*fill)(void *ctx, size_t i, size_t at, void *out, size_t len, struct err *e);
	void *ctx;
};
enum rc st_write_fed(const char *path, const struct st_tensor *tensors, size_t n,
		     const json_t *metadata, const struct st_feed *feed, struct err *e);

/* Tensors in one file, DIR/STEM.safetensors, as long as they take at most `file_max` bytes; else in
 * DIR/STEM-00001-of-0000N.safetensors and so on, in the order given, with DIR/STEM.safetensors.index.json,
 * as Hugging Face names and reads them. A tensor is never divided: one that is larger has a file for
 * itself. Which tensor is where follows from their sizes alone. What an earlier set of as many files or
 * its index left there is replaced; on failure nothing of this one stays. */
struct st_set {
	const char *dir, *stem; /* borrowed, as all of it is; the folder is there */
	size_t file_max;	/* of the tensors of a file, without its header */
	const json_t *metadata; /* of each file: object of strings or NULL */
	const struct st_feed *feed; /* asked by a tensor's place in the whole list; NULL: they have data */
};
/* n_files: how many there are, without the index; may be NULL. */
enum rc st_write_set(const struct st_set *s, const struct st_tensor *tensors, size_t n, int *n_files,
		     struct err *e);
/* The path of file i (from 0) of n of such a set. */
void st_file_path(char *out, size_t size, const char *dir, const char *stem, int i, int n);

size_t st_dtype_size(enum st_dtype t);
const char *st_dtype_name(enum st_dtype t);
int64_t st_elements(const struct st_tensor *t);
/* For tests and fuzzing: the same checks on bytes in memory (8-byte aligned), which must stay. */
enum rc st_open_mem(const void *data, size_t size, const char *what, struct st **out, struct err *e);
