// Warp operations: what 32 lanes brought, what each takes away. Results the hardware leaves
// undefined are NaN (all bits set).
#include "tests/cuemu/internal.hpp"

#include <cuda_bf16.h>

namespace cuemu
{

enum { NOBODY = -1 };

template <class Source> static void shuffle(lane *lanes, int width, Source source)
{
	if (width < 1 || width > 32 || (width & (width - 1)))
		fault("a shuffle of width %d", width);
	for (int i = 0; i < 32; i++) {
		if (!lanes[i].named)
			continue;
		shfl_in mine, theirs;
		memcpy(&mine, lanes[i].in, sizeof mine);
		int from = source(i, (int)mine.which);
		if (!lanes[from].named)
			continue;
		memcpy(&theirs, lanes[from].in, sizeof theirs);
		memcpy(lanes[i].out, theirs.value, sizeof theirs.value);
	}
}

void do_shfl(lane *lanes, int width)
{
	shuffle(lanes, width,
		[=](int i, int which) { return i / width * width + (which & (width - 1)); });
}

void do_shfl_up(lane *lanes, int width)
{
	shuffle(lanes, width, [=](int i, int by) { return i % width >= by ? i - by : i; });
}

void do_shfl_down(lane *lanes, int width)
{
	shuffle(lanes, width, [=](int i, int by) { return i % width + by < width ? i + by : i; });
}

void do_shfl_xor(lane *lanes, int width)
{
	shuffle(lanes, width, [=](int i, int by) {
		int from = i ^ by;
		return from / width <= i / width ? from : i;
	});
}

void do_ballot(lane *lanes, int)
{
	unsigned all = 0;

	for (int i = 0; i < 32; i++)
		if (lanes[i].named)
			all |= (bits<unsigned>(lanes[i].in) & 1) << i;
	for (int i = 0; i < 32; i++)
		memcpy(lanes[i].out, &all, sizeof all);
}

void do_sync(lane *, int)
{
}

void do_match(lane *lanes, int)
{
	for (int i = 0; i < 32; i++) {
		unsigned same = 0;

		for (int j = 0; j < 32; j++)
			if (lanes[i].named && lanes[j].named &&
			    memcmp(lanes[i].in + 4, lanes[j].in + 4, lanes[i].in[0]) == 0)
				same |= 1u << j;
		memcpy(lanes[i].out, &same, sizeof same);
	}
}

static int combine(int how, int a, int b)
{
	unsigned ua = (unsigned)a, ub = (unsigned)b;

	switch (how) {
	case ADD:
		return (int)(ua + ub);
	case MIN:
		return a < b ? a : b;
	case MAX:
		return a > b ? a : b;
	case UMIN:
		return ua < ub ? a : b;
	case UMAX:
		return ua > ub ? a : b;
	case AND:
		return a & b;
	case OR:
		return a | b;
	default:
		return a ^ b;
	}
}

void do_reduce(lane *lanes, int how)
{
	bool first = true;
	int all = 0;

	for (int i = 0; i < 32; i++) {
		if (!lanes[i].named)
			continue;
		all = first ? bits<int>(lanes[i].in) : combine(how, all, bits<int>(lanes[i].in));
		first = false;
	}
	for (int i = 0; i < 32; i++)
		memcpy(lanes[i].out, &all, sizeof all);
}

static void whole_warp(const lane *lanes, const char *what)
{
	for (int i = 0; i < 32; i++)
		if (!lanes[i].named)
			fault("%s without lane %d", what, i);
}

static float bf16_at(const unsigned char *p, int i)
{
	return (float)__ushort_as_bfloat16(bits<unsigned short>(p + 2 * i));
}

// mma.sync.m16n8k16 row.col f32.bf16.bf16.f32; fragments as PTX lays them out: in = a[4], b[2]
// (words of two), c[4]; out = d[4]. The order of the hardware's own sum is not known: here k
// ascends.
void do_mma_bf16(lane *lanes, int)
{
	float a[16][16], b[16][8];

	whole_warp(lanes, "mma.sync");
	for (int i = 0; i < 32; i++) {
		int g = i / 4, t = i % 4;

		for (int r = 0; r < 4; r++)
			for (int h = 0; h < 2; h++)
				a[g + r % 2 * 8][t * 2 + h + r / 2 * 8] =
					bf16_at(lanes[i].in, 2 * r + h);
		for (int r = 0; r < 2; r++)
			for (int h = 0; h < 2; h++)
				b[t * 2 + h + r * 8][g] = bf16_at(lanes[i].in + 16, 2 * r + h);
	}
	for (int i = 0; i < 32; i++)
		for (int r = 0; r < 4; r++) {
			int row = i / 4 + r / 2 * 8, col = i % 4 * 2 + r % 2;
			float s = bits<float>(lanes[i].in + 24 + 4 * r);

			for (int k = 0; k < 16; k++)
				s += a[row][k] * b[k][col];
			memcpy(lanes[i].out + 4 * r, &s, sizeof s);
		}
}

// ldmatrix .x1 .x2 .x4 of 8x8 matrices of 16-bit elements: lane 8m + r brings the address of row r
// of matrix m; out has a word for each matrix.
static void ldmatrix(lane *lanes, int n, bool trans)
{
	whole_warp(lanes, "ldmatrix");
	for (int i = 0; i < 8 * n; i++)
		if ((uintptr_t)bits<const void *>(lanes[i].in) % 16)
			fault("ldmatrix: the address of lane %d is not a multiple of 16", i);
	for (int i = 0; i < 32; i++)
		for (int m = 0; m < n; m++)
			for (int h = 0; h < 2; h++) {
				int row = trans ? i % 4 * 2 + h : i / 4;
				int col = trans ? i / 4 : i % 4 * 2 + h;
				const unsigned char *from =
					bits<const unsigned char *>(lanes[8 * m + row].in);

				memcpy(lanes[i].out + 4 * m + 2 * h, from + 2 * col, 2);
			}
}

void do_ldmatrix(lane *lanes, int n)
{
	ldmatrix(lanes, n, false);
}

void do_ldmatrix_trans(lane *lanes, int n)
{
	ldmatrix(lanes, n, true);
}

} // namespace cuemu
