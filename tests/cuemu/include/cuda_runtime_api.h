/* The part of the runtime that C may include. */
#pragma once

#include <cuda_runtime.h>
