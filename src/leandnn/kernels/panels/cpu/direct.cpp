#include "direct.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>

#include "../../threads.hpp"
#include "plan.hpp"
#include "scratch.hpp"

namespace leandnn {
namespace {

constexpr long LANES = 8;               // pixels of a row that are read at once, or 16 where that divides its width
constexpr long STRIP_FLOATS = 1 << 17;  // half of a common second-level cache

thread_local Scratch packed_scratch;

// Rounded down.
long quotient(long a, long b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

void copy_row(const float *from, long step, float *to, long count) {
  if (step != 1 || count < LANES) {
    for (long k = 0; k < count; ++k) to[k] = from[k * step];
    return;
  }
  for (long k = 0; k + LANES <= count; k += LANES) std::memcpy(to + k, from + k, LANES * sizeof(float));
  std::memcpy(to + count - LANES, from + count - LANES, LANES * sizeof(float));
}

}  // namespace

Direct::Axis::Axis(long taps, long stride, long dilation, long pad)
    : stride(stride), first(quotient(-pad, stride)), border(quotient((taps - 1) * dilation - pad, stride) - first) {
  for (long tap = 0; tap < taps; ++tap) {
    const long at = tap * dilation - pad, own = at - quotient(at, stride) * stride;
    const auto found = std::find(phases.begin(), phases.end(), own);
    phase.push_back(found - phases.begin());
    shift.push_back(quotient(at, stride) - first);
    if (found == phases.end()) phases.push_back(own);
  }
}

bool Direct::serves(const PanelsIndex &w, const Geometry &g) {
  const long taps = g.kernel_h * g.kernel_w, stride = g.stride_h * g.stride_w;
  // The most that a strip of one row takes: the index counts its floats in 32 bits.
  const double most = static_cast<double>(g.channels) * stride * (g.kernel_h * g.dilation_h + 2.0) *
                      (g.kernel_w * g.dilation_w + g.out_w + 2.0);
  return (taps > 1 || stride > 1) && g.out_w % LANES == 0 && most < 1 << 30 &&
         std::all_of(w.bases, w.bases + w.base_begin[w.n_o], [&](int base) { return base % taps == 0; });
}

Direct::Direct(const PanelsIndex &w, const Geometry &g)
    : w_(w),
      g_(g),
      y_(g.kernel_h, g.stride_h, g.dilation_h, g.pad_h),
      x_(g.kernel_w, g.stride_w, g.dilation_w, g.pad_w),
      pitch_(g.out_w + x_.border) {
  const auto phases = static_cast<long>(y_.phases.size() * x_.phases.size()), taps = g.kernel_h * g.kernel_w;
  rows_ = std::clamp(STRIP_FLOATS / (g.channels * phases * pitch_) - y_.border, 1L, g.out_h);
  phase_ = (rows_ + y_.border) * pitch_;
  channel_ = (phases * phase_ + 15) / 16 * 16;
  if (channel_ % 1024 == 0) channel_ += 16;  // channels a page apart would share the same few sets of a cache
  std::transform(w.bases, w.bases + w.base_begin[w.n_o], std::back_inserter(bases_),
                 [&](long base) { return static_cast<int>(base / taps * channel_); });
  std::transform(w.offsets, w.offsets + w.offset_begin[w.n_i], std::back_inserter(offsets_), [&](long column) {
    const long y = column % taps / g.kernel_w, x = column % g.kernel_w;
    const long phase = y_.phase[y] * static_cast<long>(x_.phases.size()) + x_.phase[x];
    return static_cast<int>(column / taps * channel_ + phase * phase_ + y_.shift[y] * pitch_ + x_.shift[x]);
  });
  offsets_.resize(offsets_.size() + PANELS_PADDING);
  w_.bases = bases_.data();
  w_.offsets = offsets_.data();
}

bool Direct::is_for(const Geometry &g) const {
  const auto facts = [](const Geometry &g) {
    return std::array{g.channels, g.height, g.width, g.kernel_h, g.kernel_w,   g.stride_h,  g.stride_w,
                      g.pad_h,    g.pad_w,  g.out_h, g.out_w,    g.dilation_h, g.dilation_w};
  };
  return facts(g) == facts(g_);
}

// What the output's rows from first_row on need of the image; the border at the sides stays zero.
void Direct::fill(const float *image, long first_row, float *packed) const {
  for (long c = 0; c < g_.channels; ++c, image += g_.height * g_.width, packed += channel_) {
    float *to = packed;
    for (long py : y_.phases)
      for (long px : x_.phases) {
        const long left = std::min(pitch_, -x_.first);
        const long right = std::min(pitch_, left + (g_.width - px + x_.stride - 1) / x_.stride);
        for (long r = 0; r < rows_ + y_.border; ++r, to += pitch_) {
          const long y = (r + y_.first + first_row) * y_.stride + py;
          if (y < 0 || y >= g_.height)
            std::fill_n(to, pitch_, 0.0f);
          else
            copy_row(image + y * g_.width + px, x_.stride, to + left, right - left);
        }
      }
  }
}

// A block of the pixels of a strip, of all channels of the output.
void Direct::compute(const Block &block, long first_row, const float *values, const float *packed, float *image,
                     const float *bias, bool relu) const {
  const int width = std::max(16, width_for(block.count));
  const long pixels = std::min(rows_, g_.out_h - first_row) * g_.out_w;
  int at[PANELS_WIDTH / LANES + 1] = {};
  for (long k = 0; k < width / LANES; ++k) {  // what lies past the end is computed twice
    const long pixel = std::min(block.first + k * LANES, pixels - LANES);
    at[k] = static_cast<int>(pixel / g_.out_w * pitch_ + pixel % g_.out_w);
  }
  panels_kernels().product_at(&w_, values, packed, at, g_.out_w % (2 * LANES) != 0, width,
                              image + first_row * g_.out_w + block.first, g_.pixels(), block.count, bias, relu);
}

void Direct::product(const float *values, const float *x, float *y, long images, const float *bias, bool relu,
                     int threads) const {
  const long in = g_.channels * g_.height * g_.width, out = w_.rows * g_.pixels(), size = g_.channels * channel_;
  const long tasks = images * strips(), parts = tasks < threads ? 1 : threads;  // few: they share the blocks of one
  parallel(threads, parts, [&](long part) {
    float *packed = packed_scratch.floats(size);
    std::fill_n(packed, size, 0.0f);
    for (long task = tasks * part / parts; task < tasks * (part + 1) / parts; ++task) {
      const long image = task / strips(), first_row = task % strips() * rows_;
      const std::vector<Block> blocks = blocks_of(0, std::min(rows_, g_.out_h - first_row) * g_.out_w);
      fill(x + image * in, first_row, packed);
      parallel(parts == 1 ? threads : 1, static_cast<long>(blocks.size()), [&](long b) {
        compute(blocks[b], first_row, values, packed, y + image * out, bias, relu);
      });
    }
  });
}

}  // namespace leandnn
