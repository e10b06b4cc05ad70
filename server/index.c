#include "server/index.h"

#include "base/jsonx.h"
#include "base/sha256.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/server.h"
#include "store/artifact.h"

#include <string.h>

#define NS_ARTIFACT "artifact"
#define READS_MAX 8

bool kind_valid(const char *kind)
{
	static const char *const kinds[] = {"checkpoint", "train_state", "dataset", "progress"};

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (strcmp(kinds[i], kind) == 0)
			return true;
	return false;
}

bool kind_is_weights(const char *kind)
{
	return strcmp(kind, "checkpoint") == 0 || strcmp(kind, "train_state") == 0;
}

enum rc index_put(struct server *s, const char *digest, const json_t *entry, struct err *e)
{
	return queue_kv_put(s->queue, NS_ARTIFACT, digest, entry, 0, e);
}

/* What the archive says of itself. */
static enum rc from_archive(struct server *s, const char *digest, json_t **entry, struct err *e)
{
	struct artifact *a = NULL;
	enum rc rc = store_has(s->store, digest, NULL, e);

	if (!rc)
		rc = artifact_open(s->store, digest, &a, e);
	if (rc)
		return rc;
	*entry = json_pack("{s:s, s:I, s:s, s:O?}", "digest", digest, "size",
			   (json_int_t)a->size_bytes, "kind", a->kind, "meta", a->meta);
	if (a->n_volumes)
		json_object_set(*entry, "volumes", json_object_get(a->manifest, "volumes"));
	artifact_close(a);
	return RC_OK;
}

enum rc index_get(struct server *s, const char *digest, json_t **entry, struct err *e)
{
	enum rc rc;

	if (!sha256_hex_valid(digest))
		return err_set(e, RC_NOTFOUND, "no artifact \"%.80s\"", digest);
	rc = queue_kv_get(s->queue, NS_ARTIFACT, digest, entry, e);
	return rc == RC_NOTFOUND ? from_archive(s, digest, entry, e) : rc;
}

enum rc index_manifest(struct server *s, const json_t *m, struct err *e)
{
	const json_t *out;
	size_t i;
	enum rc rc = RC_OK;

	json_array_foreach(json_object_get(m, "outputs"), i, out)
	{
		json_t *entry = json_deep_copy(out);

		json_object_set(entry, "run", json_object_get(m, "run"));
		json_object_set(entry, "job", json_object_get(m, "job"));
		json_object_set(entry, "stage", json_object_get(m, "stage"));
		json_object_set(entry, "iter", json_object_get(m, "iter"));
		json_object_set(entry, "created_ms", json_object_get(m, "ended_ms"));
		json_object_set(entry, "inputs", json_object_get(m, "inputs"));
		rc = index_put(s, jx_get_str(out, "digest", ""), entry, e);
		json_decref(entry);
		if (rc)
			break;
	}
	return rc;
}

void manifest_path(const char *run, const char *job, const char *token, char out[DOC_PATH_MAX])
{
	str_fmt(out, DOC_PATH_MAX, "jobs/%s/%s.%.*s.json", run, job, (int)strcspn(token, "."),
		token);
}

void key_path(const char *key, char out[DOC_PATH_MAX])
{
	str_fmt(out, DOC_PATH_MAX, "keys/%.2s/%s.json", key, key);
}

/* Which sections of the specification a stage reads, or "section/field" for one field of it. Import
 * reads files that may change under the same name, so it is never reused; neither is what a user's
 * command computed. */
static const struct {
	const char *stage;
	const char *sections[READS_MAX];
} reads[] = {
	{"sft", {"sft", "template", "engine/train", "engine/base", "engine/micro_tokens",
		 "engine/ranks", "engine/parallel"}},
	{"eft", {"eft", "judge", "data", "template", "engine/weights", "engine/ranks"}},
	{"protegi", {"protegi", "judge", "eval", "template", "engine/weights", "engine/ranks"}},
	{"prompts", {"prompts", "template", "engine/weights", "engine/ranks"}},
	{"generate", {"generate", "template", "engine/weights", "engine/ranks"}},
	{"judge", {"judge", "external", "template", "engine/weights", "engine/ranks"}},
	{"pair", {"pair", "generate", "judge", "external"}},
	{"reference", {"dpo/max_length", "dpo/ld_alpha", "dpo/lora_r", "template", "engine/train",
		       "engine/base", "engine/ranks", "engine/parallel"}},
	{"dpo", {"dpo", "template", "engine/train", "engine/base", "engine/micro_tokens",
		 "engine/ranks", "engine/parallel"}},
	{"versus", {"eval", "judge", "template", "engine/weights", "engine/ranks"}},
	{"bench", {"eval", "judge", "template", "engine/weights", "engine/train", "engine/ranks",
		   "engine/parallel"}},
	{"health", {"health", "eval", "judge", "template", "engine/weights", "engine/ranks"}},
	{"eval", {"eval", "judge", "template", "engine/weights", "engine/ranks"}},
};

/* Whether the section runs a program of the user's, or asks somebody else's. */
static bool has_command(const json_t *section)
{
	const json_t *v;
	const char *key;

	if (json_array_size(json_object_get(section, "command")) > 0 ||
	    jx_get_str(section, "url", "")[0])
		return true;
	json_object_foreach((json_t *)(uintptr_t)section, key,
			    v) if (json_is_object(v) && has_command(v)) return true;
	return false;
}

/* Borrowed; NULL where the specification has none. */
static json_t *spec_at(const json_t *spec, const char *name)
{
	const char *slash = strchr(name, '/');
	char section[32];

	if (!slash)
		return json_object_get(spec, name);
	str_fmt(section, sizeof section, "%.*s", (int)(slash - name), name);
	return json_object_get(json_object_get(spec, section), slash + 1);
}

static bool spec_part(const json_t *spec, const char *stage, json_t *part)
{
	for (size_t i = 0; i < sizeof reads / sizeof *reads; i++) {
		if (strcmp(reads[i].stage, stage) != 0)
			continue;
		for (int k = 0; k < READS_MAX && reads[i].sections[k]; k++) {
			json_t *v = spec_at(spec, reads[i].sections[k]);

			if (json_is_object(v) && (has_command(v) || jx_get_str(v, "model", "")[0]))
				return false; /* A model directory may change as well. */
			if (v)
				json_object_set(part, reads[i].sections[k], v);
		}
		return true;
	}
	return false;
}

static json_t *input_digests(const json_t *inputs)
{
	json_t *list = json_array();
	const json_t *in;
	size_t i;

	json_array_foreach(inputs, i, in)
		json_array_append_new(list, json_pack("[s, s]", jx_get_str(in, "role", ""),
						      jx_get_str(in, "digest", "")));
	return list;
}

void reuse_key(const json_t *spec, const json_t *job, const char *engine, const char *code,
	       char out[65])
{
	static const char *const names[] = {"stage", "iter", "shard", "pass", "params", NULL};
	json_t *part = json_object(), *all;
	struct buf text = BUF_INIT;

	out[0] = 0;
	if (jx_get_bool(spec, "reuse", true) &&
	    spec_part(spec, jx_get_str(job, "stage", ""), part)) {
		all = json_pack("{s:o, s:s, s:s, s:O?, s:o}", "spec", part, "engine", engine,
				"code", code, "seed", json_object_get(spec, "seed"), "inputs",
				input_digests(json_object_get(job, "inputs")));
		part = NULL;
		for (int i = 0; names[i]; i++)
			if (json_object_get(job, names[i]))
				json_object_set(all, names[i], json_object_get(job, names[i]));
		jx_dump(all, &text);
		sha256_of(text.data, text.len, out);
		json_decref(all);
	}
	json_decref(part);
	buf_release(&text);
}
