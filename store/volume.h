/* How large a volume of an artifact may be: one setting of this process and of those it starts,
 * because the names of artifacts depend on it. Files of tensors are made so large that one fits
 * into a volume.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Several are hashed, sent and fetched again by themselves. */
#define VOLUME_BYTES ((int64_t)1 << 30)

int64_t volume_bytes(void);
/* 0: VOLUME_BYTES. Before there are threads. */
void volume_bytes_set(int64_t bytes);
/* Of the tensors of a file: leaves room for its header and the archive's. */
size_t volume_tensor_bytes(void);
