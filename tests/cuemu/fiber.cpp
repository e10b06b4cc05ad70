// One fiber per CUDA thread: the threads of a block take turns at barriers and warp operations.
#include "tests/cuemu/cuemu.h"
#include "tests/cuemu/internal.hpp"

#include <cstdarg>
#include <cstdio>
#include <sys/mman.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuemu
{

#define THREADS_MAX 1024
#define STACK_SIZE (256u << 10) // reserved; pages are taken when touched
#define SHARED_MAX (227u << 10) // dynamic shared memory of a block on sm_90

enum status { FRESH, READY, AT_BARRIER, AT_WARP, DONE };

struct pending { // a cp.async that has not arrived
	void *dst;
	unsigned char data[16];
	int size, group;
};

struct fiber {
	void *stack, *sp;
	enum status status;
	unsigned number;
	const char *what, *file; // what it waits for
	int line, predicate;
	unsigned mask;
	lane slot;
	std::vector<pending> copies;
	int copy_group; // the group that is being filled
	void *asan;
};

state now;
unsigned order_seed;
unsigned long kernels_run;

static fiber fibers[THREADS_MAX];
static fiber *self;
static void *scheduler_sp;
#if defined(__SANITIZE_ADDRESS__)
static void *scheduler_asan;
static const void *scheduler_stack;
static size_t scheduler_stack_size;
#endif
static const launch *running;
static unsigned n_threads;
static unsigned char *dynamic_memory;
static unsigned long block_serial;
static void (*fault_hook)(const char *);
static std::vector<void *> free_stacks;
static int barrier_total;

void fault(const char *format, ...)
{
	char text[1024];
	int n = 0;
	va_list ap;

	if (running && self)
		n = snprintf(text, sizeof text,
			     "%s, block (%u,%u,%u), thread (%u,%u,%u): ", running->name,
			     now.block.x, now.block.y, now.block.z, now.thread.x, now.thread.y,
			     now.thread.z);
	else if (running)
		n = snprintf(text, sizeof text, "%s, block (%u,%u,%u): ", running->name,
			     now.block.x, now.block.y, now.block.z);
	va_start(ap, format);
	vsnprintf(text + n, sizeof text - (size_t)n, format, ap);
	va_end(ap);
	if (fault_hook)
		fault_hook(text);
	fprintf(stderr, "cuemu: %s\n", text);
	abort();
}

// --- The switch ----------------------------------------------------------------------------------

#if defined(__x86_64__)
extern "C" void cuemu_switch(void **save, void *load);
asm(R"(
	.text
	.globl cuemu_switch
	.type cuemu_switch, @function
cuemu_switch:
	pushq %rbp
	pushq %rbx
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, (%rdi)
	movq %rsi, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbx
	popq %rbp
	ret
	.size cuemu_switch, .-cuemu_switch
)");

static void *prepare(void *stack, void (*entry)())
{
	void **sp = (void **)((char *)stack + STACK_SIZE - 64);

	*--sp = nullptr;       // entry never returns
	*--sp = (void *)entry; // where the first switch goes
	for (int i = 0; i < 6; i++)
		*--sp = nullptr;
	return sp;
}
#else
#include <ucontext.h>
static void cuemu_switch(void **save, void *load)
{
	ucontext_t here;

	*save = &here;
	swapcontext(&here, (ucontext_t *)load);
}

static void *prepare(void *stack, void (*entry)())
{
	ucontext_t *c = (ucontext_t *)stack; // at the far end of the stack

	getcontext(c);
	c->uc_stack.ss_sp = (char *)stack + sizeof *c;
	c->uc_stack.ss_size = STACK_SIZE - sizeof *c;
	c->uc_link = nullptr;
	makecontext(c, entry, 0);
	return c;
}
#endif

static void *stack_new()
{
	if (free_stacks.empty()) {
		size_t page = 4096, each = STACK_SIZE + page;
		char *p = (char *)mmap(nullptr, 64 * each, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (p == MAP_FAILED)
			fault("no memory for stacks");
		for (int i = 0; i < 64; i++) {
			mprotect(p + (size_t)i * each, page, PROT_NONE);
			free_stacks.push_back(p + (size_t)i * each + page);
		}
	}
	void *s = free_stacks.back();
	free_stacks.pop_back();
	return s;
}

static void resume(fiber *f)
{
	const launch *l = running;

	self = f;
	now.thread.x = f->number % l->block.x;
	now.thread.y = f->number / l->block.x % l->block.y;
	now.thread.z = f->number / l->block.x / l->block.y;
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_start_switch_fiber(&scheduler_asan, f->stack, STACK_SIZE);
#endif
	cuemu_switch(&scheduler_sp, f->sp);
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_finish_switch_fiber(scheduler_asan, nullptr, nullptr);
#endif
	self = nullptr;
	if (f->status == DONE) {
		free_stacks.push_back(f->stack);
		f->stack = nullptr;
	}
}

static void suspend(bool last)
{
	fiber *f = self;

	(void)last;
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_start_switch_fiber(last ? nullptr : &f->asan, scheduler_stack,
				       scheduler_stack_size);
#endif
	cuemu_switch(&f->sp, scheduler_sp);
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_finish_switch_fiber(f->asan, &scheduler_stack, &scheduler_stack_size);
#endif
}

static void fiber_main()
{
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
#endif
	running->thread();
	if (!self->copies.empty())
		fault("returned with cp.async still under way");
	self->status = DONE;
	suspend(true);
	abort();
}

// --- Barriers and warp operations ----------------------------------------------------------------

static void wait(enum status why)
{
	self->status = why;
	suspend(false);
}

int barrier_count(int predicate, const char *file, int line)
{
	self->what = "__syncthreads";
	self->file = file;
	self->line = line;
	self->predicate = predicate;
	wait(AT_BARRIER);
	return barrier_total;
}

void barrier(const char *file, int line)
{
	barrier_count(0, file, line);
}

static void barrier_release()
{
	const fiber *first = nullptr;
	unsigned waiting = 0;

	barrier_total = 0;
	for (unsigned i = 0; i < n_threads; i++) {
		fiber *f = &fibers[i];

		if (f->status != AT_BARRIER)
			continue;
		if (first && (f->line != first->line || strcmp(f->file, first->file) != 0))
			fault("threads %u and %u wait at different barriers: %s:%d and %s:%d",
			      first->number, f->number, first->file, first->line, f->file, f->line);
		first = first ? first : f;
		barrier_total += f->predicate;
		waiting++;
	}
	if (waiting < n_threads)
		fault("a barrier at %s:%d with %u threads of %u: the others have returned",
		      first->file, first->line, waiting, n_threads);
	for (unsigned i = 0; i < n_threads; i++)
		fibers[i].status = READY;
}

static bool same_operation(const fiber *f, const fiber *g)
{
	return f->status == AT_WARP && f->mask == g->mask && f->line == g->line &&
	       strcmp(f->what, g->what) == 0 && strcmp(f->file, g->file) == 0;
}

void warp(warp_fn *fn, const char *what, const char *file, int line, unsigned mask, int arg,
	  const void *in, size_t in_size, void *out, size_t out_size)
{
	fiber *f = self, *first = &fibers[f->number / 32 * 32];
	lane lanes[32];
	bool all = true;

	f->what = what;
	f->file = file;
	f->line = line;
	f->mask = mask;
	if (in_size)
		memcpy(f->slot.in, in, in_size);
	f->status = AT_WARP;
	if (!(mask >> (f->number % 32) & 1))
		fault("%s at %s:%d: mask %08x leaves the caller out", what, file, line, mask);
	for (unsigned i = 0; i < 32; i++) {
		if (!(mask >> i & 1))
			continue;
		if (first->number + i >= n_threads || first[i].status == DONE)
			fault("%s at %s:%d: lane %u has returned or never was", what, file, line,
			      i);
		all = all && same_operation(&first[i], f);
	}
	if (!all) {
		suspend(false);
	} else {
		for (unsigned i = 0; i < 32; i++) {
			lanes[i].named = mask >> i & 1;
			memset(lanes[i].out, 0xff, sizeof lanes[i].out);
			if (lanes[i].named)
				memcpy(lanes[i].in, first[i].slot.in, sizeof lanes[i].in);
		}
		fn(lanes, arg);
		for (unsigned i = 0; i < 32; i++)
			if (lanes[i].named) {
				memcpy(first[i].slot.out, lanes[i].out, sizeof lanes[i].out);
				first[i].status = READY;
			}
	}
	if (out_size)
		memcpy(out, f->slot.out, out_size);
}

// --- cp.async: data arrives when it is waited for, not before
// --------------------------------------

void copy_async(void *dst, const void *src, int size, int valid)
{
	pending p = {dst, {0}, size, self->copy_group};

	if ((size != 4 && size != 8 && size != 16) || valid < 0 || valid > size)
		fault("cp.async of %d bytes, %d valid", size, valid);
	if ((uintptr_t)dst % (unsigned)size || (valid && (uintptr_t)src % (unsigned)size))
		fault("cp.async of %d bytes, not aligned: %p to %p", size, src, dst);
	if (valid)
		memcpy(p.data, src, (size_t)valid);
	memset(dst, 0xff, (size_t)size);
	self->copies.push_back(p);
}

void copy_commit()
{
	self->copy_group++;
}

void copy_wait(int groups_left)
{
	int until = self->copy_group - groups_left;
	size_t n = 0;

	if (groups_left < 0)
		until = self->copy_group + 1; // wait_all
	for (const pending &p : self->copies)
		if (p.group < until)
			memcpy(p.dst, p.data, (size_t)p.size);
		else
			self->copies[n++] = p;
	self->copies.resize(n);
}

// --- Shared memory -------------------------------------------------------------------------------

void *shared(shared_var *v, size_t size)
{
	if (!v->mem) {
		v->mem = aligned_alloc(128, (size + 127) / 128 * 128 + 128);
		if (!v->mem)
			fault("no memory");
	}
	if (v->block != block_serial) {
		v->block = block_serial;
		memset(v->mem, 0xff, size);
	}
	return v->mem;
}

void *dynamic()
{
	return dynamic_memory;
}

// --- Blocks --------------------------------------------------------------------------------------

static uint64_t shuffle_state;

static unsigned below(unsigned n)
{
	shuffle_state ^= shuffle_state << 13;
	shuffle_state ^= shuffle_state >> 7;
	shuffle_state ^= shuffle_state << 17;
	return (unsigned)(shuffle_state >> 33) % n;
}

static void arrange(unsigned *order, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		order[i] = order_seed == 1 ? n - 1 - i : i;
	for (unsigned i = n; order_seed > 1 && i > 1; i--) {
		unsigned j = below(i), t = order[i - 1];
		order[i - 1] = order[j];
		order[j] = t;
	}
}

static void deadlock()
{
	for (unsigned i = 0; i < n_threads; i++)
		if (fibers[i].status == AT_WARP) {
			const fiber *f = &fibers[i];

			for (unsigned j = 0; j < n_threads; j++)
				if (j / 32 == i / 32 && (f->mask >> (j % 32) & 1) &&
				    !same_operation(&fibers[j], f))
					fault("deadlock: thread %u waits in %s at %s:%d for thread "
					      "%u, which is %s",
					      i, f->what, f->file, f->line, j,
					      fibers[j].status == DONE ? "gone" : fibers[j].what);
		}
	fault("deadlock");
}

static void run_block(const launch *l)
{
	unsigned order[THREADS_MAX], alive = n_threads;

	block_serial++;
	if (l->smem)
		memset(dynamic_memory, 0xff, l->smem);
	for (unsigned i = 0; i < n_threads; i++) {
		fibers[i].status = FRESH;
		fibers[i].number = i;
		fibers[i].copy_group = 0;
	}
	while (alive) {
		unsigned ran = 0, at_barrier = 0;

		arrange(order, n_threads);
		for (unsigned i = 0; i < n_threads; i++) {
			fiber *f = &fibers[order[i]];

			if (f->status != FRESH && f->status != READY)
				continue;
			if (f->status == FRESH) {
				f->stack = stack_new();
				f->sp = prepare(f->stack, fiber_main);
			}
			resume(f);
			alive -= f->status == DONE;
			ran++;
		}
		for (unsigned i = 0; i < n_threads; i++)
			at_barrier += fibers[i].status == AT_BARRIER;
		if (alive && at_barrier == alive)
			barrier_release();
		else if (alive && !ran)
			deadlock();
	}
}

void run_kernel(const launch *l)
{
	unsigned long long n = (unsigned long long)l->grid.x * l->grid.y * l->grid.z;
	std::vector<unsigned> order((size_t)n);

	n_threads = l->block.x * l->block.y * l->block.z;
	shuffle_state = order_seed * 0x9e3779b97f4a7c15u + 1;
	arrange(order.data(), (unsigned)n);
	running = l;
	now.block_dim = {l->block.x, l->block.y, l->block.z};
	now.grid_dim = {l->grid.x, l->grid.y, l->grid.z};
	void *exact = nullptr; // so that a sanitizer sees one byte too many
	if (l->smem && posix_memalign(&exact, 128, l->smem) != 0)
		fault("no memory");
	dynamic_memory = (unsigned char *)exact;
	for (unsigned long long i = 0; i < n; i++) {
		unsigned b = order[(size_t)i];

		now.block.x = b % l->grid.x;
		now.block.y = b / l->grid.x % l->grid.y;
		now.block.z = b / l->grid.x / l->grid.y;
		run_block(l);
	}
	free(dynamic_memory);
	kernels_run++;
	memory_check();
	running = nullptr;
}

} // namespace cuemu

extern "C" void cuemu_order(unsigned seed)
{
	cuemu::order_seed = seed;
}

extern "C" void cuemu_on_fault(void (*hook)(const char *))
{
	cuemu::fault_hook = hook;
}

extern "C" unsigned long cuemu_kernels(void)
{
	return cuemu::kernels_run;
}
