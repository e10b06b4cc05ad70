/* Who we are to S3: an access key, from the first place that has one.
 *
 *   AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *   the section AWS_PROFILE (or "default") of AWS_SHARED_CREDENTIALS_FILE or ~/.aws/credentials
 *   the role of this cloud machine, by IMDSv2 (AWS_EC2_METADATA_SERVICE_ENDPOINT,
 *   unless AWS_EC2_METADATA_DISABLED is "true")
 *
 * Secrets are never logged nor named in errors.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct s3_creds {
	char id[160], secret[160], token[4096]; /* token "": none */
	int64_t expires_ms;			/* wall clock; 0: never */
};

/* RC_DENIED with all places looked at when there is none. */
enum rc s3_creds_find(struct s3_creds *c, struct err *e);
/* One section of a credentials file; RC_NOTFOUND when the section or its key is missing. */
enum rc s3_creds_parse(const char *text, size_t len, const char *section, struct s3_creds *c,
		       struct err *e);
/* What a machine's role answers: {"AccessKeyId","SecretAccessKey","Token","Expiration"}. */
enum rc s3_creds_role(const char *json, size_t len, struct s3_creds *c, struct err *e);
