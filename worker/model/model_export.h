/* A model directory rewritten for others: weights of another type, in files of a bounded size.
 *
 * Streams: one piece of a tensor is in memory at a time. The directory appears whole or not at all.
 * The same source and options give the same bytes, and so does exporting an export again.
 */
#pragma once

#include "base/err.h"
#include "store/safetensors.h"

#define EXPORT_SHARD_BYTES ((size_t)5 << 30) /* of one file; what others use */

struct export_opts {
	enum st_dtype dtype;	/* ST_F32, ST_BF16, ST_F16 */
	size_t shard_bytes_max; /* of the tensors of one file; a larger tensor has one for itself */
};

struct export_report {
	int n_files;	    /* of weights */
	size_t total_bytes; /* of tensors */
};

/* Reads the model in `from` and writes config.json (torch_dtype set), weights (with an index when
 * there are several files), generation_config.json, and the tokenizer's files to the new folder
 * `to`. RC_CONFLICT when that exists, RC_FULL with numbers before anything is written, RC_INVALID
 * by the tensor's name when a weight is not finite or overflows the type. `report` may be NULL. */
enum rc model_export(const char *from, const char *to, const struct export_opts *o,
		     struct export_report *report, struct err *e);
