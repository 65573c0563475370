// The product with a transposed matrix, Wᵀ · dY, for panels whose columns are strewn: by W's own index.
#pragma once

#include <vector>

#include "plan.hpp"

namespace leandnn {

// A panel's rows are added into its columns of dX, a band of which stays in L1 meanwhile. The way by the transposed
// index (Plan::product_retiled) reads a vector of dY for every value where columns have no neighbours.
class Scattered {
 public:
  // The plan of W, in chunks of 4 rows, which must outlive this; throws std::invalid_argument for another.
  explicit Scattered(const Plan &plan);
  Scattered(const Scattered &) = delete;

  // dX = Wᵀ · dY.
  void product(const float *values, const View &dy, const View &dx, int threads) const;

  long rows() const { return plan_.columns(); }
  long columns() const { return plan_.rows(); }

 private:
  void band(long number, const float *values, const float *dy, int width, float *dx) const;
  void into_patches(const float *values, const View &dy, const View &dx, int threads) const;
  long bands() const { return (plan_.columns() + SCATTERED_COLUMNS - 1) / SCATTERED_COLUMNS; }

  const Plan &plan_;
  std::vector<int> rows_, columns_, cuts_;  // see PanelsBand; cuts_: [bands + 1][panels]
};

}  // namespace leandnn
