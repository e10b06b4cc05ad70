/* Thinning keeps what a reader of a curve looks for. */
#include "server/thin.h"
#include "base/jsonx.h"
#include "tests/test.h"

/* A flat curve of `n` steps with one spike down and one up, and a second figure that only rises. */
static json_t *curve(size_t n, size_t down, size_t up)
{
	json_t *all = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(all, json_pack("{s:I, s:f, s:f}", "step", (json_int_t)i, "loss",
						     i == down ? -7.0 : i == up ? 9.0 : 1.0, "lr",
						     (double)i));
	return all;
}

static bool holds(const json_t *few, json_int_t step)
{
	json_t *v;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)few, i, v) if (jx_get_i64(v, "step", -1) == step)
		return true;
	return false;
}

void test_thin__spikes_and_ends_stay(void)
{
	json_t *all = curve(100000, 31234, 77777), *few = thin(all, 400);

	CHECK(json_array_size(few) <= 402);
	CHECK(json_array_size(few) >= 200);
	CHECK(holds(few, 0) && holds(few, 99999));
	CHECK(holds(few, 31234) && holds(few, 77777));
	json_decref(few);
	json_decref(all);
}

void test_thin__totals_keep_nothing_of_their_own(void)
{
	json_t *all = curve(4000, 31, 3999), *few, *with, *v;
	size_t i;

	json_array_foreach(all, i, v)
		json_object_set_new(v, THIN_TOTAL "tokens", json_integer((json_int_t)i));
	with = thin(all, 200);
	json_array_foreach(all, i, v) json_object_del(v, THIN_TOTAL "tokens");
	few = thin(all, 200);
	CHECK_EQ(json_array_size(with), json_array_size(few));
	CHECK(holds(with, 31) && holds(with, 0) && holds(with, 3999));
	json_decref(with);
	json_decref(few);
	json_decref(all);
}

void test_thin__the_order_stays(void)
{
	json_t *all = curve(5000, 7, 4000), *few = thin(all, 100);
	int64_t last = -1;
	json_t *v;
	size_t i;

	json_array_foreach(few, i, v)
	{
		CHECK(jx_get_i64(v, "step", -1) > last);
		last = jx_get_i64(v, "step", -1);
	}
	json_decref(few);
	json_decref(all);
}

void test_thin__short_and_odd_curves(void)
{
	json_t *all = curve(10, 1, 2), *few = thin(all, 10), *none = json_array(), *text;

	CHECK(few == all);
	json_decref(few);
	few = thin(all, 1);
	CHECK(holds(few, 0) && holds(few, 9) && holds(few, 1) && holds(few, 2));
	json_decref(few);
	few = thin(none, 5);
	CHECK_EQ(json_array_size(few), 0);
	json_decref(few);
	text = json_pack("[{s:i, s:s}, {s:i, s:n}, {s:i}]", "step", 1, "a", "x", "step", 2, "a",
			 "step", 3);
	few = thin(text, 1);
	CHECK(holds(few, 1) && holds(few, 3));
	json_decref(few);
	json_decref(text);
	json_decref(none);
	json_decref(all);
}
