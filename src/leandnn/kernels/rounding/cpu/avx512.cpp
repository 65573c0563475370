#define LEANDNN_ISA avx512
#define LEANDNN_LANES 16
#include "rounding.inc"
