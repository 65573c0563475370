#define LEANDNN_ISA avx512vbmi
#define LEANDNN_VBMI
#include "huffman.inc"
