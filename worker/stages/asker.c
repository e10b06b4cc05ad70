#include "worker/stages/asker.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/stage.h"
#include "worker/stages/endpoint.h"

#include <stdlib.h>

enum rc asker_open(struct asker *a, const struct stage_ctx *ctx, struct textgen *gen,
		   const json_t *http, struct err *e)
{
	*a = (struct asker){.ctx = ctx, .gen = gen};
	return gen ? RC_OK : endpoint_open(ctx, http, &a->ep, e);
}

void asker_close(struct asker *a)
{
	endpoint_close(a->ep);
	a->ep = NULL;
}

static enum rc by_model(struct asker *a, struct asker_q *q, int n, struct err *e)
{
	int *index = mem_array((size_t)n + 1, sizeof *index);
	enum rc rc = RC_OK;

	textgen_clear(a->gen);
	for (int i = 0; rc == RC_OK && i < n; i++) {
		struct buf prompt = BUF_INIT;

		if (q[i].plain)
			buf_puts(&prompt, q[i].plain);
		else
			judge_template_whole(q[i].tmpl, &q[i].shown, &prompt);
		struct textgen_req r = {.prompt = prompt.data,
					.sampling = q[i].sampling,
					.stage = q[i].stage,
					.iter = q[i].iter,
					.item = q[i].item,
					.sample = q[i].sample,
					.n = 1};
		rc = textgen_add(a->gen, &r, &index[i], e);
		buf_release(&prompt);
	}
	if (rc == RC_OK && n > 0)
		rc = textgen_run(a->gen, e);
	for (int i = 0; rc == RC_OK && i < n; i++) {
		const struct textgen_result *r = textgen_result(a->gen, index[i], 0);

		free(q[i].text);
		q[i].text = mem_str(r->text);
		q[i].stopped = r->stopped;
		q[i].too_long = r->too_long;
		q[i].answered = true;
	}
	free(index);
	return rc;
}

static uint64_t name_of(const struct asker_q *q)
{
	return q->item ^ ((uint64_t)q->sample << 32 | (uint64_t)q->stage << 24 | q->iter) *
				 UINT64_C(0x9e3779b97f4a7c15);
}

static enum rc by_endpoint(struct asker *a, struct asker_q *q, int n, struct err *e)
{
	struct endpoint_call *calls = mem_array((size_t)n + 1, sizeof *calls);
	struct buf *prompts = mem_array((size_t)n + 1, sizeof *prompts);

	for (int i = 0; i < n; i++) {
		if (q[i].plain)
			buf_puts(&prompts[i], q[i].plain);
		else
			judge_template_fill(q[i].tmpl, &q[i].shown, &prompts[i]);
		calls[i] = (struct endpoint_call){.system = q[i].plain ? NULL : q[i].tmpl->system,
						  .user = prompts[i].data,
						  .temperature = (double)q[i].sampling.temperature,
						  .top_p = (double)q[i].sampling.top_p,
						  .max_new = q[i].sampling.max_new,
						  .name = name_of(&q[i])};
	}
	enum rc rc = endpoint_run(a->ep, calls, n, e);
	for (int i = 0; i < n; i++) {
		free(q[i].text);
		q[i].answered = calls[i].text != NULL;
		q[i].text = calls[i].text ? calls[i].text : mem_str("");
		q[i].stopped = calls[i].stopped;
		buf_release(&prompts[i]);
	}
	free(prompts);
	free(calls);
	return rc;
}

enum rc asker_run(struct asker *a, struct asker_q *q, int n, struct err *e)
{
	return a->gen ? by_model(a, q, n, e) : by_endpoint(a, q, n, e);
}

void asker_release(struct asker_q *q, int n)
{
	for (int i = 0; i < n; i++) {
		free(q[i].text);
		q[i].text = NULL;
	}
}

json_t *asker_charges(const struct asker *a)
{
	return a->ep ? endpoint_charges(a->ep) : NULL;
}

void asker_charges_load(struct asker *a, const json_t *v)
{
	if (a->ep && v)
		endpoint_charges_load(a->ep, v);
}

void asker_report(const struct asker *a, struct stage_ctx *ctx, const char *prefix)
{
	json_t *charges = asker_charges(a), *v;
	const char *key;
	char name[64];

	json_object_foreach(charges, key, v) {
		str_fmt(name, sizeof name, "%s.%s", prefix, key);
		stage_final(ctx, name, json_incref(v));
	}
	json_decref(charges);
}
