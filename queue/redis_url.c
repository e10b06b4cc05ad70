#include "queue/redis_url.h"

#include "base/mem.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

#define PORT_REDIS 6379
#define PORT_SENTINEL 26379

/* "host", "host:port", "[::1]:port" */
static bool host_parse(const char *text, size_t len, int dflt, struct redis_host *out)
{
	char *copy = mem_strn(text, len), *colon = strrchr(copy, ':');
	int64_t port = dflt;
	bool good = true;

	if (colon && strchr(colon, ']'))
		colon = NULL;
	if (colon) {
		*colon = '\0';
		good = str_to_i64(colon + 1, &port) && port > 0 && port < 65536;
	}
	len = strlen(copy);
	if (len > 2 && copy[0] == '[' && copy[len - 1] == ']')
		out->name = mem_strn(copy + 1, len - 2);
	else
		out->name = mem_str(len ? copy : "127.0.0.1");
	out->port = (int)port;
	free(copy);
	return good;
}

static bool db_parse(const char *text, int *db)
{
	int64_t v = 0;

	if (*text && !(str_to_i64(text, &v) && v >= 0 && v < 1 << 20))
		return false;
	*db = (int)v;
	return true;
}

/* Takes "[user:]password@" off the front. */
static const char *login_parse(const char *text, struct redis_url *u)
{
	const char *at = strrchr(text, '@'), *colon;

	if (!at)
		return text;
	colon = memchr(text, ':', (size_t)(at - text));
	if (colon && colon > text)
		u->user = mem_strn(text, (size_t)(colon - text));
	colon = colon ? colon + 1 : text;
	u->password = mem_strn(colon, (size_t)(at - colon));
	return at + 1;
}

static bool server_parse(const char *text, struct redis_url *u)
{
	size_t len = strcspn(text, "/");

	return host_parse(text, len, PORT_REDIS, &u->host) &&
	       db_parse(text + len + (text[len] == '/'), &u->db);
}

static bool sentinels_parse(const char *text, struct redis_url *u)
{
	const char *slash = strchr(text, '/');
	size_t len;

	if (!slash || !slash[1])
		return false;
	for (; text < slash; text += len + (text[len] == ',')) {
		len = strcspn(text, ",/");
		if (u->n_sentinels == REDIS_SENTINELS_MAX)
			return false;
		if (!host_parse(text, len, PORT_SENTINEL, &u->sentinels[u->n_sentinels++]))
			return false;
	}
	len = strcspn(slash + 1, "/");
	u->master = mem_strn(slash + 1, len);
	slash += 1 + len;
	return u->n_sentinels > 0 && db_parse(slash + (*slash == '/'), &u->db);
}

enum rc redis_url_parse(const char *text, struct redis_url *u, struct err *e)
{
	const char *at = strrchr(text, '@');
	bool good;

	memset(u, 0, sizeof(*u));
	if (!strncmp(text, "unix:/", 6) || text[0] == '/') {
		u->path = mem_str(strchr(text, '/') + (strncmp(text, "unix://", 7) ? 0 : 1));
		return RC_OK;
	}
	u->tls = !strncmp(text, "rediss://", 9);
	if (!strncmp(text, "sentinel://", 11))
		good = sentinels_parse(login_parse(text + 11, u), u);
	else if (u->tls || !strncmp(text, "redis://", 8))
		good = server_parse(login_parse(text + (u->tls ? 9 : 8), u), u);
	else
		good = server_parse(text, u);
	if (good)
		return RC_OK;
	redis_url_release(u);
	return err_set(e, RC_INVALID,
		       "redis address \"%s\": expected unix:/path, host:port, "
		       "redis://[[user:]password@]host[:port][/db], rediss:// for TLS, or "
		       "sentinel://host:port[,host:port...]/master",
		       at ? at + 1 : text);
}

static void wipe(char *secret)
{
	if (secret)
		explicit_bzero(secret, strlen(secret));
	free(secret);
}

void redis_url_release(struct redis_url *u)
{
	free(u->path);
	free(u->host.name);
	for (int i = 0; i < u->n_sentinels; i++)
		free(u->sentinels[i].name);
	free(u->master);
	free(u->user);
	wipe(u->password);
	memset(u, 0, sizeof(*u));
}
