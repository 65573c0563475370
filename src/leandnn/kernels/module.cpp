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

#include "huffman/cpu/bindings.hpp"
#include "huffman/cpu/coded.hpp"
#include "panels/cpu/bindings.hpp"
#include "panels/cpu/plan.hpp"
#include "rounding/cpu/rounding.hpp"
#include "threads.hpp"

namespace nb = nanobind;

using FmaFn = double (*)(long, float *);

extern "C" {
void leandnn_round_baseline(const uint32_t *, uint32_t *, size_t, uint64_t, const LeandnnRounding *);
double leandnn_fma_baseline(long, float *);
#if defined(__x86_64__)
void leandnn_round_avx2(const uint32_t *, uint32_t *, size_t, uint64_t, const LeandnnRounding *);
void leandnn_round_avx512(const uint32_t *, uint32_t *, size_t, uint64_t, const LeandnnRounding *);
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
  LeandnnRoundFn round;
  FmaFn fma;
};

Table table_for(const std::string &isa) {
#if defined(__x86_64__)
  if (isa == "avx512") return {isa, leandnn_round_avx512, leandnn_fma_avx512};
  if (isa == "avx2") return {isa, leandnn_round_avx2, leandnn_fma_avx2};
#endif
  return {"baseline", leandnn_round_baseline, leandnn_fma_baseline};
}

// Chosen by dispatch.py; selecting an instruction set the CPU lacks is refused there and here.
Table table = table_for("baseline");

void select_isa(const std::string &isa) {
  for (const auto &known : supported())
    if (known == isa) {
      table = table_for(isa);
      leandnn::select_panels(isa.c_str());
      leandnn::select_huffman(isa.c_str());
      return;
    }
  throw std::invalid_argument("this CPU cannot run the instruction set " + isa);
}

// From 16 MiB on a result does not stay in the caches: stores pass them by, which spares the read of each line.
constexpr size_t stream_from = size_t{1} << 22;
// Below this a second thread costs more than it saves. Elements of one task: a multiple of every vector.
constexpr size_t share_from = size_t{1} << 19, task_size = size_t{1} << 16;

void round_floats(uintptr_t src, uintptr_t dst, size_t n, uint32_t how, uint64_t seed, int threads) {
  nb::gil_scoped_release release;
  const auto field = [how](int shift) { return static_cast<int>(how >> shift & 0xffu); };
  const bool stream = src != dst && n >= stream_from;
  const LeandnnRounding rounding{field(0), field(8), field(16), field(24), stream, seed};
  const auto from = reinterpret_cast<const uint32_t *>(src);
  const auto to = reinterpret_cast<uint32_t *>(dst);
  const LeandnnRoundFn round = table.round;
  if (threads <= 1 || n < share_from) {
    round(from, to, n, 0, &rounding);
    return;
  }
  const size_t tasks = (n + task_size - 1) / task_size;
  leandnn::parallel(threads, static_cast<long>(tasks), [&](long task) {
    const size_t start = static_cast<size_t>(task) * task_size;
    const size_t count = start + task_size < n ? task_size : n - start;
    round(from + start, to + start, count, start, &rounding);
  });
}

}  // namespace

NB_MODULE(_native, m) {
  nb::set_leak_warnings(false);  // modules keep plans until the process ends
  leandnn::bind_panels(m);
  leandnn::bind_huffman(m);
  m.def("supported", &supported, "Instruction sets this CPU can run, slowest first.");
  m.def("selected", [] { return table.isa; }, "The instruction set in use.");
  m.def("select", &select_isa, nb::arg("isa"), "Choose the instruction set of all later calls.");
  m.def(
      "round", &round_floats, nb::arg("src"), nb::arg("dst"), nb::arg("n"), nb::arg("how"), nb::arg("seed"),
      nb::arg("threads"),
      "Round n float32 values at address src to a narrower format, as float32 at dst (src itself, or disjoint). "
      "how: exponent bits | mantissa bits << 8 | mode << 16 | flush << 24.");
  m.def(
      "fma",
      [](long rounds) {
        nb::gil_scoped_release release;
        float sink[2] = {0.999f, 0.001f};
        return table.fma(rounds, sink);
      },
      nb::arg("rounds"), "Run fused multiply-adds and return how many floating-point operations they were.");
}
