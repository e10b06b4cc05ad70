/* Ends reads that take too long. CivetWeb waits anew for every byte, so a client that drips one a second
 * would hold a thread for hours; and it tells nobody its sockets. A read is announced with the peer's
 * address and a deadline; when that passes, the socket with that peer is found among our descriptors and
 * shut for reading. It cannot be another's: the announcement stands until the read has returned, and
 * until then nobody closes the connection.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

struct slow_read {
	const char *ip; /* borrowed until slow_end */
	int port;
	int64_t until_ms; /* monotonic */
	struct slow_read *prev, *next;
};

enum rc slow_start(struct err *e);
void slow_stop(void);
void slow_begin(struct slow_read *s, const char *ip, int port, int64_t limit_ms);
void slow_end(struct slow_read *s);
