/* What stands beside a model: its evaluation, its judge's health, its benchmarks, and the iteration it
 * began. */
#include "base/jsonx.h"
#include "base/str.h"
#include "server/view.h"
#include "tests/test.h"

#include <string.h>

static void add(json_t *jobs, const char *rest, const char *name, json_t *metrics)
{
	char id[64], stage[16];
	const char *dot = strchr(rest, '.') + 1;

	str_fmt(id, sizeof id, "rx.%s", rest);
	str_fmt(stage, sizeof stage, "%.*s", (int)strcspn(dot, "."), dot);
	json_array_append_new(
		jobs, json_pack("{s:s, s:s, s:i, s:s, s:{s:s}, s:o, s:[{s:s, s:s, s:{s:i}}, "
				"{s:s, s:s, s:{s:i}}]}",
				"id", id, "stage", stage, "iter", rest[0] - '0', "state", "done", "params",
				"name", name, "metrics", metrics, "outputs", "role", "model", "digest", id,
				"meta", "rows", 1, "role", "pairs", "digest", id, "meta", "rows", 10));
}

void test_view__models_carry_what_drifts(void)
{
	json_t *spec = json_loads("{\"iterations\":1,\"sft\":{\"baseline\":true},"
				  "\"dpo\":{\"shard_steps\":100}}", 0, NULL);
	json_t *jobs = json_array(), *models, *m;

	add(jobs, "0.sft.0.0", "SFT", json_object());
	add(jobs, "0.sft.1.0", "M1", json_object());
	add(jobs, "0.eval.1.0", "M1", json_pack("{s:f, s:f}", "rm.kendall", 0.5, "health.x", 9.0));
	add(jobs, "0.health.1.0", "M1", json_pack("{s:f, s:f, s:f}", "health.pile", 0.3, "seconds", 1.0,
						  "health.x", 7.0));
	add(jobs, "0.bench.1.0", "M1", json_pack("{s:f, s:f}", "bench.arc.n", 4.0, "seconds", 2.0));
	add(jobs, "0.health.0.0", "SFT", json_pack("{s:f}", "health.pile", 0.8));
	add(jobs, "1.pair.0.0", "", json_pack("{s:f, s:f}", "pair.mean_score", 3.5, "alarm", 1.0));
	add(jobs, "1.dpo.0.0", "M2", json_object());
	models = view_models(spec, jobs, "rx");
	CHECK_EQ(json_array_size(models), 3);
	m = json_object_get(json_array_get(models, 0), "metrics");
	CHECK_EQ(json_object_size(m), 1); /* the baseline began no iteration */
	CHECK_NEAR(jx_get_f64(m, "health.pile", -1), 0.8, 0);
	m = json_object_get(json_array_get(models, 1), "metrics");
	CHECK_EQ(json_object_size(m), 5);
	CHECK_NEAR(jx_get_f64(m, "rm.kendall", -1), 0.5, 0);
	CHECK_NEAR(jx_get_f64(m, "health.pile", -1), 0.3, 0);
	CHECK_NEAR(jx_get_f64(m, "health.x", -1), 9, 0); /* the first word stays */
	CHECK_NEAR(jx_get_f64(m, "bench.arc.n", -1), 4, 0);
	CHECK_NEAR(jx_get_f64(m, "pair.mean_score", -1), 3.5, 0);
	m = json_object_get(json_array_get(models, 2), "metrics");
	CHECK_EQ(json_object_size(m), 0);
	json_decref(models);
	json_decref(jobs);
	json_decref(spec);
}
