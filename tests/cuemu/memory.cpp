// Device and pinned memory: allocations with guard words in one address range, which the host may
// not touch; it is open while device work runs.
#include "tests/cuemu/cuemu.h"
#include "tests/cuemu/internal.hpp"

#include <csignal>
#include <cstdio>
#include <map>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

namespace cuemu
{

#define RANGE ((size_t)64 << 30) // of addresses; memory is taken when touched
#define GUARD 512u
#define GUARD_BYTE 0xa5
#define FRESH_BYTE 0xff // NaN as float and as bfloat16, -1 as an integer

static char *range;
static size_t used_end; // nothing lies beyond
static int open_depth;
static size_t memory_total = (size_t)2 << 30, memory_used;
static std::map<size_t, size_t> blocks; // offset of the first guard -> bytes asked for
static std::map<const char *, size_t> pinned;
static struct sigaction before_us;

static size_t block_size(size_t n)
{
	return GUARD + (n + GUARD - 1) / GUARD * GUARD + GUARD;
}

// A write outside of everything that the host may touch.
static void on_segv(int sig, siginfo_t *info, void *context)
{
	const char *p = (const char *)info->si_addr;

	if (range && p >= range && p < range + RANGE) {
		if (!open_depth)
			fault("the host touched device memory at %p", (const void *)p);
		fault("a kernel touched device memory at %p, where nothing is", (const void *)p);
	}
	if (before_us.sa_flags & SA_SIGINFO && before_us.sa_sigaction) {
		before_us.sa_sigaction(sig, info, context);
		return;
	}
	signal(SIGSEGV, SIG_DFL);
}

static void begin()
{
	struct sigaction a = {};
	stack_t alt = {};

	if (range)
		return;
	// Between the members of an argument may be anything, half of an earlier address for instance.
	// With a neighbour it must not make an address: no size and no usual float looks like the lower
	// half of one.
	range = (char *)mmap((void *)0x5a0090000000, RANGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			     -1, 0);
	if (range == MAP_FAILED)
		fault("no addresses for device memory");
	sigaltstack(nullptr, &alt);
	if (alt.ss_flags & SS_DISABLE) {
		alt.ss_sp = malloc(64 << 10);
		alt.ss_size = 64 << 10;
		alt.ss_flags = 0;
		sigaltstack(&alt, nullptr);
	}
	a.sa_sigaction = on_segv;
	a.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
	sigaction(SIGSEGV, &a, &before_us);
}

void memory_open()
{
	if (open_depth++ == 0 && used_end)
		mprotect(range, used_end, PROT_READ | PROT_WRITE);
}

void memory_close()
{
	if (--open_depth == 0 && used_end)
		mprotect(range, used_end, PROT_NONE);
}

// Reads guard words past the poison a sanitizer may have put on them.
__attribute__((no_sanitize("address"))) static bool intact(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)p[i] != GUARD_BYTE)
			return false;
	return true;
}

static void check_block(size_t at, size_t n)
{
	const char *p = range + at;
	size_t tail = block_size(n) - GUARD - n;

	if (!intact(p, GUARD))
		fault("something was written before the allocation of %zu bytes at %p", n,
		      (const void *)(p + GUARD));
	if (!intact(p + GUARD + n, tail))
		fault("something was written behind the allocation of %zu bytes at %p", n,
		      (const void *)(p + GUARD));
}

void memory_check()
{
	memory_open();
	for (const auto &b : blocks)
		check_block(b.first, b.second);
	memory_close();
}

bool memory_is_device(const void *p)
{
	return range && (const char *)p >= range && (const char *)p < range + RANGE;
}

static bool inside(const void *p)
{
	auto b = blocks.upper_bound((size_t)((const char *)p - range));

	if (b == blocks.begin())
		return false;
	--b;
	return (const char *)p <= range + b->first + GUARD + b->second;
}

bool memory_is_pinned(const void *p)
{
	auto b = pinned.upper_bound((const char *)p);

	if (b == pinned.begin())
		return false;
	--b;
	return (const char *)p < b->first + b->second;
}

static bool mapped(uintptr_t p)
{
	unsigned char there;

	return mincore((void *)(p & ~(uintptr_t)4095), 1, &there) == 0;
}

// Sanitizers map so much of the address space that two integers side by side look like an address.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool sparse = false;
#else
static const bool sparse = true;
#endif

// A word of a structure may be two integers or an integer and a float: only a sparse address space tells,
// and there a lower half that is no size of ours.
static bool like_address(uintptr_t p, size_t size)
{
	return p >= 1ull << 40 && p < 1ull << 47 && (size == 8 || (sparse && (uint32_t)p >= 1u << 20));
}

// Every word of a kernel's argument that is an address must be one of the device's.
void check_argument(const void *arg, size_t size, const char *kernel)
{
	for (size_t i = 0; i + 8 <= size; i += 8) {
		uintptr_t p = bits<uintptr_t>((const char *)arg + i);

		if (memory_is_device((const void *)p)) {
			if (p < (uintptr_t)range + used_end && !inside((const void *)p))
				fault("%s is given %p, which is in no allocation of the device",
				      kernel, (const void *)p);
		} else if (like_address(p, size) && mapped(p) && !memory_is_pinned((const void *)p)) {
			fault("%s is given %p, which is memory of the host", kernel,
			      (const void *)p);
		}
	}
}

static size_t place(size_t need)
{
	size_t at = 0;

	for (const auto &b : blocks) {
		if (b.first - at >= need)
			return at;
		at = b.first + block_size(b.second);
	}
	return at;
}

} // namespace cuemu

using namespace cuemu;

extern "C" cudaError_t cudaMalloc(void **p, size_t size)
{
	begin();
	*p = nullptr;
	if (size == 0)
		return cudaSuccess;
	if (size > memory_total - memory_used)
		return fail(cudaErrorMemoryAllocation);
	size_t need = block_size(size), at = place(need);
	if (at + need > RANGE)
		return fail(cudaErrorMemoryAllocation);
	memory_used += size;
	if (at + need > used_end) {
		size_t huge = (size_t)2 << 20, end = (at + need + huge - 1) / huge * huge;

		madvise(range + used_end, end - used_end, MADV_HUGEPAGE);
		used_end = end;
		if (open_depth)
			mprotect(range, used_end, PROT_READ | PROT_WRITE);
	}
	memory_open();
	char *q = range + at;
	ASAN_UNPOISON_MEMORY_REGION(q, need);
	memset(q, GUARD_BYTE, need);
	memset(q + GUARD, FRESH_BYTE, size);
	ASAN_POISON_MEMORY_REGION(q, GUARD);
	ASAN_POISON_MEMORY_REGION(q + GUARD + size, need - GUARD - size);
	memory_close();
	blocks[at] = size;
	*p = q + GUARD;
	return cudaSuccess;
}

extern "C" cudaError_t cudaFree(void *p)
{
	if (!p)
		return cudaSuccess;
	cudaDeviceSynchronize();
	auto b = memory_is_device(p) ? blocks.find((size_t)((char *)p - range) - GUARD)
				     : blocks.end();
	if (b == blocks.end())
		fault("cudaFree(%p): not an allocation", p);
	memory_open();
	check_block(b->first, b->second);
	ASAN_UNPOISON_MEMORY_REGION(range + b->first, block_size(b->second));
	memset(p, GUARD_BYTE, b->second);
	ASAN_POISON_MEMORY_REGION(range + b->first, block_size(b->second));
	memory_close();
	memory_used -= b->second;
	blocks.erase(b);
	return cudaSuccess;
}

extern "C" cudaError_t cudaMallocHost(void **p, size_t size)
{
	*p = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
	if (!*p)
		return fail(cudaErrorMemoryAllocation);
	memset(*p, FRESH_BYTE, size);
	pinned[(const char *)*p] = size;
	return cudaSuccess;
}

extern "C" cudaError_t cudaHostAlloc(void **p, size_t size, unsigned)
{
	return cudaMallocHost(p, size);
}

extern "C" cudaError_t cudaFreeHost(void *p)
{
	if (!p)
		return cudaSuccess;
	cudaDeviceSynchronize();
	if (!pinned.erase((const char *)p))
		fault("cudaFreeHost(%p): not an allocation", p);
	free(p);
	return cudaSuccess;
}

extern "C" cudaError_t cudaHostRegister(void *p, size_t size, unsigned)
{
	pinned[(const char *)p] = size;
	return cudaSuccess;
}

extern "C" cudaError_t cudaHostUnregister(void *p)
{
	cudaDeviceSynchronize();
	if (!pinned.erase((const char *)p))
		return fail(cudaErrorInvalidValue);
	return cudaSuccess;
}

extern "C" cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
	*available = memory_total - memory_used;
	*total = memory_total;
	return cudaSuccess;
}

extern "C" cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p)
{
	*a = cudaPointerAttributes();
	a->type = memory_is_device(p)	? cudaMemoryTypeDevice
		  : memory_is_pinned(p) ? cudaMemoryTypeHost
					: cudaMemoryTypeUnregistered;
	a->devicePointer = a->type == cudaMemoryTypeUnregistered ? nullptr : (void *)(uintptr_t)p;
	a->hostPointer = memory_is_device(p) ? nullptr : (void *)(uintptr_t)p;
	return cudaSuccess;
}

extern "C" void cuemu_memory(size_t bytes)
{
	memory_total = bytes;
}

extern "C" size_t cuemu_live(int *n)
{
	if (n)
		*n = (int)blocks.size();
	return memory_used;
}

extern "C" void cuemu_check_guards(void)
{
	memory_check();
}
