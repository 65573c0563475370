// A pattern prepared for its products on the CPU.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "direct.hpp"
#include "views.hpp"

namespace leandnn {

class Plan {
 public:
  // The arrays of format.py; throws std::invalid_argument where they do not fit together. With `pairs` the
  // index counts pairs of columns (BF16 products).
  Plan(long rows, long columns, int n_o, int n_i, int m_r, int m_b, int h, std::vector<int> base_begin,
       std::vector<int> bases, std::vector<int> offset_begin, std::vector<int> offsets, std::vector<long> starts,
       bool pairs);
  Plan(const Plan &) = delete;

  // For the plan of a transposed matrix: where its tiles of th × tw values begin among the matrix's own
  // values, whose chunks have h_source rows; `values` is their number.
  void set_tiles(std::vector<int> source, int th, int tw, int h_source, long values);

  // Y = relu(W · X + bias); bias may be null. For a pair plan values are BF16 pairs and X is BF16.
  void product(const void *values, const View &x, const View &y, const float *bias, bool relu, int threads) const;
  // The product with the transposed matrix, whose values are still in the matrix's own order.
  void product_retiled(const float *values, const View &x, const View &y, int threads) const;
  // values = the entries of dY · Xᵀ on the pattern.
  void sampled(const View &dy, const View &x, float *values, int threads) const;

  const PanelsIndex &index() const { return index_; }
  long rows() const { return index_.rows; }
  long columns() const { return index_.columns; }
  long values() const { return starts_.back(); }

 private:
  void tile(const void *values, const View &x, const View &y, const float *bias, bool relu, long j0, int w) const;
  void split_tile(const void *values, const View &x, const View &y, const float *bias, bool relu, long j0, int w,
                  int threads) const;
  void vector(const float *values, const float *x, float *y, const float *bias, bool relu, int threads) const;
  bool in_runs_of_4() const;
  int width_for(int w) const;
  std::shared_ptr<const Direct> direct_for(const Geometry &g) const;
  void load(const View &x, long j0, int w, int width, float *block, long r0, long r1) const;
  void run(const void *values, const float *block, int width, float *y, long ld, int w, const float *bias,
           bool relu, long first, long last) const;
  long panels() const { return static_cast<long>(index_.n_o) * index_.n_i; }

  PanelsIndex index_;
  std::vector<int> base_begin_, bases_, offset_begin_, offsets_, source_;
  std::vector<long> starts_;
  bool pairs_;
  int th_ = 0, tw_ = 0, h_source_ = 0;
  long most_columns_ = 0;  // of a panel
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const Direct> direct_;  // under mutex_
};

// Of the instruction set in use.
const PanelsKernels &panels_kernels();
// Chooses the instruction set of all later calls: "baseline", "avx2" or "avx512".
void select_panels(const char *isa);
// Whether this CPU multiplies BF16 pairs (AVX512_BF16) and the instruction set in use is "avx512".
bool has_bf16_products();

}  // namespace leandnn
