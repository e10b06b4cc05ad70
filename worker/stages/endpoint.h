/* A judge behind an OpenAI-compatible address ("POST {url}/chat/completions").
 *
 * Time-outs, lost connections, 429 and 5xx are tried again after a pause (what Retry-After says, else
 * twice as long each time); an answer that is no valid JSON or holds no text likewise. Who stays
 * unreachable ends the run of calls with an error, so that the job is tried again later: no item is
 * lost to an outage. A call whose answers stay unreadable is left without an answer.
 * Charges are what accepted answers say of their tokens: each call counts once, whatever was tried
 * for it; every try of a call carries the same Idempotency-Key. The key of the endpoint is read from a
 * file and goes nowhere but into the Authorization header.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct stage_ctx;
struct endpoint;

struct endpoint_call {
	const char *system, *user; /* borrowed; system may be NULL */
	double temperature, top_p;
	int max_new;
	uint64_t name;             /* of the call's random stream: its seed, and part of its key */
	/* results */
	char *text;                /* owned; NULL: no answer, after all tries */
	bool stopped;              /* ended by itself, not by its length */
	int64_t prompt_tokens, completion_tokens, tries;
};

/* c: {"url","model","key_file","timeout_s","retries","backoff_ms","per_minute","parallel","price_in",
 * "price_out"}; prices are per million tokens. Borrows both. */
enum rc endpoint_open(const struct stage_ctx *ctx, const json_t *c, struct endpoint **out,
		      struct err *e);
void endpoint_close(struct endpoint *ep);
/* Fills the results. RC_UNREACHABLE or RC_TIMEOUT: try the job again; RC_INVALID: it is refused;
 * RC_CANCELLED: the job must stop. Texts made so far are kept in any case, for the caller to free. */
enum rc endpoint_run(struct endpoint *ep, struct endpoint_call *calls, int n, struct err *e);
/* {"url","model"}: who that is; new reference. */
json_t *endpoint_json(const struct endpoint *ep);
/* {"calls","answers","prompt_tokens","completion_tokens","tries","timeouts","limited","errors",
 * "malformed","cost"}, of all runs and those loaded; new reference. */
json_t *endpoint_charges(const struct endpoint *ep);
void endpoint_charges_load(struct endpoint *ep, const json_t *v);
