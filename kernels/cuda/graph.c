/* Passes recorded as CUDA graphs. The first time a key is asked for its operations run one by one, so
 * that scratch and the algorithms of products are settled; the second time they are recorded. */
#include "kernels/cuda/context.h"

#include <cuda_runtime_api.h>

#include <string.h>

static struct cu_graph *find(struct kern_pool *p, uint64_t key)
{
	for (int i = 0; i < p->n_graphs; i++)
		if (p->graphs[i].key == key)
			return &p->graphs[i];
	return NULL;
}

static void drop(struct cu_graph *g)
{
	if (g->exec)
		cu_fail("cudaGraphExecDestroy", (int)cudaGraphExecDestroy(g->exec));
}

static struct cu_graph *add(struct kern_pool *p, uint64_t key)
{
	if (p->n_graphs == CU_GRAPHS) {
		drop(&p->graphs[0]);
		p->n_graphs--;
		memmove(p->graphs, p->graphs + 1, (size_t)p->n_graphs * sizeof *p->graphs);
	}
	p->graphs[p->n_graphs] = (struct cu_graph){.key = key};
	return &p->graphs[p->n_graphs++];
}

void cu_graphs_forget(struct kern_pool *p)
{
	while (p->n_graphs > 0)
		drop(&p->graphs[--p->n_graphs]);
}

bool cu_graph_run(struct kern_pool *p, uint64_t key)
{
	struct cu_graph *g = find(p, key);

	if (!g || !g->exec)
		return false;
	cu_fail("cudaGraphLaunch", (int)cudaGraphLaunch(g->exec, p->stream));
	return true;
}

void cu_graph_begin(struct kern_pool *p, uint64_t key)
{
	struct cu_graph *g = find(p, key);

	g = g ? g : add(p, key);
	p->recording = g->seen++ > 0;
	if (p->recording)
		cu_fail("cudaStreamBeginCapture",
			(int)cudaStreamBeginCapture(p->stream, cudaStreamCaptureModeThreadLocal));
}

/* The entry being recorded is the only one without a graph that was seen twice. */
void cu_graph_end(struct kern_pool *p)
{
	cudaGraph_t graph = NULL;
	cudaError_t e;

	if (!p->recording)
		return;
	p->recording = false;
	e = cudaStreamEndCapture(p->stream, &graph);
	for (int i = 0; i < p->n_graphs && e == cudaSuccess; i++) {
		struct cu_graph *g = &p->graphs[i];

		if (g->exec || g->seen < 2)
			continue;
		e = cudaGraphInstantiate(&g->exec, graph, 0);
		if (e == cudaSuccess)
			e = cudaGraphLaunch(g->exec, p->stream);
	}
	cu_fail("recording a pass", (int)e);
	if (graph)
		cudaGraphDestroy(graph);
}
