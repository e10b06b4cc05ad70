/* The types weights have in files, to float and back. Knows the bits and nothing else.
 *
 * F32, BF16 and F16. Widening is exact; narrowing rounds to nearest, ties to even, keeps
 * subnormals, and never makes an infinity: that is an overflow and told.
 */
#pragma once

#include "store/safetensors.h"

#include <stdbool.h>
#include <stddef.h>

bool dtype_is_weight(enum st_dtype t);
/* out[n]; `in` holds n elements of type t. */
void dtype_widen(float *out, const void *in, enum st_dtype t, size_t n);
/* `out` takes n elements of type t. Returns the index of the first element that is not finite or
 * overflows, and n when there is none. */
size_t dtype_narrow(void *out, const float *in, enum st_dtype t, size_t n);
/* "f32", "bf16", "f16" and what torch_dtype says; false for other names. */
bool dtype_named(const char *name, enum st_dtype *out);
const char *dtype_torch_name(enum st_dtype t); /* "float32", "bfloat16", "float16" */
