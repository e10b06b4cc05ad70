// Streams, events, graphs, copies: work is kept as closures and run when somebody waits.
#include "tests/cuemu/cuemu.h"
#include "tests/cuemu/internal.hpp"

#include <chrono>
#include <cstdio>
#include <deque>
#include <memory>
#include <set>
#include <vector>

using cuemu::fail;
using cuemu::fault;

struct CUgraph_st {
	std::vector<std::function<void()>> work;
};

struct CUgraphExec_st {
	std::vector<std::function<void()>> work;
};

// What a stream has been given so far has numbers 1 .. given; done is how far it has come.
struct CUstream_st {
	std::deque<std::function<void()>> work;
	unsigned long given = 0, done = 0;
	CUgraph_st *capture = nullptr;
	bool running = false;
};

struct CUevent_st {
	CUstream_st *stream = nullptr; // nullptr: never recorded
	unsigned long at = 0;
	bool happened = false, timed = true;
	std::chrono::steady_clock::time_point time;
};

namespace cuemu
{

static CUstream_st default_stream;
static std::set<CUstream_st *> streams;
static cudaError_t last_error;
static int lazy = -1;

cudaError_t fail(cudaError_t e)
{
	if (e != cudaSuccess)
		last_error = e;
	return e;
}

static CUstream_st *stream_of(cudaStream_t s)
{
	return s ? s : &default_stream;
}

static void run_until(CUstream_st *s, unsigned long at)
{
	if (s->running)
		fault("streams wait for each other in a circle");
	s->running = true;
	memory_open();
	while (s->done < at && !s->work.empty()) {
		std::function<void()> fn = std::move(s->work.front());

		s->work.pop_front();
		fn();
		s->done++;
	}
	memory_close();
	s->running = false;
}

static void run_all()
{
	run_until(&default_stream, default_stream.given);
	for (CUstream_st *s : streams)
		run_until(s, s->given);
}

static bool is_lazy()
{
	if (lazy < 0) {
		const char *seed = getenv("CUEMU_SEED");

		lazy = getenv("CUEMU_EAGER") == nullptr;
		if (seed && !order_seed)
			order_seed = (unsigned)strtoul(seed, nullptr, 10);
	}
	return lazy != 0;
}

void enqueue(cudaStream_t stream, std::function<void()> work)
{
	CUstream_st *s = stream_of(stream);
	bool wait = !is_lazy();

	if (s->capture) {
		s->capture->work.push_back(std::move(work));
		return;
	}
	s->work.push_back(std::move(work));
	s->given++;
	if (wait)
		run_until(s, s->given);
}

void submit(launch *l, cudaStream_t s)
{
	std::shared_ptr<launch> kept(l);
	size_t threads = (size_t)l->block.x * l->block.y * l->block.z;

	if (threads == 0 || threads > 1024 || l->block.z > 64 || l->grid.x == 0 ||
	    l->grid.x > 0x7fffffff || l->grid.y == 0 || l->grid.y > 65535 || l->grid.z == 0 ||
	    l->grid.z > 65535 || l->smem > 227 << 10) {
		fail(cudaErrorInvalidConfiguration);
		return;
	}
	enqueue(s, [kept] { run_kernel(kept.get()); });
}

static bool capturing()
{
	for (const CUstream_st *s : streams)
		if (s->capture)
			return true;
	return false;
}

static void check_range(const void *p, size_t n, bool device, const char *what)
{
	if (n && memory_is_device(p) != device)
		fault("%s: %p is %s the device's memory", what, p, device ? "not" : "in");
}

static void check_copy(const void *dst, const void *src, size_t n, enum cudaMemcpyKind kind)
{
	if (kind == cudaMemcpyDefault)
		return;
	bool to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
	bool from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;

	check_range(dst, n, to, "copy to");
	check_range(src, n, from, "copy from");
}

// A sanitizer sees copies past an allocation here, since the guards are poisoned.
static void copy(void *dst, const void *src, size_t n)
{
	if (n)
		memmove(dst, src, n);
}

} // namespace cuemu

using namespace cuemu;

extern "C" {

void cuemu_lazy(bool l)
{
	cudaDeviceSynchronize();
	is_lazy();
	lazy = l;
}

cudaError_t cudaGetLastError(void)
{
	cudaError_t e = last_error;

	last_error = cudaSuccess;
	return e;
}

cudaError_t cudaPeekAtLastError(void)
{
	return last_error;
}

cudaError_t cudaDeviceSynchronize(void)
{
	if (capturing())
		return fail(cudaErrorStreamCaptureUnsupported);
	run_all();
	memory_check();
	return cudaSuccess;
}

cudaError_t cudaDeviceReset(void)
{
	return cudaDeviceSynchronize();
}

// --- Copies --------------------------------------------------------------------------------------

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n, enum cudaMemcpyKind kind,
			    cudaStream_t s)
{
	bool pageable = (kind == cudaMemcpyHostToDevice && !memory_is_pinned(src)) ||
			(kind == cudaMemcpyDeviceToHost && !memory_is_pinned(dst));

	check_copy(dst, src, n, kind);
	if (pageable && stream_of(s)->capture)
		return fail(cudaErrorStreamCaptureUnsupported);
	if (pageable && kind == cudaMemcpyHostToDevice) { // Taken at once, as the runtime does.
		std::vector<char> kept((const char *)src, (const char *)src + n);

		enqueue(s, [=] { copy(dst, kept.data(), n); });
		return cudaSuccess;
	}
	enqueue(s, [=] { copy(dst, src, n); });
	if (pageable)
		return cudaStreamSynchronize(s);
	return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
			      size_t width, size_t height, enum cudaMemcpyKind kind, cudaStream_t s)
{
	check_copy(dst, src, width * height, kind);
	if (width > dst_pitch || width > src_pitch)
		return fail(cudaErrorInvalidValue);
	enqueue(s, [=] {
		for (size_t i = 0; i < height; i++)
			copy((char *)dst + i * dst_pitch, (const char *)src + i * src_pitch, width);
	});
	bool pageable = (kind == cudaMemcpyHostToDevice && !memory_is_pinned(src)) ||
			(kind == cudaMemcpyDeviceToHost && !memory_is_pinned(dst));
	return pageable ? cudaStreamSynchronize(s) : cudaSuccess;
}

// The default stream waits for the others, as the runtime's legacy stream does for blocking ones;
// those made with cudaStreamNonBlocking it does not wait for.
cudaError_t cudaMemcpy(void *dst, const void *src, size_t n, enum cudaMemcpyKind kind)
{
	check_copy(dst, src, n, kind);
	if (capturing())
		return fail(cudaErrorStreamCaptureUnsupported);
	enqueue(nullptr, [=] { copy(dst, src, n); });
	run_until(&default_stream, default_stream.given);
	return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int byte, size_t n, cudaStream_t s)
{
	check_range(p, n, true, "cudaMemset");
	enqueue(s, [=] {
		if (n)
			memset(p, byte, n);
	});
	return cudaSuccess;
}

cudaError_t cudaMemset(void *p, int byte, size_t n)
{
	return cudaMemsetAsync(p, byte, n, nullptr);
}

// --- Streams -------------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
	*s = new CUstream_st;
	streams.insert(*s);
	return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *s)
{
	return cudaStreamCreateWithFlags(s, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
	if (!s)
		return fail(cudaErrorInvalidValue);
	cudaStreamSynchronize(s);
	streams.erase(s);
	delete s;
	return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
	CUstream_st *s = stream_of(stream);

	if (s->capture)
		return fail(cudaErrorStreamCaptureUnsupported);
	run_until(s, s->given);
	return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t s)
{
	return cudaStreamSynchronize(s);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
	CUstream_st *other = e->stream;
	unsigned long at = e->at;

	if (!other || other == stream_of(s) || stream_of(s)->capture)
		return cudaSuccess;
	enqueue(s, [=] { run_until(other, at); });
	return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t fn, void *arg)
{
	enqueue(s, [=] { fn(arg); });
	return cudaSuccess;
}

// --- Events --------------------------------------------------------------------------------------

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags)
{
	*e = new CUevent_st;
	(*e)->timed = !(flags & cudaEventDisableTiming);
	return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *e)
{
	return cudaEventCreateWithFlags(e, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
	run_all(); // Records of it may still wait their turn.
	delete e;
	return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream)
{
	CUstream_st *s = stream_of(stream);

	if (s->capture)
		return cudaSuccess;
	e->stream = s;
	e->at = s->given + 1;
	enqueue(stream, [=] { e->time = std::chrono::steady_clock::now(); });
	return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
	if (e->stream)
		run_until(e->stream, e->at);
	return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t e)
{
	return cudaEventSynchronize(e);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
	if (!from->stream || !to->stream || !from->timed || !to->timed)
		return fail(cudaErrorInvalidValue);
	if (from->stream->done < from->at || to->stream->done < to->at)
		return fail(cudaErrorNotReady);
	*ms = std::chrono::duration<float, std::milli>(to->time - from->time).count();
	return cudaSuccess;
}

// --- Graphs --------------------------------------------------------------------------------------

cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode)
{
	if (!s || s->capture)
		return fail(cudaErrorStreamCaptureUnsupported);
	s->capture = new CUgraph_st;
	return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
	if (!s || !s->capture)
		return fail(cudaErrorInvalidValue);
	*g = s->capture;
	s->capture = nullptr;
	return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t s, enum cudaStreamCaptureStatus *status)
{
	*status = s && s->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
	return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long)
{
	*x = new CUgraphExec_st{g->work};
	return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t s)
{
	for (const auto &w : x->work)
		enqueue(s, w);
	return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x)
{
	delete x;
	return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
	delete g;
	return cudaSuccess;
}

// --- The device ----------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int *n)
{
	*n = 1;
	return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
	return device == 0 ? cudaSuccess : fail(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int *device)
{
	*device = 0;
	return cudaSuccess;
}

static int capability[2] = {9, 0};

void cuemu_capability(int major, int minor)
{
	capability[0] = major;
	capability[1] = minor;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
	size_t available;

	if (device != 0)
		return fail(cudaErrorInvalidDevice);
	*p = cudaDeviceProp();
	snprintf(p->name, sizeof p->name, "cuemu");
	cudaMemGetInfo(&available, &p->totalGlobalMem);
	p->sharedMemPerBlock = 48 << 10;
	p->sharedMemPerBlockOptin = 227 << 10;
	p->sharedMemPerMultiprocessor = 228 << 10;
	p->major = capability[0];
	p->minor = capability[1];
	p->multiProcessorCount = 4; // Few, so that small tests fill them.
	p->warpSize = 32;
	p->maxThreadsPerBlock = 1024;
	p->maxThreadsPerMultiProcessor = 2048;
	p->regsPerMultiprocessor = 65536;
	p->l2CacheSize = 50 << 20;
	return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr what, int device)
{
	struct cudaDeviceProp p;
	cudaError_t e = cudaGetDeviceProperties(&p, device);

	*value = what == cudaDevAttrMaxThreadsPerBlock	     ? p.maxThreadsPerBlock
		 : what == cudaDevAttrWarpSize		     ? p.warpSize
		 : what == cudaDevAttrMultiProcessorCount    ? p.multiProcessorCount
		 : what == cudaDevAttrComputeCapabilityMajor ? p.major
		 : what == cudaDevAttrComputeCapabilityMinor ? p.minor
		 : what == cudaDevAttrMaxSharedMemoryPerMultiprocessor
			 ? (int)p.sharedMemPerMultiprocessor
			 : (int)p.sharedMemPerBlockOptin;
	return e;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int size, int)
{
	snprintf(id, (size_t)size, "0000:00:00.0");
	return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
	*version = 13000;
	return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
	*version = 13000;
	return cudaSuccess;
}

const char *cudaGetErrorName(cudaError_t e)
{
	static const struct {
		cudaError_t e;
		const char *name;
	} names[] = {
		{cudaSuccess, "cudaSuccess"},
		{cudaErrorInvalidValue, "cudaErrorInvalidValue"},
		{cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation"},
		{cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration"},
		{cudaErrorInvalidDevice, "cudaErrorInvalidDevice"},
		{cudaErrorNotReady, "cudaErrorNotReady"},
		{cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported"},
	};

	for (const auto &n : names)
		if (n.e == e)
			return n.name;
	return "cudaErrorUnknown";
}

const char *cudaGetErrorString(cudaError_t e)
{
	return e == cudaErrorMemoryAllocation ? "out of memory" : cudaGetErrorName(e);
}
}
