/* The operations for one instruction set: the same bodies, these vectors. */
#include "kernels/cpu/cpu.h"
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

#if defined(__x86_64__)
#include "kernels/cpu/simd_avx512.h"

#define KERN_NAME  "cpu-avx512"
#define KERN_TABLE kern_avx512

#include "kernels/cpu/body_gemm.h"
#include "kernels/cpu/body_rows.h"
#include "kernels/cpu/body_attn.h"
#include "kernels/cpu/body_step.h"
#include "kernels/cpu/body_table.h"
#endif
