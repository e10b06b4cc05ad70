#include "worker/stages/endpoint.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fetch.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"
#include "worker/stage.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define KEY_BYTES_MAX 4096
#define ANSWER_BYTES_MAX ((size_t)16 << 20)
#define PAUSE_MS_MAX 60000
#define NAP_MS 50 /* a stop is noticed after so long */
#define PARALLEL_MAX 64

/* What may happen to a try. */
enum fate { GOOD, TIMEOUT, LIMITED, FAILED, MALFORMED, REFUSED, N_FATES };

struct endpoint {
	const struct stage_ctx *ctx; /* borrowed */
	const char *model;           /* borrowed from the settings */
	char *url, *key;             /* owned */
	int64_t timeout_ms, backoff_ms, per_minute;
	int retries, parallel;
	double price_in, price_out;
	int64_t calls, answers, prompt_tokens, completion_tokens, tries, fates[N_FATES];
	/* while a run is on */
	pthread_mutex_t lock;
	struct endpoint_call *list;  /* borrowed */
	int n, next;
	int64_t free_at_ms;          /* no request before: rate limit, Retry-After */
	bool stop;
	struct err first;            /* why the run ends early */
};

enum rc endpoint_open(const struct stage_ctx *ctx, const json_t *c, struct endpoint **out,
		      struct err *e)
{
	const char *url = jx_get_str(c, "url", ""), *file = jx_get_str(c, "key_file", "");
	size_t len = strlen(url);
	struct endpoint *ep;
	struct buf key = BUF_INIT;

	*out = NULL;
	if (!str_starts(url, "http://") && !str_starts(url, "https://"))
		return err_set(e, RC_INVALID, "endpoint: url \"%.100s\" must begin with http:// or "
			       "https://", url);
	if (ctx->ranks.n > 1)
		return err_set(e, RC_INVALID, "endpoint: a job of %d ranks would ask as many times",
			       ctx->ranks.n);
	if (*file && fs_read(file, KEY_BYTES_MAX, &key, e) != RC_OK)
		return err_wrap(e, "endpoint: key_file");
	ep = mem_new(sizeof *ep);
	pthread_mutex_init(&ep->lock, NULL);
	ep->ctx = ctx;
	while (len > 0 && url[len - 1] == '/')
		len--;
	ep->url = mem_printf("%.*s/chat/completions", (int)len, url);
	struct str trimmed = str_trim((struct str){key.data ? key.data : "", key.len});
	ep->key = mem_strn(trimmed.p, trimmed.len);
	buf_release(&key);
	ep->model = jx_get_str(c, "model", "");
	ep->timeout_ms = jx_get_i64(c, "timeout_s", 120) * 1000;
	ep->backoff_ms = jx_get_i64(c, "backoff_ms", 1000);
	ep->per_minute = jx_get_i64(c, "per_minute", 0);
	ep->retries = (int)jx_get_i64(c, "retries", 8);
	ep->parallel = (int)jx_get_i64(c, "parallel", 4);
	if (ep->parallel < 1 || ep->parallel > PARALLEL_MAX)
		ep->parallel = ep->parallel < 1 ? 1 : PARALLEL_MAX;
	ep->price_in = jx_get_f64(c, "price_in", 0);
	ep->price_out = jx_get_f64(c, "price_out", 0);
	*out = ep;
	return RC_OK;
}

void endpoint_close(struct endpoint *ep)
{
	if (!ep)
		return;
	pthread_mutex_destroy(&ep->lock);
	free(ep->url);
	if (ep->key)
		memset(ep->key, 0, strlen(ep->key));
	free(ep->key);
	free(ep);
}

/* --- one request ----------------------------------------------------------------------------- */

static char *body_of(const struct endpoint *ep, const struct endpoint_call *c)
{
	json_t *messages = json_array(), *body;
	char *text;

	if (c->system && *c->system)
		json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "system", "content",
							  c->system));
	json_array_append_new(messages,
			      json_pack("{s:s, s:s}", "role", "user", "content", c->user));
	body = json_pack("{s:s, s:o, s:f, s:f, s:i, s:I}", "model", ep->model, "messages", messages,
			 "temperature", c->temperature, "top_p", c->top_p, "max_tokens", c->max_new,
			 "seed", (json_int_t)(c->name & 0x7fffffff));
	text = jx_text(body);
	json_decref(body);
	return text;
}

static int64_t usage(const json_t *answer, const char *key)
{
	int64_t n = jx_get_i64(json_object_get(answer, "usage"), key, 0);

	return n > 0 ? n : 0;
}

static enum fate read_answer(struct endpoint_call *c, const struct buf *body)
{
	json_t *answer = NULL, *choice;
	const char *text, *finish;

	if (jx_parse(body->data ? body->data : "", body->len, "answer", &answer, NULL) != RC_OK)
		return MALFORMED;
	choice = json_array_get(json_object_get(answer, "choices"), 0);
	text = jx_get_str(json_object_get(choice, "message"), "content", NULL);
	finish = jx_get_str(choice, "finish_reason", "stop");
	if (text) {
		c->text = mem_str(text);
		c->stopped = strcmp(finish, "stop") == 0;
		c->prompt_tokens = usage(answer, "prompt_tokens");
		c->completion_tokens = usage(answer, "completion_tokens");
	}
	json_decref(answer);
	return text ? GOOD : MALFORMED;
}

static enum fate fate_of(struct endpoint_call *c, enum rc rc, const struct fetch_resp *r, struct err *e)
{
	if (rc == RC_TIMEOUT)
		return TIMEOUT;
	if (rc != RC_OK)
		return rc == RC_UNREACHABLE ? FAILED : REFUSED;
	if (r->status == 200)
		return read_answer(c, &r->body);
	err_set(e, r->status == 429 || r->status >= 500 ? RC_UNREACHABLE : RC_INVALID,
		"endpoint: status %d: %.200s", r->status, r->body.data ? r->body.data : "");
	if (r->status == 429)
		return LIMITED;
	return r->status >= 500 || r->status == 408 || r->status == 409 || r->status == 425 ? FAILED
											    : REFUSED;
}

static enum fate one_try(const struct endpoint *ep, struct endpoint_call *c, const char *body,
			 int64_t *retry_after_s, struct err *e)
{
	char sha[SHA256_HEX_SIZE], name[32], header[128];
	struct buf id = BUF_INIT;
	struct fetch_resp r;

	str_fmt(name, sizeof name, "%016llx", (unsigned long long)c->name);
	buf_printf(&id, "%s/%s/%s", ep->ctx->run ? ep->ctx->run : "", name, body);
	sha256_of(id.data, id.len, sha);
	buf_release(&id);
	str_fmt(header, sizeof header, "Idempotency-Key: %s", sha);
	struct fetch_req q = {.method = "POST",
			      .url = ep->url,
			      .token = ep->key,
			      .headers = (const char *const[]){header, NULL},
			      .body = body,
			      .body_len = strlen(body),
			      .timeout_ms = ep->timeout_ms,
			      .resp_max = ANSWER_BYTES_MAX};
	enum fate f = fate_of(c, fetch(&q, &r, e), &r, e);
	*retry_after_s = r.retry_after_s;
	fetch_resp_release(&r);
	return f;
}

/* --- the calls of a run ---------------------------------------------------------------------- */

static bool must_stop(struct endpoint *ep)
{
	pthread_mutex_lock(&ep->lock);
	bool stop = ep->stop;
	pthread_mutex_unlock(&ep->lock);
	return stop || stage_must_abort((struct stage_ctx *)(uintptr_t)ep->ctx);
}

/* Waits for the endpoint's next free moment and takes it; false: the job must stop. */
static bool take_turn(struct endpoint *ep)
{
	for (;;) {
		int64_t now = clk_mono_ms(), wait;

		if (must_stop(ep))
			return false;
		pthread_mutex_lock(&ep->lock);
		wait = ep->free_at_ms - now;
		if (wait <= 0 && ep->per_minute > 0)
			ep->free_at_ms = now + 60000 / ep->per_minute;
		pthread_mutex_unlock(&ep->lock);
		if (wait <= 0)
			return true;
		clk_sleep_ms(wait < NAP_MS ? wait : NAP_MS);
	}
}

static bool nap(struct endpoint *ep, int64_t ms)
{
	int64_t until = clk_mono_ms() + ms;

	while (clk_mono_ms() < until) {
		if (must_stop(ep))
			return false;
		int64_t left = until - clk_mono_ms();
		clk_sleep_ms(left < NAP_MS ? left : NAP_MS);
	}
	return true;
}

static void count(struct endpoint *ep, enum fate f, int64_t retry_after_s)
{
	pthread_mutex_lock(&ep->lock);
	ep->tries++;
	ep->fates[f]++;
	if (f == LIMITED && retry_after_s > 0) {
		int64_t ms = retry_after_s * 1000 < PAUSE_MS_MAX ? retry_after_s * 1000 : PAUSE_MS_MAX;
		if (ep->free_at_ms < clk_mono_ms() + ms)
			ep->free_at_ms = clk_mono_ms() + ms;
	}
	pthread_mutex_unlock(&ep->lock);
}

static void give_up(struct endpoint *ep, const struct err *e)
{
	pthread_mutex_lock(&ep->lock);
	if (!ep->stop) {
		ep->stop = true;
		ep->first = *e;
	}
	pthread_mutex_unlock(&ep->lock);
}

static void one_call(struct endpoint *ep, struct endpoint_call *c)
{
	char *body = body_of(ep, c);
	int64_t pause = ep->backoff_ms, after = -1;
	struct err e = {0};

	for (int k = 0; k <= ep->retries; k++) {
		if (!take_turn(ep))
			break;
		enum fate f = one_try(ep, c, body, &after, &e);
		c->tries++;
		count(ep, f, after);
		if (f == GOOD)
			break;
		if (f == REFUSED || (f != MALFORMED && k == ep->retries)) {
			if (f != REFUSED) /* The job goes back and is tried again. */
				e.code = f == TIMEOUT ? RC_TIMEOUT : RC_UNREACHABLE;
			give_up(ep, &e);
			break;
		}
		if (k < ep->retries && !nap(ep, pause))
			break;
		pause = 2 * pause < PAUSE_MS_MAX ? 2 * pause : PAUSE_MS_MAX;
	}
	free(body);
}

static void *caller(void *arg)
{
	struct endpoint *ep = arg;

	for (;;) {
		pthread_mutex_lock(&ep->lock);
		int i = ep->stop ? ep->n : ep->next++;
		pthread_mutex_unlock(&ep->lock);
		if (i >= ep->n || must_stop(ep))
			return NULL;
		one_call(ep, &ep->list[i]);
	}
}

enum rc endpoint_run(struct endpoint *ep, struct endpoint_call *calls, int n, struct err *e)
{
	pthread_t threads[PARALLEL_MAX];
	int started = 0, want = n < ep->parallel ? n : ep->parallel;

	ep->list = calls;
	ep->n = n;
	ep->next = 0;
	ep->stop = false;
	while (started < want - 1 &&
	       pthread_create(&threads[started], NULL, caller, ep) == 0)
		started++;
	caller(ep);
	for (int i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	if (ep->stop) {
		if (e)
			*e = ep->first;
		return ep->first.code;
	}
	if (stage_must_abort((struct stage_ctx *)(uintptr_t)ep->ctx))
		return stage_stopped(ep->ctx, e);
	ep->calls += n;
	for (int i = 0; i < n; i++) { /* In order, after all is known: sums do not depend on who was first. */
		ep->answers += calls[i].text != NULL;
		ep->prompt_tokens += calls[i].prompt_tokens;
		ep->completion_tokens += calls[i].completion_tokens;
	}
	return RC_OK;
}

/* --- accounts -------------------------------------------------------------------------------- */

json_t *endpoint_json(const struct endpoint *ep)
{
	return json_pack("{s:s, s:s}", "url", ep->url, "model", ep->model);
}

json_t *endpoint_charges(const struct endpoint *ep)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "calls",
			 (json_int_t)ep->calls, "answers", (json_int_t)ep->answers, "prompt_tokens",
			 (json_int_t)ep->prompt_tokens, "completion_tokens",
			 (json_int_t)ep->completion_tokens, "tries", (json_int_t)ep->tries, "timeouts",
			 (json_int_t)ep->fates[TIMEOUT], "limited", (json_int_t)ep->fates[LIMITED],
			 "errors", (json_int_t)ep->fates[FAILED], "malformed",
			 (json_int_t)ep->fates[MALFORMED], "cost",
			 ((double)ep->prompt_tokens * ep->price_in +
			  (double)ep->completion_tokens * ep->price_out) / 1e6);
}

void endpoint_charges_load(struct endpoint *ep, const json_t *v)
{
	ep->calls = jx_get_i64(v, "calls", 0);
	ep->answers = jx_get_i64(v, "answers", 0);
	ep->prompt_tokens = jx_get_i64(v, "prompt_tokens", 0);
	ep->completion_tokens = jx_get_i64(v, "completion_tokens", 0);
	ep->tries = jx_get_i64(v, "tries", 0);
	ep->fates[TIMEOUT] = jx_get_i64(v, "timeouts", 0);
	ep->fates[LIMITED] = jx_get_i64(v, "limited", 0);
	ep->fates[FAILED] = jx_get_i64(v, "errors", 0);
	ep->fates[MALFORMED] = jx_get_i64(v, "malformed", 0);
}
