#include "store/s3_creds.h"

#include "base/clk.h"
#include "base/fetch.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/str.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FILE_MAX_BYTES ((size_t)1 << 20)
#define IMDS "http://169.254.169.254"
#define IMDS_MS 2000 /* a machine without the service may swallow packets */

static const char *env(const char *name)
{
	const char *v = getenv(name);

	return v ? v : "";
}

static enum rc keep(char *out, size_t size, const char *what, struct str v, struct err *e)
{
	if (!v.len || v.len >= size)
		return err_set(e, RC_INVALID, "%s: %zu bytes, expected 1 to %zu", what, v.len,
			       size - 1);
	for (size_t i = 0; i < v.len; i++)
		if (v.p[i] <= ' ' || v.p[i] == 0x7f)
			return err_set(e, RC_INVALID, "%s: has white space or control bytes", what);
	memcpy(out, v.p, v.len);
	out[v.len] = 0;
	return RC_OK;
}

static enum rc keep_all(struct s3_creds *c, struct str id, struct str secret, struct str token,
			struct err *e)
{
	enum rc rc;

	*c = (struct s3_creds){0};
	if ((rc = keep(c->id, sizeof(c->id), "access key id", id, e)) ||
	    (rc = keep(c->secret, sizeof(c->secret), "secret access key", secret, e)))
		return rc;
	return token.len ? keep(c->token, sizeof(c->token), "session token", token, e) : RC_OK;
}

static enum rc from_env(struct s3_creds *c, struct err *e)
{
	const char *id = env("AWS_ACCESS_KEY_ID"), *secret = env("AWS_SECRET_ACCESS_KEY");

	if (!*id && !*secret)
		return RC_NOTFOUND;
	if (!*id || !*secret)
		return err_set(e, RC_INVALID, "%s is set, but not %s",
			       *id ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
			       *id ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID");
	return keep_all(c, str_of(id), str_of(secret), str_of(env("AWS_SESSION_TOKEN")), e);
}

/* "[name]" or "[profile name]". */
static bool is_section(struct str line, const char *section)
{
	if (line.len < 3 || line.p[line.len - 1] != ']')
		return false;
	struct str name = str_trim((struct str){line.p + 1, line.len - 2});
	if (name.len > 8 && !memcmp(name.p, "profile ", 8))
		name = str_trim((struct str){name.p + 8, name.len - 8});
	return str_eq(name, section);
}

enum rc s3_creds_parse(const char *text, size_t len, const char *section, struct s3_creds *c,
		       struct err *e)
{
	struct str id = {0}, secret = {0}, token = {0};
	bool inside = false;

	for (size_t at = 0; at < len;) {
		const char *nl = memchr(text + at, '\n', len - at);
		size_t n = nl ? (size_t)(nl - text) - at : len - at;
		struct str line = str_trim((struct str){text + at, n});
		const char *eq = line.len ? memchr(line.p, '=', line.len) : NULL;

		at += n + 1;
		if (line.len && line.p[0] == '[')
			inside = is_section(line, section);
		if (!inside || !eq || line.p[0] == '#' || line.p[0] == ';')
			continue;
		struct str name = str_trim((struct str){line.p, (size_t)(eq - line.p)});
		struct str value =
			str_trim((struct str){eq + 1, line.len - (size_t)(eq - line.p) - 1});
		if (str_eq(name, "aws_access_key_id"))
			id = value;
		else if (str_eq(name, "aws_secret_access_key"))
			secret = value;
		else if (str_eq(name, "aws_session_token"))
			token = value;
	}
	if (!id.len || !secret.len)
		return err_set(e, RC_NOTFOUND, "no access key in section [%s]", section);
	return keep_all(c, id, secret, token, e);
}

static enum rc from_file(struct s3_creds *c, struct err *e)
{
	char path[PATH_MAX];
	struct buf b = BUF_INIT;
	const char *section = *env("AWS_PROFILE") ? env("AWS_PROFILE") : "default";

	if (*env("AWS_SHARED_CREDENTIALS_FILE"))
		str_copy(path, sizeof(path), env("AWS_SHARED_CREDENTIALS_FILE"));
	else if (strlen(env("HOME")) < sizeof(path) - 32)
		str_fmt(path, sizeof(path), "%s/.aws/credentials", env("HOME"));
	else
		return RC_NOTFOUND;
	enum rc rc = fs_read(path, FILE_MAX_BYTES, &b, e);
	if (!rc)
		rc = s3_creds_parse(b.data, b.len, section, c, e);
	if (b.data)
		memset(b.data, 0, b.len);
	buf_release(&b);
	return rc == RC_OK || rc == RC_NOTFOUND ? rc : err_wrap(e, "%s", path);
}

enum rc s3_creds_role(const char *json, size_t len, struct s3_creds *c, struct err *e)
{
	const char *id, *secret, *token = "", *until = "";
	struct tm tm = {0};
	json_t *v = NULL;
	enum rc rc = jx_parse(json, len, "credentials of the machine's role", &v, e);

	if (!rc && !(rc = jx_str(v, "AccessKeyId", &id, e)) &&
	    !(rc = jx_str(v, "SecretAccessKey", &secret, e)) &&
	    !(rc = jx_opt_str(v, "Token", &token, e)) &&
	    !(rc = jx_opt_str(v, "Expiration", &until, e)))
		rc = keep_all(c, str_of(id), str_of(secret), str_of(token), e);
	if (!rc && *until) {
		if (!strptime(until, "%Y-%m-%dT%H:%M:%SZ", &tm))
			rc = err_set(e, RC_INVALID,
				     "credentials of the machine's role: Expiration "
				     "\"%.40s\" is no time",
				     until);
		else
			c->expires_ms = (int64_t)timegm(&tm) * 1000;
	}
	json_decref(v);
	return rc;
}

/* One call to the machine's metadata service; an answer other than 200 is "none". */
static enum rc imds(const char *method, const char *path, const char *header, struct buf *out,
		    struct err *e)
{
	char url[512];
	const char *const headers[] = {header, NULL};
	const char *base = env("AWS_EC2_METADATA_SERVICE_ENDPOINT");
	struct fetch_req q = {.method = method,
			      .url = url,
			      .headers = headers,
			      .timeout_ms = IMDS_MS,
			      .resp_max = 64 << 10};
	struct fetch_resp r;

	snprintf(url, sizeof(url), "%.300s%s", *base ? base : IMDS, path);
	enum rc rc = fetch(&q, &r, e);
	if (!rc && r.status != 200)
		rc = err_set(e, RC_NOTFOUND, "%s: status %d", url, r.status);
	if (!rc)
		buf_append(out, r.body.data, r.body.len);
	fetch_resp_release(&r);
	return rc;
}

static enum rc from_machine(struct s3_creds *c, struct err *e)
{
	static const char place[] = "/latest/meta-data/iam/security-credentials/";
	struct buf token = BUF_INIT, role = BUF_INIT, json = BUF_INIT;
	char header[512], path[256];
	enum rc rc = RC_NOTFOUND;

	if (strcmp(env("AWS_EC2_METADATA_DISABLED"), "true") != 0)
		rc = imds("PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 21600",
			  &token, e);
	if (!rc && token.len > 400)
		rc = err_set(e, RC_INVALID, "metadata token of %zu bytes", token.len);
	if (!rc) {
		str_fmt(header, sizeof(header), "X-aws-ec2-metadata-token: %s", token.data);
		rc = imds("GET", place, header, &role, e);
	}
	if (!rc) {
		role.data[strcspn(role.data, "\r\n")] = 0;
		snprintf(path, sizeof(path), "%s%.128s", place, role.data);
		rc = imds("GET", path, header, &json, e);
	}
	if (!rc)
		rc = s3_creds_role(json.data, json.len, c, e);
	buf_release(&token);
	buf_release(&role);
	buf_release(&json);
	return rc;
}

enum rc s3_creds_find(struct s3_creds *c, struct err *e)
{
	static enum rc (*const places[])(struct s3_creds *, struct err *) = {from_env, from_file,
									     from_machine};
	enum rc rc = RC_NOTFOUND;

	for (int i = 0; i < 3; i++) {
		rc = places[i](c, e);
		if (rc == RC_OK || (i < 2 && rc != RC_NOTFOUND))
			return rc;
	}
	return err_set(
		e, RC_DENIED,
		"no S3 credentials: neither AWS_ACCESS_KEY_ID, nor the credentials file, nor "
		"the role of this machine");
}
