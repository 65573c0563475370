#define LEANDNN_ISA baseline
#define LEANDNN_LANES 4
#include "panels.inc"
