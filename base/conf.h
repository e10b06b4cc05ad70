/* Settings: flag > environment > file > default, each value with its origin.
 * One table (base/conf_keys.def) names every key of every program; an unknown key in a file or
 * on the command line is an error, and an unknown PAWL_* variable a warning.
 * File format: `key = value`, `#` comments. Key `server.listen` is flag `--server-listen` or its
 * short alias from the table, and variable PAWL_SERVER_LISTEN.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum conf_origin { CONF_DEFAULT, CONF_FILE, CONF_ENV, CONF_FLAG };

struct conf;

struct conf *conf_new(void);
void conf_free(struct conf *c);
/* Consumes known `--flag value`, `--flag=value` and boolean `--flag`, leaving the rest in argv
 * (argc updated). Stops at "--". Loads `--config FILE` if given, else /etc/pawl/pawl.conf if present.
 * With `allow_unknown` unknown flags stay in argv for the caller, else they are an error. */
enum rc conf_load(struct conf *c, int *argc, char **argv, bool allow_unknown, struct err *e);
/* Keys must exist in the table (asserted). */
const char *conf_str(const struct conf *c, const char *key); /* borrowed; "" when unset */
int64_t conf_i64(const struct conf *c, const char *key);
bool conf_bool(const struct conf *c, const char *key);
enum conf_origin conf_origin(const struct conf *c, const char *key);
enum rc conf_set(struct conf *c, const char *key, const char *value, enum conf_origin o, struct err *e);
/* Every key with value, and origin when asked; secrets shown as "(set)". */
void conf_print(const struct conf *c, FILE *out, bool origin, bool json);
