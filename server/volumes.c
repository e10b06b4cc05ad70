#include "server/volumes.h"

#include "base/jsonx.h"
#include "base/sha256.h"
#include "server/server.h"
#include "store/artifact.h"

#include <string.h>

static enum rc check_one(struct server *s, const json_t *said, const json_t *is, size_t i,
			 struct err *e)
{
	const char *digest = jx_get_str(said, "digest", ""), *want = jx_get_str(is, "digest", "");
	int64_t size = jx_get_i64(said, "size", -1), have = jx_get_i64(is, "size", -1);

	if (!sha256_hex_valid(digest) || size < 0)
		return err_set(e, RC_INVALID, "volumes[%zu]: expected a SHA-256 digest and a size",
			       i);
	if (strcmp(digest, want) || size != have)
		return err_set(e, RC_INVALID,
			       "volumes[%zu]: %s of %lld bytes, the archive names %s of %lld", i,
			       digest, (long long)size, want, (long long)have);
	if (store_has(s->store, digest, &have, NULL))
		return err_set(e, RC_CONFLICT, "volumes[%zu]: %s is not in the store", i, digest);
	if (have != size)
		return err_set(e, RC_INVALID,
			       "volumes[%zu]: %s has %lld bytes, the archive says %lld", i, digest,
			       (long long)have, (long long)size);
	return RC_OK;
}

/* What was said of the volumes against what the archive itself says. */
static enum rc check_list(struct server *s, const json_t *said, const json_t *is, struct err *e)
{
	enum rc rc = RC_OK;

	if (said && !json_is_array(said))
		return err_set(e, RC_INVALID, "volumes: expected a list");
	if (json_array_size(said) != json_array_size(is))
		return err_set(e, RC_INVALID, "volumes: a list of %zu, the archive names %zu",
			       json_array_size(said), json_array_size(is));
	for (size_t i = 0; i < json_array_size(is) && !rc; i++)
		rc = check_one(s, json_array_get(said, i), json_array_get(is, i), i, e);
	return rc;
}

enum rc volumes_check(struct server *s, const json_t *output, struct err *e)
{
	const char *digest = jx_get_str(output, "digest", "");
	json_t *is = NULL;

	if (!sha256_hex_valid(digest))
		return err_set(e, RC_INVALID, "expected a SHA-256 digest");
	enum rc rc = artifact_volumes_in(s->store, digest, &is, e);
	if (rc == RC_NOTFOUND)
		return err_set(e, RC_CONFLICT, "%s is not in the store", digest);
	if (rc == RC_CORRUPT)
		return err_set(e, RC_INVALID, "digest: %s", e ? e->text : "");
	if (!rc)
		rc = check_list(s, json_object_get(output, "volumes"), is, e);
	json_decref(is);
	return rc;
}

void volumes_add(const json_t *output, json_t *digests, const json_t *value)
{
	const json_t *v;
	size_t i;

	json_array_foreach(json_object_get(output, "volumes"), i, v)
		json_object_set_new(digests, jx_get_str(v, "digest", ""), json_deep_copy(value));
}
