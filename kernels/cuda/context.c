#include "kernels/cuda/context.h"

#include "kernels/cuda/blas.h"

#include <cuda_runtime_api.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCRATCH_MIN ((size_t)1 << 20)

/* --- errors ----------------------------------------------------------------------------------- */

static pthread_mutex_t fault_lock = PTHREAD_MUTEX_INITIALIZER;
static char fault_text[320]; /* "" while all is well; a lost device is lost to the whole process */

static void note_fault(const char *where, const char *why)
{
	pthread_mutex_lock(&fault_lock);
	if (!fault_text[0])
		snprintf(fault_text, sizeof fault_text, "%.120s: %.190s", where, why);
	pthread_mutex_unlock(&fault_lock);
}

void cu_fail(const char *where, int code)
{
	if (code != cudaSuccess)
		note_fault(where, cudaGetErrorString((cudaError_t)code));
}

const char *cu_fault(struct kern_pool *p)
{
	(void)p;
	cu_fail("an operation", (int)cudaPeekAtLastError());
	return fault_text[0] ? fault_text : NULL;
}

void cu_wait(struct kern_pool *p)
{
	cu_fail("waiting for the device", (int)cudaStreamSynchronize(p->stream));
}

/* --- memory ----------------------------------------------------------------------------------- */

size_t cu_room(struct kern_pool *p)
{
	size_t left = 0, total = 0;

	(void)p;
	if (cudaMemGetInfo(&left, &total) != cudaSuccess)
		return 1;
	return left > CU_RESERVE ? left - CU_RESERVE : 1;
}

void *cu_alloc(struct kern_pool *p, size_t bytes)
{
	void *mem = NULL;
	cudaError_t e = cudaMalloc(&mem, bytes ? bytes : 64);

	if (e != cudaSuccess) {
		if (e == cudaErrorMemoryAllocation)
			(void)cudaGetLastError(); /* The caller's to refuse; not the device's end. */
		else
			cu_fail("cudaMalloc", (int)e);
		return NULL;
	}
	cu_fail("cudaMemset", (int)cudaMemsetAsync(mem, 0, bytes ? bytes : 64, p->stream));
	return mem;
}

void cu_release(struct kern_pool *p, void *mem, size_t bytes)
{
	(void)bytes;
	cu_wait(p); /* Operations in the stream may still read it. */
	cu_graphs_forget(p);
	cu_fail("cudaFree", (int)cudaFree(mem));
}

void *cu_scratch(struct kern_pool *p, enum cu_scratch_use use, size_t bytes)
{
	size_t size = bytes < SCRATCH_MIN ? SCRATCH_MIN : bytes;

	if (p->scratch_bytes[use] >= bytes)
		return p->scratch[use];
	if (p->scratch[use])
		cu_release(p, p->scratch[use], p->scratch_bytes[use]);
	p->scratch_bytes[use] = 0;
	p->scratch[use] = cu_alloc(p, size);
	if (!p->scratch[use]) {
		char why[80];

		snprintf(why, sizeof why, "no memory for %zu MiB of scratch", size >> 20);
		note_fault(p->name, why);
		return NULL;
	}
	p->scratch_bytes[use] = size;
	return p->scratch[use];
}

bool cu_lend(struct kern_pool *p, size_t bytes)
{
	size_t size = bytes < CU_LENT_LEAST ? CU_LENT_LEAST : bytes;

	if (p->lent_bytes >= bytes)
		return true;
	if (p->lent_bytes > 0) {
		cu_wait(p);
		cudaFreeHost(p->lent);
		cudaFree(p->lent_there);
	}
	p->lent_bytes = 0;
	if (cudaMallocHost(&p->lent, size) != cudaSuccess ||
	    cudaMalloc(&p->lent_there, size) != cudaSuccess) {
		note_fault(p->name, "no memory for arguments of an operation");
		return false;
	}
	p->lent_bytes = size;
	return true;
}

/* The next pinned slot, once its last copy is done. */
static struct cu_slot *next_slot(struct kern_pool *p)
{
	struct cu_slot *s = &p->slots[p->slot];

	p->slot = (p->slot + 1) % CU_SLOTS;
	cu_fail("waiting for a copy", (int)cudaEventSynchronize(s->free));
	return s;
}

void cu_put(struct kern_pool *p, void *to, const void *from, size_t bytes)
{
	for (size_t at = 0, n; at < bytes; at += n) {
		struct cu_slot *s = next_slot(p);

		n = bytes - at < CU_SLOT_BYTES ? bytes - at : CU_SLOT_BYTES;
		memcpy(s->p, (const char *)from + at, n);
		cu_fail("copy to the device",
			(int)cudaMemcpyAsync((char *)to + at, s->p, n, cudaMemcpyHostToDevice,
					     p->stream));
		cu_fail("copy to the device", (int)cudaEventRecord(s->free, p->stream));
	}
}

void cu_get(struct kern_pool *p, void *to, const void *from, size_t bytes)
{
	size_t asked = 0, done = 0;
	int first = p->slot, n = 0; /* slots under way */

	while (done < bytes) {
		for (; n < CU_SLOTS && asked < bytes; n++) {
			struct cu_slot *s = next_slot(p);
			size_t size = bytes - asked < CU_SLOT_BYTES ? bytes - asked : CU_SLOT_BYTES;

			cu_fail("copy from the device",
				(int)cudaMemcpyAsync(s->p, (const char *)from + asked, size,
						     cudaMemcpyDeviceToHost, p->stream));
			cu_fail("copy from the device", (int)cudaEventRecord(s->free, p->stream));
			asked += size;
		}
		size_t size = bytes - done < CU_SLOT_BYTES ? bytes - done : CU_SLOT_BYTES;

		cu_fail("copy from the device", (int)cudaEventSynchronize(p->slots[first].free));
		memcpy((char *)to + done, p->slots[first].p, size);
		first = (first + 1) % CU_SLOTS;
		done += size;
		n--;
	}
}

void cu_copy(struct kern_pool *p, void *to, const void *from, size_t bytes)
{
	if (to != from && bytes > 0)
		cu_fail("copy on the device", (int)cudaMemcpyAsync(to, from, bytes,
								    cudaMemcpyDeviceToDevice,
								    p->stream));
}

void cu_zero(struct kern_pool *p, void *mem, size_t bytes)
{
	if (bytes > 0)
		cu_fail("cudaMemset", (int)cudaMemsetAsync(mem, 0, bytes, p->stream));
}

void *cu_pin(struct kern_pool *p, size_t bytes)
{
	void *mem = NULL;

	(void)p;
	if (cudaMallocHost(&mem, bytes ? bytes : 64) != cudaSuccess) {
		(void)cudaGetLastError();
		return NULL;
	}
	return mem;
}

void cu_unpin(struct kern_pool *p, void *mem, size_t bytes)
{
	(void)p;
	(void)bytes;
	cu_fail("cudaFreeHost", (int)cudaFreeHost(mem));
}

void cu_snap(struct kern_pool *p, void *to, const void *from, size_t bytes)
{
	cu_fail("snapshot", (int)cudaEventRecord(p->ordered, p->stream));
	cu_fail("snapshot", (int)cudaStreamWaitEvent(p->side, p->ordered, 0));
	cu_fail("snapshot",
		(int)cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, p->side));
}

void cu_snapped(struct kern_pool *p)
{
	cu_fail("snapshot", (int)cudaStreamSynchronize(p->side));
}

/* --- life ------------------------------------------------------------------------------------- */

static int make_slots(struct kern_pool *p)
{
	for (int i = 0; i < CU_SLOTS; i++) {
		void *mem = NULL;
		cudaError_t e = cudaMallocHost(&mem, CU_SLOT_BYTES);

		p->slots[i].p = mem;
		if (e == cudaSuccess)
			e = cudaEventCreateWithFlags(&p->slots[i].free, cudaEventDisableTiming);
		if (e != cudaSuccess)
			return (int)e;
	}
	return cudaSuccess;
}

static int start(struct kern_pool *p, int device)
{
	struct cudaDeviceProp prop;
	cudaError_t e = cudaSetDevice(device);

	if (e == cudaSuccess)
		e = cudaGetDeviceProperties(&prop, device);
	if (e == cudaSuccess)
		e = cudaStreamCreateWithFlags(&p->stream, cudaStreamNonBlocking);
	if (e == cudaSuccess)
		e = cudaStreamCreateWithFlags(&p->side, cudaStreamNonBlocking);
	if (e == cudaSuccess)
		e = cudaEventCreateWithFlags(&p->ordered, cudaEventDisableTiming);
	if (e == cudaSuccess)
		e = (cudaError_t)make_slots(p);
	if (e != cudaSuccess)
		return (int)e;
	p->device = device;
	p->major = prop.major;
	p->minor = prop.minor;
	p->multiprocessors = prop.multiProcessorCount;
	snprintf(p->name, sizeof p->name, "%s", prop.name);
	return cudaSuccess;
}

struct kern_pool *cu_open(enum kern_format act, const struct kern_open *o, char *why, size_t size)
{
	struct kern_pool *p = calloc(1, sizeof *p);
	int code = p ? start(p, o->device) : cudaErrorMemoryAllocation;

	if (code == cudaSuccess && p->major < 8) {
		snprintf(why, size, "%s has compute capability %d.%d; 8.0 or more is needed",
			 p->name, p->major, p->minor);
		goto failed;
	}
	if (code != cudaSuccess) {
		snprintf(why, size, "CUDA device %d: %s", o->device,
			 cudaGetErrorString((cudaError_t)code));
		goto failed;
	}
	p->act = act;
	cu_on_error(note_fault);
	p->blas = cu_blas_new(act == KERN_F32);
	if (!p->blas) {
		snprintf(why, size, "%s: cuBLASLt cannot be started", p->name);
		goto failed;
	}
	return p;
failed:
	(void)cudaGetLastError();
	cu_close(p);
	return NULL;
}

void cu_close(struct kern_pool *p)
{
	if (!p)
		return;
	if (p->stream) {
		cudaStreamSynchronize(p->stream);
		cu_graphs_forget(p);
	}
	for (int i = 0; i < CU_SLOTS; i++) {
		if (p->slots[i].free)
			cudaEventDestroy(p->slots[i].free);
		if (p->slots[i].p)
			cudaFreeHost(p->slots[i].p);
	}
	if (p->lent_bytes > 0) {
		cudaFreeHost(p->lent);
		cudaFree(p->lent_there);
	}
	for (int i = 0; i < CU_SCRATCHES; i++)
		if (p->scratch[i])
			cudaFree(p->scratch[i]);
	cu_blas_free(p->blas);
	if (p->ordered)
		cudaEventDestroy(p->ordered);
	if (p->side)
		cudaStreamDestroy(p->side);
	if (p->stream)
		cudaStreamDestroy(p->stream);
	free(p);
}

void cu_describe(struct kern_pool *p, char *out, size_t size)
{
	snprintf(out, size, "%s sm_%d%d", p->name, p->major, p->minor);
}
