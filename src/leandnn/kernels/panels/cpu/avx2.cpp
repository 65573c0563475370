#define LEANDNN_ISA avx2
#define LEANDNN_LANES 8
#include "panels.inc"
