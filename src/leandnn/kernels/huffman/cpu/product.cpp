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
  Values block;
  if (width == 1 && x_ld == 1) {
    alignas(64) float sums[lanes_of] = {};
    each_block(group, block, [&](uint32_t from, const int *steps) {
      float before[lanes_of];
      std::copy_n(sums, lanes_of, before);
      huffman_kernels->dot(block.columns, block.values, steps[0], x + from, sums);
      // Lanes that end within the block are summed up on their own: what lies behind their end is nobody's.
      for (int lane = lanes_of - 1; steps[lane] < steps[0]; --lane) {
        const int place = huffman_place(lane);
        sums[place] = before[place];
        for (int step = 0; step < steps[lane]; ++step) {
          const int i = step * stride_of + place;
          sums[place] += block.values[i] * x[from + block.columns[i] + static_cast<uint32_t>(step)];
        }
      }
    });
    for (int lane = 0; lane < rows; ++lane) {
      y[order[lane] * y_ld] = sums[huffman_place(lane)] + (bias ? bias[order[lane]] : 0.0f);
    }
    return;
  }
  for (long lane = 0; lane < rows; ++lane) begin(order[lane]);
  each_block(group, block, [&](uint32_t from, const int *steps) {
    for (int lane = 0; steps[lane] > 0; ++lane) {
      const int place = huffman_place(lane);
      huffman_kernels->multiply(block.columns + place, block.values + place, steps[lane], x + from * x_ld, x_ld, width,
                        y + order[lane] * y_ld);
    }
  });
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
