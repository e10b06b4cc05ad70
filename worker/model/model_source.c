#include "worker/model/model_source.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/model/dtype.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static enum rc find_tensor(const struct tensor_ref *ref, const struct st *files,
			   const struct st_tensor **out, struct err *e)
{
	const struct st_tensor *t = st_find(files, ref->name);

	if (!t)
		return err_set(e, RC_INVALID, "tensor %s is missing", ref->name);
	if (!dtype_is_weight(t->dtype))
		return err_set(e, RC_UNSUPPORTED, "tensor %s is %s; F32, BF16 or F16 expected",
			       ref->name, st_dtype_name(t->dtype));
	if (t->ndim != (ref->cols ? 2 : 1) || t->shape[0] != ref->rows ||
	    (ref->cols && t->shape[1] != ref->cols))
		return err_set(e, RC_INVALID,
			       "tensor %s has %d dimensions, first %lld; config.json says %d x %d",
			       ref->name, t->ndim, t->ndim ? (long long)t->shape[0] : 0, ref->rows,
			       ref->cols);
	*out = t;
	return RC_OK;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_ignored(const struct model *m, const char *name)
{
	return str_ends(name, "rotary_emb.inv_freq") ||
	       (m->cfg.tied && strcmp(name, "lm_head.weight") == 0);
}

static enum rc check_unknown(const struct model *m, const struct st *files, struct err *e)
{
	const char **names = mem_array((size_t)m->n_tensors, sizeof *names);
	enum rc rc = RC_OK;

	for (int i = 0; i < m->n_tensors; i++)
		names[i] = m->tensors[i].name;
	qsort(names, (size_t)m->n_tensors, sizeof *names, by_name);
	for (size_t i = 0; i < st_count(files) && rc == RC_OK; i++) {
		const char *name = st_at(files, i)->name;

		if (!is_ignored(m, name) &&
		    !bsearch(&name, names, (size_t)m->n_tensors, sizeof *names, by_name))
			rc = err_set(e, RC_UNSUPPORTED, "tensor %s is not part of a %s model", name,
				     m->cfg.arch);
	}
	free(names);
	return rc;
}

enum rc model_source_open(const char *dir, struct model_source *s, struct err *e)
{
	struct model_config cfg;
	enum rc rc = model_config_load(dir, &cfg, e);

	*s = (struct model_source){0};
	if (rc != RC_OK || (rc = model_plan(&cfg, &s->layout, e)) != RC_OK ||
	    (rc = st_open(dir, &s->files, e)) != RC_OK ||
	    (rc = check_unknown(s->layout, s->files, e)) != RC_OK)
		goto out;
	s->at = mem_array((size_t)s->layout->n_tensors, sizeof *s->at);
	for (int i = 0; i < s->layout->n_tensors && rc == RC_OK; i++)
		rc = find_tensor(&s->layout->tensors[i], s->files, &s->at[i], e);
	str_copy(s->layout->dir, sizeof s->layout->dir, dir);
out:
	if (rc == RC_OK)
		return RC_OK;
	model_source_close(s);
	return err_wrap(e, "model %s", dir);
}

void model_source_close(struct model_source *s)
{
	st_close(s->files);
	model_free(s->layout);
	free(s->at);
	*s = (struct model_source){0};
}

enum rc model_source_read(const struct model_source *s, int i, size_t first, size_t n, float *out,
			  struct err *e)
{
	const struct st_tensor *t = s->at[i];
	const struct tensor_ref *ref = &s->layout->tensors[i];

	ASSERT(first <= tensor_size(ref) && n <= tensor_size(ref) - first);
	dtype_widen(out, (const char *)t->data + first * st_dtype_size(t->dtype), t->dtype, n);
	for (size_t k = 0; k < n; k++)
		if (!isfinite(out[k]))
			return err_set(e, RC_INVALID, "tensor %s: element %zu is not finite",
				       ref->name, first + k);
	return RC_OK;
}

enum rc model_source_part(const struct model_source *s, int i, const struct tensor_ref *t,
			  size_t first, size_t n, float *out, struct err *e)
{
	size_t cols = (size_t)t->cols;
	enum rc rc = RC_OK;

	if (t->cols == t->all_cols)
		return model_source_read(s, i, tensor_whole_at(t, first), n, out, e);
	for (size_t at = first, take; at < first + n && rc == RC_OK; at += take) {
		take = cols - at % cols;
		take = take < first + n - at ? take : first + n - at;
		rc = model_source_read(s, i, tensor_whole_at(t, at), take, out + (at - first), e);
	}
	return rc;
}

const void *model_source_raw(const struct model_source *s, int i, const struct tensor_ref *t,
			     size_t first)
{
	if (s->at[i]->dtype != ST_BF16 || t->cols != t->all_cols)
		return NULL;
	return (const char *)s->at[i]->data + 2 * tensor_whole_at(t, first);
}

enum rc model_source_finite(const struct model_source *s, int i, const struct tensor_ref *t,
			    size_t first, size_t n, struct err *e)
{
	const uint16_t *x = model_source_raw(s, i, t, first);
	unsigned bad = 0;

	ASSERT(x);
	for (size_t k = 0; k < n; k++) /* The exponent of infinities and of what is no number. */
		bad |= (x[k] & 0x7f80) == 0x7f80;
	for (size_t k = 0; bad && k < n; k++)
		if ((x[k] & 0x7f80) == 0x7f80)
			return err_set(e, RC_INVALID, "tensor %s: element %zu is not finite",
				       t->name, tensor_whole_at(t, first) + k);
	return RC_OK;
}

void model_source_drop(const struct model_source *s, int i)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)s->at[i]->data;
	uintptr_t to = (from + s->at[i]->size_bytes) / page * page;

	from = (from + page - 1) / page * page;
	if (to > from)
		(void)madvise((void *)from, to - from, MADV_DONTNEED); /* Advice only. */
}

enum st_dtype model_source_dtype(const struct model_source *s)
{
	enum st_dtype t = s->at[0]->dtype;

	for (int i = 1; i < s->layout->n_tensors; i++)
		if (s->at[i]->dtype != t)
			return ST_DTYPES;
	return t;
}
