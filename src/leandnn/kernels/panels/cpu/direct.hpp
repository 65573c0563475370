// A convolution without its patches: the index points into the images themselves, with a border of zeros.
#pragma once

#include <vector>

#include "views.hpp"

namespace leandnn {

// A row of patches is a channel moved by the tap. Where rows of the output hold whole vectors, the product reads them
// in the channel, and nothing is copied once a tap. A channel lies there as phases: of stride s, phase p has the
// pixels p, p + s, …, so that neighbours in the output are neighbours in the phase. An image is taken in strips that
// a second-level cache holds.
class Direct {
 public:
  // For the plan's index and a geometry that `serves`; images aside.
  Direct(const PanelsIndex &w, const Geometry &g);

  // Whether a convolution can be computed this way, and should.
  static bool serves(const PanelsIndex &w, const Geometry &g);
  bool is_for(const Geometry &g) const;

  // y = relu(conv(x) + bias), both images × channels × pixels; bias may be null.
  void product(const float *values, const float *x, float *y, long images, const float *bias, bool relu,
               int threads) const;

 private:
  // One dimension: where the taps read. Pixel k of a phase is pixel (k + first) * stride + phase of the image.
  struct Axis {
    Axis(long taps, long stride, long dilation, long pad);

    long stride;
    long first, border;              // the least shift of a tap, and how much more the others have
    std::vector<long> phases;        // those that taps read
    std::vector<long> phase, shift;  // of each tap: which of `phases`, and how far from the first
  };

  long strips() const { return (g_.out_h + rows_ - 1) / rows_; }
  void fill(const float *image, long first_row, float *packed) const;
  void compute(const Block &block, long first_row, const float *values, const float *packed, float *image,
               const float *bias, bool relu) const;

  PanelsIndex w_;
  Geometry g_;
  Axis y_, x_;
  long pitch_, rows_;      // floats of a row; rows of the output in a strip
  long phase_, channel_;   // floats of a strip's phase, and of all phases of a channel
  std::vector<int> bases_, offsets_;
};

}  // namespace leandnn
