// The instruction set of all calls.
#include <string>

#include "decoding.hpp"

extern "C" {
extern const HuffmanKernels leandnn_huffman_baseline;
#if defined(__x86_64__)
extern const HuffmanKernels leandnn_huffman_avx2, leandnn_huffman_avx512;
#endif
}

namespace leandnn {

const HuffmanKernels *huffman_kernels = &leandnn_huffman_baseline;

void select_huffman(const char *isa) {
  const std::string name = isa;
  huffman_kernels = &leandnn_huffman_baseline;
#if defined(__x86_64__)
  if (name == "avx2") huffman_kernels = &leandnn_huffman_avx2;
  if (name == "avx512") {
    const bool registers = __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
    huffman_kernels = registers ? &leandnn_huffman_avx512 : &leandnn_huffman_avx2;
  }
#endif
}

uint32_t crc32c(const uint8_t *data, long n) { return ~huffman_kernels->crc32c(~uint32_t{0}, data, n); }

}  // namespace leandnn
