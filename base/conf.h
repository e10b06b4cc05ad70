/* Settings: flag > environment > file > default, each value with its origin.
 * One table (base/conf_keys.def) names every key of every program; an unknown key in a file or
 * on the command line is an error, and an unknown PAWL_* variable a warning.
 * File format: `key = value`, `#` comments. Key `server.listen` is variable
 * PAWL_SERVER_LISTEN and flag `--server-listen`, or `--listen` for the program that owns the section
 * (by argv[0]: pawl-server `server.`, pawl-worker `worker.`, anything else `client.`).
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
double conf_f64(const struct conf *c, const char *key);
bool conf_bool(const struct conf *c, const char *key);
enum conf_origin conf_origin(const struct conf *c, const char *key);
enum rc conf_set(struct conf *c, const char *key, const char *value, enum conf_origin o, struct err *e);
/* The lines of a settings file; `what` names it in errors. */
enum rc conf_load_text(struct conf *c, const char *what, const char *text, size_t len, struct err *e);
/* One line of help per flag of a section ("server."), in its short form. */
void conf_help(FILE *out, const char *prefix);
/* Every key with value, and origin when asked; secrets shown as "(set)". */
void conf_print(const struct conf *c, FILE *out, bool origin, bool json);
