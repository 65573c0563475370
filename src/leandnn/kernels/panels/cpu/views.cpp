#include "views.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

// A function compiled for several vector widths, chosen by the loader. Only for copies and sums, which give the
// same bits on all of them.
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(LEANDNN_SANITIZE)
#define VECTOR_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VECTOR_CLONES
#endif

namespace leandnn {
namespace {

// `length` neighbouring columns of a block that are neighbours in memory too.
struct Run {
  int column, length;
  long element;
};

inline float get(const float *p) { return *p; }
inline float get(const uint16_t *p) {
  const uint32_t word = static_cast<uint32_t>(*p) << 16;
  float x;
  std::memcpy(&x, &word, 4);
  return x;
}
inline void put(float x, float *p) { *p = x; }
inline void put(float x, uint16_t *p) {  // nearest even; NaN as torch's scalar cast
  uint32_t word;
  std::memcpy(&word, &x, 4);
  *p = x != x ? 0x7FC0 : static_cast<uint16_t>((word + 0x7FFF + ((word >> 16) & 1)) >> 16);
}

// Runs are short: a call of memcpy would cost more than the copy. A rest overlaps what was copied before it.
template <int SIZE>
inline void copy_by(const float *from, float *to, int length) {
  for (int k = 0; k + SIZE <= length; k += SIZE) std::memcpy(to + k, from + k, SIZE * sizeof(float));
  std::memcpy(to + length - SIZE, from + length - SIZE, SIZE * sizeof(float));
}
inline void copy(const float *from, float *to, int length) {
  if (length >= 16)
    copy_by<16>(from, to, length);
  else if (length >= 4)
    copy_by<4>(from, to, length);
  else
    for (int k = 0; k < length; ++k) to[k] = from[k];
}
inline void copy(const uint16_t *from, float *to, int length) {
  for (int k = 0; k < length; ++k) to[k] = get(from + k);
}
inline void copy(const float *from, uint16_t *to, int length) {
  for (int k = 0; k < length; ++k) put(from[k], to + k);
}

// Of columns that are pixels of images with `rows` rows of `pixels` each.
void image_runs(long rows, long pixels, long j0, int w, std::vector<Run> &runs) {
  runs.clear();
  for (int j = 0; j < w;) {
    const long image = (j0 + j) / pixels, pixel = (j0 + j) % pixels;
    const int length = static_cast<int>(std::min<long>(w - j, pixels - pixel));
    runs.push_back({j, length, image * rows * pixels + pixel});
    j += length;
  }
}

void patch_runs(const Geometry &g, long ky, long kx, long j0, int w, std::vector<Run> &runs) {
  runs.clear();
  for (int j = 0; j < w;) {
    const long column = j0 + j, image = column / g.pixels(), pixel = column % g.pixels();
    const long oy = pixel / g.out_w, ox = pixel % g.out_w;
    const int length = static_cast<int>(std::min<long>(w - j, g.out_w - ox));  // within one row of the output
    const long y = oy * g.stride_h - g.pad_h + ky * g.dilation_h;
    const long shift = kx * g.dilation_w - g.pad_w;
    if (y >= 0 && y < g.height) {
      const long row = (image * g.channels * g.height + y) * g.width;
      if (g.stride_w == 1) {
        const long first = std::max(ox, -shift), last = std::min(ox + length, g.width - shift);
        if (first < last)
          runs.push_back({j + static_cast<int>(first - ox), static_cast<int>(last - first), row + first + shift});
      } else {
        for (int k = 0; k < length; ++k) {
          const long x = (ox + k) * g.stride_w + shift;
          if (x >= 0 && x < g.width) runs.push_back({j + k, 1, row + x});
        }
      }
    }
    j += length;
  }
}

template <class T>
void read_runs(const T *from, const std::vector<Run> &runs, bool gaps, int width, float *to) {
  if (gaps) std::memset(to, 0, sizeof(float) * static_cast<std::size_t>(width));
  for (const Run &run : runs) copy(from + run.element, to + run.column, run.length);
}

// --- convolutions that keep the sides ----------------------------------------------------------------------
// With stride 1 and an output of the input's sides a row of patches is a row of the input, moved by a distance
// that depends on the tap alone, with zeros where it leaves the image: whole vectors and a mask, no runs.

typedef int Ints __attribute__((vector_size(64), aligned(4), may_alias));
typedef int Ints8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef float Floats __attribute__((vector_size(64)));
constexpr int LANES = 16;

bool keeps_sides(const Geometry &g) {
  return g.stride_h == 1 && g.stride_w == 1 && g.out_h == g.height && g.out_w == g.width;
}

struct Moves {
  std::vector<long> distance;     // of each tap
  std::vector<int> mask, oy, ox;  // mask: [taps][ld], -1 where column j has a pixel, at LANES + j
  long ld = 0, reach = 0;         // reach: the longest distance
};

VECTOR_CLONES void mask_of(const int *oy, const int *ox, int w, int y0, int y1, int x0, int x1, int *mask) {
  for (int j = 0; j < w; ++j) mask[j] = -((oy[j] >= y0) & (oy[j] < y1) & (ox[j] >= x0) & (ox[j] < x1));
}

const Moves &moves_of(const Geometry &g, long j0, int w) {
  thread_local Moves m;
  const long taps = g.kernel_h * g.kernel_w;
  m.ld = (w + LANES - 1) / LANES * LANES + 2 * LANES;
  m.reach = 0;
  m.distance.assign(static_cast<std::size_t>(taps), 0);
  m.mask.assign(static_cast<std::size_t>(taps * m.ld), 0);
  m.oy.resize(static_cast<std::size_t>(w));
  m.ox.resize(static_cast<std::size_t>(w));
  const long first = j0 % g.pixels();
  int y = static_cast<int>(first / g.out_w), x = static_cast<int>(first % g.out_w);
  for (int j = 0; j < w; ++j) {
    m.oy[j] = y, m.ox[j] = x;
    if (++x == g.out_w) x = 0, y = y + 1 == g.out_h ? 0 : y + 1;
  }
  for (long tap = 0; tap < taps; ++tap) {
    const long dy = tap / g.kernel_w * g.dilation_h - g.pad_h, dx = tap % g.kernel_w * g.dilation_w - g.pad_w;
    if (std::labs(dy) >= g.height || std::labs(dx) >= g.width) continue;  // outside of every image
    m.distance[tap] = dy * g.width + dx;
    m.reach = std::max(m.reach, std::labs(m.distance[tap]));
    mask_of(m.oy.data(), m.ox.data(), w, static_cast<int>(std::max(0L, -dy)),
            static_cast<int>(std::min(g.height, g.height - dy)), static_cast<int>(std::max(0L, -dx)),
            static_cast<int>(std::min(g.width, g.width - dx)), m.mask.data() + tap * m.ld + LANES);
  }
  return m;
}

// One channel's rows of patches, `filled` wide, from its columns.
VECTOR_CLONES void move_out(const float *from, const long *distance, const int *mask, long ld, long taps,
                            int filled, float *to, int width) {
  for (long tap = 0; tap < taps; ++tap, mask += ld, to += width) {
    const float *moved = from + distance[tap];
    int j = 0;
    for (; j + LANES <= filled; j += LANES)
      *reinterpret_cast<Ints *>(to + j) = *reinterpret_cast<const Ints *>(moved + j) &
                                          *reinterpret_cast<const Ints *>(mask + LANES + j);
    if (j < filled)
      *reinterpret_cast<Ints8 *>(to + j) = *reinterpret_cast<const Ints8 *>(moved + j) &
                                           *reinterpret_cast<const Ints8 *>(mask + LANES + j);
  }
}

// The sums over the taps of one channel's rows of patches, w wide, moved back: sums[k] is that of column
// k - reach. Up to LANES numbers before and behind a row are read, and masked.
VECTOR_CLONES void move_back(const float *rows, long width, const long *distance, const int *mask, long ld,
                             long taps, long reach, long w, float *sums) {
  for (long k = 0; k < w + 2 * reach; k += LANES) {
    Floats sum = {};
    for (long tap = 0; tap < taps; ++tap) {
      const long at = k - reach - distance[tap];
      if (at > -LANES && at < w)
        sum += reinterpret_cast<Floats>(*reinterpret_cast<const Ints *>(rows + tap * width + at) &
                                        *reinterpret_cast<const Ints *>(mask + tap * ld + LANES + at));
    }
    *reinterpret_cast<Ints *>(sums + k) = reinterpret_cast<Ints>(sum);
  }
}

VECTOR_CLONES void add(const float *from, float *to, int length) {
  for (int k = 0; k < length; ++k) to[k] += from[k];
}

template <class T>
void read_moved(const View &view, long j0, int w, int width, float *dst, long r0, long r1) {
  const Geometry &g = *view.geometry;
  const Moves &m = moves_of(g, j0, w);
  const T *data = static_cast<const T *>(view.data);
  const long taps = g.kernel_h * g.kernel_w, plane = g.pixels(), channels = g.channels, pixel = j0 % plane;
  const long start = j0 / plane * channels * plane + pixel, end = start + (channels - 1) * plane;
  const int filled = std::min(width, (w + LANES - 1) / LANES * LANES);
  if constexpr (sizeof(T) == sizeof(float)) {
    if (pixel + w <= plane && start >= m.reach && end + filled + m.reach <= g.images * channels * plane) {
      for (long i = r0 / taps; i < r1 / taps; ++i)
        move_out(data + start + i * plane, m.distance.data(), m.mask.data(), m.ld, taps, filled,
                 dst + i * taps * width, width);
      return;
    }
  }
  thread_local std::vector<Run> runs;
  thread_local std::vector<float> columns;  // of one channel, with `reach` more on both sides
  const long first = std::max(0L, j0 - m.reach), last = std::min(view.n, j0 + w + m.reach);
  image_runs(channels, plane, first, static_cast<int>(last - first), runs);
  columns.resize(static_cast<std::size_t>(filled + 2 * m.reach));
  float *to = columns.data() + (first - (j0 - m.reach));
  for (long i = r0 / taps; i < r1 / taps; ++i) {
    for (const Run &run : runs) copy(data + i * plane + run.element, to + run.column, run.length);
    move_out(columns.data() + m.reach, m.distance.data(), m.mask.data(), m.ld, taps, filled,
             dst + i * taps * width, width);
  }
}

void add_moved(const View &view, long j0, int w, int width, const float *src, long r0, long r1) {
  const Geometry &g = *view.geometry;
  const Moves &m = moves_of(g, j0, w);
  const long taps = g.kernel_h * g.kernel_w, plane = g.pixels();
  thread_local std::vector<Run> runs;
  thread_local std::vector<float> sums;
  sums.resize(static_cast<std::size_t>(w + 2 * m.reach + LANES));
  // Only of the images that the columns are of: others belong to other threads.
  const long first = std::max(j0 / plane * plane, j0 - m.reach);
  const long last = std::min(((j0 + w - 1) / plane + 1) * plane, j0 + w + m.reach);
  image_runs(g.channels, plane, first, static_cast<int>(last - first), runs);
  const float *from = sums.data() + (first - (j0 - m.reach));
  for (long i = r0 / taps; i < r1 / taps; ++i) {
    move_back(src + i * taps * width, width, m.distance.data(), m.mask.data(), m.ld, taps, m.reach, w, sums.data());
    float *to = static_cast<float *>(view.data) + i * plane;
    for (const Run &run : runs) add(from + run.column, to + run.element, run.length);
  }
}

template <class T>
void read_indirect(const View &view, long j0, int w, int width, float *dst, long r0, long r1) {
  const T *data = static_cast<const T *>(view.data);
  thread_local std::vector<Run> runs;
  if (view.layout == Layout::image) {
    image_runs(view.rows, view.ld, j0, w, runs);
    for (long r = r0; r < r1; ++r) read_runs(data + r * view.ld, runs, w < width, width, dst + r * width);
    return;
  }
  const Geometry &g = *view.geometry;
  if (keeps_sides(g)) {
    read_moved<T>(view, j0, w, width, dst, r0, r1);
    return;
  }
  const long area = g.kernel_h * g.kernel_w, plane = g.height * g.width;
  for (long tap = 0; tap < area; ++tap) {
    patch_runs(g, tap / g.kernel_w, tap % g.kernel_w, j0, w, runs);
    int covered = 0;
    for (const Run &run : runs) covered += run.length;
    for (long i = r0 / area; i < r1 / area; ++i)
      read_runs(data + i * plane, runs, covered < width, width, dst + (i * area + tap) * width);
  }
}

template <class T>
void write_indirect(const View &view, long j0, int w, int width, const float *src, long r0, long r1) {
  T *data = static_cast<T *>(view.data);
  thread_local std::vector<Run> runs;
  if (view.layout == Layout::image) {
    image_runs(view.rows, view.ld, j0, w, runs);
    for (long r = r0; r < r1; ++r)
      for (const Run &run : runs) copy(src + r * width + run.column, data + r * view.ld + run.element, run.length);
    return;
  }
  const Geometry &g = *view.geometry;
  if (sizeof(T) == sizeof(float) && keeps_sides(g)) {
    add_moved(view, j0, w, width, src, r0, r1);
    return;
  }
  const long area = g.kernel_h * g.kernel_w, plane = g.height * g.width;
  for (long tap = 0; tap < area; ++tap) {
    patch_runs(g, tap / g.kernel_w, tap % g.kernel_w, j0, w, runs);
    for (long i = r0 / area; i < r1 / area; ++i) {
      const float *from = src + (i * area + tap) * width;
      for (const Run &run : runs) {
        T *to = data + i * plane + run.element;
        for (int k = 0; k < run.length; ++k) put(get(to + k) + from[run.column + k], to + k);
      }
    }
  }
}

}  // namespace

std::vector<Block> blocks_of(long first, long end) {
  std::vector<Block> found;
  while (first < end) {
    const long left = end - first, take = left > 64 ? 48 : left > 48 ? 32 : left;
    found.push_back({first, static_cast<int>(take)});
    first += take;
  }
  return found;
}

void read(const PanelsKernels &kernels, const View &view, long j0, int w, int width, float *dst, long r0, long r1) {
  if (view.layout == Layout::feature)
    kernels.pack(view.at(r0 * view.ld + j0), view.bf16, view.ld, r1 - r0, w, width, dst + r0 * width);
  else if (view.layout == Layout::token)
    kernels.pack_transposed(view.at(j0 * view.ld + r0), view.bf16, view.ld, r1 - r0, w, width, dst + r0 * width);
  else if (view.bf16)
    read_indirect<uint16_t>(view, j0, w, width, dst, r0, r1);
  else
    read_indirect<float>(view, j0, w, width, dst, r0, r1);
}

void write(const PanelsKernels &kernels, const View &view, long j0, int w, int width, const float *src, long r0,
           long r1) {
  if (view.layout == Layout::feature)
    kernels.unpack(src + r0 * width, width, r1 - r0, w, view.at(r0 * view.ld + j0), view.bf16, view.ld);
  else if (view.layout == Layout::token)
    kernels.unpack_transposed(src + r0 * width, width, r1 - r0, w, view.at(j0 * view.ld + r0), view.bf16, view.ld);
  else if (view.bf16)
    write_indirect<uint16_t>(view, j0, w, width, src, r0, r1);
  else
    write_indirect<float>(view, j0, w, width, src, r0, r1);
}

bool direct(const View &view, long j0, int w, float **to, long *ld) {
  if (view.bf16) return false;
  float *data = static_cast<float *>(view.data);
  *ld = view.ld;
  if (view.layout == Layout::feature) {
    *to = data + j0;
    return true;
  }
  if (view.layout == Layout::image && j0 % view.ld + w <= view.ld) {
    *to = data + (j0 / view.ld) * view.rows * view.ld + j0 % view.ld;
    return true;
  }
  return false;
}

}  // namespace leandnn
