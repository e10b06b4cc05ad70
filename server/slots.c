#include "server/slots.h"

#include "base/str.h"
#include "server/http.h"
#include "server/reply.h"
#include "server/server.h"

#include <pthread.h>
#include <string.h>

/* Who holds the slots of this process. */
static struct {
	pthread_mutex_t lock;
	char who[SLOTS_MAX][sizeof(((struct ident *)0)->id)];
	bool used[SLOTS_MAX];
} slots = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* A free slot below `most`; -1 when there is none, or the identity has its share. */
static int take(const char *who, int most)
{
	int free_one = -1, mine = 0, share = most > 1 ? most / 2 : 1;

	for (int i = 0; i < most; i++) {
		if (slots.used[i])
			mine += strcmp(slots.who[i], who) == 0;
		else
			free_one = i;
	}
	if (mine >= share || free_one < 0)
		return -1;
	slots.used[free_one] = true;
	str_copy(slots.who[free_one], sizeof slots.who[free_one], who);
	return free_one;
}

bool slot_take(struct req *r)
{
	int most = r->srv->max_downloads, got;

	if (most <= 0)
		return true;
	pthread_mutex_lock(&slots.lock);
	got = take(r->who.id, most < SLOTS_MAX ? most : SLOTS_MAX);
	pthread_mutex_unlock(&slots.lock);
	r->slot = got + 1;
	if (got >= 0)
		return true;
	req_add_header(r, "Retry-After", "5");
	reply_problem(r, 503, "busy",
		      "as many downloads go on as there may be (server.max_downloads), or "
		      "half of them are yours");
	return false;
}

void slot_drop(struct req *r)
{
	if (!r->slot)
		return;
	pthread_mutex_lock(&slots.lock);
	slots.used[r->slot - 1] = false;
	pthread_mutex_unlock(&slots.lock);
	r->slot = 0;
}
