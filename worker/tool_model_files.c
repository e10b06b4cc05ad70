/* pawl-worker model info, export: what is in a model directory, and the same for others. */
#include "worker/tool_model.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/model/dtype.h"
#include "worker/model/lora.h"
#include "worker/model/model_source.h"
#include "worker/model/weights.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static json_t *fitting_templates(const struct tokenizer *tok)
{
	json_t *out = json_object();
	char sha[SHA256_HEX_SIZE];

	for (const char *const *name = template_names(); *name; name++) {
		struct template *t;
		if (template_open(*name, tok, &t, NULL) || template_sha256(*name, sha, NULL))
			continue;
		json_object_set_new(out, *name, json_string(sha));
		template_free(t);
	}
	return out;
}

/* The chat template that came with the model, as text; heap, NULL when there is none. */
static char *own_template(const char *dir)
{
	char path[PATH_MAX];
	json_t *config = NULL, *v, *named;
	struct buf b = BUF_INIT;
	char *text = NULL;
	size_t i;

	str_fmt(path, sizeof(path), "%.4000s/chat_template.jinja", dir);
	if (fs_read(path, 1 << 20, &b, NULL) == RC_OK)
		text = mem_strn(b.data ? b.data : "", b.len);
	buf_release(&b);
	str_fmt(path, sizeof(path), "%.4000s/tokenizer_config.json", dir);
	if (text || jx_load(path, 4 << 20, &config, NULL))
		return text;
	v = json_object_get(config, "chat_template");
	if (json_is_string(v))
		text = mem_str(json_string_value(v));
	json_array_foreach(v, i, named) {
		if (!text && !strcmp(jx_get_str(named, "name", ""), "default"))
			text = mem_str(jx_get_str(named, "template", ""));
	}
	json_decref(config);
	return text;
}

static json_t *tokenizer_json(const struct tokenizer *t)
{
	return json_pack("{s:s,s:i,s:i,s:i,s:i}", "kind", tokenizer_kind(t), "vocab",
			 tokenizer_vocab(t), "bos", tokenizer_bos(t), "eos", tokenizer_eos(t),
			 "unk", tokenizer_unk(t));
}

static json_t *rope_json(const struct model_config *c)
{
	json_t *o = model_config_json(c), *out = json_object();

	json_object_set(out, "theta", json_object_get(o, "rope_theta"));
	json_object_set(out, "scaling", json_object_get(o, "rope_scaling"));
	json_decref(o);
	return out;
}

static json_t *weights_json(const struct model_source *s)
{
	const struct model *m = s->layout;
	enum st_dtype t = model_source_dtype(s);
	json_int_t bytes = 0;

	for (int i = 0; i < m->n_tensors; i++)
		bytes += (json_int_t)s->at[i]->size_bytes;
	return json_pack("{s:s,s:I,s:I,s:i,s:i}", "dtype",
			 t == ST_DTYPES ? "mixed" : st_dtype_name(t), "bytes", bytes,
			 "bytes_as_f32", (json_int_t)m->n_weights * 4, "tensors", m->n_tensors,
			 "files", (int)st_files(s->files));
}

/* What generating with it takes, for each format of the weights it can have. */
static json_t *plans_json(const struct model_config *c, const struct tool_args *a)
{
	json_t *v = json_object();

	for (int f = KERN_F32; f <= KERN_Q8; f++) {
		struct infer_opts o = {.weights = (enum kern_format)f, .kv_tokens = a->kv_tokens};
		struct infer_plan p;

		if (weights_check(c, kern_cpu(), o.weights, NULL) != RC_OK)
			continue;
		p = infer_plan(c, kern_cpu(), 1, &o);
		json_object_set_new(v, weights_format_name(o.weights),
				    json_pack("{s:I, s:I, s:I, s:I}", "weights",
					      (json_int_t)p.weights, "cache", (json_int_t)p.cache,
					      "activations", (json_int_t)p.activations, "total",
					      (json_int_t)p.total));
	}
	return v;
}

enum rc tool_info(struct tool_session *s, struct err *e)
{
	struct model_source src;
	const struct model_config *c;
	enum rc rc = model_source_open(s->args.model, &src, e);

	if (!rc)
		rc = tokenizer_load(s->args.model, &s->tok, e);
	if (rc) {
		model_source_close(&src);
		return rc;
	}
	c = &src.layout->cfg;
	char *own = own_template(s->args.model);
	json_t *v =
		json_pack("{s:s,s:I,s:i,s:b,s:o,s:o,s:o,s:o,s:o,s:s}", "family", c->arch,
			  "parameters", (json_int_t)src.layout->n_weights, "context", c->max_pos,
			  "tied", c->tied, "rope", rope_json(c), "weights", weights_json(&src),
			  "config", model_config_json(c), "tokenizer", tokenizer_json(s->tok),
			  "templates", fitting_templates(s->tok), "kernels", kern_cpu()->name);
	json_object_set_new(v, "memory_bytes", plans_json(c, &s->args));
	json_object_set_new(v, "sliding_window",
			    c->sliding_window ? json_integer(c->sliding_window) : json_null());
	json_object_set_new(v, "template_guess", json_string(template_guess(s->tok, own)));
	tool_print(v);
	free(own);
	model_source_close(&src);
	return RC_OK;
}

enum rc tool_export(struct tool_session *s, struct err *e)
{
	const struct tool_args *a = &s->args;
	struct export_opts o = {.dtype = ST_F32, .shard_bytes_max = (size_t)a->max_shard_bytes};
	struct export_report r;
	enum rc rc;

	if (!a->out)
		return err_set(e, RC_INVALID, "--out DIR is missing");
	if (a->dtype && !dtype_named(a->dtype, &o.dtype))
		return err_set(e, RC_INVALID, "--dtype: \"%s\" is not f32, bf16 or f16", a->dtype);
	rc = model_export(a->model, a->out, &o, &r, e);
	if (!rc)
		tool_print(json_pack("{s:s,s:s,s:i,s:I}", "out", a->out, "dtype",
				     st_dtype_name(o.dtype), "files", r.n_files, "bytes",
				     (json_int_t)r.total_bytes));
	return rc;
}

enum rc tool_merge(struct tool_session *s, struct err *e)
{
	const struct tool_args *a = &s->args;
	struct model *m = NULL;
	struct lora *l = NULL;
	enum rc rc;

	if (!a->out || !a->adapter)
		return err_set(e, RC_INVALID, "--%s DIR is missing", a->out ? "adapter" : "out");
	if (fs_exists(a->out))
		return err_set(e, RC_CONFLICT, "%s is there already", a->out);
	rc = model_load(a->model, &m, e);
	if (rc == RC_OK)
		rc = lora_load(a->adapter, &m->cfg, &l, e);
	if (rc == RC_OK) {
		struct kern_pool *threads = kern_pool_new((int)a->threads);

		lora_merge(l, m, kern_cpu(), threads);
		kern_pool_free(threads);
		rc = model_save(m, a->out, e);
	}
	if (rc == RC_OK)
		tool_print(json_pack("{s:s, s:i, s:I}", "out", a->out, "rank", l->s.r,
				     "adapter_parameters", (json_int_t)l->n_weights));
	lora_free(l);
	model_free(m);
	return rc;
}
