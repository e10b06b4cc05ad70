/* The operations for one instruction set: the same bodies, these vectors. */
#include "kernels/cpu/cpu.h"
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

#include "kernels/cpu/simd_plain.h"

#define KERN_NAME  "cpu-plain"
#define KERN_TABLE kern_plain

#include "kernels/cpu/body_gemm.h"
#include "kernels/cpu/body_rows.h"
#include "kernels/cpu/body_attn.h"
#include "kernels/cpu/body_step.h"
#include "kernels/cpu/body_table.h"
