#include "views.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

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

// Small maps have many short runs: a copy of known length costs less than a call of memcpy.
inline void copy(const float *from, float *to, int length) {
  switch (length) {
    case 1: *to = *from; return;
    case 2: std::memcpy(to, from, 8); return;
    case 4: std::memcpy(to, from, 16); return;
    case 8: std::memcpy(to, from, 32); return;
    case 16: std::memcpy(to, from, 64); return;
    case 32: std::memcpy(to, from, 128); return;
    default:
      for (int k = 0; k < length; ++k) to[k] = from[k];
  }
}
inline void copy(const uint16_t *from, float *to, int length) {
  for (int k = 0; k < length; ++k) to[k] = get(from + k);
}

void image_runs(const View &view, long j0, int w, std::vector<Run> &runs) {
  runs.clear();
  for (int j = 0; j < w;) {
    const long image = (j0 + j) / view.ld, pixel = (j0 + j) % view.ld;
    const int length = static_cast<int>(std::min<long>(w - j, view.ld - pixel));
    runs.push_back({j, length, image * view.rows * view.ld + pixel});
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

template <class T>
void read_indirect(const View &view, long j0, int w, int width, float *dst, long r0, long r1) {
  const T *data = static_cast<const T *>(view.data);
  thread_local std::vector<Run> runs;
  if (view.layout == Layout::image) {
    image_runs(view, j0, w, runs);
    for (long r = r0; r < r1; ++r) read_runs(data + r * view.ld, runs, w < width, width, dst + r * width);
    return;
  }
  const Geometry &g = *view.geometry;
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
    image_runs(view, j0, w, runs);
    for (long r = r0; r < r1; ++r)
      for (const Run &run : runs)
        for (int k = 0; k < run.length; ++k)
          put(src[r * width + run.column + k], data + r * view.ld + run.element + k);
    return;
  }
  const Geometry &g = *view.geometry;
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
