#define LEANDNN_ISA avx2
#include "rounding.inc"
