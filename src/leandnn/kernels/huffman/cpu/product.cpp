// Products with a coded matrix, decoded block by block.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "decoding.hpp"

namespace leandnn {

void Coded::tile(long group, const float *x, long x_ld, int width, float *y, long y_ld, const float *bias) const {
  const auto begin = [&](long row) {
    std::fill_n(y + row * y_ld, width, bias ? bias[row] : 0.0f);
    return y + row * y_ld;
  };
  if (!a_.lanes) {
    each_row(group, [&](long row, const uint8_t *advances, const uint8_t *weights, long n) {
      if (huffman_kernels->row(matrix_.get(), advances, weights, n, x, x_ld, width, begin(row)))
        broken("a row leads out of the matrix");
    });
    return;
  }
  const long first = group * lanes_of, rows = std::min<long>(lanes_of, a_.rows - first);
  const int32_t *order = order_.data() + first;
  // Of few columns the sums of all lanes lie side by side, so that one instruction adds to several.
  decltype(HuffmanKernels::dot) few = nullptr;
  if (x_ld == width && width == 1) few = huffman_kernels->dot;
  if (x_ld == width && width == 4) few = huffman_kernels->four;
  alignas(64) float sums[4 * lanes_of] = {};
  float *to[lanes_of];
  for (int lane = 0; lane < rows; ++lane) {
    const int place = huffman_place(lane);
    to[place] = few ? sums + width * place : begin(order[lane]);
  }
  Values block;
  each_block(group, block, [&](uint32_t from, const int *steps) {
    const float *part = x + from * x_ld;
    if (few && steps[lanes_of - 1] == steps[0])
      few(block.columns, block.values, steps[0], part, sums);
    else
      huffman_kernels->multiply(block.columns, block.values, steps, part, x_ld, width, to);
  });
  for (int lane = 0; few && lane < rows; ++lane) {
    float *row = begin(order[lane]);
    for (int j = 0; j < width; ++j) row[j] += to[huffman_place(lane)][j];
  }
}

void Coded::product(const float *x, long x_ld, long n, float *y, long y_ld, const float *bias, int threads) const {
  for (long j = 0; j < n; j += HUFFMAN_TILE) {
    const int width = static_cast<int>(std::min<long>(HUFFMAN_TILE, n - j));
    each_group(threads, [&](long group) { tile(group, x + j, x_ld, width, y + j, y_ld, bias); });
  }
}

void feature_major(const float *x, long x_ld, long n, long columns, float *out) {
  if (n < 1 || n > HUFFMAN_TILE) throw std::invalid_argument("a tile has a wrong number of rows");
  constexpr long width = 16;  // floats of a cache line: each is used up before rows that share its set push it out
  float tile[width][HUFFMAN_TILE];
  for (long begin = 0; begin < columns; begin += width) {
    const long count = std::min(width, columns - begin);
    for (long row = 0; row < n; ++row)
      for (long i = 0; i < count; ++i) tile[i][row] = x[row * x_ld + begin + i];
    for (long i = 0; i < count; ++i)
      std::memcpy(out + (begin + i) * n, tile[i], static_cast<size_t>(n) * sizeof(float));
  }
}

}  // namespace leandnn
