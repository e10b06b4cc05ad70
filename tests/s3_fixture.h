/* An S3 service in this process, on a free port of the loopback, that can be made to misbehave.
 * It checks signatures and payload digests of every request, as the real one does; whether the
 * signer itself is right is the matter of test_sigv4 and of test_s3's second server.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define S3_FIXTURE_ID "AKIDFIXTURE"
#define S3_FIXTURE_SECRET "fixture/secret+key"

enum s3_fault {
	S3_FAULT_STATUS,     /* answers `arg` with the code below, does nothing */
	S3_FAULT_LOST_REPLY, /* does it, and closes without a word */
	S3_FAULT_CUT,        /* sends `arg` bytes of the body and closes */
	S3_FAULT_SILENT,     /* never answers */
	S3_FAULT_GARBLE,     /* answers 200 with `arg` bytes that are no XML */
	S3_FAULT_ERROR_200,  /* answers 200 with an error inside, does nothing */
	S3_FAULT_NO_RANGES   /* sends all, whatever the range */
};

/* Starts it, sets the credentials in the environment and writes
 * "s3://test-bucket/some/prefix?..." to url. */
void s3_fixture_start(char *url, size_t size);
/* The next `times` requests of this method whose target contains `part` go wrong. */
void s3_fixture_fault(const char *method, const char *part, int times, enum s3_fault fault, int arg,
		      const char *code);
void s3_fixture_clock(int64_t ahead_s);  /* of ours */
void s3_fixture_page(int names);         /* of a list, before it says "more" */
int s3_fixture_requests(void);           /* so far */
int s3_fixture_uploads(void);            /* begun and not ended */
int s3_fixture_objects(void);
int s3_fixture_refused(void);            /* for their signature or digest */
