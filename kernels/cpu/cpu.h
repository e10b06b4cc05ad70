/* The tables of the CPU back ends, for the choice in cpu.c alone. */
#pragma once

struct kern;

extern const struct kern kern_plain;
#if defined(__x86_64__)
extern const struct kern kern_avx2, kern_avx512, kern_avx512bf16;
#endif
