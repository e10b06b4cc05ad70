/* What the stage `protegi` leaves: candidates, trials, the winning template, and figures. */
#include "worker/stages/protegi.h"

#include "base/jsonx.h"
#include "base/log.h"

static const char *const hows[] = {"start", "edit", "paraphrase"};

static json_t *name_of(int candidate)
{
	return candidate < 0 ? json_null() : json_sprintf("c%d", candidate);
}

static json_t *mean_json(const struct protegi_arm *a)
{
	return a->pairs > 0 ? json_real(protegi_mean(a)) : json_null();
}

static const char *state_of(const struct protegi *s, int i, int winner)
{
	if (i == winner)
		return "winner";
	for (int k = 0; k < s->n_beam; k++)
		if (s->beam[k] == i)
			return "beam";
	return s->list[i].refused ? "refused" : s->list[i].raced ? "dropped" : "not drawn";
}

static json_t *candidate_json(const struct protegi *s, int i, int winner)
{
	const struct protegi_candidate *c = &s->list[i];

	return json_pack(
		"{s:o, s:o, s:i, s:s, s:s, s:s, s:s?, s:s?, s:I, s:I, s:I, s:o, s:s, s:o, s:I}",
		"id", name_of(i), "parent", name_of(c->parent), "round", c->round, "how",
		hows[c->how], "text", c->text, "sha256", c->tmpl.sha256, "reason", c->reason, "why",
		c->refused, "trials", (json_int_t)c->arm.n, "pairs", (json_int_t)c->arm.pairs,
		"right", (json_int_t)c->arm.right, "score", mean_json(&c->arm), "state",
		state_of(s, i, winner), "held_out", mean_json(&c->held), "held_out_pairs",
		(json_int_t)c->held.pairs);
}

/* Who judged, who wrote, what was tried. */
static json_t *meta_of(const struct protegi *s, int winner)
{
	const struct protegi_candidate *c = &s->list[winner];
	const json_t *writer = json_object_get(s->c, "writer");
	json_t *meta =
		json_pack("{s:o, s:s, s:s, s:s, s:o, s:o, s:o, s:I, s:I}", "judge",
			  judging_identity(&s->judging), "writer",
			  jx_get_str(writer, "kind", "model"), "start", s->list[0].tmpl.sha256,
			  "sha256", c->tmpl.sha256, "winner", name_of(winner), "held_out_start",
			  mean_json(&s->list[0].held), "held_out", mean_json(&c->held),
			  "evaluations", (json_int_t)s->spent, "budget", (json_int_t)s->budget);

	if (s->judge_model)
		textgen_meta(s->judge_model, meta);
	return meta;
}

static void figures(struct protegi *s, int winner)
{
	const struct protegi_candidate *first = &s->list[0], *best = &s->list[winner];
	int refused = 0;

	for (int i = 0; i < s->n; i++)
		refused += s->list[i].refused != NULL;
	stage_final(s->ctx, "protegi.candidates", json_integer(s->n));
	stage_final(s->ctx, "protegi.refused", json_integer(refused));
	stage_final(s->ctx, "protegi.doubles", json_integer(s->doubles));
	stage_final(s->ctx, "protegi.silent", json_integer(s->silent));
	stage_final(s->ctx, "protegi.evaluations", json_integer(s->spent));
	stage_final(s->ctx, "protegi.train_start", mean_json(&first->arm));
	stage_final(s->ctx, "protegi.train", mean_json(&best->arm));
	stage_final(s->ctx, "protegi.held_out_start", mean_json(&first->held));
	stage_final(s->ctx, "protegi.held_out", mean_json(&best->held));
	stage_final(s->ctx, "protegi.held_out_pairs", json_integer(best->held.pairs));
	stage_final(s->ctx, "protegi.winner", name_of(winner));
	stage_final(s->ctx, "protegi.template", json_string(best->tmpl.sha256));
	asker_report(&s->judging.asker, s->ctx, "judge");
	if (!s->writer_is_command)
		asker_report(&s->writer, s->ctx, "writer");
	if (s->judge_model)
		textgen_report(s->judge_model);
}

enum rc protegi_report(struct protegi *s, int winner, struct err *e)
{
	json_t *rows = json_array(), *chosen = json_array();
	const struct protegi_candidate *best = &s->list[winner];

	if (best->held.pairs == 0)
		log_warn("protegi", "nothing held out to measure by", "rows=0");
	if (s->n == 1)
		log_warn("protegi", "the writer wrote nothing that could be used", "silent=%lld",
			 (long long)s->silent);
	for (int i = 0; i < s->n; i++)
		json_array_append_new(rows, candidate_json(s, i, winner));
	json_array_append_new(chosen, json_pack("{s:o, s:s, s:o}", "template",
						judge_template_json(&best->tmpl), "sha256",
						best->tmpl.sha256, "candidate", name_of(winner)));
	figures(s, winner);
	enum rc rc = stage_rows_finish(&s->log, meta_of(s, winner), e);
	if (rc == RC_OK)
		rc = stage_rows_put(s->ctx, "candidates", rows, meta_of(s, winner), e);
	if (rc == RC_OK)
		rc = stage_rows_put(s->ctx, "template", chosen, meta_of(s, winner), e);
	json_decref(rows);
	json_decref(chosen);
	return rc;
}
