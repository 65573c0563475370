// How a Coded matrix is decoded group by group: what its outputs (coded.cpp) and its product (product.cpp) share.
#pragma once

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "../../panels/cpu/scratch.hpp"
#include "../../threads.hpp"
#include "coded.hpp"

namespace leandnn {

extern const HuffmanKernels *huffman_kernels;  // of the instruction set that was chosen (selection.cpp)

constexpr int lanes_of = HUFFMAN_LANES, block_of = HUFFMAN_BLOCK, stride_of = HUFFMAN_STRIDE;

[[noreturn]] inline void broken(const char *what) { throw std::runtime_error(what); }

// The words of a group's stream; the last ones from a copy with room behind.
class Words {
 public:
  Words(const uint16_t *begin, const uint16_t *end) : at(begin), end_(end), readable_(end) {}

  const uint16_t *at;

  // How many steps of at most `words` words can be decoded from here on, at least one. After them ok() must be asked.
  long steps(long words) {
    long safe = (readable_ - at - HUFFMAN_SPARE_WORDS) / words;
    if (safe > 0) return safe;
    const long left = end_ - at;  // fewer than a step's words and the spare ones
    std::memcpy(tail_, at, static_cast<size_t>(left) * sizeof(uint16_t));
    std::memset(tail_ + left, 0, sizeof(tail_) - static_cast<size_t>(left) * sizeof(uint16_t));
    at = tail_;
    end_ = tail_ + left;
    readable_ = tail_ + sizeof(tail_) / sizeof(uint16_t);
    return (readable_ - at - HUFFMAN_SPARE_WORDS) / words;
  }
  // Whether no more words were taken than there are.
  bool ok() const { return at <= end_; }
  bool done() const { return at == end_; }

 private:
  static constexpr int most = 2 * HUFFMAN_LANES + HUFFMAN_SPARE_WORDS;  // of a step of wide codes, and the spare ones
  const uint16_t *end_, *readable_;
  uint16_t tail_[4 * most];
};

// What a block of steps is decoded to: columns and values, or symbols.
struct Values {
  alignas(64) uint32_t columns[block_of * stride_of];
  alignas(64) float values[block_of * stride_of];
  void decode(const HuffmanMatrix &m, HuffmanLanes &lanes, int at, int steps, const uint8_t *active,
              uint32_t limit) {
    huffman_kernels->segment(&m, &lanes, steps, active, limit, columns + at * stride_of, values + at * stride_of);
  }
};

struct Symbols {
  uint8_t *out;  // of the block
  void decode(const HuffmanMatrix &m, HuffmanLanes &lanes, int at, int steps, const uint8_t *active, uint32_t) {
    huffman_kernels->symbols(&m, &lanes, steps, active, out + 2 * lanes_of * at);
  }
};

// Decodes the blocks of a group, of at most HUFFMAN_BLOCK steps each, and hands each to sink(begin, steps), where lane
// i has steps[i] of them and those before it as many or more; steps[HUFFMAN_LANES] is 0.
template <class Kind, class Sink>
void Coded::each_block(long group, Kind &block, Sink &&sink) const {
  const HuffmanMatrix &m = *matrix_;
  const long first = group * lanes_of;
  const int rows = static_cast<int>(std::min<long>(lanes_of, a_.rows - first));
  uint32_t counts[lanes_of + 1] = {};
  for (int lane = 0; lane < rows; ++lane) counts[lane] = count(order_[first + lane]);
  int active = 0;
  while (counts[active] > 0) ++active;

  const auto *data = reinterpret_cast<const uint16_t *>(a_.data);
  Words words(data + a_.offsets[group], data + a_.offsets[group + 1]);
  HuffmanLanes lanes = {};
  const int refills = m.peek ? 1 : 2;  // of a step
  int steps[lanes_of + 1] = {};
  std::fill_n(steps, lanes_of, block_of);
  for (uint32_t begin = 0; active > 0; begin += block_of) {
    const bool whole = active == lanes_of && counts[lanes_of - 1] - begin > block_of;  // none ends in it
    for (int lane = 0; lane < lanes_of && !whole; ++lane)
      steps[lane] = lane < active ? static_cast<int>(std::min<uint32_t>(block_of, counts[lane] - begin)) : 0;
    // Lanes of each step, where it is not all of them at every step.
    uint8_t active_at[block_of];
    const bool all = whole || steps[lanes_of - 1] == steps[0];
    for (int step = 0, n = active; step < steps[0] && !all; ++step) {
      while (steps[n - 1] <= step) --n;
      active_at[step] = static_cast<uint8_t>(n);
    }
    for (int done = 0; done < steps[0];) {
      const long safe = words.steps(refills * static_cast<long>(all ? lanes_of : active_at[done]));
      const int now = static_cast<int>(std::min<long>(steps[0] - done, safe));
      lanes.at = words.at;
      const uint32_t limit = static_cast<uint32_t>(a_.columns - 1) - begin - static_cast<uint32_t>(done);
      block.decode(m, lanes, done, now, all ? nullptr : active_at + done, limit);
      words.at = lanes.at;
      if (!words.ok()) broken("a group's stream ends before its rows do");
      done += now;
    }
    // Columns only grow, and were clamped before anything was read through them: it is enough to look before they can
    // leave 32 bits, and when lanes end.
    if (!whole || begin % (block_of << 8) == 0)
      for (int lane = 0; lane < active; ++lane)
        must_be_inside(static_cast<uint64_t>(lanes.advanced[huffman_place(lane)]) + begin +
                       static_cast<uint64_t>(steps[lane]));
    sink(begin, steps);
    while (active > 0 && counts[active - 1] <= begin + static_cast<uint64_t>(steps[0])) --active;
  }
  if (!words.done()) broken("a group's stream goes on after its rows have ended");
}

// Hands the rows of a group to sink(row, advances, weights, slots).
template <class Sink>
void Coded::each_row(long group, Sink &&sink) const {
  thread_local Scratch scratch;
  auto *advances = static_cast<uint8_t *>(scratch.get(static_cast<size_t>(2 * most_slots_ + 1)));
  long slots = 0;
  for (long row = group_rows_[group]; row < group_rows_[group + 1]; ++row) slots += count(row);
  decode_streams(group, slots, advances);
  const uint8_t *weights = advances + slots;
  for (long row = group_rows_[group]; row < group_rows_[group + 1]; ++row) {
    const long n = count(row);
    sink(row, advances, weights, n);
    advances += n, weights += n;
  }
}

template <class Body>
void Coded::each_group(int threads, Body &&body) const {
  parallel(threads, groups_, [&](long group) { body(group); });
}

}  // namespace leandnn
