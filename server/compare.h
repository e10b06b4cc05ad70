/* Wilson score interval, 95 %, of a share of `n` trials; half successes allowed (ties). */
#pragma once

void wilson(double successes, double n, double *low, double *high);
