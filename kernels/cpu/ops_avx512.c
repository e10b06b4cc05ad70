/* The operations for one instruction set: the same bodies, these vectors. */
#include "kernels/cpu/cpu.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include "kernels/cpu/simd_avx512.inc"

#define KERN_NAME  "cpu-avx512"
#define KERN_TABLE kern_avx512

#include "kernels/cpu/body_words.inc"
#include "kernels/cpu/body_tile.inc"
#include "kernels/cpu/body_gemm.inc"
#include "kernels/cpu/body_rows.inc"
#include "kernels/cpu/body_fused.inc"
#include "kernels/cpu/body_block.inc"
#include "kernels/cpu/body_attn.inc"
#include "kernels/cpu/body_paged.inc"
#include "kernels/cpu/body_head.inc"
#include "kernels/cpu/body_step.inc"
#include "kernels/cpu/body_draw.inc"
#include "kernels/cpu/body_table.inc"
#endif
