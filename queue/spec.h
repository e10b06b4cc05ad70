/* The run specification: one table of fields with type, default, bounds and help. Pure: no files, no
 * Redis. The form, the defaults, the check and the normal form all come from the table.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

#define SPEC_ERRORS_MAX 64

/* Field errors for a 422 and for the form. items: array of {"pointer":"/dpo/beta","detail":"…"}. */
struct spec_errors {
	json_t *items; /* owned */
};

void spec_errors_release(struct spec_errors *s);
/* Checks everything and fills defaults. RC_INVALID with at least one item in *errs when wrong (then *out
 * is NULL). The result has every field, in a form that normalises to itself. `in` is not changed. */
enum rc spec_normalise(const json_t *in, json_t **out, struct spec_errors *errs, struct err *e);
/* {"defaults":{…spec with every default…},
 *  "fields":[{"pointer","type":"string|int|number|bool|files|list|object","default","min","max",
 *             "choices":[…],"required":bool,"help"}],
 *  "sections":[{"name","title"}]}: GET /api/v1/config/defaults. */
json_t *spec_defaults(void);
