#include "server/throttle.h"

#include "base/clk.h"
#include "base/str.h"
#include "server/http.h"
#include "server/reply.h"
#include "server/server.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>

#define LOGIN_SLOTS 256
#define LOGIN_FORGET_MS (3600 * 1000) /* without a failure */
#define BUCKETS 512
#define KEY_MAX 96

/* --- failed logins ------------------------------------------------------------------------- */

static struct {
	pthread_mutex_t lock;
	struct {
		char key[KEY_MAX];
		int fails;
		int64_t last_ms, until_ms;
	} slot[LOGIN_SLOTS];
} logins = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The slot of `key`, else the one that failed longest ago taken over. Caller holds the lock. */
static int login_slot(const char *key, int64_t now)
{
	int oldest = 0, i;

	for (i = 0; i < LOGIN_SLOTS && strcmp(logins.slot[i].key, key) != 0; i++)
		if (logins.slot[i].last_ms < logins.slot[oldest].last_ms)
			oldest = i;
	if (i == LOGIN_SLOTS || now - logins.slot[i].last_ms > LOGIN_FORGET_MS) {
		i = i == LOGIN_SLOTS ? oldest : i;
		str_copy(logins.slot[i].key, KEY_MAX, key);
		logins.slot[i].fails = 0;
		logins.slot[i].until_ms = 0;
		logins.slot[i].last_ms = now;
	}
	return i;
}

static void user_key(const char *user, char key[KEY_MAX])
{
	str_fmt(key, KEY_MAX, "user %.64s", user);
}

/* Milliseconds until `key` may try again. */
static int64_t login_wait(const char *key)
{
	int64_t now = clk_mono_ms(), left;

	pthread_mutex_lock(&logins.lock);
	left = logins.slot[login_slot(key, now)].until_ms - now;
	pthread_mutex_unlock(&logins.lock);
	return left > 0 ? left : 0;
}

/* A name is slowed down less: nobody shall lock another out for long. */
static void login_fail(const char *key, int wait_max_s)
{
	int64_t now = clk_mono_ms(), wait_s = LOGIN_WAIT_S;
	int i;

	pthread_mutex_lock(&logins.lock);
	i = login_slot(key, now);
	logins.slot[i].last_ms = now;
	if (++logins.slot[i].fails >= LOGIN_FAILS_FREE) {
		for (int k = LOGIN_FAILS_FREE; k < logins.slot[i].fails && wait_s < wait_max_s; k++)
			wait_s *= 2;
		logins.slot[i].until_ms = now + wait_s * 1000;
	}
	pthread_mutex_unlock(&logins.lock);
}

bool throttle_login_allowed(struct req *r, const char *user)
{
	int64_t wait = login_wait(r->remote), by_name = 0;
	char key[KEY_MAX];

	if (user) {
		user_key(user, key);
		by_name = login_wait(key);
	}
	wait = by_name > wait ? by_name : wait;
	if (!wait)
		return true;
	req_add_header(r, "Retry-After", "%lld", (long long)(wait + 999) / 1000);
	reply_problem(r, 429, "too-many", "too many failed logins; wait %lld seconds",
		      (long long)(wait + 999) / 1000);
	return false;
}

void throttle_login_failed(struct req *r, const char *user)
{
	char key[KEY_MAX];

	login_fail(r->remote, LOGIN_WAIT_MAX_S);
	if (user) {
		user_key(user, key);
		login_fail(key, LOGIN_WAIT_S);
	}
	atomic_fetch_add(&r->srv->stats.auth_failed, 1);
}

/* --- requests ------------------------------------------------------------------------------ */

static struct {
	pthread_mutex_t lock;
	struct {
		char key[KEY_MAX];
		double left;
		int64_t at_ms;
	} bucket[BUCKETS];
} rates = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* FNV-1a: neighbours in the table are neighbours by chance only. */
static uint32_t hash_of(const char *key)
{
	uint32_t h = 2166136261u;

	for (; *key; key++)
		h = (h ^ (unsigned char)*key) * 16777619u;
	return h;
}

/* The bucket of `key` within a few steps of its place, else the stalest of them emptied for it: at
 * worst an identity gets a full bucket too often. Caller holds the lock. */
static size_t bucket_of(const char *key, int rate, int64_t now)
{
	size_t first = hash_of(key) % BUCKETS, stale = first;

	for (size_t k = 0; k < 8; k++) {
		size_t i = (first + k) % BUCKETS;

		if (strcmp(rates.bucket[i].key, key) == 0)
			return i;
		if (rates.bucket[i].at_ms < rates.bucket[stale].at_ms)
			stale = i;
	}
	str_copy(rates.bucket[stale].key, KEY_MAX, key);
	rates.bucket[stale].left = 2.0 * rate;
	rates.bucket[stale].at_ms = now;
	return stale;
}

bool throttle_allows(struct req *r, int rate)
{
	int64_t now = clk_mono_ms();
	char key[KEY_MAX];
	bool ok;
	size_t i;

	if (rate <= 0 || r->who.role == ROLE_WORKER)
		return true;
	str_fmt(key, sizeof key, "%.40s %.50s", r->who.id, r->remote);
	pthread_mutex_lock(&rates.lock);
	i = bucket_of(key, rate, now);
	rates.bucket[i].left += (double)(now - rates.bucket[i].at_ms) * rate / 1000;
	if (rates.bucket[i].left > 2.0 * rate)
		rates.bucket[i].left = 2.0 * rate;
	rates.bucket[i].at_ms = now;
	ok = rates.bucket[i].left >= 1;
	if (ok)
		rates.bucket[i].left -= 1;
	pthread_mutex_unlock(&rates.lock);
	if (!ok) {
		req_add_header(r, "Retry-After", "1");
		reply_problem(r, 429, "too-many", "more than %d requests a second", rate);
	}
	return ok;
}
