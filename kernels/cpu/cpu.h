/* What the CPU tables share (memory.c), and the tables, for the choice in cpu.c alone. */
#pragma once

#include "kernels/kernels.h"


extern const struct kern kern_plain;
#if defined(__x86_64__)
extern const struct kern kern_avx2, kern_avx512, kern_avx512bf16;
#endif

struct kern_pool *cpu_open(const struct kern_open *o, char *why, size_t size);
void cpu_describe(struct kern_pool *p, char *out, size_t size);
const char *cpu_fault(struct kern_pool *p);
size_t cpu_room(struct kern_pool *p);
void *cpu_alloc(struct kern_pool *p, size_t bytes);
void cpu_release(struct kern_pool *p, void *mem, size_t bytes);
void cpu_copy(struct kern_pool *p, void *to, const void *from, size_t bytes);
void cpu_zero(struct kern_pool *p, void *mem, size_t bytes);
void cpu_snapped(struct kern_pool *p);
void cpu_narrow(struct kern_pool *p, void *act, const float *x, size_t n);
void cpu_widen(struct kern_pool *p, float *x, const void *act, size_t n);
