/* Reading JSON from outside with errors that name the field, and writing it canonically.
 * jansson objects follow jansson's reference rules; json_t* returned here are new references
 * unless the comment says borrowed.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define JX_DEPTH_MAX 64

/* `what` names the source in errors ("run.json", "request body"). Rejects duplicate keys, depth
 * over JX_DEPTH_MAX, and trailing bytes. */
enum rc jx_parse(const char *data, size_t len, const char *what, json_t **out, struct err *e);
enum rc jx_load(const char *path, size_t size_max, json_t **out, struct err *e);
/* Canonical: sorted keys, no spaces, UTF-8, reals with %.17g. Appends to `out`. */
void jx_dump(const json_t *v, struct buf *out);
char *jx_text(const json_t *v); /* the same as a heap string */

/* Required members. The result of jx_str is borrowed from `obj`. */
enum rc jx_str(const json_t *obj, const char *key, const char **out, struct err *e);
enum rc jx_i64(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t *out, struct err *e);
enum rc jx_f64(const json_t *obj, const char *key, double min, double max, double *out, struct err *e);
enum rc jx_bool(const json_t *obj, const char *key, bool *out, struct err *e);
enum rc jx_obj(const json_t *obj, const char *key, json_t **borrowed, struct err *e);
enum rc jx_arr(const json_t *obj, const char *key, json_t **borrowed, struct err *e);
/* Optional members: absent or null leaves *out as it is; a wrong type or range is an error. */
enum rc jx_opt_str(const json_t *obj, const char *key, const char **out, struct err *e);
enum rc jx_opt_i64(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t *out, struct err *e);
enum rc jx_opt_f64(const json_t *obj, const char *key, double min, double max, double *out, struct err *e);
enum rc jx_opt_bool(const json_t *obj, const char *key, bool *out, struct err *e);
/* Lenient readers for our own data: default when absent or of another type. */
const char *jx_get_str(const json_t *obj, const char *key, const char *dflt);
int64_t jx_get_i64(const json_t *obj, const char *key, int64_t dflt);
double jx_get_f64(const json_t *obj, const char *key, double dflt);
bool jx_get_bool(const json_t *obj, const char *key, bool dflt);
/* Every member of `obj` must be in the NULL-terminated list: "unknown field \"x\"". */
enum rc jx_only(const json_t *obj, const char *const *known, struct err *e);
/* Sets a number that is known: NaN is left out. */
void jx_put_known(json_t *obj, const char *key, double v);
