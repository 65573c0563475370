#define LEANDNN_ISA avx512
#include "rounding.inc"
