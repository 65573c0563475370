#include "scattered.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "../../threads.hpp"
#include "scratch.hpp"

namespace leandnn {
namespace {

thread_local Scratch dy_scratch, dx_scratch;

}  // namespace

Scattered::Scattered(const Plan &plan) : plan_(plan) {
  const PanelsIndex &w = plan.index();
  if (w.h != 4)
    throw std::invalid_argument("the plan has chunks of " + std::to_string(w.h) + " rows, expected 4");
  const long panels = static_cast<long>(w.n_o) * w.n_i;
  rows_.reserve(static_cast<std::size_t>(w.rows));
  cuts_.assign(static_cast<std::size_t>((bands() + 1) * panels), 0);
  for (long p = 0; p < panels; ++p) {
    const long o = p / w.n_i, i = p % w.n_i;
    for (int r = 0; r < w.m_r; ++r)
      for (int b = 0; b < w.m_b; ++b) rows_.push_back(static_cast<int>(((o * w.m_r + r) * w.n_i + i) * w.m_b + b));
    const auto first = static_cast<long>(columns_.size());
    for (int base = w.base_begin[o]; base < w.base_begin[o + 1]; ++base)
      for (int k = w.offset_begin[i]; k < w.offset_begin[i + 1]; ++k) columns_.push_back(w.bases[base] + w.offsets[k]);
    if (!std::is_sorted(columns_.begin() + first, columns_.end()))
      throw std::invalid_argument("the columns of panel " + std::to_string(p) + " do not ascend");
    for (long band = 0; band <= bands(); ++band)
      cuts_[band * panels + p] = static_cast<int>(
          std::lower_bound(columns_.begin() + first, columns_.end(), band * SCATTERED_COLUMNS) - columns_.begin());
  }
}

// Columns [number * SCATTERED_COLUMNS, …) of W, which are rows of dX, of one block: [SCATTERED_COLUMNS][width].
void Scattered::band(long number, const float *values, const float *dy, int width, float *dx) const {
  const long panels = static_cast<long>(plan_.index().n_o) * plan_.index().n_i;
  const int *cuts = cuts_.data() + number * panels;
  const PanelsBand own{rows_.data(), columns_.data(), cuts_.data(), cuts, cuts + panels,
                       static_cast<int>(number * SCATTERED_COLUMNS)};
  std::fill_n(dx, static_cast<long>(SCATTERED_COLUMNS) * width, 0.0f);
  panels_kernels().scattered(&plan_.index(), &own, values, dy, width, dx);
}

void Scattered::product(const float *values, const View &dy, const View &dx, int threads) const {
  if (dx.rows != rows() || dy.rows != columns() || dx.n != dy.n)
    throw std::invalid_argument("the views do not fit the plan");
  if (dx.layout == Layout::patches) {
    into_patches(values, dy, dx, threads);
    return;
  }
  const long blocks = (dy.n + PANELS_WIDTH - 1) / PANELS_WIDTH, shared = blocks < threads ? bands() : 1;
  parallel(shared > 1 ? 1 : threads, blocks, [&](long block) {
    const long j0 = block * PANELS_WIDTH;
    const int w = static_cast<int>(std::min<long>(PANELS_WIDTH, dy.n - j0)), width = width_for(w);
    float *packed = dy_scratch.floats(columns() * width);
    read(panels_kernels(), dy, j0, w, width, packed, 0, columns());
    parallel(shared > 1 ? threads : 1, shared, [&](long part) {
      float *to = dx_scratch.floats(long{SCATTERED_COLUMNS} * width);
      for (long number = bands() * part / shared; number < bands() * (part + 1) / shared; ++number) {
        const long first = number * SCATTERED_COLUMNS;
        band(number, values, packed, width, to);
        write(panels_kernels(), dx, j0, w, width, to - first * width, first,  // row `first` is to's first
              std::min<long>(rows(), first + SCATTERED_COLUMNS));
      }
    });
  });
}

// Columns of one image meet in dX: an image belongs to one task.
void Scattered::into_patches(const float *values, const View &dy, const View &dx, int threads) const {
  constexpr int width = PANELS_WIDTH;
  const Geometry &g = *dx.geometry;
  const long group = std::max(1L, width / g.pixels()), size = g.channels * g.height * g.width;
  parallel(threads, (g.images + group - 1) / group, [&](long task) {
    const long first = task * group, last = std::min(g.images, first + group), end = last * g.pixels();
    std::memset(dx.at(first * size), 0, static_cast<std::size_t>((last - first) * size) * dx.item());
    float *packed = dy_scratch.floats(columns() * width);
    float *to = dx_scratch.floats(bands() * SCATTERED_COLUMNS * width + 2 * WRITE_MARGIN) + WRITE_MARGIN;
    for (long j0 = first * g.pixels(); j0 < end; j0 += width) {
      const int w = static_cast<int>(std::min<long>(width, end - j0));
      read(panels_kernels(), dy, j0, w, width, packed, 0, columns());
      for (long number = 0; number < bands(); ++number)
        band(number, values, packed, width, to + number * SCATTERED_COLUMNS * width);
      write(panels_kernels(), dx, j0, w, width, to, 0, rows());
    }
  });
}

}  // namespace leandnn
