#include "cli/demo_parts.h"

#include "base/jsonx.h"

#include <math.h>
#include <string.h>

/* Figure of the result <- metric of the evaluation, and how the table shows it. */
static const struct {
	const char *name, *metric, *title;
	double scale;
	int decimals;
} figures[] = {
	{"true_score", "truth.sampled_score", "true score", 1, 2},
	{"true_score_greedy", "truth.greedy_score", "greedy", 1, 2},
	{"true_accuracy_greedy", "truth.greedy_accuracy", "right greedy %", 100, 1},
	{"true_accuracy_sampled", "truth.sampled_accuracy", "right sampled %", 100, 1},
	{"pairwise_accuracy", "rm.pairwise_accuracy", "judge pairwise %", 100, 1},
	{"exact_match", "rm.exact_match", "exact %", 100, 1},
	{"five_best", "rm.five_best", "5-best %", 100, 1},
	{"spearman", "rm.spearman", "Spearman", 1, 3},
	{"kendall", "rm.kendall", "Kendall", 1, 3},
	{"mean_length", "length.sampled", "length", 1, 1},
	{"h2h_win", "h2h.win", "wins", 1, 0},
	{"h2h_tie", "h2h.tie", "ties", 1, 0},
	{"h2h_loss", "h2h.loss", "losses", 1, 0},
};
#define N_FIGURES (sizeof figures / sizeof *figures)

static json_t *model_row(const json_t *model)
{
	const json_t *metrics = json_object_get(model, "metrics");
	json_t *row = json_pack("{s:s}", "name", jx_get_str(model, "name", "?"));

	for (size_t i = 0; i < N_FIGURES; i++) {
		const json_t *v = json_object_get(metrics, figures[i].metric);

		json_object_set_new(row, figures[i].name,
				    json_is_number(v) ? json_real(json_number_value(v)) : json_null());
	}
	return row;
}

/* What `pair` kept and dropped, one row an iteration. */
static json_t *pair_rows(const json_t *jobs)
{
	json_t *rows = json_array();
	const json_t *job;
	size_t i;

	json_array_foreach(json_object_get(jobs, "items"), i, job)
	{
		const json_t *m = json_object_get(job, "metrics");

		if (strcmp(jx_get_str(job, "stage", ""), "pair") != 0 || !json_is_object(m))
			continue;
		json_array_append_new(
			rows, json_pack("{s:I, s:O}", "iteration",
					(json_int_t)jx_get_i64(job, "iter", 0), "metrics", m));
	}
	return rows;
}

json_t *demo_result(const json_t *compare, const json_t *run, const json_t *jobs, double human_score,
		    double seconds)
{
	json_t *models = json_array();
	const json_t *model, *digest = json_object_get(run, "final_digest");
	size_t i;

	json_array_foreach(json_object_get(compare, "models"), i, model)
		json_array_append_new(models, model_row(model));
	return json_pack("{s:o, s:O?, s:f, s:o, s:f}", "models", models, "final_digest", digest,
			 "human_score", human_score, "pairs", pair_rows(jobs), "seconds", seconds);
}

static void print_pairs(const json_t *rows, FILE *out)
{
	const json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		const json_t *m = json_object_get(row, "metrics");
		const char *key;
		json_t *v;

		fprintf(out, "pairs of iteration %d:", (int)jx_get_i64(row, "iteration", 0));
		json_object_foreach((json_t *)(uintptr_t)m, key, v)
			if (strncmp(key, "pair.", 5) == 0 && json_is_number(v) &&
			    json_number_value(v) != 0)
				fprintf(out, " %s %.4g", key + 5, json_number_value(v));
		fputc('\n', out);
	}
}

void demo_print(const json_t *result, FILE *out)
{
	const json_t *models = json_object_get(result, "models"), *model;
	size_t i;

	fprintf(out, "\n%-18s", "");
	json_array_foreach(models, i, model)
		fprintf(out, "%10s", jx_get_str(model, "name", "?"));
	fputc('\n', out);
	for (size_t f = 0; f < N_FIGURES; f++) {
		fprintf(out, "%-18s", figures[f].title);
		json_array_foreach(models, i, model)
		{
			const json_t *v = json_object_get(model, figures[f].name);

			if (json_is_number(v))
				fprintf(out, "%10.*f", figures[f].decimals,
					json_number_value(v) * figures[f].scale);
			else
				fprintf(out, "%10s", "-");
		}
		fputc('\n', out);
	}
	fprintf(out, "\nhuman demonstrations: true score %.2f\n",
		jx_get_f64(result, "human_score", NAN));
	print_pairs(json_object_get(result, "pairs"), out);
	fprintf(out, "final checkpoint: %s\n%.0f seconds\n", jx_get_str(result, "final_digest", "-"),
		jx_get_f64(result, "seconds", 0));
}
