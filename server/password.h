/* Passwords as the system's crypt keeps them (yescrypt, salted). Hashing is slow on purpose and runs
 * one at a time, so guesses cannot take the machine. */
#pragma once

#include "base/err.h"

#include <stdbool.h>

#define PASSWORD_MIN 10 /* bytes */
#define PASSWORD_MAX 256
#define PASSWORD_HASH_MAX 256

enum rc password_hash(const char *password, char out[PASSWORD_HASH_MAX], struct err *e);
/* `hash` NULL: takes as long and is false, so that nobody learns which names exist. */
bool password_check(const char *password, const char *hash);
