#include "worker/model/mirror.h"

#include "base/mem.h"

enum rc mirror_make(const struct kern *k, struct kern_pool *pool, const void *p, size_t bytes,
		    const char *what, void **out, struct err *e)
{
	if (k->host) {
		*out = (void *)(uintptr_t)p;
		return RC_OK;
	}
	*out = k->alloc(pool, bytes);
	if (!*out)
		return err_set(e, RC_NOMEM, "%s need %.1f MiB of the device's memory", what,
			       (double)bytes / 1048576.0);
	k->put(pool, *out, p, bytes);
	return RC_OK;
}

void mirror_free(const struct kern *k, struct kern_pool *pool, void *there, size_t bytes)
{
	if (there && !k->host)
		k->release(pool, there, bytes);
}

enum rc mirror_fault(const struct kern *k, struct kern_pool *pool, struct err *e)
{
	const char *why = k->fault(pool);

	return why ? err_set(e, RC_IO, "%s: %s", k->name, why) : RC_OK;
}

size_t mirror_room(const struct kern *k, struct kern_pool *pool)
{
	size_t room = k->room(pool);

	return room ? room : mem_available();
}
