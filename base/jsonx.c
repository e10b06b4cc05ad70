#include "base/jsonx.h"

#include "base/fs.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* jansson's own bound is 2048 levels of recursion; ours is checked before it runs. */
static bool too_deep(const char *p, size_t len)
{
	bool in_string = false;
	int depth = 0;

	for (size_t i = 0; i < len; i++) {
		if (in_string) {
			if (p[i] == '\\')
				i++;
			else if (p[i] == '"')
				in_string = false;
		} else if (p[i] == '"') {
			in_string = true;
		} else if (p[i] == '{' || p[i] == '[') {
			if (++depth > JX_DEPTH_MAX)
				return true;
		} else if (p[i] == '}' || p[i] == ']') {
			depth--;
		}
	}
	return false;
}

enum rc jx_parse(const char *data, size_t len, const char *what, json_t **out, struct err *e)
{
	json_error_t je;

	*out = NULL;
	if (too_deep(data, len))
		return err_set(e, RC_INVALID, "%s: JSON nested deeper than %d levels", what,
			       JX_DEPTH_MAX);
	json_t *v = json_loadb(data ? data : "", len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
	if (!v)
		return err_set(e, RC_INVALID, "%s: line %d column %d: %s", what, je.line, je.column,
			       je.text);
	*out = v;
	return RC_OK;
}

enum rc jx_load(const char *path, size_t size_max, json_t **out, struct err *e)
{
	struct buf b = BUF_INIT;

	*out = NULL;
	enum rc rc = fs_read(path, size_max, &b, e);
	if (!rc)
		rc = jx_parse(b.data, b.len, path, out, e);
	buf_release(&b);
	return rc;
}

static int dump_to_buf(const char *data, size_t len, void *ctx)
{
	buf_append(ctx, data, len);
	return 0;
}

void jx_dump(const json_t *v, struct buf *out)
{
	size_t flags = JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17);

	buf_reserve(out, 64);
	json_dump_callback(v, dump_to_buf, out, flags);
}

char *jx_text(const json_t *v)
{
	struct buf b = BUF_INIT;

	jx_dump(v, &b);
	return buf_detach(&b);
}

static const char *type_name(const json_t *v)
{
	static const char *const names[] = {
		[JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array", [JSON_STRING] = "a string",
		[JSON_INTEGER] = "an integer", [JSON_REAL] = "a number", [JSON_TRUE] = "true",
		[JSON_FALSE] = "false", [JSON_NULL] = "null",
	};

	return v ? names[json_typeof(v)] : "nothing";
}

static enum rc find(const json_t *obj, const char *key, json_t **v, struct err *e)
{
	*v = NULL;
	if (!json_is_object(obj))
		return err_set(e, RC_INVALID, "expected an object with field \"%s\", found %s", key,
			       type_name(obj));
	*v = json_object_get(obj, key);
	return RC_OK;
}

static enum rc need(const json_t *obj, const char *key, json_t **v, struct err *e)
{
	enum rc rc = find(obj, key, v, e);

	if (!rc && !*v)
		return err_set(e, RC_INVALID, "field \"%s\" is missing", key);
	return rc;
}

static enum rc wrong(const char *key, const json_t *v, const char *want, struct err *e)
{
	return err_set(e, RC_INVALID, "field \"%s\": expected %s, found %s", key, want, type_name(v));
}

static enum rc read_str(const json_t *v, const char *key, const char **out, struct err *e)
{
	if (!json_is_string(v))
		return wrong(key, v, "a string", e);
	*out = json_string_value(v);
	return RC_OK;
}

static enum rc read_i64(const json_t *v, const char *key, int64_t min, int64_t max, int64_t *out,
			struct err *e)
{
	if (!json_is_integer(v))
		return wrong(key, v, "an integer", e);
	int64_t x = json_integer_value(v);
	if (x < min || x > max)
		return err_set(e, RC_INVALID,
			       "field \"%s\": expected an integer from %" PRId64 " to %" PRId64
			       ", found %" PRId64,
			       key, min, max, x);
	*out = x;
	return RC_OK;
}

static enum rc read_f64(const json_t *v, const char *key, double min, double max, double *out,
			struct err *e)
{
	if (!json_is_number(v))
		return wrong(key, v, "a number", e);
	double x = json_number_value(v);
	if (!(x >= min && x <= max))
		return err_set(e, RC_INVALID,
			       "field \"%s\": expected a number from %g to %g, found %g", key, min,
			       max, x);
	*out = x;
	return RC_OK;
}

static enum rc read_bool(const json_t *v, const char *key, bool *out, struct err *e)
{
	if (!json_is_boolean(v))
		return wrong(key, v, "true or false", e);
	*out = json_is_true(v);
	return RC_OK;
}

enum rc jx_str(const json_t *obj, const char *key, const char **out, struct err *e)
{
	json_t *v;
	enum rc rc = need(obj, key, &v, e);

	return rc ? rc : read_str(v, key, out, e);
}

enum rc jx_i64(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t *out,
	       struct err *e)
{
	json_t *v;
	enum rc rc = need(obj, key, &v, e);

	return rc ? rc : read_i64(v, key, min, max, out, e);
}

enum rc jx_f64(const json_t *obj, const char *key, double min, double max, double *out,
	       struct err *e)
{
	json_t *v;
	enum rc rc = need(obj, key, &v, e);

	return rc ? rc : read_f64(v, key, min, max, out, e);
}

enum rc jx_bool(const json_t *obj, const char *key, bool *out, struct err *e)
{
	json_t *v;
	enum rc rc = need(obj, key, &v, e);

	return rc ? rc : read_bool(v, key, out, e);
}

enum rc jx_obj(const json_t *obj, const char *key, json_t **borrowed, struct err *e)
{
	json_t *v;
	enum rc rc = need(obj, key, &v, e);

	if (rc)
		return rc;
	if (!json_is_object(v))
		return wrong(key, v, "an object", e);
	*borrowed = v;
	return RC_OK;
}

enum rc jx_arr(const json_t *obj, const char *key, json_t **borrowed, struct err *e)
{
	json_t *v;
	enum rc rc = need(obj, key, &v, e);

	if (rc)
		return rc;
	if (!json_is_array(v))
		return wrong(key, v, "an array", e);
	*borrowed = v;
	return RC_OK;
}

static bool absent(const json_t *v)
{
	return !v || json_is_null(v);
}

enum rc jx_opt_str(const json_t *obj, const char *key, const char **out, struct err *e)
{
	json_t *v;
	enum rc rc = find(obj, key, &v, e);

	return rc || absent(v) ? rc : read_str(v, key, out, e);
}

enum rc jx_opt_i64(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t *out,
		   struct err *e)
{
	json_t *v;
	enum rc rc = find(obj, key, &v, e);

	return rc || absent(v) ? rc : read_i64(v, key, min, max, out, e);
}

enum rc jx_opt_f64(const json_t *obj, const char *key, double min, double max, double *out,
		   struct err *e)
{
	json_t *v;
	enum rc rc = find(obj, key, &v, e);

	return rc || absent(v) ? rc : read_f64(v, key, min, max, out, e);
}

enum rc jx_opt_bool(const json_t *obj, const char *key, bool *out, struct err *e)
{
	json_t *v;
	enum rc rc = find(obj, key, &v, e);

	return rc || absent(v) ? rc : read_bool(v, key, out, e);
}

const char *jx_get_str(const json_t *obj, const char *key, const char *dflt)
{
	const char *s = json_string_value(json_object_get(obj, key));

	return s ? s : dflt;
}

int64_t jx_get_i64(const json_t *obj, const char *key, int64_t dflt)
{
	const json_t *v = json_object_get(obj, key);

	return json_is_integer(v) ? json_integer_value(v) : dflt;
}

double jx_get_f64(const json_t *obj, const char *key, double dflt)
{
	const json_t *v = json_object_get(obj, key);

	return json_is_number(v) ? json_number_value(v) : dflt;
}

bool jx_get_bool(const json_t *obj, const char *key, bool dflt)
{
	const json_t *v = json_object_get(obj, key);

	return json_is_boolean(v) ? json_is_true(v) : dflt;
}

enum rc jx_only(const json_t *obj, const char *const *known, struct err *e)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)obj, key, v) {
		const char *const *k = known;
		while (*k && strcmp(*k, key))
			k++;
		if (!*k)
			return err_set(e, RC_INVALID, "unknown field \"%s\"", key);
	}
	return RC_OK;
}

void jx_put_known(json_t *obj, const char *key, double v)
{
	if (!isnan(v))
		json_object_set_new(obj, key, json_real(v));
}
