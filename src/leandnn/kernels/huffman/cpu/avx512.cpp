#define LEANDNN_ISA avx512
#include "huffman.inc"
