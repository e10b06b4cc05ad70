#include "server/answers.h"

#include "base/clk.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"
#include "server/http.h"
#include "server/reply.h"
#include "server/server.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 128
#define STEPS 4 /* places one key may be at */
#define KEY_MAX 300
#define KEPT_MAX (256u << 10) /* bytes of one answer: 32 MiB in all */

struct answer {
	int uses; /* under the lock; 0: freed */
	char etag[ETAG_MAX];
	char *headers; /* owned */
	char *text, *gz; /* owned; gz may be NULL */
	size_t text_len, gz_len;
};

static struct {
	pthread_mutex_t lock;
	struct {
		char key[KEY_MAX];
		long change;
		int64_t made_ms;
		struct answer *a; /* one use */
	} slot[SLOTS];
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool key_of(const struct req *r, char key[KEY_MAX])
{
	if (strlen(r->path) + strlen(r->query) + 2 >= KEY_MAX)
		return false;
	str_fmt(key, KEY_MAX, "%s?%s", r->path, r->query);
	return true;
}

static size_t place_of(const char *key)
{
	size_t h = 5381;

	for (; *key; key++)
		h = h * 33 + (unsigned char)*key;
	return h % SLOTS;
}

/* Caller holds the lock. */
static void drop(struct answer *a)
{
	if (!a || --a->uses > 0)
		return;
	free(a->headers);
	free(a->text);
	free(a->gz);
	free(a);
}

static void put_back(struct answer *a)
{
	pthread_mutex_lock(&kept.lock);
	drop(a);
	pthread_mutex_unlock(&kept.lock);
}

/* With a use of its own for the caller; NULL when there is none that is still good. */
static struct answer *find(const char *key, long change)
{
	size_t first = place_of(key);
	struct answer *a = NULL;

	pthread_mutex_lock(&kept.lock);
	for (size_t k = 0; k < STEPS && !a; k++) {
		size_t i = (first + k) % SLOTS;

		if (kept.slot[i].a && kept.slot[i].change == change &&
		    clk_mono_ms() - kept.slot[i].made_ms < ANSWER_MS &&
		    strcmp(kept.slot[i].key, key) == 0)
			a = kept.slot[i].a;
	}
	if (a)
		a->uses++;
	pthread_mutex_unlock(&kept.lock);
	return a;
}

bool answers_send(struct req *r)
{
	char key[KEY_MAX];
	struct answer *a;

	if (!key_of(r, key))
		return false;
	r->change = atomic_load(&r->srv->changes);
	r->shared = true;
	a = find(key, r->change);
	if (!a)
		return false;
	r->shared = false;
	buf_puts(&r->headers, a->headers);
	reply_kept(r, a->etag, a->text, a->text_len, a->gz, a->gz_len);
	put_back(a);
	return true;
}

static char *copy_of(const void *data, size_t len)
{
	char *to = mem_new(len + 1);

	memcpy(to, data, len);
	return to;
}

void answers_keep(struct req *r, const char *etag, const void *text, size_t text_len,
		  const void *gz, size_t gz_len)
{
	char key[KEY_MAX];
	struct answer *a;
	size_t first, at;

	if (text_len > KEPT_MAX || !key_of(r, key) || r->change != atomic_load(&r->srv->changes))
		return;
	a = mem_new(sizeof *a);
	a->uses = 1;
	str_copy(a->etag, sizeof a->etag, etag);
	a->headers = copy_of(r->headers.data ? r->headers.data : "", r->headers.len);
	a->text = copy_of(text, text_len);
	a->text_len = text_len;
	a->gz = gz ? copy_of(gz, gz_len) : NULL;
	a->gz_len = gz_len;
	first = at = place_of(key);
	pthread_mutex_lock(&kept.lock);
	for (size_t k = 0; k < STEPS; k++) { /* Its own place, else the oldest of the few. */
		size_t i = (first + k) % SLOTS;

		if (strcmp(kept.slot[i].key, key) == 0) {
			at = i;
			break;
		}
		if (kept.slot[i].made_ms < kept.slot[at].made_ms)
			at = i;
	}
	drop(kept.slot[at].a);
	str_copy(kept.slot[at].key, KEY_MAX, key);
	kept.slot[at].a = a;
	kept.slot[at].change = r->change;
	kept.slot[at].made_ms = clk_mono_ms();
	pthread_mutex_unlock(&kept.lock);
}
