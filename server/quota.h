/* Quotas outside the API's routes; see api_quota.c. */
#pragma once

#include "base/err.h"

struct server;

/* Tells Redis every quota of the store: after a rebuild. */
enum rc quotas_restore(struct server *s, struct err *e);
/* RC_FULL when `owner` has all open runs the quota grants. Asked before a run's record is written;
 * the submission itself asks once more, in one step with the rest. */
enum rc quota_allows_run(struct server *s, const char *owner, struct err *e);
