/* What every fuzz target defines. An input may be refused, never crash, hang or leak. */
#pragma once

#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* One good input, to start from. */
void fuzz_seed(struct buf *out);
