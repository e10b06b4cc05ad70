/* The operations of kernels.h on a CUDA device: each function here puts kernels into a stream and
 * returns. They mirror the table's arguments, with three differences: a stream instead of the
 * context, `act` (KERN_F32 or KERN_BF16) says what `void *` activations are, and scratch is the
 * caller's, its size asked of a function beside.
 *
 * Every pointer is the device's (alignment of cudaMalloc or of whole rows), unless it is said to be
 * the program's. What lies beyond the named elements is neither read nor written. An operation on
 * no rows does nothing. The same call gives the same bits; a row's bits do not depend on the other
 * rows. No operation waits, allocates or keeps state, so all may be captured into a graph.
 *
 * Knows nothing of models. Includes no header of CUDA's: C sources may include it without them.
 */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/kernels.h"

struct CUstream_st;
typedef struct CUstream_st *cu_stream; /* cudaStream_t */

/* Called after every launch. An error (a kernel that cannot be launched, or one before it that
 * failed) goes to the function given to cu_on_error(), or ends the program with status 70. */
void cu_launched(const char *kernel, int cuda_error);
void cu_on_error(void (*fn)(const char *kernel, const char *why));

/* --- attention over packed sequences (attn.cu) --- */

/* act F32: multiplied one by one in float. act BF16: tensor cores, float sums. Heads of any even size
 * up to KERN_HEAD_MAX; 16-byte aligned rows of heads (head_dim and strides multiples of 8) are twice
 * as fast to read. scale > 0. */
void cu_attn(cu_stream, enum kern_format act, const struct kern_attn *);
size_t cu_attn_back_scratch(const struct kern_attn *); /* bytes */
void cu_attn_back(cu_stream, enum kern_format act, const struct kern_attn *, void *scratch);

#ifdef __cplusplus
}
#endif
