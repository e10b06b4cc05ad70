/* The address of a Redis, taken apart. Knows nothing of connections.
 *
 *   unix:/path   /path   host[:port]   redis://[[user:]password@]host[:port][/db]
 *   rediss://...                                         the same over TLS
 *   sentinel://[[user:]password@]host:port[,host:port...]/master[/db]   whoever is master now
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>

#define REDIS_SENTINELS_MAX 9

struct redis_host {
	char *name; /* owned */
	int port;
};

struct redis_url {
	char *path;		    /* Unix socket, or NULL; owned, as all here */
	struct redis_host host;	    /* of the server; not used with sentinels */
	struct redis_host sentinels[REDIS_SENTINELS_MAX];
	int n_sentinels;
	char *master;		    /* name the sentinels know it by */
	char *user, *password;	    /* or NULL; wiped on release */
	int db;
	bool tls;
};

/* RC_INVALID names the address, without its password. */
enum rc redis_url_parse(const char *text, struct redis_url *out, struct err *e);
void redis_url_release(struct redis_url *u);
