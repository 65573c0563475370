// leandnn.kernels._native: raw-pointer entry points, one per kernel and instruction set.
// Arguments are validated in Python (rounding/ops.py): a call through data_ptr costs about 2 microseconds,
// through DLPack about 17.

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace nb = nanobind;

using RoundFn = void (*)(const uint32_t *, uint32_t *, size_t);
using FmaFn = double (*)(long, float *);

extern "C" {
void leandnn_round_bf16_baseline(const uint32_t *, uint32_t *, size_t);
double leandnn_fma_baseline(long, float *);
#if defined(__x86_64__)
void leandnn_round_bf16_avx2(const uint32_t *, uint32_t *, size_t);
void leandnn_round_bf16_avx512(const uint32_t *, uint32_t *, size_t);
double leandnn_fma_avx2(long, float *);
double leandnn_fma_avx512(long, float *);
#endif
}

namespace {

// The instruction sets this machine can run, slowest first.
std::vector<std::string> supported() {
  std::vector<std::string> isas{"baseline"};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    isas.emplace_back("avx2");
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
      isas.emplace_back("avx512");
  }
#endif
  return isas;
}

// One implementation of every kernel.
struct Table {
  std::string isa;
  RoundFn round_bf16;
  FmaFn fma;
};

Table table_for(const std::string &isa) {
#if defined(__x86_64__)
  if (isa == "avx512") return {isa, leandnn_round_bf16_avx512, leandnn_fma_avx512};
  if (isa == "avx2") return {isa, leandnn_round_bf16_avx2, leandnn_fma_avx2};
#endif
  return {"baseline", leandnn_round_bf16_baseline, leandnn_fma_baseline};
}

// Chosen by dispatch.py; selecting an instruction set the CPU lacks is refused there and here.
Table table = table_for("baseline");

void select_isa(const std::string &isa) {
  for (const auto &known : supported())
    if (known == isa) {
      table = table_for(isa);
      return;
    }
  throw std::invalid_argument("this CPU cannot run the instruction set " + isa);
}

}  // namespace

NB_MODULE(_native, m) {
  m.def("supported", &supported, "Instruction sets this CPU can run, slowest first.");
  m.def("selected", [] { return table.isa; }, "The instruction set in use.");
  m.def("select", &select_isa, nb::arg("isa"), "Choose the instruction set of all later calls.");
  m.def(
      "round_bf16",
      [](uintptr_t src, uintptr_t dst, size_t n) {
        nb::gil_scoped_release release;
        table.round_bf16(reinterpret_cast<const uint32_t *>(src), reinterpret_cast<uint32_t *>(dst), n);
      },
      nb::arg("src"), nb::arg("dst"), nb::arg("n"),
      "Round n float32 values at address src to BF16 (nearest even), as float32 at dst (src itself, or disjoint).");
  m.def(
      "fma",
      [](long rounds) {
        nb::gil_scoped_release release;
        float sink[2] = {0.999f, 0.001f};
        return table.fma(rounds, sink);
      },
      nb::arg("rounds"), "Run fused multiply-adds and return how many floating-point operations they were.");
}
