// Attention over the block cache: launches.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/paged_mma.cuh"
#include "kernels/cuda/paged_plain.cuh"

#define BUSY 128 // tiles that keep a device busy

// How a call is cut. Prefill (no splits beside each other) needs enough tiles for the device.
struct plan {
	struct paged_cut cut;
	bool split;
};

static struct plan plan_of(const struct kern_paged *a, int runs)
{
	int group = a->heads / a->kv_heads, splits = ceil_div(a->most_keys, PAGED_SPLIT);
	int heads = group < 64 ? group : 64, chunks = ceil_div(group, heads), tile = 64 / heads;
	struct plan p = {};

	splits = splits > 0 ? splits : 1;
	p.split = runs >= 0 &&
		  (a->rows < 16 * (runs > 0 ? runs : a->rows) ||
		   (splits > 1 && ceil_div(a->rows, tile) * a->kv_heads * chunks < BUSY));
	runs = runs > 0 ? runs : a->rows;
	if (p.split) {
		heads = group < 16 ? group : 16;
		chunks = ceil_div(group, heads);
		tile = 16 / heads;
	}
	p.cut.tile_rows = p.cut.per = tile;
	p.cut.tile_heads = heads;
	p.cut.chunks = chunks;
	p.cut.splits = splits;
	// Rows that mostly stand alone have a thread block each; else a range of rows has one, which
	// takes what it finds there in turn.
	p.cut.single = p.split && runs >= a->rows / 2;
	if (p.cut.single)
		p.cut.per = 1;
	return p;
}

static bool on_tensor_cores(enum kern_format act, const struct kern_paged *a)
{
	return act == KERN_BF16 && a->kv == KERN_BF16;
}

extern "C" size_t cu_attn_paged_scratch(enum kern_format act, const struct kern_paged *a, int runs)
{
	struct plan p = plan_of(a, runs);

	if (!on_tensor_cores(act, a) || !p.split || p.cut.splits == 1)
		return 0;
	return (size_t)a->rows * (size_t)a->heads * (size_t)p.cut.splits *
	       (size_t)(a->head_dim + 2) * sizeof(float);
}

extern "C" size_t cu_attn_paged_counts(int rows, int heads)
{
	return (size_t)rows * (size_t)heads * sizeof(unsigned);
}

template <int D, int VD, int STAGES, bool SPLIT, bool WIDE>
static void paged_launch(cu_stream stream, const struct kern_paged *a, const struct plan *p)
{
	const size_t smem = paged_smem<D, VD, STAGES, SPLIT>();
	unsigned x = (unsigned)ceil_div(a->rows, p->cut.per);
	unsigned y = (unsigned)(a->kv_heads * p->cut.chunks * (D / VD));

	CU_LAUNCH((paged_mma<D, VD, STAGES, SPLIT, WIDE>),
		  dim3(x, y, SPLIT ? (unsigned)p->cut.splits : 1u), ATTN_THREADS, smem, stream, *a,
		  p->cut);
}

template <bool WIDE>
static void paged_bf16(cu_stream stream, const struct kern_paged *a, const struct plan *p)
{
	if (p->split && a->head_dim <= 64)
		paged_launch<64, 64, 2, true, WIDE>(stream, a, p);
	else if (p->split && a->head_dim <= 128)
		paged_launch<128, 128, 2, true, WIDE>(stream, a, p);
	else if (p->split)
		paged_launch<256, 256, 1, true, WIDE>(stream, a, p);
	else if (a->head_dim <= 64)
		paged_launch<64, 64, 2, false, WIDE>(stream, a, p);
	else if (a->head_dim <= 128)
		paged_launch<128, 128, 2, false, WIDE>(stream, a, p);
	else
		paged_launch<256, 64, 1, false, WIDE>(stream, a, p);
}

extern "C" void cu_attn_paged(cu_stream stream, enum kern_format act, const struct kern_paged *a,
			      int runs, void *scratch, unsigned *counts)
{
	dim3 grid((unsigned)a->rows, (unsigned)a->heads);

	if (on_tensor_cores(act, a)) {
		struct plan p = plan_of(a, runs);

		p.cut.part = (float *)scratch;
		p.cut.count = counts;
		if (tile_wide(a->q, a->ldq, a->head_dim))
			paged_bf16<true>(stream, a, &p);
		else
			paged_bf16<false>(stream, a, &p);
	} else if (act == KERN_F32 && a->kv == KERN_F32) {
		CU_LAUNCH((paged_plain<float, float>), grid, 32, 0, stream, *a);
	} else if (act == KERN_F32) {
		CU_LAUNCH((paged_plain<float, bf16>), grid, 32, 0, stream, *a);
	} else {
		CU_LAUNCH((paged_plain<bf16, float>), grid, 32, 0, stream, *a);
	}
}
