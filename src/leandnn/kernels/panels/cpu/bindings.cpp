// leandnn.kernels._native.Plan: raw addresses in, validated in Python (panels/plan.py), the index here.
#include "bindings.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "scattered.hpp"

namespace nb = nanobind;

namespace leandnn {
namespace {

template <class T>
using Array = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <class T>
std::vector<T> copy(const Array<T> &array) {
  return std::vector<T>(array.data(), array.data() + array.size());
}

View view(uintptr_t data, int layout, bool bf16, long rows, long n, long ld) {
  if (layout < 0 || layout > 2 || n < 0)
    throw std::invalid_argument("a view has layout " + std::to_string(layout) + " and " + std::to_string(n) +
                                " columns, expected layout 0 to 2 and no negative number");
  return {reinterpret_cast<void *>(data), static_cast<Layout>(layout), bf16, rows, n, ld, nullptr};
}

View patches(uintptr_t data, bool bf16, const Geometry &g) {
  if (std::min({g.channels, g.kernel_h, g.kernel_w, g.stride_h, g.stride_w, g.dilation_h, g.dilation_w, g.out_h,
                g.out_w}) < 1)
    throw std::invalid_argument("a convolution's geometry has a size below 1");
  return {reinterpret_cast<void *>(data), Layout::patches,           bf16,
          g.channels * g.kernel_h * g.kernel_w, g.images * g.pixels(), 0, &g};
}

// The two ways of Wᵀ · dY.
void transposed(const Plan &plan, const float *values, const View &dy, const View &dx, int threads) {
  plan.product_retiled(values, dy, dx, threads);
}
void transposed(const Scattered &way, const float *values, const View &dy, const View &dx, int threads) {
  way.product(values, dy, dx, threads);
}

template <class Way>
void def_transposed(nb::class_<Way> &way) {
  way.def(
         "transposed",
         [](const Way &self, uintptr_t values, uintptr_t dy, int dy_layout, bool dy_bf16, long dy_ld, long n,
            uintptr_t dx, int dx_layout, bool dx_bf16, long dx_ld, int threads) {
           nb::gil_scoped_release release;
           transposed(self, reinterpret_cast<const float *>(values),
                      view(dy, dy_layout, dy_bf16, self.columns(), n, dy_ld),
                      view(dx, dx_layout, dx_bf16, self.rows(), n, dx_ld), threads);
         },
         nb::arg("values"), nb::arg("dy"), nb::arg("dy_layout"), nb::arg("dy_bf16"), nb::arg("dy_ld"), nb::arg("n"),
         nb::arg("dx"), nb::arg("dx_layout"), nb::arg("dx_bf16"), nb::arg("dx_ld"), nb::arg("threads"))
      .def(
          "conv_transposed",
          [](const Way &self, uintptr_t values, uintptr_t dy, bool bf16, const Geometry &g, uintptr_t dx,
             int threads) {
            nb::gil_scoped_release release;
            transposed(self, reinterpret_cast<const float *>(values),
                       view(dy, 2, bf16, self.columns(), g.images * g.pixels(), g.pixels()), patches(dx, false, g),
                       threads);
          },
          nb::arg("values"), nb::arg("dy"), nb::arg("bf16"), nb::arg("geometry"), nb::arg("dx"), nb::arg("threads"));
}

}  // namespace

void bind_panels(nb::module_ &m) {
  m.def("has_bf16_products", &has_bf16_products, "Whether BF16 products run on AVX512_BF16 here.");
  nb::class_<Geometry>(m, "Geometry", "A convolution's sizes.")
      .def(nb::init<long, long, long, long, long, long, long, long, long, long, long, long, long, long>(),
           nb::arg("images"), nb::arg("channels"), nb::arg("height"), nb::arg("width"), nb::arg("kernel_h"),
           nb::arg("kernel_w"), nb::arg("stride_h"), nb::arg("stride_w"), nb::arg("pad_h"), nb::arg("pad_w"),
           nb::arg("dilation_h"), nb::arg("dilation_w"), nb::arg("out_h"), nb::arg("out_w"));
  nb::class_<Plan> plan(m, "Plan", "A pattern prepared for its products on the CPU.");
  def_transposed(plan);
  nb::class_<Scattered> scattered(m, "Scattered", "The product with a plan's transposed matrix, added up in place.");
  def_transposed(scattered);
  scattered.def(nb::init<const Plan &>(), nb::arg("plan"), nb::keep_alive<1, 2>());
  plan.def(
          "__init__",
          [](Plan *self, long rows, long columns, int n_o, int n_i, int m_r, int m_b, int h, Array<int> base_begin,
             Array<int> bases, Array<int> offset_begin, Array<int> offsets, Array<long> starts, bool pairs) {
            new (self) Plan(rows, columns, n_o, n_i, m_r, m_b, h, copy(base_begin), copy(bases), copy(offset_begin),
                            copy(offsets), copy(starts), pairs);
          },
          nb::arg("rows"), nb::arg("columns"), nb::arg("n_o"), nb::arg("n_i"), nb::arg("m_r"), nb::arg("m_b"),
          nb::arg("h"), nb::arg("base_begin").noconvert(), nb::arg("bases").noconvert(),
          nb::arg("offset_begin").noconvert(), nb::arg("offsets").noconvert(), nb::arg("starts").noconvert(),
          nb::arg("pairs"))
      .def(
          "set_tiles",
          [](Plan &self, Array<int> source, int th, int tw, int h_source, long values) {
            self.set_tiles(copy(source), th, tw, h_source, values);
          },
          nb::arg("source").noconvert(), nb::arg("th"), nb::arg("tw"), nb::arg("h_source"), nb::arg("values"))
      .def(
          "product",
          [](const Plan &self, uintptr_t values, uintptr_t x, int x_layout, bool x_bf16, long x_ld, long n,
             uintptr_t y, int y_layout, bool y_bf16, long y_ld, uintptr_t bias, bool relu, int threads) {
            nb::gil_scoped_release release;
            self.product(reinterpret_cast<const void *>(values),
                         view(x, x_layout, x_bf16, self.columns(), n, x_ld),
                         view(y, y_layout, y_bf16, self.rows(), n, y_ld), reinterpret_cast<const float *>(bias), relu,
                         threads);
          },
          nb::arg("values"), nb::arg("x"), nb::arg("x_layout"), nb::arg("x_bf16"), nb::arg("x_ld"), nb::arg("n"),
          nb::arg("y"), nb::arg("y_layout"), nb::arg("y_bf16"), nb::arg("y_ld"), nb::arg("bias"), nb::arg("relu"),
          nb::arg("threads"))
      .def(
          "sampled",
          [](const Plan &self, uintptr_t dy, int dy_layout, bool dy_bf16, long dy_ld, uintptr_t x, int x_layout,
             bool x_bf16, long x_ld, long n, uintptr_t values, int threads) {
            nb::gil_scoped_release release;
            self.sampled(view(dy, dy_layout, dy_bf16, self.rows(), n, dy_ld),
                         view(x, x_layout, x_bf16, self.columns(), n, x_ld), reinterpret_cast<float *>(values),
                         threads);
          },
          nb::arg("dy"), nb::arg("dy_layout"), nb::arg("dy_bf16"), nb::arg("dy_ld"), nb::arg("x"),
          nb::arg("x_layout"), nb::arg("x_bf16"), nb::arg("x_ld"), nb::arg("n"), nb::arg("values"),
          nb::arg("threads"))
      .def(
          "conv",
          [](const Plan &self, uintptr_t values, uintptr_t x, bool x_bf16, const Geometry &g, uintptr_t y,
             bool y_bf16, uintptr_t bias, bool relu, int threads) {
            nb::gil_scoped_release release;
            self.product(reinterpret_cast<const void *>(values), patches(x, x_bf16, g),
                         view(y, 2, y_bf16, self.rows(), g.images * g.pixels(), g.pixels()),
                         reinterpret_cast<const float *>(bias), relu, threads);
          },
          nb::arg("values"), nb::arg("x"), nb::arg("x_bf16"), nb::arg("geometry"), nb::arg("y"), nb::arg("y_bf16"),
          nb::arg("bias"), nb::arg("relu"), nb::arg("threads"))
      .def(
          "conv_sampled",
          [](const Plan &self, uintptr_t dy, bool bf16, uintptr_t x, const Geometry &g, uintptr_t values,
             int threads) {
            nb::gil_scoped_release release;
            self.sampled(view(dy, 2, bf16, self.rows(), g.images * g.pixels(), g.pixels()), patches(x, bf16, g),
                         reinterpret_cast<float *>(values), threads);
          },
          nb::arg("dy"), nb::arg("bf16"), nb::arg("x"), nb::arg("geometry"), nb::arg("values"), nb::arg("threads"));
}

}  // namespace leandnn
