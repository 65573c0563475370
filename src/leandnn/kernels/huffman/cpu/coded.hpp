// A coded matrix (format.py) prepared for decoding and products on the CPU.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "huffman.hpp"

namespace leandnn {

// What Python hands over. All but `data` is copied: the file behind may change under a mapping of it, and nothing that
// was checked once may be read again. Python keeps `data` alive.
struct CodedArrays {
  long rows, columns;
  bool lanes;                      // else streams
  const uint8_t *advance_lengths, *weight_lengths;
  long advance_symbols, weight_symbols;
  const float *codebook;           // weight_symbols
  const uint8_t *counts;           // rows numbers of count_bytes
  int count_bytes;                 // 2 or 4
  const uint32_t *offsets;         // of the groups' streams
  long offset_count;
  const uint8_t *data;
  long size;                       // of data, in bytes
};

class Coded {
 public:
  // Throws std::invalid_argument where sizes or tables are not those of format.py.
  explicit Coded(const CodedArrays &arrays);
  Coded(const Coded &) = delete;

  // All of these throw std::runtime_error for streams that are too short or long, or lead out of the matrix; what
  // they were to write is then undefined.

  // Symbols of all slots, row by row.
  void slots(uint8_t *advances, uint8_t *weights, int threads) const;
  // All symbols in the order of storage; ops.py says which that is.
  void symbols(uint8_t *out, int threads) const;
  // The matrix, rows × columns.
  void dense(float *out, int threads) const;
  // Column and value of each slot, row by row, fillers as zeros: with the running sum of counts a CSR matrix.
  void compressed_rows(int32_t *columns, float *values, int threads) const;
  // y = W · x + bias for n columns: x[column * x_ld + j], y[row * y_ld + j]; bias may be null.
  void product(const float *x, long x_ld, long n, float *y, long y_ld, const float *bias, int threads) const;

  // Bytes of the tables made here, and of what each thread computes in.
  long table_bytes() const;
  long scratch_bytes() const;

 private:
  template <class Kind, class Sink>
  void each_block(long group, Kind &block, Sink &&sink) const;
  template <class Sink>
  void each_row(long group, Sink &&sink) const;
  template <class Body>
  void each_group(int threads, Body &&body) const;
  void decode_streams(long group, long slots, uint8_t *out) const;
  void must_be_inside(uint64_t column) const;
  std::vector<long> begins() const;
  uint32_t count(long row) const;
  void tile(long group, const float *x, long x_ld, int width, float *y, long y_ld, const float *bias) const;

  CodedArrays a_;
  std::unique_ptr<HuffmanMatrix> matrix_;
  std::vector<uint8_t> counts_;
  std::vector<uint32_t> offsets_;
  std::vector<uint32_t> advance_entries_, weight_entries_;
  std::vector<uint64_t> advance_many_, weight_many_;
  std::vector<int32_t> order_;       // rows in the order of storage ("lanes")
  std::vector<int32_t> group_rows_;  // where groups of rows begin ("streams")
  long groups_ = 0, most_slots_ = 0;  // most_slots_: of a group ("streams")
};

// out[column * rows + row] = x[row * x_ld + column].
void transpose(const float *x, long x_ld, long rows, long columns, float *out);
// Chooses the instruction set of all later calls: "baseline", "avx2" or "avx512".
void select_huffman(const char *isa);
uint32_t crc32c(const uint8_t *data, long n);

}  // namespace leandnn
