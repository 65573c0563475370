// What the instruction-set units and the driver of the panel products share. No standard headers: see
// CMakeLists.txt.
#pragma once

// A pattern as format.py lays it out, M × K: panel p = o * n_i + i has the m_r * m_b rows
// ((o * m_r + r) * n_i + i) * m_b + b and the columns base + offset, over all bases of o and all offsets of i.
struct PanelsIndex {
  long rows, columns;
  int n_o, n_i, m_r, m_b;
  int h;                                // rows of a chunk: 4, 2 or 1
  int run;                              // 4 if columns come in runs of 4 neighbours, else 1
  const int *base_begin, *bases;        // n_o + 1; first column of the tile of each edge of G_o
  const int *offset_begin, *offsets;    // n_i + 1; columns within a tile, and PANELS_PADDING more
  const long *starts;                   // n_o * n_i + 1: where a panel's values begin
};

// Of W, in chunks of 4 rows, the columns [first, first + SCATTERED_COLUMNS).
struct PanelsBand {
  const int *rows;         // the rows of every panel, m_r * m_b each
  const int *columns;      // the columns of every panel, ascending
  const int *origin;       // where each panel's begin in there
  const int *begin, *end;  // and where those of the band do, and end
  int first;
};

enum { SCATTERED_COLUMNS = 128 };  // so that a band of dX stays in L1
enum { PANELS_PADDING = 16 };  // numbers past the end of `offsets` that may be read (never used as indices)
enum { PANELS_WIDTH = 48 };    // columns of a packed block of X at most
enum { SAMPLED_ROWS = 16 };    // rows of dY that a sampled product by dots keeps in L1
enum { SAMPLED_STRIDE = 256 };  // of the packed blocks of a sampled product by outer products

// One instruction set. Packed blocks are [rows][width] with width 48, 32, 16 or 8; the products take panels
// [first, last).
struct PanelsKernels {
  // y[row * ld + j] = relu(values · x + bias) for j < w ≤ width; x is a packed block.
  void (*product)(const PanelsIndex *, const float *values, const float *x, int width, float *y, long ld, int w,
                  const float *bias, int relu, long first, long last);
  // The same of all panels where the index counts floats of x: 8 columns of y begin at[k] floats behind a column of W,
  // unless `halves` two such eights lie side by side. `at` has width / 8 numbers and one more.
  void (*product_at)(const PanelsIndex *, const float *values, const float *x, const int *at, int halves, int width,
                     float *y, long ld, int w, const float *bias, int relu);
  // The same for one column: y[row]; scratch holds (columns of the panel + 16) floats.
  void (*vector)(const PanelsIndex *, const float *values, const float *x, float *y, const float *bias, int relu,
                 float *scratch, long first, long last);
  // dx[(column - band's first) * width + j] += Wᵀ · dy for the columns of a band; dx and dy are packed blocks.
  void (*scattered)(const PanelsIndex *, const PanelsBand *, const float *values, const float *dy, int width,
                    float *dx);
  // values (+)= the entries of dy · xᵀ on the pattern; dy is [M][ld_dy], x is [K][ld_x], both n wide. Scratch:
  // the columns of a panel, and 32 * SAMPLED_STRIDE floats. Where sampled_by_outer says so, both are packed
  // blocks of SAMPLED_STRIDE, zero up to a multiple of 16.
  void (*sampled)(const PanelsIndex *, const float *dy, long ld_dy, const float *x, long ld_x, long n,
                  float *values, int accumulate, int *columns, float *rows, long first, long last);
  int (*sampled_by_outer)(const PanelsIndex *);
  // Rows [0, rows) of src, `w` wide, into a packed block, zeros behind. bf16: src holds BF16 bits.
  void (*pack)(const void *src, int bf16, long ld, long rows, int w, int width, float *dst);
  // The same from token-major src: dst[k * width + j] = src[j * ld + k].
  void (*pack_transposed)(const void *src, int bf16, long ld, long rows, int w, int width, float *dst);
  // A packed block into dst[r * ld + j], and token-major into dst[j * ld + r]. bf16: rounded to nearest even.
  void (*unpack)(const float *src, int width, long rows, int w, void *dst, int bf16, long ld);
  void (*unpack_transposed)(const float *src, int width, long rows, int w, void *dst, int bf16, long ld);
  // Tiles of th × tw values from the chunks of one pattern (h rows each) into those of its transpose (h_t):
  // tile t begins at source[t].
  void (*retile)(const float *values, const int *source, int th, int tw, int h, int h_t, float *dst, long first,
                 long last);
};

// With BF16 products (AVX512_BF16): values are pairs of columns [R/h][C/2][h][2], x is [K/2][width][2], and
// the index counts column pairs.
struct PanelsBf16Kernels {
  void (*product)(const PanelsIndex *, const unsigned short *values, const unsigned short *x, int width, float *y,
                  long ld, int w, const float *bias, int relu, long first, long last);
  // Rows of BF16 src interleaved by pairs: dst[k / 2][j][k & 1].
  void (*pack_pairs)(const unsigned short *src, long ld, long rows, int w, int width, unsigned short *dst);
};
