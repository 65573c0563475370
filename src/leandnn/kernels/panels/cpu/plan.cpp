#include "plan.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "../../threads.hpp"
#include "scratch.hpp"

extern "C" {
extern const PanelsKernels leandnn_panels_baseline;
#if defined(__x86_64__)
extern const PanelsKernels leandnn_panels_avx2, leandnn_panels_avx512;
extern const PanelsBf16Kernels leandnn_panels_avx512bf16;
#endif
}

namespace leandnn {
namespace {

const PanelsKernels *kernels = &leandnn_panels_baseline;
const PanelsBf16Kernels *bf16_kernels = nullptr;

constexpr long DOTS_BLOCK = 512;  // columns of X in a block of the sampled product by dots: 16 rows of dY fit L1
constexpr long PATCHES_FLOATS = 1 << 17;  // of a block of patches that are added up: half of a common L2

thread_local Scratch block_scratch, output_scratch, pair_scratch, tile_scratch, rows_scratch;

void require(bool holds, const std::string &message) {
  if (!holds) throw std::invalid_argument(message);
}

// Checks that `begin` rises from 0 to `count`.
void require_rising(const std::vector<int> &begin, std::size_t parts, std::size_t count, const char *name) {
  require(begin.size() == parts + 1 && begin.front() == 0 && static_cast<std::size_t>(begin.back()) == count &&
              std::is_sorted(begin.begin(), begin.end()),
          std::string(name) + " must rise from 0 to " + std::to_string(count) + " in " + std::to_string(parts) +
              " steps");
}

}  // namespace

void select_panels(const char *isa) {
  const std::string name = isa;
  kernels = &leandnn_panels_baseline;
  bf16_kernels = nullptr;
#if defined(__x86_64__)
  if (name == "avx2") kernels = &leandnn_panels_avx2;
  if (name == "avx512") {
    kernels = &leandnn_panels_avx512;
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bf16")) bf16_kernels = &leandnn_panels_avx512bf16;
  }
#endif
}

const PanelsKernels &panels_kernels() { return *kernels; }

bool has_bf16_products() { return bf16_kernels != nullptr; }

Plan::Plan(long rows, long columns, int n_o, int n_i, int m_r, int m_b, int h, std::vector<int> base_begin,
           std::vector<int> bases, std::vector<int> offset_begin, std::vector<int> offsets, std::vector<long> starts,
           bool pairs)
    : base_begin_(std::move(base_begin)),
      bases_(std::move(bases)),
      offset_begin_(std::move(offset_begin)),
      offsets_(std::move(offsets)),
      starts_(std::move(starts)),
      pairs_(pairs) {
  require(n_o > 0 && n_i > 0 && m_r > 0 && m_b > 0 && columns > 0, "sizes must be at least 1");
  constexpr long limit = 1L << 31;
  long own_rows = 1;
  for (long factor : {n_o, n_i, m_r, m_b}) own_rows = std::min(limit, own_rows * factor);
  require(own_rows < limit && columns < limit, "the matrix must have fewer than 2^31 rows and columns");
  require((h == 4 || h == 2 || h == 1) && (m_r * m_b) % h == 0, "chunks of " + std::to_string(h) + " rows do not fit");
  require(rows == own_rows,
          "the factors have " + std::to_string(own_rows) + " rows, expected " + std::to_string(rows));
  require_rising(base_begin_, n_o, bases_.size(), "base_begin");
  require_rising(offset_begin_, n_i, offsets_.size(), "offset_begin");
  const long units = pairs ? (columns + 1) / 2 : columns;
  int widest_base = 0, widest_offset = 0;
  for (int base : bases_) {
    require(base >= 0, "a base is negative");
    widest_base = std::max(widest_base, base);
  }
  for (int offset : offsets_) {
    require(offset >= 0, "an offset is negative");
    widest_offset = std::max(widest_offset, offset);
  }
  require(static_cast<long>(widest_base) + widest_offset < units,
          "the index reaches column " + std::to_string(static_cast<long>(widest_base) + widest_offset) +
              ", expected below " + std::to_string(units));
  require(starts_.size() == static_cast<std::size_t>(n_o) * n_i + 1 && starts_.front() == 0,
          "starts must have one number per panel and one more");
  for (long o = 0, p = 0; o < n_o; ++o)
    for (long i = 0; i < n_i; ++i, ++p) {
      const long count = static_cast<long>(base_begin_[o + 1] - base_begin_[o]) *
                         (offset_begin_[i + 1] - offset_begin_[i]);
      const long values = std::min(count, limit) * (m_r * m_b), found = std::max(starts_[p + 1], -1L) - starts_[p];
      require(found == values && starts_[p + 1] < limit,
              "panel " + std::to_string(p) + " has " + std::to_string(found) + " values, expected " +
                  std::to_string(values) + ", in all fewer than 2^31");
      most_columns_ = std::max(most_columns_, count);
    }
  const int run = in_runs_of_4() ? 4 : 1;
  offsets_.resize(offsets_.size() + PANELS_PADDING);
  index_ = {rows,
            columns,
            n_o,
            n_i,
            m_r,
            m_b,
            h,
            run,
            base_begin_.data(),
            bases_.data(),
            offset_begin_.data(),
            offsets_.data(),
            starts_.data()};
}

bool Plan::in_runs_of_4() const {
  for (int begin : offset_begin_)
    if (begin % 4 != 0) return false;
  for (std::size_t k = 0; k < offsets_.size(); ++k)
    if (k % 4 != 0 && offsets_[k] != offsets_[k - 1] + 1) return false;
  return true;
}

void Plan::set_tiles(std::vector<int> source, int th, int tw, int h_source, long values) {
  require(th > 0 && tw > 0 && h_source > 0 && h_source <= 4 && h_source % th == 0 && index_.h % tw == 0 &&
              source.size() % static_cast<std::size_t>(index_.h / tw) == 0,
          "the tiles do not fit the chunks");
  require(static_cast<long>(source.size()) * th * tw == starts_.back() && values == starts_.back(),
          std::to_string(source.size()) + " tiles of " + std::to_string(th * tw) + " values, expected " +
              std::to_string(starts_.back()) + " values");
  const long last = static_cast<long>(tw - 1) * h_source + th - 1;
  for (int at : source) require(at >= 0 && at + last < values, "a tile begins outside the values");
  source.resize(source.size() + PANELS_PADDING);
  source_ = std::move(source);
  th_ = th, tw_ = tw, h_source_ = h_source;
}

void Plan::product_retiled(const float *values, const View &x, const View &y, int threads) const {
  require(th_ > 0, "this plan has no tiles");
  float *own = tile_scratch.floats(starts_.back() + PANELS_PADDING);
  const long tiles = static_cast<long>(source_.size()) - PANELS_PADDING, groups = index_.h / tw_;
  const long rows_of_tiles = tiles / groups, parts = std::max(1L, std::min<long>(threads, rows_of_tiles));
  parallel(threads, parts, [&](long part) {
    kernels->retile(values, source_.data(), th_, tw_, h_source_, index_.h, own,
                    rows_of_tiles * part / parts * groups, rows_of_tiles * (part + 1) / parts * groups);
  });
  product(own, x, y, nullptr, false, threads);
}

int Plan::width_for(int w) const {
  return std::max(pairs_ ? 16 : 8, leandnn::width_for(w));
}

// Rows of X into a packed block, of BF16 pairs for a pair plan (r0 is even then).
void Plan::load(const View &x, long j0, int w, int width, float *block, long r0, long r1) const {
  if (!pairs_) {
    read(*kernels, x, j0, w, width, block, r0, r1);
    return;
  }
  auto *pairs = reinterpret_cast<uint16_t *>(block);
  if (x.layout == Layout::feature) {
    bf16_kernels->pack_pairs(reinterpret_cast<const uint16_t *>(x.at(r0 * x.ld + j0)), x.ld, r1 - r0, w, width,
                             pairs + r0 * width);
  } else if (x.layout == Layout::token && index_.columns % 2 == 0 && x.ld % 2 == 0 &&
             reinterpret_cast<uintptr_t>(x.data) % 4 == 0) {  // two features of a token are one word
    kernels->pack_transposed(x.at(j0 * x.ld + r0), 0, x.ld / 2, (r1 - r0) / 2, w, width, block + r0 / 2 * width);
  } else {
    float *wide = pair_scratch.floats(index_.columns * width);
    read(*kernels, x, j0, w, width, wide, r0, r1);
    for (long r = r0; r < r1; r += 2)
      for (int j = 0; j < width; ++j)
        for (long k = 0; k < 2; ++k) {
          uint32_t word = 0;
          if (r + k < index_.columns) std::memcpy(&word, wide + (r + k) * width + j, 4);
          pairs[r * width + 2 * j + k] = static_cast<uint16_t>(word >> 16);  // exact: x was BF16
        }
  }
}

void Plan::run(const void *values, const float *block, int width, float *y, long ld, int w, const float *bias,
               bool relu, long first, long last) const {
  if (pairs_)
    bf16_kernels->product(&index_, static_cast<const uint16_t *>(values),
                          reinterpret_cast<const uint16_t *>(block), width, y, ld, w, bias, relu, first, last);
  else
    kernels->product(&index_, static_cast<const float *>(values), block, width, y, ld, w, bias, relu, first, last);
}

void Plan::product(const void *values, const View &x, const View &y, const float *bias, bool relu,
                   int threads) const {
  require(x.rows == index_.columns && y.rows == index_.rows && x.n == y.n, "the views do not fit the plan");
  require(!pairs_ || (bf16_kernels != nullptr && x.bf16), "a pair plan needs BF16 inputs and AVX512_BF16");
  const auto is_vector = [](const View &v) {
    return !v.bf16 && (v.layout == Layout::token || (v.layout == Layout::feature && v.ld == 1));
  };
  if (x.n == 1 && !pairs_ && is_vector(x) && is_vector(y)) {
    vector(static_cast<const float *>(values), static_cast<const float *>(x.data), static_cast<float *>(y.data),
           bias, relu, threads);
    return;
  }
  if (x.layout == Layout::patches && y.layout == Layout::image && !pairs_ && !x.bf16 && !y.bf16) {
    if (const auto direct = direct_for(*x.geometry)) {
      direct->product(static_cast<const float *>(values), static_cast<const float *>(x.data),
                      static_cast<float *>(y.data), x.geometry->images, bias, relu, threads);
      return;
    }
  }
  if (y.layout == Layout::patches) {  // columns of one image meet: an image belongs to one task
    const long pixels = y.geometry->pixels(), images = y.geometry->images;
    // As many columns at a time as the second-level cache holds: where their patches meet is walked less often.
    const long wide = std::clamp<long>(PATCHES_FLOATS / index_.rows / PANELS_WIDTH, 1, 4) * PANELS_WIDTH;
    const long group = std::max(1L, wide / pixels);
    parallel(threads, (images + group - 1) / group, [&](long task) {
      const long size = y.geometry->channels * y.geometry->height * y.geometry->width;
      const long first = task * group, last = std::min(images, first + group), end = last * pixels;
      std::memset(y.at(first * size), 0, static_cast<std::size_t>((last - first) * size) * y.item());
      for (long j0 = first * pixels; j0 < end; j0 += wide) {
        const long w = std::min(wide, end - j0);
        float *to = output_scratch.floats(index_.rows * wide + 2 * WRITE_MARGIN) + WRITE_MARGIN;
        for (const Block &part : blocks_of(j0, j0 + w)) {
          const int width = width_for(part.count);
          float *block = block_scratch.floats((index_.columns + 1) * width);
          load(x, part.first, part.count, width, block, 0, index_.columns);
          run(values, block, width, to + (part.first - j0), wide, part.count, bias, relu, 0, panels());
        }
        write(*kernels, y, j0, static_cast<int>(w), static_cast<int>(wide), to, 0, index_.rows);
      }
    });
    return;
  }
  const std::vector<Block> blocks = blocks_of(0, x.n);
  if (static_cast<long>(blocks.size()) >= threads) {
    parallel(threads, static_cast<long>(blocks.size()),
             [&](long t) { tile(values, x, y, bias, relu, blocks[t].first, blocks[t].count); });
  } else {
    for (const Block &block : blocks) split_tile(values, x, y, bias, relu, block.first, block.count, threads);
  }
}

// The direct way of a convolution, null where there is none. The last one is kept: a layer's geometry rarely changes.
std::shared_ptr<const Direct> Plan::direct_for(const Geometry &g) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (direct_ != nullptr && direct_->is_for(g)) return direct_;
  if (!Direct::serves(index_, g)) return nullptr;
  return direct_ = std::make_shared<const Direct>(index_, g);
}

// One thread: all panels over one block of columns.
void Plan::tile(const void *values, const View &x, const View &y, const float *bias, bool relu, long j0,
                int w) const {
  const int width = width_for(w);
  float *block = block_scratch.floats((index_.columns + 1) * width), *to;
  long ld;
  load(x, j0, w, width, block, 0, index_.columns);
  if (direct(y, j0, w, &to, &ld)) {
    run(values, block, width, to, ld, w, bias, relu, 0, panels());
    return;
  }
  to = output_scratch.floats(index_.rows * width);
  run(values, block, width, to, width, w, bias, relu, 0, panels());
  write(*kernels, y, j0, w, width, to, 0, index_.rows);
}

// All threads: the panels shared out over one block of columns.
void Plan::split_tile(const void *values, const View &x, const View &y, const float *bias, bool relu, long j0, int w,
                      int threads) const {
  const int width = width_for(w);
  const long unit = x.layout == Layout::patches ? x.geometry->kernel_h * x.geometry->kernel_w : 16;
  const long units = (index_.columns + unit - 1) / unit, readers = std::max(1L, std::min<long>(threads, units));
  const long parts = std::max(1L, std::min<long>(threads * 4L, panels()));
  float *block = block_scratch.floats((index_.columns + 1) * width), *to;
  long ld;
  const bool even = !pairs_ || unit % 2 == 0;  // pairs of columns must not be shared
  const long shares = even ? readers : 1;
  parallel(threads, shares, [&](long part) {
    load(x, j0, w, width, block, std::min(index_.columns, units * part / shares * unit),
         std::min(index_.columns, units * (part + 1) / shares * unit));
  });
  const bool in_place = direct(y, j0, w, &to, &ld);
  if (!in_place) to = output_scratch.floats(index_.rows * width), ld = width;
  parallel(threads, parts, [&](long part) {
    run(values, block, width, to, ld, w, bias, relu, panels() * part / parts, panels() * (part + 1) / parts);
  });
  if (!in_place) write(*kernels, y, j0, w, width, to, 0, index_.rows);
}

void Plan::vector(const float *values, const float *x, float *y, const float *bias, bool relu, int threads) const {
  const long parts = std::max(1L, std::min<long>(threads, panels()));
  parallel(threads, parts, [&](long part) {
    kernels->vector(&index_, values, x, y, bias, relu, block_scratch.floats(most_columns_ + PANELS_PADDING),
                    panels() * part / parts, panels() * (part + 1) / parts);
  });
}

void Plan::sampled(const View &dy, const View &x, float *values, int threads) const {
  require(x.rows == index_.columns && dy.rows == index_.rows && x.n == dy.n && !pairs_,
          "the views do not fit the plan");
  if (x.n == 0) {
    std::fill_n(values, starts_.back(), 0.0f);
    return;
  }
  const long parts = std::max(1L, std::min<long>(threads * 4L, panels()));
  const auto compute = [&](const float *a, long ld_a, const float *b, long ld_b, long n, bool more) {
    parallel(threads, parts, [&](long part) {
      auto *columns = reinterpret_cast<int *>(pair_scratch.floats(most_columns_ + 1));
      kernels->sampled(&index_, a, ld_a, b, ld_b, n, values, more, columns, rows_scratch.floats(32 * SAMPLED_STRIDE),
                       panels() * part / parts, panels() * (part + 1) / parts);
    });
  };
  const bool outer = kernels->sampled_by_outer(&index_);
  const bool in_place = !outer && x.layout == Layout::feature && !x.bf16;
  const long unit = x.layout == Layout::patches ? x.geometry->kernel_h * x.geometry->kernel_w : 16;
  const long units = (index_.columns + unit - 1) / unit;
  const long shares = in_place ? 0 : std::max(1L, std::min<long>(threads, units));
  const long step = outer ? long{SAMPLED_STRIDE} : DOTS_BLOCK;
  for (long j0 = 0; j0 < x.n; j0 += step) {
    const int w = static_cast<int>(std::min(step, x.n - j0)), padded = (w + 15) / 16 * 16;
    const int width = outer ? SAMPLED_STRIDE : padded;
    // dY is always packed: rows a power of two apart would share the same few sets of L1.
    float *a = output_scratch.floats(index_.rows * padded);
    float *b = in_place ? nullptr : block_scratch.floats(index_.columns * width);
    parallel(threads, shares + 1, [&](long part) {
      if (part == shares)
        read(*kernels, dy, j0, w, padded, a, 0, index_.rows);
      else
        read(*kernels, x, j0, w, width, b, std::min(index_.columns, units * part / shares * unit),
             std::min(index_.columns, units * (part + 1) / shares * unit));
    });
    if (in_place)
      compute(a, padded, static_cast<const float *>(x.data) + j0, x.ld, w, j0 > 0);
    else
      compute(a, padded, b, width, padded, j0 > 0);
  }
}

}  // namespace leandnn
