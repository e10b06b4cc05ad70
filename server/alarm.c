#include "server/alarm.h"

#include "base/jsonx.h"
#include "base/log.h"
#include "queue/queue.h"
#include "server/decision.h"
#include "server/server.h"

#include <string.h>

static bool asked_for(struct server *s, const char *run, bool *paused, struct err *e)
{
	json_t *info = NULL;
	bool yes = false;

	*paused = false;
	if (queue_run(s->queue, run, &info, e) == RC_OK) {
		const json_t *spec = json_object_get(json_object_get(info, "record"), "spec");

		yes = jx_get_bool(json_object_get(spec, "health"), "pause", false);
		*paused = strcmp(jx_get_str(info, "state", ""), "paused") == 0;
	}
	json_decref(info);
	return yes;
}

enum rc alarm_check(struct server *s, const char *run, const char *job, const json_t *metrics,
		    struct err *e)
{
	const char *why = jx_get_str(metrics, "alarm", NULL);
	bool paused;

	if (!why)
		return RC_OK;
	log_warn("alarm", "judge", "job=%s why=\"%s\"", job, why);
	if (!asked_for(s, run, &paused, e) || paused)
		return RC_OK;
	json_t *detail = json_pack("{s:s, s:s}", "why", why, "job", job);
	enum rc rc = decision_make(s, run, "pause", NULL, detail, &(struct decider){"alarm", NULL}, e);
	json_decref(detail);
	return rc == RC_CONFLICT ? RC_OK : rc; /* It ended, or somebody was faster. */
}

json_t *alarm_reason(struct server *s, const char *run)
{
	json_t *all = NULL, *d, *why = NULL;
	size_t i;

	if (decision_list(s, run, &all, NULL) != RC_OK)
		return NULL;
	json_array_foreach(all, i, d) {
		const char *what = jx_get_str(d, "what", "");

		if (json_object_get(d, "job") || (strcmp(what, "pause") && strcmp(what, "resume") &&
						  strcmp(what, "drain")))
			continue;
		why = strcmp(what, "pause") == 0 ? json_object_get(d, "detail") : NULL;
	}
	why = json_object_get(why, "why") ? json_incref(why) : NULL;
	json_decref(all);
	return why;
}
