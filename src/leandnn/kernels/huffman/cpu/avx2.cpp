#define LEANDNN_ISA avx2
#include "huffman.inc"
