#define LEANDNN_ISA baseline
#include "rounding.inc"
