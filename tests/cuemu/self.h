/* Launchers of self.cu: what the emulator's own tests run. Pointers are the device's. */
#pragma once

#include <stdint.h>

struct CUstream_st;

enum self_mistake {
	SELF_NONE,
	SELF_NO_BARRIER,
	SELF_OUT_OF_BOUNDS,
	SELF_EARLY_RETURN,  /* before a barrier */
	SELF_UNINITIALISED, /* shared memory */
	SELF_DIVERGENT,	    /* two barriers in two branches */
	SELF_DEADLOCK,
	SELF_LANE_GONE,
	SELF_COPY,
	SELF_COPY_NOT_AWAITED,
};

#ifdef __cplusplus
extern "C" {
#endif
/* out[ceil(n/128)]: sums of 128 neighbours. SELF_COPY*: out[32], x[128], out[i] = x[7i mod 128]. */
void self_sum(struct CUstream_st *s, enum self_mistake m, float *out, const float *x, int n);
/* out[209] "=" */
void self_votes(struct CUstream_st *s, uint32_t *out);
/* c[16][8] = a[16][16] . b[8][16]^T, factors bfloat16 */
void self_mma(struct CUstream_st *s, float *c, const void *a, const void *b);
#ifdef __cplusplus
}
#endif
