// leandnn.kernels._native.Coded: arrays of format.py in, kept alive by Python (huffman/ops.py).
#include "bindings.hpp"

#include <nanobind/ndarray.h>

#include <stdexcept>

#include "coded.hpp"

namespace nb = nanobind;

namespace leandnn {
namespace {

template <class T>
using Array = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// The caller keeps `data` alive; the other arrays are copied.
Coded *make(long rows, long columns, bool lanes, Array<uint8_t> advance_lengths, Array<uint8_t> weight_lengths,
            Array<float> codebook, Array<uint8_t> counts, int count_bytes, Array<uint32_t> offsets,
            Array<uint8_t> data, Coded *self) {
  if (codebook.size() != weight_lengths.size() || rows < 1 || (count_bytes != 2 && count_bytes != 4) ||
      counts.size() != static_cast<size_t>(rows) * static_cast<size_t>(count_bytes))
    throw std::invalid_argument("the codebook or the counts have a wrong size");
  return new (self) Coded({rows, columns, lanes, advance_lengths.data(), weight_lengths.data(),
                           static_cast<long>(advance_lengths.size()), static_cast<long>(weight_lengths.size()),
                           codebook.data(), counts.data(), count_bytes, offsets.data(),
                           static_cast<long>(offsets.size()), data.data(), static_cast<long>(data.size())});
}

}  // namespace

void bind_huffman(nb::module_ &m) {
  m.def(
      "crc32c",
      [](Array<uint8_t> data) {
        nb::gil_scoped_release release;
        return crc32c(data.data(), static_cast<long>(data.size()));
      },
      nb::arg("data").noconvert(), "CRC32C of bytes.");
  m.def(
      "transpose",
      [](uintptr_t x, long x_ld, long rows, long columns, uintptr_t out) {
        nb::gil_scoped_release release;
        transpose(reinterpret_cast<const float *>(x), x_ld, rows, columns, reinterpret_cast<float *>(out));
      },
      nb::arg("x"), nb::arg("x_ld"), nb::arg("rows"), nb::arg("columns"), nb::arg("out"),
      "Transpose of rows of floats, contiguous.");
  nb::class_<Coded>(m, "Coded", "A coded matrix prepared for decoding and products on the CPU.")
      .def(
          "__init__",
          [](Coded *self, long rows, long columns, bool lanes, Array<uint8_t> advance_lengths,
             Array<uint8_t> weight_lengths, Array<float> codebook, Array<uint8_t> counts, int count_bytes,
             Array<uint32_t> offsets, Array<uint8_t> data) {
            make(rows, columns, lanes, advance_lengths, weight_lengths, codebook, counts, count_bytes, offsets, data,
                 self);
          },
          nb::arg("rows"), nb::arg("columns"), nb::arg("lanes"), nb::arg("advance_lengths").noconvert(),
          nb::arg("weight_lengths").noconvert(), nb::arg("codebook").noconvert(), nb::arg("counts").noconvert(),
          nb::arg("count_bytes"), nb::arg("offsets").noconvert(), nb::arg("data").noconvert())
      .def_prop_ro("table_bytes", &Coded::table_bytes)
      .def_prop_ro("scratch_bytes", &Coded::scratch_bytes)
      .def(
          "slots",
          [](const Coded &self, uintptr_t advances, uintptr_t weights, int threads) {
            nb::gil_scoped_release release;
            self.slots(reinterpret_cast<uint8_t *>(advances), reinterpret_cast<uint8_t *>(weights), threads);
          },
          nb::arg("advances"), nb::arg("weights"), nb::arg("threads"))
      .def(
          "symbols",
          [](const Coded &self, uintptr_t out, int threads) {
            nb::gil_scoped_release release;
            self.symbols(reinterpret_cast<uint8_t *>(out), threads);
          },
          nb::arg("out"), nb::arg("threads"))
      .def(
          "dense",
          [](const Coded &self, uintptr_t out, int threads) {
            nb::gil_scoped_release release;
            self.dense(reinterpret_cast<float *>(out), threads);
          },
          nb::arg("out"), nb::arg("threads"))
      .def(
          "compressed_rows",
          [](const Coded &self, uintptr_t columns, uintptr_t values, int threads) {
            nb::gil_scoped_release release;
            self.compressed_rows(reinterpret_cast<int32_t *>(columns), reinterpret_cast<float *>(values), threads);
          },
          nb::arg("columns"), nb::arg("values"), nb::arg("threads"))
      .def(
          "product",
          [](const Coded &self, uintptr_t x, long x_ld, long n, uintptr_t y, long y_ld, uintptr_t bias,
             int threads) {
            nb::gil_scoped_release release;
            self.product(reinterpret_cast<const float *>(x), x_ld, n, reinterpret_cast<float *>(y), y_ld,
                         reinterpret_cast<const float *>(bias), threads);
          },
          nb::arg("x"), nb::arg("x_ld"), nb::arg("n"), nb::arg("y"), nb::arg("y_ld"), nb::arg("bias"),
          nb::arg("threads"));
}

}  // namespace leandnn
