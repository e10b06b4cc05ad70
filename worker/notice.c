#include "worker/notice.h"

#include "base/clk.h"
#include "base/fetch.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/str.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <strings.h>

#define TIMEOUT_MS 3000
#define HANG_MS 70000 /* a hanging question: the service answers after at most 60 s */
#define AWAY_MAX_MS 60000
#define AWS_TOKEN_MAX 200
#define SELF_MAX 128

struct notice_cloud {
	const char *name, *base, *path, *header;
	const char
		*hint; /* another path: 200 says that the machine is likely to be taken; or NULL */
	const char *self; /* another path: how events name this machine; NULL where they concern no
			     other */
	int64_t period_ms, timeout_ms, notice_ms;
	bool aws_token; /* IMDSv2: every question carries a token that is asked for first */
	bool (*taken)(const struct buf *body, const char *self);
};

/* --- answers --------------------------------------------------------------------------------- */

/* Any action (terminate, stop, hibernate) ends our work here. */
static bool aws_taken(const struct buf *body, const char *self)
{
	json_t *v = NULL;
	(void)self;
	bool taken = body->len > 0 &&
		     jx_parse(body->data, body->len, "instance-action", &v, NULL) == RC_OK &&
		     *jx_get_str(v, "action", "");

	json_decref(v);
	return taken;
}

static bool gcp_taken(const struct buf *body, const char *self)
{
	(void)self;
	struct str s = str_trim((struct str){body->data ? body->data : "", body->len});

	return str_eq(s, "TRUE");
}

/* Events of a scale set are told to all its machines. Without resources, or when our name is not
 * known, it may be us. */
static bool azure_means(const json_t *event, const char *self)
{
	const json_t *resources = json_object_get(event, "Resources"), *r;
	size_t i;

	if (!*self || json_array_size(resources) == 0)
		return true;
	json_array_foreach(resources, i,
			   r) if (json_is_string(r) &&
				  strcasecmp(json_string_value(r), self) == 0) return true;
	return false;
}

static bool azure_taken(const struct buf *body, const char *self)
{
	json_t *v = NULL, *event;
	bool taken = false;
	size_t i;

	if (body->len == 0 || jx_parse(body->data, body->len, "scheduledevents", &v, NULL) != RC_OK)
		return false;
	json_array_foreach(json_object_get(v, "Events"), i, event)
	{
		const char *type = jx_get_str(event, "EventType", "");

		taken |= (strcmp(type, "Preempt") == 0 || strcmp(type, "Terminate") == 0) &&
			 azure_means(event, self);
	}
	json_decref(v);
	return taken;
}

static const struct notice_cloud clouds[] = {
	{"aws", "http://169.254.169.254", "/latest/meta-data/spot/instance-action", NULL,
	 "/latest/meta-data/events/recommendations/rebalance", NULL, 1000, TIMEOUT_MS, 120000, true,
	 aws_taken},
	{"gcp", "http://169.254.169.254",
	 "/computeMetadata/v1/instance/preempted?wait_for_change=true&timeout_sec=60",
	 "Metadata-Flavor: Google", NULL, NULL, 100, HANG_MS, 30000, false, gcp_taken},
	{"azure", "http://169.254.169.254", "/metadata/scheduledevents?api-version=2020-07-01",
	 "Metadata: true", NULL,
	 "/metadata/instance/compute/name?api-version=2021-02-01&format=text", 1000, TIMEOUT_MS,
	 30000, false, azure_taken},
};

const struct notice_cloud *notice_cloud_named(const char *name)
{
	for (size_t i = 0; i < sizeof clouds / sizeof *clouds; i++)
		if (strcmp(clouds[i].name, name) == 0)
			return &clouds[i];
	return NULL;
}

int64_t notice_cloud_ms(const struct notice_cloud *c)
{
	return c->notice_ms;
}

const char *notice_cloud_names(void)
{
	return "aws, gcp, azure";
}

bool notice_read(const struct notice_cloud *c, int status, const struct buf *body, const char *self)
{
	return status == 200 && c->taken(body, self);
}

/* --- questions ------------------------------------------------------------------------------- */

/* What the watching thread knows of its cloud. */
struct asker {
	const struct notice *n;
	char token[AWS_TOKEN_MAX + 40]; /* a header; "" before the first */
	char self[SELF_MAX];		/* how events name this machine; "" while nobody says */
	bool taken, hinted;
};

static const char *base_of(const struct asker *a)
{
	return *a->n->url ? a->n->url : a->n->cloud->base;
}

/* For five minutes; the service says 401 when it is over. */
static enum rc renew_token(struct asker *a, struct err *e)
{
	static const char *const ttl[] = {"X-aws-ec2-metadata-token-ttl-seconds: 300", NULL};
	char url[512];
	struct fetch_resp r = {0};

	str_fmt(url, sizeof url, "%s/latest/api/token", base_of(a));
	struct fetch_req q = {.method = "PUT",
			      .url = url,
			      .headers = ttl,
			      .body = "",
			      .timeout_ms = TIMEOUT_MS,
			      .resp_max = 4096};
	enum rc rc = fetch(&q, &r, e);
	struct str t = str_trim((struct str){r.body.data ? r.body.data : "", r.body.len});
	if (rc == RC_OK && (r.status != 200 || t.len == 0 || t.len > AWS_TOKEN_MAX))
		rc = err_set(e, RC_UNREACHABLE, "metadata token: HTTP %d", r.status);
	if (rc == RC_OK)
		str_fmt(a->token, sizeof a->token, "X-aws-ec2-metadata-token: %.*s", (int)t.len,
			t.p);
	fetch_resp_release(&r);
	return rc;
}

static enum rc ask_once(const struct asker *a, const char *path, struct fetch_resp *r,
			struct err *e)
{
	const struct notice_cloud *c = a->n->cloud;
	const char *headers[] = {c->aws_token ? a->token : c->header, NULL};
	char url[768];

	str_fmt(url, sizeof url, "%s%s", base_of(a), path);
	struct fetch_req q = {.method = "GET",
			      .url = url,
			      .headers = headers,
			      .timeout_ms = c->timeout_ms,
			      .resp_max = 1 << 20};
	enum rc rc = fetch(&q, r, e);
	return rc == RC_OK && r->status >= 500
		       ? err_set(e, RC_UNREACHABLE, "metadata service: HTTP %d", r->status)
		       : rc;
}

/* One question; status 200 and a body when there is something to know. */
static enum rc question(struct asker *a, const char *path, struct fetch_resp *r, struct err *e)
{
	bool with_token = a->n->cloud->aws_token;
	enum rc rc = with_token && !*a->token ? renew_token(a, e) : RC_OK;

	if (rc == RC_OK)
		rc = ask_once(a, path, r, e);
	if (rc != RC_OK || !with_token || r->status != 401)
		return rc;
	fetch_resp_release(r);
	rc = renew_token(a, e);
	return rc == RC_OK ? ask_once(a, path, r, e) : rc;
}

/* Once. */
static void ask_self(struct asker *a)
{
	struct fetch_resp r = {0};

	if (!a->n->cloud->self || *a->self)
		return;
	if (question(a, a->n->cloud->self, &r, NULL) == RC_OK && r.status == 200) {
		struct str s = str_trim((struct str){r.body.data ? r.body.data : "", r.body.len});

		if (s.len < SELF_MAX)
			str_fmt(a->self, SELF_MAX, "%.*s", (int)s.len, s.p);
	}
	fetch_resp_release(&r);
}

static enum rc ask(struct asker *a, struct err *e)
{
	const struct notice_cloud *c = a->n->cloud;
	struct fetch_resp r = {0}, hint = {0};
	enum rc rc = question(a, c->path, &r, e);

	if (rc == RC_OK)
		ask_self(a);
	a->taken = rc == RC_OK && notice_read(c, r.status, &r.body, a->self);
	if (rc == RC_OK && !a->taken && c->hint && !a->hinted)
		a->hinted = question(a, c->hint, &hint, NULL) == RC_OK && hint.status == 200;
	fetch_resp_release(&r);
	fetch_resp_release(&hint);
	return rc;
}

static void *watch(void *arg)
{
	const struct notice *n = arg;
	struct asker a = {.n = n};
	int64_t away = 0;

	for (;;) {
		struct err e = {0};
		bool before = a.hinted;

		if (ask(&a, &e) == RC_OK) {
			away = 0;
		} else if (away == 0) {
			log_warn("notice", "no_answer", "cloud=%s reason=%s", n->cloud->name,
				 e.text);
			away = 1000;
		} else {
			away = 2 * away < AWAY_MAX_MS ? 2 * away : AWAY_MAX_MS;
		}
		if (a.taken)
			break;
		if (a.hinted && !before && n->hinted) {
			log_warn("notice", "likely_taken", "cloud=%s", n->cloud->name);
			n->hinted(n->ctx);
		}
		clk_sleep_ms(away > n->cloud->period_ms ? away : n->cloud->period_ms);
	}
	log_warn("notice", "machine_is_taken", "cloud=%s", n->cloud->name);
	n->taken(n->ctx);
	return NULL;
}

void notice_watch(const struct notice *n)
{
	pthread_t t;
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&t, NULL, watch, (void *)n) == 0)
		pthread_detach(t);
	else
		log_error("notice", "no_thread", "cloud=%s", n->cloud->name);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}
