// What module.cpp and the three units of rounding.inc agree on. Types only: no code may be shared between
// units that are compiled for different instruction sets.
#pragma once

#include <stddef.h>
#include <stdint.h>

struct LeandnnRounding {
  int exponent_bits;  // 2 to 8, as IEEE 754 counts them
  int mantissa_bits;  // 1 to 22, stored bits
  int mode;           // 0 nearest even, 1 toward zero, 2 stochastic
  int flush;          // 1: results that are subnormal in the format become zero
  int stream;         // 1: store past the caches (dst is not read again soon)
  uint64_t seed;      // of the stochastic mode
};

// Rounds n floats (their bits) from src to dst, which is src itself or does not overlap it. `start` is the
// index of src[0] in the whole tensor: the stochastic mode draws the number of an element from its index.
using LeandnnRoundFn = void (*)(const uint32_t *src, uint32_t *dst, size_t n, uint64_t start,
                                const struct LeandnnRounding *how);
