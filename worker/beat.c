/* The beat: its own thread, so that neither the executor nor an upload can silence it. */
#include "worker/agent.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/str.h"
#include "worker/gpu_guard.h"

#include <string.h>
#include <time.h>

#define POINTS_PER_BEAT 500
#define FRESH_MS 1500 /* News travel sooner than the regular beat, but not more often. */

bool agent_fenced(const struct agent *a)
{
	int64_t limit = a->lease_ms > 20000 ? a->lease_ms - 10000 : a->lease_ms / 2;

	return clk_mono_ms() - a->beat_ok_ms > limit;
}

void agent_wish(struct agent *a, enum wish w)
{
	if (a->job[0] && w > a->wish) {
		a->wish = w;
		if (w == WISH_PREEMPT && !a->drained) {
			a->fresh = true;
			pthread_cond_signal(&a->beat_cond);
		}
		agent_wake(a);
	}
}

/* The first POINTS_PER_BEAT points; they are dropped from the queue when the beat succeeded. */
static json_t *some_points(const struct agent *a)
{
	json_t *list = json_array(), *p;
	size_t i;

	json_array_foreach(a->points, i, p) {
		if (i == POINTS_PER_BEAT)
			break;
		json_array_append(list, p);
	}
	return list;
}

static json_t *make_body(const struct agent *a)
{
	json_t *body = json_pack("{s:s}", "worker", a->id);

	gpu_guard_tell(a->guard, body);
	if (!a->job[0])
		return body;
	json_object_set_new(body, "job", json_string(a->job));
	json_object_set_new(body, "token", json_string(a->token));
	if (a->total > 0)
		json_object_set_new(body, "progress",
				    json_pack("{s:I, s:I, s:s}", "done", (json_int_t)a->done,
					      "total", (json_int_t)a->total, "unit", a->unit));
	json_object_set_new(body, "metrics", some_points(a));
	if (a->pointer)
		json_object_set(body, "checkpoint", a->pointer);
	if (a->wish == WISH_PREEMPT && !a->drained)
		json_object_set_new(body, "notice", json_true());
	json_object_set_new(body, "log_size", json_integer(a->log_size));
	return body;
}

static void obey(struct agent *a, const char *action)
{
	if (strcmp(action, "cancel") == 0) {
		agent_wish(a, WISH_CANCEL);
	} else if (strcmp(action, "pause") == 0) {
		agent_wish(a, WISH_PAUSE);
	} else if (strcmp(action, "drain") == 0) {
		if (!atomic_exchange(&a->leaving, true)) {
			a->drained = true;
			log_info("agent", "drain", "worker=%s", a->id);
		}
		agent_wish(a, WISH_PREEMPT);
		agent_wake(a);
	} else if (strcmp(action, "checkpoint_now") == 0) {
		a->checkpoint_wanted = true;
		agent_wake(a);
	}
}

static bool same_job(const struct agent *a, const json_t *sent)
{
	return strcmp(jx_get_str(sent, "job", ""), a->job) == 0 &&
	       strcmp(jx_get_str(sent, "token", ""), a->token) == 0;
}

static void settle(struct agent *a, const json_t *sent, const json_t *reply)
{
	size_t n = json_array_size(json_object_get(sent, "metrics"));
	const json_t *pointer = json_object_get(sent, "checkpoint");

	a->beat_ok_ms = clk_mono_ms();
	if (!same_job(a, sent))
		return; /* It ended while the beat was on its way; so did the answer's meaning. */
	while (n-- > 0)
		json_array_remove(a->points, 0);
	if (pointer && pointer == a->pointer) {
		json_decref(a->pointer);
		a->pointer = NULL;
	}
	obey(a, jx_get_str(reply, "action", "continue"));
}

/* A stale answer is about the job named in the beat, which may have ended meanwhile. */
static void take_refusal(struct agent *a, const json_t *sent, enum rc rc, const struct err *e)
{
	if (rc == RC_STALE && same_job(a, sent)) {
		log_warn("agent", "stale", "job=%s reason=%s", a->job, e->text);
		agent_wish(a, WISH_DROP);
	} else if (rc == RC_CONFLICT && a->pointer) { /* Its bytes are not there: never beat it again. */
		log_warn("agent", "checkpoint_refused", "job=%s reason=%s", a->job, e->text);
		json_decref(a->pointer);
		a->pointer = NULL;
		a->fresh = true;
	} else if (rc == RC_NOTFOUND) {
		a->lost_identity = true;
		agent_wake(a);
	}
}

enum rc beat_once(struct agent *a, struct err *e)
{
	json_t *reply = NULL;

	pthread_mutex_lock(&a->lock);
	json_t *body = make_body(a);
	bool known = a->id[0] != 0;
	a->fresh = false;
	pthread_mutex_unlock(&a->lock);
	if (!known) {
		json_decref(body);
		return RC_OK;
	}
	enum rc rc = client_post(&a->client, "beat", json_incref(body), a->beat_ms, &reply, e);
	pthread_mutex_lock(&a->lock);
	if (rc == RC_OK)
		settle(a, body, reply);
	else
		take_refusal(a, body, rc, e);
	pthread_cond_broadcast(&a->done_cond);
	pthread_mutex_unlock(&a->lock);
	json_decref(reply);
	json_decref(body);
	return rc;
}

/* Sleeps until the next regular beat (+-20 %), or until there is news worth telling. Lock held. */
static void wait_turn(struct agent *a, int64_t last, int failures)
{
	uint16_t dice;

	random_bytes(&dice, sizeof dice);
	int64_t period = a->beat_ms * 8 / 10 + a->beat_ms * 4 / 10 * dice / 65536;
	if (failures > 0 && client_backoff_ms(failures) < period)
		period = client_backoff_ms(failures);
	while (!a->quit) {
		int64_t waited = clk_mono_ms() - last;
		bool news = a->fresh && failures == 0;
		int64_t left = (news && period > FRESH_MS ? FRESH_MS : period) - waited;
		struct timespec until = clk_after(left);

		if (left <= 0)
			return;
		pthread_cond_timedwait(&a->beat_cond, &a->lock, &until);
	}
}

void *beat_thread(void *agent)
{
	struct agent *a = agent;
	int failures = 0;
	int64_t last = clk_mono_ms();

	for (;;) {
		struct err e = {0};

		pthread_mutex_lock(&a->lock);
		wait_turn(a, last, failures);
		bool quit = a->quit;
		pthread_mutex_unlock(&a->lock);
		if (quit)
			return NULL;
		last = clk_mono_ms();
		enum rc rc = beat_once(a, &e);
		bool away = rc == RC_UNREACHABLE || rc == RC_TIMEOUT;
		if (away && failures++ == 0)
			log_warn("agent", "server_away", "reason=%s", e.text);
		else if (!away && failures > 0)
			log_info("agent", "server_back", "tries=%d", failures);
		failures = away ? failures : 0;
	}
}
