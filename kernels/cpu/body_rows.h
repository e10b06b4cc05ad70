/* Exponential, norms, rotary embedding, SwiGLU, embedding and other row-wise operations; compiled
 * once per instruction set. Sums over a row use 16 lanes folded 8, 4, 2, 1.
 */

#define BLOCK 16384 /* elements of an element-wise item: 64 KiB */

/* --- exp: 2^n * e^r, n = round(x log2 e), |r| <= ln2/2; degree-6 Taylor-like minimax ---------- */

#define EXP_LOW (-87.33654f) /* below: 0, so that no denormals arise */
#define EXP_HIGH (88.37f)

INLINE VEC v_exp(VEC x)
{
	VEC clamped = v_min(v_set(EXP_HIGH), v_max(v_set(EXP_LOW), x)); /* keeps NaN */
	VEC n = v_round(v_mul(clamped, v_set(1.44269504088896f)));
	VEC r = v_fma(n, v_set(-0.693359375f), clamped); /* exact: 9-bit constant */
	VEC p = v_set(1.9875691500e-4f);

	r = v_fma(n, v_set(2.12194440e-4f), r);
	p = v_fma(p, r, v_set(1.3981999507e-3f));
	p = v_fma(p, r, v_set(8.3334519073e-3f));
	p = v_fma(p, r, v_set(4.1665795894e-2f));
	p = v_fma(p, r, v_set(1.6666665459e-1f));
	p = v_fma(p, r, v_set(5.0000001201e-1f));
	p = v_add(v_fma(p, v_mul(r, r), r), v_set(1.0f));
	return v_zero_if_less(v_mul(p, v_pow2(n)), x, v_set(EXP_LOW));
}

INLINE float exp1(float x)
{
	return v_first(v_exp(v_set(x)));
}

INLINE int lanes_left(int i, int n)
{
	return n - i < 16 ? n - i : 16;
}

/* Masked access is slow on some processors: only the tail of a row pays for it. */
INLINE VEC v_load_l(const float *p, int l)
{
	return __builtin_expect(l == 16, 1) ? v_load(p) : v_load_n(p, l);
}

INLINE void v_store_l(float *p, VEC v, int l)
{
	if (__builtin_expect(l == 16, 1))
		v_store(p, v);
	else
		v_store_n(p, v, l);
}

static void vexp(float *y, const float *x, size_t n)
{
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		v_store(y + i, v_exp(v_load(x + i)));
	if (i < n)
		v_store_n(y + i, v_exp(v_load_n(x + i, (int)(n - i))), (int)(n - i));
}

INLINE float row_dot(const float *x, const float *y, int n)
{
	VEC s = v_set(0);
	int i = 0;

	for (; i + 16 <= n; i += 16)
		s = v_fma(v_load(x + i), v_load(y + i), s);
	if (i < n)
		s = v_fma(v_load_n(x + i, n - i), v_load_n(y + i, n - i), s);
	return v_sum(s);
}

INLINE float row_max(const float *x, int n)
{
	float tail = x[0];
	int i = 0;

	if (n >= 16) {
		VEC m = v_load(x);

		for (i = 16; i + 16 <= n; i += 16)
			m = v_max(m, v_load(x + i));
		tail = v_largest(m);
	}
	for (; i < n; i++)
		tail = x[i] > tail ? x[i] : tail;
	return tail;
}

/* Sum of exp(x - max); the terms are kept in y unless it is NULL. */
INLINE float row_exp_sum(float *y, const float *x, int n, float max)
{
	VEC s = v_set(0), m = v_set(max);
	int i = 0;

	for (; i + 16 <= n; i += 16) {
		VEC e = v_exp(v_sub(v_load(x + i), m));

		s = v_add(s, e);
		if (y)
			v_store(y + i, e);
	}
	if (i < n) {
		float tmp[16];

		for (int j = 0; j < 16; j++)
			tmp[j] = i + j < n ? x[i + j] - max : -INFINITY;
		VEC e = v_exp(v_load(tmp));
		s = v_add(s, e);
		if (y)
			v_store_n(y + i, e, n - i);
	}
	return v_sum(s);
}

/* --- Helpers to spread rows or columns over threads ------------------------------------------- */

struct rows {
	float *y, *z;
	const float *x, *w, *u, *dy;
	const int32_t *ids;
	float *dx;
	int ld, rows, width, per; /* per: rows (or columns) of an item */
	float eps;
};

static void run_rows(struct kern_pool *pool, void (*fn)(void *, int, int), struct rows *a)
{
	a->per = a->width >= BLOCK ? 1 : BLOCK / (a->width > 0 ? a->width : 1);
	kern_pool_run(pool, fn, a, ceil_div(a->rows, a->per));
}

#define COLUMNS 64
static void run_columns(struct kern_pool *pool, void (*fn)(void *, int, int), struct rows *a)
{
	a->per = (double)a->rows * a->width < 2 * BLOCK ? a->width : COLUMNS;
	kern_pool_run(pool, fn, a, ceil_div(a->width, a->per > 0 ? a->per : 1));
}

#define EACH_ROW(a, item)                                                                          \
	for (int r = (item) * (a)->per; r < (a)->rows && r < ((item) + 1) * (a)->per; r++)

/* --- RMS norm --------------------------------------------------------------------------------- */

static void rmsnorm_item(void *ctx, int item, int thread)
{
	const struct rows *a = ctx;

	(void)thread;
	EACH_ROW(a, item)
	{
		const float *x = a->x + (size_t)r * a->width;
		float *y = a->y + (size_t)r * a->width;
		float rinv = 1.0f / sqrtf(row_dot(x, x, a->width) / (float)a->width + a->eps);
		VEC s = v_set(rinv);
		int i = 0;

		for (; i + 16 <= a->width; i += 16)
			v_store(y + i, v_mul(v_mul(v_load(x + i), s), v_load(a->w + i)));
		for (; i < a->width; i++)
			y[i] = x[i] * rinv * a->w[i];
		if (a->z)
			a->z[r] = rinv;
	}
}

static void rmsnorm(struct kern_pool *pool, float *y, float *rinv, const float *x, const float *w,
		    int rows, int width, float eps)
{
	struct rows a = {
		.y = y, .z = rinv, .x = x, .w = w, .rows = rows, .width = width, .eps = eps};

	run_rows(pool, rmsnorm_item, &a);
}

/* dx += r (w dy - x r^2 mean(x w dy)) */
static void rmsnorm_dx_item(void *ctx, int item, int thread)
{
	const struct rows *a = ctx;
	int n = a->width;

	(void)thread;
	EACH_ROW(a, item)
	{
		const float *x = a->x + (size_t)r * n, *dy = a->dy + (size_t)r * n;
		float *dx = a->dx + (size_t)r * n;
		float rinv = a->u[r];
		VEC s = v_set(0);

		for (int i = 0; i < n; i += 16) {
			int l = lanes_left(i, n);
			VEC wd = v_mul(v_load_l(a->w + i, l), v_load_l(dy + i, l));

			s = v_fma(v_load_l(x + i, l), wd, s);
		}
		VEC scale = v_set(rinv), back = v_set(-v_sum(s) * rinv * rinv * rinv / (float)n);
		for (int i = 0; i < n; i += 16) {
			int l = lanes_left(i, n);
			VEC wd = v_mul(v_load_l(a->w + i, l), v_load_l(dy + i, l));
			VEC d = v_fma(v_load_l(x + i, l), back, v_mul(wd, scale));

			v_store_l(dx + i, v_add(v_load_l(dx + i, l), d), l);
		}
	}
}

/* dw += sum over rows of dy x r, rows ascending; an item owns some columns. */
static void rmsnorm_dw_item(void *ctx, int item, int thread)
{
	const struct rows *a = ctx;
	int from = item * a->per, to = from + a->per < a->width ? from + a->per : a->width;

	(void)thread;
	for (int r = 0; r < a->rows; r++) {
		const float *x = a->x + (size_t)r * a->width, *dy = a->dy + (size_t)r * a->width;
		VEC s = v_set(a->u[r]);

		for (int i = from; i < to; i += 16) {
			int l = lanes_left(i, to);
			VEC xr = v_mul(v_load_l(x + i, l), s);

			v_store_l(a->y + i, v_fma(v_load_l(dy + i, l), xr, v_load_l(a->y + i, l)),
				  l);
		}
	}
}

static void rmsnorm_back(struct kern_pool *pool, float *dx, float *dw, const float *dy,
			 const float *x, const float *w, const float *rinv, int rows, int width)
{
	struct rows a = {.dx = dx,
			 .y = dw,
			 .dy = dy,
			 .x = x,
			 .w = w,
			 .u = rinv,
			 .rows = rows,
			 .width = width};

	run_columns(pool, rmsnorm_dw_item, &a);
	run_rows(pool, rmsnorm_dx_item, &a);
}

/* --- Rotary embedding ------------------------------------------------------------------------- */

struct rope {
	float *x;
	const int32_t *pos;
	const float *cos, *sin;
	int ld, rows, heads, half, per;
	bool back;
};

static void rope_item(void *ctx, int item, int thread)
{
	const struct rope *a = ctx;

	(void)thread;
	EACH_ROW(a, item)
	{
		const float *c = a->cos + (size_t)a->pos[r] * a->half;
		const float *s = a->sin + (size_t)a->pos[r] * a->half;

		for (int h = 0; h < a->heads; h++) {
			float *lo = a->x + (ptrdiff_t)r * a->ld + 2 * h * a->half,
			      *hi = lo + a->half;

			for (int i = 0; i < a->half; i++) {
				float x = lo[i], y = hi[i], sn = a->back ? -s[i] : s[i];

				lo[i] = x * c[i] - y * sn;
				hi[i] = y * c[i] + x * sn;
			}
		}
	}
}

static void rope(struct kern_pool *pool, float *x, int ldx, int rows, int heads, int head_dim,
		 const int32_t *pos, const float *cosines, const float *sines, bool back)
{
	struct rope a = {.x = x,
			 .pos = pos,
			 .cos = cosines,
			 .sin = sines,
			 .ld = ldx,
			 .rows = rows,
			 .heads = heads,
			 .half = head_dim / 2,
			 .back = back};

	a.per = heads * head_dim >= BLOCK ? 1 : BLOCK / (heads * head_dim);
	kern_pool_run(pool, rope_item, &a, ceil_div(rows, a.per));
}

/* --- SwiGLU ----------------------------------------------------------------------------------- */

INLINE VEC v_sigmoid(VEC x)
{
	return v_div(v_set(1), v_add(v_set(1), v_exp(v_sub(v_set(0), x))));
}

static void swiglu_item(void *ctx, int item, int thread)
{
	const struct rows *a = ctx;

	(void)thread;
	EACH_ROW(a, item)
	{
		const float *g = a->x + (ptrdiff_t)r * a->ld, *u = a->u + (ptrdiff_t)r * a->ld;
		float *y = a->y + (size_t)r * a->width;

		for (int i = 0; i < a->width; i += 16) {
			int l = lanes_left(i, a->width);
			VEC gate = v_load_l(g + i, l);

			v_store_l(y + i, v_mul(v_mul(gate, v_sigmoid(gate)), v_load_l(u + i, l)),
				  l);
		}
	}
}

static void swiglu(struct kern_pool *pool, float *y, const float *gate, const float *up, int ldg,
		   int rows, int width)
{
	struct rows a = {.y = y, .x = gate, .u = up, .ld = ldg, .rows = rows, .width = width};

	run_rows(pool, swiglu_item, &a);
}

/* silu'(g) = s (1 + g (1 - s)), s = sigmoid(g) */
static void swiglu_back_item(void *ctx, int item, int thread)
{
	const struct rows *a = ctx;

	(void)thread;
	EACH_ROW(a, item)
	{
		ptrdiff_t at = (ptrdiff_t)r * a->ld;
		const float *dy = a->dy + (size_t)r * a->width;

		for (int i = 0; i < a->width; i += 16) {
			int l = lanes_left(i, a->width);
			VEC g = v_load_l(a->x + at + i, l), u = v_load_l(a->u + at + i, l);
			VEC d = v_load_l(dy + i, l), s = v_sigmoid(g);
			VEC slope = v_mul(s, v_fma(g, v_sub(v_set(1), s), v_set(1)));

			v_store_l(a->y + at + i, v_mul(v_mul(d, u), slope), l);
			v_store_l(a->z + at + i, v_mul(d, v_mul(g, s)), l);
		}
	}
}

static void swiglu_back(struct kern_pool *pool, float *dgate, float *dup, const float *dy,
			const float *gate, const float *up, int ldg, int rows, int width)
{
	struct rows a = {.y = dgate,
			 .z = dup,
			 .dy = dy,
			 .x = gate,
			 .u = up,
			 .ld = ldg,
			 .rows = rows,
			 .width = width};

	run_rows(pool, swiglu_back_item, &a);
}

/* --- Embedding, bias -------------------------------------------------------------------------- */

static void embed_item(void *ctx, int item, int thread)
{
	const struct rows *a = ctx;
	size_t n = (size_t)a->width;

	(void)thread;
	EACH_ROW(a, item)
	memcpy(a->y + (size_t)r * n, a->w + (size_t)a->ids[r] * n, n * sizeof *a->y);
}

static void embed(struct kern_pool *pool, float *out, const float *w, const int32_t *ids, int rows,
		  int width)
{
	struct rows a = {.y = out, .w = w, .ids = ids, .rows = rows, .width = width};

	run_rows(pool, embed_item, &a);
}

/* y[id(r)] += dy[r] in row order (without ids: y += dy[r]); an item owns some columns. */
static void column_sum_item(void *ctx, int item, int thread)
{
	const struct rows *a = ctx;
	int from = item * a->per, to = from + a->per < a->width ? from + a->per : a->width;

	(void)thread;
	for (int r = 0; r < a->rows; r++) {
		const float *dy = a->dy + (ptrdiff_t)r * a->ld;
		float *y = a->y + (a->ids ? (size_t)a->ids[r] * (size_t)a->width : 0);

		for (int i = from; i < to; i++)
			y[i] += dy[i];
	}
}

static void embed_back(struct kern_pool *pool, float *dw, const float *dout, const int32_t *ids,
		       int rows, int width)
{
	struct rows a = {
		.y = dw, .dy = dout, .ids = ids, .ld = width, .rows = rows, .width = width};

	run_columns(pool, column_sum_item, &a);
}

static void bias_item(void *ctx, int item, int thread)
{
	const struct rows *a = ctx;

	(void)thread;
	EACH_ROW(a, item)
	{
		float *y = a->y + (ptrdiff_t)r * a->ld;

		for (int i = 0; i < a->width; i++)
			y[i] += a->w[i];
	}
}

static void bias(struct kern_pool *pool, float *y, int ldy, const float *b, int rows, int width)
{
	struct rows a = {.y = y, .w = b, .ld = ldy, .rows = rows, .width = width};

	run_rows(pool, bias_item, &a);
}

static void bias_back(struct kern_pool *pool, float *db, const float *dy, int ldy, int rows,
		      int width)
{
	struct rows a = {.y = db, .dy = dy, .ld = ldy, .rows = rows, .width = width};

	run_columns(pool, column_sum_item, &a);
}

/* --- Log-sum-exp by row ----------------------------------------------------------------------- */

static void row_lse_item(void *ctx, int item, int thread)
{
	const struct rows *a = ctx;

	(void)thread;
	EACH_ROW(a, item)
	{
		const float *x = a->x + (ptrdiff_t)r * a->ld;
		float max = row_max(x, a->width);

		a->y[r] = max;
		a->z[r] = max + logf(row_exp_sum(NULL, x, a->width, max));
	}
}

static void row_lse(struct kern_pool *pool, float *max, float *lse, const float *x, int ldx,
		    int rows, int width)
{
	struct rows a = {.y = max, .z = lse, .x = x, .ld = ldx, .rows = rows, .width = width};

	run_rows(pool, row_lse_item, &a);
}
