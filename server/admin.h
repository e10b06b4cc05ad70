/* /livez, /readyz, /metrics and /version on a socket and thread of their own: probes and Prometheus
 * are answered even when every HTTP thread is taken and Redis is away. It only reads counters that
 * others keep; it never waits for them. */
#pragma once

#include "base/err.h"

struct server;
struct admin;

enum rc admin_start(struct server *s, const char *listen, struct admin **out, struct err *e);
int admin_port(const struct admin *a);
void admin_stop(struct admin *a);
