#include "server/volumes.h"

#include "base/jsonx.h"
#include "base/sha256.h"
#include "server/server.h"
#include "store/artifact.h"

enum rc volumes_check(struct server *s, const json_t *output, struct err *e)
{
	const json_t *list = json_object_get(output, "volumes"), *v;
	const char *digest = jx_get_str(output, "digest", "");
	size_t i;

	if (!sha256_hex_valid(digest))
		return err_set(e, RC_INVALID, "expected a SHA-256 digest");
	if (store_has(s->store, digest, NULL, NULL))
		return err_set(e, RC_CONFLICT, "%s is not in the store", digest);
	if (list && (!json_is_array(list) || json_array_size(list) > ARTIFACT_VOLUMES))
		return err_set(e, RC_INVALID, "volumes: expected a list of at most %d",
			       ARTIFACT_VOLUMES);
	json_array_foreach(list, i, v)
	{
		digest = jx_get_str(v, "digest", "");
		if (!sha256_hex_valid(digest) || jx_get_i64(v, "size", -1) < 0)
			return err_set(e, RC_INVALID,
				       "volumes[%zu]: expected a SHA-256 digest and a size", i);
		if (store_has(s->store, digest, NULL, NULL))
			return err_set(e, RC_CONFLICT, "volumes[%zu]: %s is not in the store", i,
				       digest);
	}
	return RC_OK;
}

void volumes_add(const json_t *output, json_t *digests, const json_t *value)
{
	const json_t *v;
	size_t i;

	json_array_foreach(json_object_get(output, "volumes"), i, v)
		json_object_set_new(digests, jx_get_str(v, "digest", ""), json_deep_copy(value));
}
