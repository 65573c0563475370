// Where the columns of X and Y lie in memory, and how a block of them gets into a packed block and back.
#pragma once

#include <cstddef>
#include <vector>

#include "panels.hpp"

namespace leandnn {

enum class Layout {
  feature,  // [rows][ld]: element (r, j) at r * ld + j
  token,    // [n][ld]: at j * ld + r
  image,    // [images][rows][pixels]: column j is pixel j % pixels of image j / pixels
  patches,  // the columns of a convolution over [images][channels][height][width]; nothing is stored twice
};

// A convolution's geometry; row (i * kernel_h + y) * kernel_w + x of a patch is channel i at (y, x).
struct Geometry {
  long images, channels, height, width, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h,
      dilation_w, out_h, out_w;
  long pixels() const { return out_h * out_w; }
};

// A block of columns: the first, and how many.
struct Block {
  long first;
  int count;
};
// Blocks of 48 columns, and at the end of 32 or fewer, so that the last one is not a sliver.
std::vector<Block> blocks_of(long first, long end);
// The width of the packed block that holds w ≤ 48 columns.
inline int width_for(int w) { return w > 32 ? 48 : w > 16 ? 32 : w > 8 ? 16 : 8; }

struct View {
  void *data;
  Layout layout;
  bool bf16;
  long rows, n, ld;  // ld: of layout image its pixels
  const Geometry *geometry = nullptr;

  std::size_t item() const { return bf16 ? 2 : 4; }
  char *at(long element) const { return static_cast<char *>(data) + element * static_cast<long>(item()); }
};

// Rows [r0, r1) of the columns [j0, j0 + w) into the packed block dst ([rows][width], the whole block's
// address), zeros behind column w. Of layout patches r0 and r1 are whole channels.
void read(const PanelsKernels &, const View &, long j0, int w, int width, float *dst, long r0, long r1);

// The packed block back into its columns; into patches it is added, where several columns meet. Of patches up
// to WRITE_MARGIN numbers before and behind the block are read (never used), and width is any distance of rows.
enum { WRITE_MARGIN = 16 };
void write(const PanelsKernels &, const View &, long j0, int w, int width, const float *src, long r0, long r1);

// Whether a product can write the columns in place: then *to is their first element and *ld the rows' distance.
bool direct(const View &, long j0, int w, float **to, long *ld);

}  // namespace leandnn
