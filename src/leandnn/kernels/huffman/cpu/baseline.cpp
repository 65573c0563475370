#define LEANDNN_ISA baseline
#include "huffman.inc"
