/* Two brakes, both in this process alone: failed logins slow down whoever guesses, by address and by
 * user name; and every identity may ask only so often (token bucket), so that one script cannot starve
 * the others. Workers are outside the second: beats and completions must get through.
 */
#pragma once

#include <stdbool.h>

struct req;

#define LOGIN_FAILS_FREE 5 /* then a minute, doubling up to LOGIN_WAIT_MAX_S */
#define LOGIN_WAIT_S 60
#define LOGIN_WAIT_MAX_S 960

/* False after answering 429 with Retry-After. `user`: NULL when the login names none. */
bool throttle_login_allowed(struct req *r, const char *user);
void throttle_login_failed(struct req *r, const char *user);
/* Takes one request of the identity's bucket: `rate` a second, twice that at once; 0 = no limit. */
bool throttle_allows(struct req *r, int rate);
