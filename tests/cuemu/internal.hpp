// What the files of the emulator share.
#pragma once

#include <cuda_runtime.h>

#include <functional>

namespace cuemu
{

void run_kernel(const launch *l); // on the calling thread, now

// Device memory is closed to the host between these two.
void memory_open();
void memory_close();
void memory_check(); // guard words
bool memory_is_device(const void *p);
bool memory_is_pinned(const void *p);

// Puts work behind all that `s` was given, or into the graph it captures.
void enqueue(cudaStream_t s, std::function<void()> work);
cudaError_t fail(cudaError_t e); // remembered for cudaGetLastError

extern unsigned order_seed;
extern unsigned long kernels_run;

} // namespace cuemu
