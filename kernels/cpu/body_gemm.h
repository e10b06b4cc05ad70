/* Matrix products on packed panels; compiled once per instruction set (see simd_*.h).
 *
 * The right operand is packed into panels of NR columns, [k][NR], zero padded. A register tile is
 * up to MR rows by NR columns (more panels when there are few rows, to cover the latency of fused
 * multiply-add). Every element of C is one chain over k ascending: blocks of k reload it from C.
 */

#define NR (NRV * GV_WIDTH)
#define KC 256		  /* k per block: a panel block of 32 KiB stays in the first-level cache */
#define TURN_LD (KC + 16) /* row stride of a turned block: not a power of two */
#define TILES_PER_BLOCK 8 /* row tiles per item */
#define PACK_MAX (12u << 20) /* floats of packed operand at a time: 48 MiB */

/* C[mr][np*NR] = or += A[mr][k] . panels; `bs` floats between panels. Arguments mr, np constant. */
INLINE void tile_body(int mr, int np, int k, const float *a, int lda, const float *b, size_t bs,
		      float *c, int ldc, bool acc)
{
	GV s[MR * NRV * 2];
	const int nv = np * NRV;

#pragma GCC unroll 32
	for (int i = 0; i < mr; i++) {
#pragma GCC unroll 8
		for (int j = 0; j < nv; j++)
			s[i * nv + j] =
				acc ? g_load(c + (ptrdiff_t)i * ldc + j * GV_WIDTH) : g_set(0);
	}
	for (int p = 0; p < k; p++) {
		GV bv[NRV * 4];

#pragma GCC unroll 8
		for (int j = 0; j < nv; j++)
			bv[j] = g_load(b + (size_t)(j / NRV) * bs + (size_t)p * NR +
				       (j % NRV) * GV_WIDTH);
#pragma GCC unroll 32
		for (int i = 0; i < mr; i++) {
			GV av = g_set(a[(ptrdiff_t)i * lda + p]);

#pragma GCC unroll 8
			for (int j = 0; j < nv; j++)
				s[i * nv + j] = g_fma(av, bv[j], s[i * nv + j]);
		}
	}
#pragma GCC unroll 32
	for (int i = 0; i < mr; i++) {
#pragma GCC unroll 8
		for (int j = 0; j < nv; j++)
			g_store(c + (ptrdiff_t)i * ldc + j * GV_WIDTH, s[i * nv + j]);
	}
}

#define TILE(mr, np)                                                                               \
	static void tile_##mr##_##np(int k, const float *a, int lda, const float *b, size_t bs,    \
				     float *c, int ldc, bool acc)                                  \
	{                                                                                          \
		if (acc)                                                                           \
			tile_body(mr, np, k, a, lda, b, bs, c, ldc, true);                         \
		else                                                                               \
			tile_body(mr, np, k, a, lda, b, bs, c, ldc, false);                        \
	}
TILE(1, 1)
TILE(2, 1)
TILE(3, 1) TILE(4, 1) TILE(1, 4)
#if MR >= 6
	TILE(5, 1) TILE(6, 1)
#endif
#if MR >= 12
		TILE(2, 4) TILE(3, 2) TILE(4, 2) TILE(7, 1) TILE(8, 1) TILE(9, 1) TILE(10, 1)
			TILE(11, 1) TILE(12, 1)
#else
	TILE(2, 2)
#endif
#undef TILE

#define TILE_ARGS int, const float *, int, const float *, size_t, float *, int, bool
				static void (*const tile_one[MR + 1])(TILE_ARGS) = {
					NULL,	   tile_1_1, tile_2_1, tile_3_1,  tile_4_1,
#if MR >= 6
					tile_5_1,  tile_6_1,
#endif
#if MR >= 12
					tile_7_1,  tile_8_1, tile_9_1, tile_10_1, tile_11_1,
					tile_12_1,
#endif
};
/* Several panels at once for few rows. */
static const struct {
	int panels;
	void (*run)(TILE_ARGS);
} tile_wide[] = {
#if MR >= 12
	{0, NULL}, {4, tile_1_4}, {4, tile_2_4}, {2, tile_3_2}, {2, tile_4_2},
#else
	{0, NULL},
	{4, tile_1_4},
	{2, tile_2_2},
#endif
};
#define WIDE_MAX ((int)(sizeof tile_wide / sizeof tile_wide[0]) - 1)

/* A tile that sticks out on the right goes through a buffer of its own. */
static void tile_edge(int mr, int cols, int k, const float *a, int lda, const float *b, float *c,
		      int ldc, bool acc)
{
	float tmp[MR * NR];

	if (acc)
		for (int i = 0; i < mr; i++)
			for (int j = 0; j < NR; j++)
				tmp[i * NR + j] = j < cols ? c[(ptrdiff_t)i * ldc + j] : 0;
	tile_one[mr](k, a, lda, b, 0, tmp, NR, acc);
	for (int i = 0; i < mr; i++)
		memcpy(c + (ptrdiff_t)i * ldc, tmp + i * NR, (size_t)cols * sizeof *c);
}

/* C[m][n] over panels `bs` floats apart, each holding k rows. One thread. */
static void panel_gemm(float *c, int ldc, const float *a, int lda, const float *b, size_t bs, int m,
		       int n, int k, bool acc)
{
	int j = 0, panels;

	if (m <= WIDE_MAX)
		for (panels = tile_wide[m].panels; j + panels * NR <= n; j += panels * NR)
			tile_wide[m].run(k, a, lda, b + (size_t)(j / NR) * bs, bs, c + j, ldc, acc);
	for (; j < n; j += NR) {
		const float *panel = b + (size_t)(j / NR) * bs;
		int cols = n - j < NR ? n - j : NR;

		for (int i = 0; i < m; i += MR) {
			int mr = m - i < MR ? m - i : MR;
			const float *ai = a + (ptrdiff_t)i * lda;
			float *ci = c + (ptrdiff_t)i * ldc + j;

			if (cols == NR)
				tile_one[mr](k, ai, lda, panel, 0, ci, ldc, acc);
			else
				tile_edge(mr, cols, k, ai, lda, panel, ci, ldc, acc);
		}
	}
}

/* One panel [k][NR] from `cols` rows of w: columns of the product are rows of w. */
static void pack_rows_as_columns(float *out, const float *w, int ldw, int cols, int k)
{
	for (int p0 = 0; p0 < k; p0 += 16) {
		int np = k - p0 < 16 ? k - p0 : 16;

		for (int j = 0; j < cols; j++) {
			const float *src = w + (ptrdiff_t)j * ldw + p0;
			float *dst = out + (size_t)p0 * NR + j;

			for (int p = 0; p < np; p++)
				dst[p * NR] = src[p];
		}
	}
	for (int j = cols; j < NR; j++)
		for (int p = 0; p < k; p++)
			out[(size_t)p * NR + j] = 0;
}

/* One panel [k][NR] from k rows of w, `cols` columns of each. */
static void pack_columns(float *out, const float *w, int ldw, int cols, int k)
{
	for (int p = 0; p < k; p++) {
		const float *src = w + (ptrdiff_t)p * ldw;
		float *dst = out + (size_t)p * NR;

		if (cols == NR) {
			memcpy(dst, src, NR * sizeof *dst);
			continue;
		}
		for (int j = 0; j < NR; j++)
			dst[j] = j < cols ? src[j] : 0;
	}
}

struct gemm {
	float *c;
	const float *a, *w;
	int ldc, lda, ldw;
	int m, n, k; /* of the product: C[m][n], chain over k */
	bool acc;
	bool a_turned; /* A is stored [k][m] */
	bool w_turned; /* W is stored [n][k]: rows become columns */
	float *packed;
	struct kern_pool *pool;
	int row_block, col_block, col_blocks;
};

static void gemm_pack_item(void *ctx, int item, int thread)
{
	const struct gemm *g = ctx;
	int j = item * NR, cols = g->n - j < NR ? g->n - j : NR;
	float *out = g->packed + (size_t)item * (size_t)g->k * NR;

	(void)thread;
	if (g->w_turned)
		pack_rows_as_columns(out, g->w + (ptrdiff_t)j * g->ldw, g->ldw, cols, g->k);
	else
		pack_columns(out, g->w + j, g->ldw, cols, g->k);
}

/* Copies A[k][m] into rows [m][kc] of the thread's scratch. */
static const float *turn_block(const struct gemm *g, int i, int m, int p, int k, int thread)
{
	size_t size = (size_t)TILES_PER_BLOCK * MR * TURN_LD * sizeof(float);
	float *out = kern_pool_scratch(g->pool, thread, size);

	for (int q0 = 0; q0 < k; q0 += 16) {
		int nq = k - q0 < 16 ? k - q0 : 16;

		for (int r = 0; r < m; r++) {
			const float *src = g->a + (ptrdiff_t)(p + q0) * g->lda + i + r;
			float *dst = out + (size_t)r * TURN_LD + q0;

			for (int q = 0; q < nq; q++)
				dst[q] = src[(ptrdiff_t)q * g->lda];
		}
	}
	return out;
}

static void gemm_item(void *ctx, int item, int thread)
{
	const struct gemm *g = ctx;
	int i = item / g->col_blocks * g->row_block, j = item % g->col_blocks * g->col_block;
	int m = g->m - i < g->row_block ? g->m - i : g->row_block;
	int n = g->n - j < g->col_block ? g->n - j : g->col_block;
	int step = m <= MR && !g->a_turned ? g->k : KC;
	size_t panel = (size_t)g->k * NR;

	for (int p = 0; p < g->k; p += step) {
		int k = g->k - p < step ? g->k - p : step;
		const float *a = g->a + (ptrdiff_t)i * g->lda + p;
		int lda = g->lda;

		if (g->a_turned) {
			a = turn_block(g, i, m, p, k, thread);
			lda = TURN_LD;
		}
		panel_gemm(g->c + (ptrdiff_t)i * g->ldc + j, g->ldc, a, lda,
			   g->packed + (size_t)(j / NR) * panel + (size_t)p * NR, panel, m, n, k,
			   g->acc || p > 0);
	}
}

static int ceil_div(int a, int b)
{
	return (a + b - 1) / b;
}

/* Tiles large enough to reuse what they load, small enough to feed every thread. */
static void gemm_tiles(struct kern_pool *pool, struct gemm *g)
{
	int threads = kern_pool_threads(pool), panels = ceil_div(g->n, NR), per = 16;

	g->row_block = g->m < MR * TILES_PER_BLOCK ? g->m : MR * TILES_PER_BLOCK;
	while (per > 4 && ceil_div(panels, per) * ceil_div(g->m, g->row_block) < 4 * threads)
		per /= 2;
	while (g->row_block > 2 * MR &&
	       ceil_div(panels, per) * ceil_div(g->m, g->row_block) < 2 * threads)
		g->row_block = ceil_div(g->row_block, 2 * MR) * MR;
	if ((double)g->m * g->n * g->k < 32768)
		per = panels > 0 ? panels : 1;
	g->col_block = per * NR;
	g->col_blocks = ceil_div(panels, per);
}

static void gemm_compute(struct kern_pool *pool, struct gemm *g)
{
	gemm_tiles(pool, g);
	kern_pool_run(pool, gemm_item, g, ceil_div(g->m, g->row_block) * g->col_blocks);
}

static void gemm_clear(const struct gemm *g)
{
	if (!g->acc)
		for (int i = 0; i < g->m; i++)
			memset(g->c + (ptrdiff_t)i * g->ldc, 0, (size_t)g->n * sizeof *g->c);
}

/* Packs as many columns as the scratch may hold, multiplies, goes on. */
static void gemm_run(struct kern_pool *pool, struct gemm *g)
{
	int n = g->n, cols = n;

	if (g->k == 0) {
		gemm_clear(g);
		return;
	}
	if ((size_t)n * (size_t)g->k > PACK_MAX) {
		cols = (int)(PACK_MAX / (size_t)g->k) / NR * NR;
		cols = cols < NR ? NR : cols;
	}
	g->pool = pool;
	g->packed =
		kern_pool_scratch(pool, KERN_SCRATCH_PACK,
				  (size_t)ceil_div(cols, NR) * NR * (size_t)g->k * sizeof(float));
	for (int j = 0; j < n; j += cols) {
		g->n = n - j < cols ? n - j : cols;
		if ((double)g->n * g->k < 16384)
			for (int i = 0; i < ceil_div(g->n, NR); i++)
				gemm_pack_item(g, i, 0);
		else
			kern_pool_run(pool, gemm_pack_item, g, ceil_div(g->n, NR));
		gemm_compute(pool, g);
		g->c += cols;
		g->w += g->w_turned ? (ptrdiff_t)cols * g->ldw : cols;
	}
}

static void gemm_nt(struct kern_pool *pool, float *c, int ldc, const float *a, int lda,
		    const float *w, int ldw, int m, int n, int k, bool acc)
{
	struct gemm g = {.c = c,
			 .ldc = ldc,
			 .a = a,
			 .lda = lda,
			 .w = w,
			 .ldw = ldw,
			 .m = m,
			 .n = n,
			 .k = k,
			 .acc = acc,
			 .w_turned = true};

	gemm_run(pool, &g);
}

static void gemm_nn(struct kern_pool *pool, float *c, int ldc, const float *a, int lda,
		    const float *w, int ldw, int m, int n, int k, bool acc)
{
	struct gemm g = {.c = c,
			 .ldc = ldc,
			 .a = a,
			 .lda = lda,
			 .w = w,
			 .ldw = ldw,
			 .m = m,
			 .n = k,
			 .k = n,
			 .acc = acc};

	gemm_run(pool, &g);
}

static void gemm_tn(struct kern_pool *pool, float *c, int ldc, const float *b, int ldb,
		    const float *a, int lda, int m, int n, int k, bool acc)
{
	struct gemm g = {.c = c,
			 .ldc = ldc,
			 .a = b,
			 .lda = ldb,
			 .w = a,
			 .ldw = lda,
			 .m = n,
			 .n = k,
			 .k = m,
			 .acc = acc,
			 .a_turned = true};

	gemm_run(pool, &g);
}

static size_t gemm_pack_size(int n, int k)
{
	return (size_t)ceil_div(n, NR) * NR * (size_t)k;
}

static void gemm_pack(struct kern_pool *pool, float *wp, const float *w, int ldw, int n, int k)
{
	struct gemm g = {.w = w, .ldw = ldw, .n = n, .k = k, .w_turned = true, .packed = wp};

	kern_pool_run(pool, gemm_pack_item, &g, ceil_div(n, NR));
}

static void gemm_packed(struct kern_pool *pool, float *c, int ldc, const float *a, int lda,
			const float *wp, int m, int n, int k, bool acc)
{
	struct gemm g = {.c = c,
			 .ldc = ldc,
			 .a = a,
			 .lda = lda,
			 .m = m,
			 .n = n,
			 .k = k,
			 .acc = acc,
			 .packed = (float *)(uintptr_t)wp,
			 .pool = pool};

	if (k == 0)
		gemm_clear(&g);
	else
		gemm_compute(pool, &g);
}
