// The forward product with BF16 factors and FP32 sums (vdpbf16ps), as panels.inc does it in FP32. The
// intrinsics of the compiler's own header are always inlined, so no shared copy of them is left behind.
#include <immintrin.h>

#include "panels.hpp"

#define INLINE inline __attribute__((always_inline))

namespace {

INLINE __m512bh as_pairs(__m512i x) { return reinterpret_cast<__m512bh>(x); }

template <int H, int G, int NV, int WIDTH>
void product_of(const PanelsIndex &w, const unsigned short *values, const unsigned short *x, float *y, long ld,
                int columns, const float *bias, int relu, long first, long last) {
  constexpr int ROWS = G * H, U = 16 / (ROWS * NV) > 0 ? 16 / (ROWS * NV) : 1;
  const int rows = w.m_r * w.m_b;
  for (long p = first; p < last; ++p) {
    const long po = p / w.n_i, pi = p % w.n_i;
    const int *base_end = w.bases + w.base_begin[po + 1];
    const int *begin = w.offsets + w.offset_begin[pi], *end = w.offsets + w.offset_begin[pi + 1];
    const long count = (w.base_begin[po + 1] - w.base_begin[po]) * (end - begin);
    for (int q = 0; q < rows; q += ROWS) {
      const unsigned short *v = values + 2 * (w.starts[p] + q * count);
      const long distance = 2 * H * count;  // between the values of two chunks
      long row[ROWS];
      for (int l = 0; l < ROWS; ++l)
        row[l] = ((po * w.m_r + (q + l) / w.m_b) * w.n_i + pi) * w.m_b + (q + l) % w.m_b;
      __m512 acc[U][ROWS][NV];
#pragma GCC unroll 16
      for (int u = 0; u < U; ++u)
#pragma GCC unroll 8
        for (int l = 0; l < ROWS; ++l)
#pragma GCC unroll 4
          for (int n = 0; n < NV; ++n) {
            acc[u][l][n] = u == 0 && bias ? _mm512_set1_ps(bias[row[l]]) : _mm512_setzero_ps();
            if (u == 0) __builtin_prefetch(y + row[l] * ld + n * 16, 1);
          }
      for (const int *base = w.bases + w.base_begin[po]; base < base_end; ++base) {
        const unsigned short *xb = x + static_cast<long>(*base) * (2 * WIDTH);
        const int *o = begin;
        for (; o + U <= end; o += U, v += 2 * U * H) {
#pragma GCC unroll 2
          for (int g = 0; g < G; ++g) __builtin_prefetch(v + g * distance + 512);
#pragma GCC unroll 16
          for (int u = 0; u < U; ++u) {
            const unsigned short *xr = xb + static_cast<long>(o[u]) * (2 * WIDTH);
            const unsigned short *ahead = xb + static_cast<long>(o[u + 8]) * (2 * WIDTH);
            __m512i xs[NV];
#pragma GCC unroll 4
            for (int n = 0; n < NV; ++n) {
              xs[n] = _mm512_loadu_si512(xr + n * 32);
              __builtin_prefetch(ahead + n * 32);
            }
#pragma GCC unroll 8
            for (int l = 0; l < ROWS; ++l) {
              int pair;
              __builtin_memcpy(&pair, v + l / H * distance + 2 * (u * H + l % H), 4);
              const __m512bh vs = as_pairs(_mm512_set1_epi32(pair));
#pragma GCC unroll 4
              for (int n = 0; n < NV; ++n) acc[u][l][n] = _mm512_dpbf16_ps(acc[u][l][n], vs, as_pairs(xs[n]));
            }
          }
        }
        for (; o < end; ++o, v += 2 * H) {
          const unsigned short *xr = xb + static_cast<long>(*o) * (2 * WIDTH);
#pragma GCC unroll 8
          for (int l = 0; l < ROWS; ++l) {
            int pair;
            __builtin_memcpy(&pair, v + l / H * distance + 2 * (l % H), 4);
            const __m512bh vs = as_pairs(_mm512_set1_epi32(pair));
#pragma GCC unroll 4
            for (int n = 0; n < NV; ++n)
              acc[0][l][n] =
                  _mm512_dpbf16_ps(acc[0][l][n], vs, as_pairs(_mm512_loadu_si512(xr + n * 32)));
          }
        }
      }
#pragma GCC unroll 8
      for (int l = 0; l < ROWS; ++l)
#pragma GCC unroll 4
        for (int n = 0; n < NV; ++n) {
          __m512 r = acc[0][l][n];
#pragma GCC unroll 16
          for (int u = 1; u < U; ++u) r = _mm512_add_ps(r, acc[u][l][n]);
          if (relu)  // NaN stays, as in torch
            r = _mm512_mask_mov_ps(r, _mm512_cmp_ps_mask(r, _mm512_setzero_ps(), _CMP_LT_OQ), _mm512_setzero_ps());
          const int left = columns - n * 16;
          if (left > 0)
            _mm512_mask_storeu_ps(y + row[l] * ld + n * 16,
                                  left >= 16 ? 0xFFFF : static_cast<__mmask16>((1u << left) - 1), r);
        }
    }
  }
}

template <int NV, int WIDTH>
INLINE void product_by_height(const PanelsIndex &w, const unsigned short *values, const unsigned short *x, float *y,
                              long ld, int columns, const float *bias, int relu, long first, long last) {
  if (w.h == 4 && w.m_r * w.m_b % 8 == 0)
    product_of<4, 2, NV, WIDTH>(w, values, x, y, ld, columns, bias, relu, first, last);
  else if (w.h == 4)
    product_of<4, 1, NV, WIDTH>(w, values, x, y, ld, columns, bias, relu, first, last);
  else if (w.h == 2)
    product_of<2, 1, NV, WIDTH>(w, values, x, y, ld, columns, bias, relu, first, last);
  else
    product_of<1, 1, NV, WIDTH>(w, values, x, y, ld, columns, bias, relu, first, last);
}

void product(const PanelsIndex *w, const unsigned short *values, const unsigned short *x, int width, float *y,
             long ld, int columns, const float *bias, int relu, long first, long last) {
  if (width == 48)
    product_by_height<3, 48>(*w, values, x, y, ld, columns, bias, relu, first, last);
  else if (width == 32)
    product_by_height<2, 32>(*w, values, x, y, ld, columns, bias, relu, first, last);
  else
    product_by_height<1, 16>(*w, values, x, y, ld, columns, bias, relu, first, last);
}

// 16 entries of two rows at a time; a last odd row is paired with zeros.
void pack_pairs(const unsigned short *src, long ld, long rows, int w, int width, unsigned short *dst) {
  for (long r = 0; r < rows; r += 2, dst += 2 * width) {
    const unsigned short *a = src + r * ld, *b = a + ld;
    const bool paired = r + 1 < rows;
    if (r + 32 < rows)
      for (int j = 0; j < w; j += 32) {
        __builtin_prefetch(a + 32 * ld + j);
        __builtin_prefetch(b + 32 * ld + j);
      }
    for (int j = 0; j < width; j += 16) {
      const int left = w - j;
      const __mmask16 mask = left >= 16 ? 0xFFFF : left > 0 ? static_cast<__mmask16>((1u << left) - 1) : 0;
      const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, a + j));
      const __m512i high =
          paired ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, b + j)) : _mm512_setzero_si512();
      _mm512_storeu_si512(dst + 2 * j, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
  }
}

}  // namespace

extern "C" {
extern const PanelsBf16Kernels leandnn_panels_avx512bf16;
const PanelsBf16Kernels leandnn_panels_avx512bf16 = {product, pack_pairs};
}
