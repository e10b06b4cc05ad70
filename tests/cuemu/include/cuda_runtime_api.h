/* The part of the runtime that C may include. */
#pragma once

#include "tests/cuemu/include/cuda_runtime.h"
