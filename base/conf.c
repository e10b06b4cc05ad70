#include "base/conf.h"

#include "base/check.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#include <ctype.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX ((size_t)1 << 20)
#define SYSTEM_FILE "/etc/pawl/pawl.conf"

extern char **environ;

enum type { T_STR, T_INT, T_REAL, T_BOOL };

static const struct key {
	const char *name;
	enum type type;
	const char *dflt;
	int secret;
	const char *help;
} keys[] = {
#define CONF(name, type, dflt, secret, help) {name, T_##type, dflt, secret, help},
#include "base/conf_keys.def"
#undef CONF
};

#define N_KEYS (sizeof(keys) / sizeof(keys[0]))

struct conf {
	const char *section; /* of this program: its flags need no prefix */
	struct {
		char *value; /* owned; NULL for the default */
		enum conf_origin origin;
	} v[N_KEYS];
};

struct conf *conf_new(void)
{
	return mem_new(sizeof(struct conf));
}

void conf_free(struct conf *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < N_KEYS; i++)
		free(c->v[i].value);
	free(c);
}

/* "server-max-sse", "SERVER_MAX_SSE" and "server.max_sse" name the same key. */
static bool same_key(const char *key, const char *text, size_t len)
{
	size_t i = 0;

	for (; i < len && key[i]; i++) {
		char c = (char)tolower((unsigned char)text[i]);
		bool sep = c == '-' || c == '_' || c == '.';
		if (sep ? key[i] != '.' && key[i] != '_' : c != key[i])
			return false;
	}
	return i == len && !key[i];
}

static int find(const char *text, size_t len)
{
	for (size_t i = 0; i < N_KEYS; i++)
		if (same_key(keys[i].name, text, len))
			return (int)i;
	return -1;
}

static const char *const sections[] = {"server.", "worker.", "client."};

/* "/usr/bin/pawl-worker" owns "worker."; pawl itself is the client. */
static const char *section_of(const char *argv0)
{
	const char *base = strrchr(argv0, '/');

	base = base ? base + 1 : argv0;
	for (size_t i = 0; i < 2; i++)
		if (str_starts(base, "pawl-") &&
		    !strncmp(base + 5, sections[i], strlen(sections[i]) - 1))
			return sections[i];
	return sections[2];
}

static int find_flag(const struct conf *c, const char *text, size_t len)
{
	for (size_t i = 0; i < N_KEYS; i++)
		if (str_starts(keys[i].name, c->section) &&
		    same_key(keys[i].name + strlen(c->section), text, len))
			return (int)i;
	return find(text, len);
}

static bool parse_bool(const char *s, bool *out)
{
	static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};

	for (size_t i = 0; i < 8; i++)
		if (!strcmp(s, words[i])) {
			*out = i & 1;
			return true;
		}
	return false;
}

static bool fits(enum type t, const char *s)
{
	int64_t i;
	double d;
	bool b;

	return t == T_STR || (t == T_INT && str_to_i64(s, &i)) || (t == T_REAL && str_to_f64(s, &d)) ||
	       (t == T_BOOL && parse_bool(s, &b));
}

static enum rc set_at(struct conf *c, int i, const char *value, enum conf_origin o, struct err *e)
{
	static const char *const want[] = {"text", "a whole number", "a number", "true or false"};

	if (!fits(keys[i].type, value))
		return err_set(e, RC_INVALID, "setting %s: expected %s, found \"%s\"", keys[i].name,
			       want[keys[i].type], value);
	if (o < c->v[i].origin)
		return RC_OK;
	free(c->v[i].value);
	c->v[i].value = mem_str(value);
	c->v[i].origin = o;
	return RC_OK;
}

enum rc conf_set(struct conf *c, const char *key, const char *value, enum conf_origin o,
		 struct err *e)
{
	int i = find(key, strlen(key));

	if (i < 0)
		return err_set(e, RC_INVALID, "unknown setting \"%s\"", key);
	return set_at(c, i, value, o, e);
}

static enum rc file_line(struct conf *c, struct str line, struct err *e)
{
	line = str_trim(line);
	if (!line.len || line.p[0] == '#')
		return RC_OK;
	const char *eq = memchr(line.p, '=', line.len);
	if (!eq)
		return err_set(e, RC_INVALID, "expected \"key = value\", found \"%.*s\"",
			       (int)(line.len > 80 ? 80 : line.len), line.p);
	struct str k = str_trim((struct str){line.p, (size_t)(eq - line.p)});
	struct str v = str_trim((struct str){eq + 1, line.len - (size_t)(eq + 1 - line.p)});
	int i = find(k.p, k.len);
	if (i < 0)
		return err_set(e, RC_INVALID, "unknown setting \"%.*s\"",
			       (int)(k.len > 80 ? 80 : k.len), k.p);
	char *value = mem_strn(v.p, v.len);
	enum rc rc = strlen(value) != v.len
			     ? err_set(e, RC_INVALID, "setting %s: zero byte in the value",
				       keys[i].name)
			     : set_at(c, i, value, CONF_FILE, e);
	free(value);
	return rc;
}

enum rc conf_load_text(struct conf *c, const char *what, const char *text, size_t len, struct err *e)
{
	int number = 0;

	for (size_t at = 0; at < len;) {
		const char *nl = memchr(text + at, '\n', len - at);
		size_t n = nl ? (size_t)(nl - text) - at : len - at;
		number++;
		if (file_line(c, (struct str){text + at, n}, e))
			return err_wrap(e, "%s:%d", what, number);
		at += n + 1;
	}
	return RC_OK;
}

static enum rc load_file(struct conf *c, const char *path, struct err *e)
{
	struct buf b = BUF_INIT;
	enum rc rc = fs_read(path, FILE_BYTES_MAX, &b, e);

	if (!rc)
		rc = conf_load_text(c, path, b.data, b.len, e);
	buf_release(&b);
	return rc;
}

static enum rc load_env(struct conf *c, struct err *e)
{
	/* Read directly where they are used, before settings exist. */
	static const char *const others[] = {"LOG_FORMAT", "KERNELS", "DEVICE", "CUDA", "TEST_", "BUILD",
					      "VOLUME_BYTES"};

	for (char **p = environ; *p; p++) {
		if (!str_starts(*p, "PAWL_"))
			continue;
		const char *name = *p + 5, *eq = strchr(name, '=');
		if (!eq)
			continue;
		int i = find(name, (size_t)(eq - name));
		if (i >= 0) {
			enum rc rc = set_at(c, i, eq + 1, CONF_ENV, e);
			if (rc)
				return err_wrap(e, "environment %.*s", (int)(eq - *p), *p);
			continue;
		}
		bool known = false;
		for (size_t k = 0; k < sizeof(others) / sizeof(others[0]); k++)
			known |= str_starts(name, others[k]);
		if (!known)
			log_warn("conf", "unknown_variable", "name=%.*s", (int)(eq - *p), *p);
	}
	return RC_OK;
}

struct args {
	int argc, in, out;
	char **argv;
};

/* The value after `--flag=` or the next word; NULL when there is none. */
static const char *value_of(struct args *a, const char *eq)
{
	if (eq)
		return eq + 1;
	return a->in < a->argc ? a->argv[a->in++] : NULL;
}

static enum rc one_flag(struct conf *c, struct args *a, const char **file, bool allow_unknown,
			struct err *e)
{
	char *word = a->argv[a->in++];
	const char *name = word + 2, *eq = strchr(name, '=');
	size_t len = eq ? (size_t)(eq - name) : strlen(name);
	bool is_file = str_eq((struct str){name, len}, "config");
	int i = is_file ? -1 : find_flag(c, name, len);

	if (i < 0 && !is_file) {
		if (!allow_unknown)
			return err_set(e, RC_INVALID, "unknown flag %s", word);
		a->argv[a->out++] = word;
		return RC_OK;
	}
	if (i >= 0 && keys[i].type == T_BOOL && !eq)
		return set_at(c, i, "true", CONF_FLAG, e);
	const char *v = value_of(a, eq);
	if (!v)
		return err_set(e, RC_INVALID, "flag %s needs a value", word);
	if (is_file) {
		*file = v;
		return RC_OK;
	}
	return set_at(c, i, v, CONF_FLAG, e);
}

static enum rc load_flags(struct conf *c, int *argc, char **argv, bool allow_unknown,
			  const char **file, struct err *e)
{
	struct args a = {*argc, 1, 1, argv};
	enum rc rc = RC_OK;

	while (a.in < a.argc && !rc) {
		if (!strcmp(argv[a.in], "--"))
			break;
		if (str_starts(argv[a.in], "--"))
			rc = one_flag(c, &a, file, allow_unknown, e);
		else
			argv[a.out++] = argv[a.in++];
	}
	while (a.in < a.argc)
		argv[a.out++] = argv[a.in++];
	argv[a.out] = NULL;
	*argc = a.out;
	return rc;
}

enum rc conf_load(struct conf *c, int *argc, char **argv, bool allow_unknown, struct err *e)
{
	const char *file = NULL;

	c->section = section_of(argv[0] ? argv[0] : "pawl");
	enum rc rc = load_flags(c, argc, argv, allow_unknown, &file, e);

	if (!rc)
		rc = load_env(c, e);
	if (!rc && (file || fs_exists(SYSTEM_FILE)))
		rc = load_file(c, file ? file : SYSTEM_FILE, e);
	return rc;
}

static int must_find(const char *key)
{
	int i = find(key, strlen(key));

	if (i < 0)
		log_error("conf", "no_such_key", "key=%s", key);
	ASSERT(i >= 0);
	return i;
}

const char *conf_str(const struct conf *c, const char *key)
{
	int i = must_find(key);

	return c->v[i].value ? c->v[i].value : keys[i].dflt;
}

int64_t conf_i64(const struct conf *c, const char *key)
{
	int64_t v = 0;

	ASSERT(str_to_i64(conf_str(c, key), &v));
	return v;
}

double conf_f64(const struct conf *c, const char *key)
{
	double v = 0;

	ASSERT(str_to_f64(conf_str(c, key), &v));
	return v;
}

bool conf_bool(const struct conf *c, const char *key)
{
	bool v = false;

	ASSERT(parse_bool(conf_str(c, key), &v));
	return v;
}

enum conf_origin conf_origin(const struct conf *c, const char *key)
{
	return c->v[must_find(key)].origin;
}

/* A URL may carry a password. */
static const char *hide(const struct key *k, const char *v)
{
	return k->secret && strchr(v, '@') ? "(set)" : v;
}

static void print_json(const struct conf *c, FILE *out, bool origin, const char *const *origins)
{
	json_t *all = json_object();

	for (size_t i = 0; i < N_KEYS; i++) {
		const char *v = conf_str(c, keys[i].name);
		json_t *x = json_string(hide(&keys[i], v));
		if (origin)
			x = json_pack("{s:o,s:s}", "value", x, "origin", origins[c->v[i].origin]);
		json_object_set_new(all, keys[i].name, x);
	}
	char *text = jx_text(all);
	fprintf(out, "%s\n", text);
	free(text);
	json_decref(all);
}

void conf_print(const struct conf *c, FILE *out, bool origin, bool json)
{
	static const char *const origins[] = {"default", "file", "environment", "flag"};

	if (json) {
		print_json(c, out, origin, origins);
		return;
	}
	for (size_t i = 0; i < N_KEYS; i++) {
		const char *v = conf_str(c, keys[i].name);
		fprintf(out, "%s = %s", keys[i].name, hide(&keys[i], v));
		if (origin)
			fprintf(out, "  # %s", origins[c->v[i].origin]);
		fputc('\n', out);
	}
}

void conf_help(FILE *out, const char *prefix)
{
	for (size_t i = 0; i < N_KEYS; i++) {
		char flag[80];
		if (!str_starts(keys[i].name, prefix))
			continue;
		str_fmt(flag, sizeof(flag), "--%s", keys[i].name + strlen(prefix));
		for (char *p = flag; *p; p++)
			if (*p == '.' || *p == '_')
				*p = '-';
		fprintf(out, "  %-28s %s%s%s%s\n", flag, keys[i].help, keys[i].dflt[0] ? " (" : "",
			keys[i].dflt, keys[i].dflt[0] ? ")" : "");
	}
}
