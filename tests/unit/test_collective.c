/* Ranks that are threads (for the thread sanitizer) and ranks that are processes: sums in order,
 * odd sizes, parts, disagreement, deaths. */
#include "kernels/collective.h"
#include "tests/kern_util.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MANY = 200003, RANKS = 4 }; /* more than one piece, and not a multiple of anything */

struct rank {
	struct coll_shm o;
	void (*body)(struct coll *c);
	pthread_t thread;
};

static int segment(int n)
{
	int fd = memfd_create("ranks", MFD_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, (off_t)coll_shm_bytes(n)), 0);
	return fd;
}

static void *run_rank(void *arg)
{
	struct rank *r = arg;
	char why[COLL_WHY];
	struct coll *c = coll_shm_open(&r->o, why, sizeof why);

	CHECK(c);
	r->body(c);
	coll_close(c);
	return NULL;
}

static void as_threads(int n, void (*body)(struct coll *))
{
	struct rank ranks[RANKS];
	int fd = segment(n);

	for (int i = 0; i < n; i++) {
		ranks[i] = (struct rank){{.fd = fd, .rank = i, .n = n, .timeout_s = 30}, body, 0};
		CHECK_EQ(pthread_create(&ranks[i].thread, NULL, run_rank, &ranks[i]), 0);
	}
	for (int i = 0; i < n; i++)
		pthread_join(ranks[i].thread, NULL);
	close(fd);
}

/* Process ids in `pids`; `body` ends by returning, and the process with it. */
static void as_processes(int n, double timeout_s, void (*body)(struct coll *), pid_t *pids)
{
	int fd = segment(n);

	fflush(stdout);
	for (int i = 0; i < n; i++) {
		pids[i] = fork();
		CHECK(pids[i] >= 0);
		if (pids[i] > 0)
			continue;
		struct rank r = {{.fd = fd, .rank = i, .n = n, .timeout_s = timeout_s}, body, 0};
		run_rank(&r);
		_exit(0);
	}
	close(fd);
}

static int status_of(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0)
		CHECK_EQ(errno, EINTR);
	return status;
}

static void all_well(int n, const pid_t *pids)
{
	for (int i = 0; i < n; i++)
		CHECK_EQ(status_of(pids[i]), 0);
}

/* --- what is computed ------------------------------------------------------------------------- */

static float value(int rank, size_t i)
{
	uint32_t seed = (uint32_t)(i * 7919 + (size_t)rank * 104729 + 1);

	number(&seed);
	return number(&seed) * (float)(1 << (rank * 5 % 17));
}

/* In float and in the order of ranks, written out a second time. */
static float ordered_sum(int n, size_t i)
{
	float sum = value(0, i);

	for (int r = 1; r < n; r++)
		sum += value(r, i);
	return sum;
}

static float *filled(struct coll *c)
{
	float *x = guarded(MANY);

	for (size_t i = 0; i < MANY; i++)
		x[i] = value(coll_rank(c), i);
	return x;
}

static void reduce_body(struct coll *c)
{
	float *x = filled(c);
	int64_t top[3] = {coll_rank(c), -coll_rank(c), 1};
	double low = coll_rank(c) + 0.5;

	CHECK(coll_all_reduce(c, x, MANY, COLL_F32, COLL_SUM));
	for (size_t i = 0; i < MANY; i++)
		CHECK(x[i] == ordered_sum(coll_ranks(c), i));
	check_guard(x, MANY);
	guarded_free(x);
	CHECK(coll_agree_i64(c, top, 3, COLL_MAX));
	CHECK_EQ(top[0], coll_ranks(c) - 1);
	CHECK_EQ(top[1], 0);
	CHECK(coll_agree_f64(c, &low, 1, COLL_MIN));
	CHECK(low == 0.5);
	CHECK(coll_barrier(c));
	CHECK(!coll_fault(c));
}

static void parts_body(struct coll *c)
{
	float *x = filled(c);
	struct coll_span mine = coll_part(MANY, coll_rank(c), coll_ranks(c));
	char text[21] = "";

	CHECK(coll_reduce_scatter(c, x, MANY, COLL_F32));
	for (size_t i = mine.from; i < mine.to; i++)
		CHECK(x[i] == ordered_sum(coll_ranks(c), i));
	for (size_t i = 0; i < MANY; i++)
		x[i] = i >= mine.from && i < mine.to ? x[i] : -77;
	CHECK(coll_all_gather(c, x, MANY, COLL_F32));
	for (size_t i = 0; i < MANY; i++)
		CHECK(x[i] == ordered_sum(coll_ranks(c), i));
	x[0] = (float)coll_rank(c);
	CHECK(coll_broadcast(c, x, MANY, COLL_F32, coll_ranks(c) - 1));
	CHECK(x[0] == (float)(coll_ranks(c) - 1));
	check_guard(x, MANY);
	guarded_free(x);
	if (coll_rank(c) == 0)
		snprintf(text, sizeof text, "twenty letters long.");
	CHECK(coll_tell(c, text, sizeof text, 0));
	CHECK_STR(text, "twenty letters long.");
}

static float wide(uint16_t x)
{
	uint32_t bits = (uint32_t)x << 16;
	float f;

	memcpy(&f, &bits, sizeof f);
	return f;
}

/* 1 + 2^-8 + 2^-8: in bfloat16 each step alone would be rounded away, the sum is not. */
static void bf16_body(struct coll *c)
{
	uint16_t x[3] = {coll_rank(c) == 0 ? 0x3f80 : 0x3b80, 0xc000, 0x7fc1};

	CHECK(coll_all_reduce(c, x, 3, COLL_BF16, COLL_SUM));
	CHECK(wide(x[0]) == (coll_ranks(c) == 3 ? 1.0078125f : 1.0f));
	CHECK(wide(x[1]) == -2.0f * (float)coll_ranks(c));
	CHECK(isnan(wide(x[2])));
}

void test_collective__threads_sum_in_the_order_of_ranks(void)
{
	for (int n = 1; n <= RANKS; n++)
		as_threads(n, reduce_body);
}

void test_collective__threads_scatter_gather_and_tell(void)
{
	for (int n = 1; n <= RANKS; n++)
		as_threads(n, parts_body);
}

void test_collective__bf16_is_summed_in_float(void)
{
	as_threads(2, bf16_body);
	as_threads(3, bf16_body);
}

void test_collective__processes_sum_in_the_order_of_ranks(void)
{
	pid_t pids[RANKS];

	for (int n = 2; n <= RANKS; n++) {
		as_processes(n, 30, reduce_body, pids);
		all_well(n, pids);
		as_processes(n, 30, parts_body, pids);
		all_well(n, pids);
	}
}

void test_collective__parts_cover_everything_once(void)
{
	static const size_t sizes[] = {0, 1, 15, 16, 17, 67, 100, 4096, MANY};

	for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
		for (int n = 1; n <= 9; n++) {
			size_t at = 0;

			for (int r = 0; r < n; r++) {
				struct coll_span p = coll_part(sizes[k], r, n);

				CHECK_EQ(p.from, at);
				CHECK(p.to >= p.from && (p.from % 16 == 0 || p.from == sizes[k]));
				at = p.to;
			}
			CHECK_EQ(at, sizes[k]);
		}
}

/* --- what goes wrong -------------------------------------------------------------------------- */

static void disagree_body(struct coll *c)
{
	float x[8] = {0};

	CHECK(!coll_all_reduce(c, x, coll_rank(c) == 1 ? 7 : 8, COLL_F32, COLL_SUM));
	CHECK(strstr(coll_fault(c), "ranks differ: rank"));
	CHECK(!coll_barrier(c)); /* A fault stays. */
}

static void give_up_body(struct coll *c)
{
	if (coll_rank(c) == 1) {
		coll_abort(c, "the disk is full");
		return;
	}
	CHECK(!coll_barrier(c));
	CHECK_STR(coll_fault(c), "rank 1 gave up: the disk is full");
}

static void leave_body(struct coll *c)
{
	if (coll_rank(c) == 0)
		return;
	CHECK(!coll_barrier(c));
	CHECK_STR(coll_fault(c), "rank 0 left before the others");
}

void test_collective__ranks_that_differ_are_told_so(void)
{
	as_threads(2, disagree_body);
}

void test_collective__a_rank_that_gives_up_names_its_cause(void)
{
	as_threads(3, give_up_body);
	as_threads(2, leave_body);
}

static int gate[2];

static void slow_body(struct coll *c)
{
	char byte;

	if (coll_rank(c) == 1) {
		CHECK_EQ(read(gate[0], &byte, 1), 1);
		return;
	}
	CHECK(!coll_barrier(c));
	CHECK(strstr(coll_fault(c), "rank 1 did not come for"));
	CHECK_EQ(write(gate[1], "x", 1), 1);
}

void test_collective__waiting_has_an_end(void)
{
	pid_t pids[2];

	CHECK_EQ(pipe(gate), 0);
	as_processes(2, 0.3, slow_body, pids);
	all_well(2, pids);
}

static void killed_body(struct coll *c)
{
	CHECK(coll_barrier(c));
	if (coll_rank(c) == 2) {
		CHECK_EQ(write(gate[1], "x", 1), 1);
		for (;;)
			pause();
	}
	CHECK(!coll_barrier(c));
	CHECK(strstr(coll_fault(c), "rank 2 ended: its process"));
}

void test_collective__a_killed_rank_is_named(void)
{
	pid_t pids[3];
	char byte;

	CHECK_EQ(pipe(gate), 0);
	as_processes(3, 30, killed_body, pids);
	CHECK_EQ(read(gate[0], &byte, 1), 1);
	CHECK_EQ(kill(pids[2], SIGKILL), 0);
	/* Not reaped until the others have noticed: an unreaped rank is dead as well. */
	CHECK_EQ(status_of(pids[0]), 0);
	CHECK_EQ(status_of(pids[1]), 0);
	CHECK(WIFSIGNALED(status_of(pids[2])));
}

void test_collective__a_group_of_one_needs_nothing(void)
{
	float x = 3;

	CHECK(coll_all_reduce(NULL, &x, 1, COLL_F32, COLL_SUM));
	CHECK(x == 3 && coll_ranks(NULL) == 1 && coll_rank(NULL) == 0 && !coll_fault(NULL));
}

void test_collective__nccl_says_why_it_is_not_there(void)
{
	unsigned char id[COLL_ID_BYTES] = {0};
	char why[COLL_WHY] = "";

	CHECK(!coll_nccl_open(id, 0, 2, kern_cpu(), NULL, why, sizeof why));
	CHECK(strstr(why, "NCCL moves arrays of GPUs, not those of cpu-"));
}
