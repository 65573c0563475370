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

namespace {

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
typedef int Places __attribute__((vector_size(16)));

// out[j * out_ld + i] = in[i * in_ld + j] for i, j < 4.
inline void four_by_four(const float *in, long in_ld, float *out, long out_ld) {
  const auto row = [&](long i) { return *reinterpret_cast<const Four *>(in + i * in_ld); };
  const auto put = [&](long j, Four v) { *reinterpret_cast<Four *>(out + j * out_ld) = v; };
  const Places low = {0, 4, 1, 5}, high = {2, 6, 3, 7}, front = {0, 1, 4, 5}, back = {2, 3, 6, 7};
  const Four a = __builtin_shuffle(row(0), row(1), low), b = __builtin_shuffle(row(2), row(3), low);
  const Four c = __builtin_shuffle(row(0), row(1), high), d = __builtin_shuffle(row(2), row(3), high);
  put(0, __builtin_shuffle(a, b, front)), put(1, __builtin_shuffle(a, b, back));
  put(2, __builtin_shuffle(c, d, front)), put(3, __builtin_shuffle(c, d, back));
}

}  // namespace

void transpose(const float *x, long x_ld, long rows, long columns, float *out) {
  // Floats of a cache line: each line of x is used up before those of other rows that share its set push it out. Where
  // there are more rows than columns it is the lines of `out` that do so.
  const long width = rows > columns ? 4 : 16;
  for (long begin = 0; begin < columns; begin += width) {
    const long count = std::min(width, columns - begin), whole = count % 4 ? 0 : rows - rows % 4;
    const float *from = x + begin;
    float *to = out + begin * rows;
    for (long row = 0; row < whole; row += 4) {
      for (long i = 0; i < 4; ++i) __builtin_prefetch(from + (row + i) * x_ld + 64);
      for (long i = 0; i < count; i += 4) four_by_four(from + row * x_ld + i, x_ld, to + i * rows + row, rows);
    }
    for (long row = whole; row < rows; ++row)
      for (long i = 0; i < count; ++i) to[i * rows + row] = from[row * x_ld + i];
  }
}

}  // namespace leandnn
