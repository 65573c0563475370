#include "coded.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>

#include "../../panels/cpu/scratch.hpp"
#include "../../threads.hpp"

extern "C" {
extern const HuffmanKernels leandnn_huffman_baseline;
#if defined(__x86_64__)
extern const HuffmanKernels leandnn_huffman_avx2, leandnn_huffman_avx512;
#endif
}

namespace leandnn {

namespace {

const HuffmanKernels *kernels = &leandnn_huffman_baseline;
constexpr int lanes_of = HUFFMAN_LANES, block_of = HUFFMAN_BLOCK, stride_of = HUFFMAN_STRIDE;
constexpr long group_slots = 16384;  // format.py: GROUP_SLOTS

[[noreturn]] void refuse(const std::string &what) { throw std::invalid_argument(what); }
[[noreturn]] void broken(const char *what) { throw std::runtime_error(what); }

// HuffmanTable::entries of one code, and its longest word; its lengths are those of a complete code (refused otherwise).
int fill(std::vector<uint32_t> &entries, const uint8_t *lengths, long symbols, const char *name) {
  entries.resize(HUFFMAN_TABLE);
  if (symbols < 2 || symbols > 256) refuse(std::string(name) + " code has a wrong number of symbols");
  int longest = 0;
  long at = 0;
  for (int length = 1; length <= HUFFMAN_LONGEST; ++length)
    for (long symbol = 0; symbol < symbols; ++symbol) {
      if (lengths[symbol] != length) continue;
      const long share = long{1} << (HUFFMAN_LONGEST - length);
      if (at + share > HUFFMAN_TABLE) refuse(std::string(name) + " code is over-subscribed");
      for (long i = 0; i < share; ++i) entries[at + i] = static_cast<uint32_t>(symbol | length << 8);
      at += share;
      longest = length;
    }
  if (at != HUFFMAN_TABLE) refuse(std::string(name) + " code is under-subscribed");
  for (long symbol = 0; symbol < symbols; ++symbol)
    if (lengths[symbol] > HUFFMAN_LONGEST) refuse(std::string(name) + " code has too long a word");
  return longest;
}

// HuffmanTable::many.
void fill_many(std::vector<uint64_t> &many, const std::vector<uint32_t> &entries) {
  many.resize(HUFFMAN_TABLE);
  for (uint32_t bits = 0; bits < HUFFMAN_TABLE; ++bits) {
    uint64_t entry = 0;
    int used = 0, found = 0;
    while (found < 6) {
      const uint32_t next = entries[bits << used & (HUFFMAN_TABLE - 1)];
      if (used + static_cast<int>(next >> 8) > HUFFMAN_LONGEST) break;
      entry |= static_cast<uint64_t>(next & 0xff) << (8 * found++);
      used += static_cast<int>(next >> 8);
    }
    many[bits] = entry | static_cast<uint64_t>(used) << 48 | static_cast<uint64_t>(found) << 56;
  }
}

// HuffmanTable::bytes, where all code words have at most `peek` bits (7 or 8) and symbols are below 32.
void fill_bytes(HuffmanTable &table, const std::vector<uint32_t> &entries, int peek) {
  for (int bits = 0; bits < 1 << peek; ++bits) {
    const uint32_t entry = entries[bits << (HUFFMAN_LONGEST - peek)];
    table.bytes[bits] = static_cast<uint8_t>((entry & 0xff) | ((entry >> 8) - (peek == 8 ? 1 : 0)) << 5);
  }
}

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
  static constexpr int most = 2 * HUFFMAN_LANES + HUFFMAN_SPARE_WORDS;  // of a step, with wide codes, and the spare ones
  const uint16_t *end_, *readable_;
  uint16_t tail_[4 * most];
};

}  // namespace

// What a block of steps is decoded to: columns and values, or symbols.
struct Values {
  alignas(64) uint32_t columns[block_of * stride_of];
  alignas(64) float values[block_of * stride_of];
  void decode(const HuffmanMatrix &m, HuffmanLanes &lanes, int at, int steps, const uint8_t *active,
              uint32_t limit) {
    kernels->segment(&m, &lanes, steps, active, limit, columns + at * stride_of, values + at * stride_of);
  }
};

struct Symbols {
  uint8_t *out;  // of the block
  void decode(const HuffmanMatrix &m, HuffmanLanes &lanes, int at, int steps, const uint8_t *active, uint32_t) {
    kernels->symbols(&m, &lanes, steps, active, out + 2 * lanes_of * at);
  }
};

Coded::Coded(const CodedArrays &arrays)
    : a_(arrays),
      matrix_(new HuffmanMatrix),
      counts_(a_.counts, a_.counts + a_.rows * a_.count_bytes),
      offsets_(a_.offsets, a_.offsets + a_.offset_count) {
  a_.counts = counts_.data(), a_.offsets = offsets_.data();
  a_.advance_lengths = a_.weight_lengths = nullptr, a_.codebook = nullptr;
  if (a_.rows < 1 || a_.columns < 1 || a_.rows > INT32_MAX || a_.columns > INT32_MAX) refuse("wrong sides of a matrix");
  HuffmanMatrix &m = *matrix_;
  m.rows = a_.rows, m.columns = a_.columns;
  const int advance = fill(advance_entries_, arrays.advance_lengths, a_.advance_symbols, "advance");
  const int weight = fill(weight_entries_, arrays.weight_lengths, a_.weight_symbols, "weight");
  const int longest = std::max(advance, weight);
  m.peek = a_.advance_symbols > 32 || a_.weight_symbols > 32 || longest > 8 ? 0 : longest > 7 ? 8 : 7;
  if (m.peek) fill_bytes(m.advance, advance_entries_, m.peek), fill_bytes(m.weight, weight_entries_, m.peek);
  if (!a_.lanes) fill_many(advance_many_, advance_entries_), fill_many(weight_many_, weight_entries_);
  if (a_.lanes && m.peek) advance_entries_ = {}, weight_entries_ = {};
  m.advance.entries = advance_entries_.data(), m.weight.entries = weight_entries_.data();
  m.advance.many = advance_many_.data(), m.weight.many = weight_many_.data();
  std::memset(m.codebook, 0, sizeof(m.codebook));
  std::memcpy(m.codebook, arrays.codebook, static_cast<size_t>(a_.weight_symbols) * sizeof(float));

  for (long row = 0; row < a_.rows; ++row)
    if (count(row) > a_.columns) refuse("a row has more slots than columns");
  if (a_.lanes) {
    order_.resize(static_cast<size_t>(a_.rows));
    std::iota(order_.begin(), order_.end(), 0);
    std::stable_sort(order_.begin(), order_.end(), [this](int32_t l, int32_t r) { return count(l) > count(r); });
    groups_ = (a_.rows + lanes_of - 1) / lanes_of;
  } else {
    group_rows_.push_back(0);
    long slots = 0;
    for (long row = 0; row < a_.rows; ++row) {
      if (slots + count(row) > group_slots && row > group_rows_.back()) {
        group_rows_.push_back(static_cast<int32_t>(row));
        slots = 0;
      }
      slots += count(row);
      most_slots_ = std::max(most_slots_, slots);
    }
    groups_ = static_cast<long>(group_rows_.size());
    group_rows_.push_back(static_cast<int32_t>(a_.rows));
  }
  const long streams = groups_ * (a_.lanes ? 1 : 2 * HUFFMAN_STREAMS), unit = a_.lanes ? 2 : 1;
  bool rising = a_.offset_count == streams + 1 && a_.offsets[0] == 0 &&
                static_cast<long>(a_.offsets[streams]) * unit == a_.size;
  for (long i = 0; rising && i < streams; ++i) rising = a_.offsets[i] <= a_.offsets[i + 1];
  if (!rising) refuse("offsets do not rise from 0 to the end of the data");
  if (a_.lanes && reinterpret_cast<uintptr_t>(a_.data) % 2) refuse("the data lie at an odd address");
}

uint32_t Coded::count(long row) const {
  if (a_.count_bytes == 4) return reinterpret_cast<const uint32_t *>(a_.counts)[row];
  return reinterpret_cast<const uint16_t *>(a_.counts)[row];
}

std::vector<long> Coded::begins() const {
  std::vector<long> begins(static_cast<size_t>(a_.rows) + 1, 0);
  for (long row = 0; row < a_.rows; ++row) begins[row + 1] = begins[row] + count(row);
  return begins;
}

long Coded::table_bytes() const {
  return static_cast<long>(sizeof(HuffmanMatrix) + 8 * (advance_many_.size() + weight_many_.size()) +
                           4 * (advance_entries_.size() + weight_entries_.size()) +
                           4 * (order_.size() + group_rows_.size() + offsets_.size()) + counts_.size());
}

long Coded::scratch_bytes() const {
  return a_.lanes ? static_cast<long>(sizeof(Values) + sizeof(HuffmanLanes) + sizeof(Words)) : 2 * most_slots_;
}

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

void Coded::must_be_inside(uint64_t column) const {
  if (column > static_cast<uint64_t>(a_.columns)) broken("a row leads out of the matrix");
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

// The advances of a group, then its weights.
void Coded::decode_streams(long group, long slots, uint8_t *out) const {
  const uint32_t *offsets = a_.offsets + 2 * HUFFMAN_STREAMS * group;
  if (kernels->streams(&matrix_->advance, a_.data, offsets, slots, out) ||
      kernels->streams(&matrix_->weight, a_.data, offsets + HUFFMAN_STREAMS, slots, out + slots))
    broken("a stream ends before or after its rows do");
}

template <class Body>
void Coded::each_group(int threads, Body &&body) const {
  parallel(threads, groups_, [&](long group) { body(group); });
}

void Coded::slots(uint8_t *advances, uint8_t *weights, int threads) const {
  const std::vector<long> begin = begins();
  each_group(threads, [&](long group) {
    if (!a_.lanes) {
      each_row(group, [&](long row, const uint8_t *a, const uint8_t *w, long n) {
        long sum = n;
        for (long i = 0; i < n; ++i) sum += a[i];
        if (sum > a_.columns) broken("a row leads out of the matrix");
        std::memcpy(advances + begin[row], a, static_cast<size_t>(n));
        std::memcpy(weights + begin[row], w, static_cast<size_t>(n));
      });
      return;
    }
    uint8_t bytes[2 * lanes_of * block_of];
    long column[lanes_of] = {};
    Symbols block{bytes};
    each_block(group, block, [&](uint32_t from, const int *steps) {
      for (int lane = 0; steps[lane] > 0; ++lane) {
        const long at = begin[order_[group * lanes_of + lane]] + from;
        const uint8_t *symbol = bytes + 4 * (lane / 2) + lane % 2;
        for (int step = 0; step < steps[lane]; ++step, symbol += 2 * lanes_of) {
          advances[at + step] = symbol[0];
          weights[at + step] = symbol[2];
          column[lane] += symbol[0] + 1;
        }
        must_be_inside(static_cast<uint64_t>(column[lane]));
      }
    });
  });
}

void Coded::symbols(uint8_t *out, int threads) const {
  std::vector<long> begin{0};
  for (long group = 0; group < groups_; ++group) {
    long size = 0;
    if (a_.lanes)
      size = 2 * lanes_of * static_cast<long>(count(order_[group * lanes_of]));
    else
      for (long row = group_rows_[group]; row < group_rows_[group + 1]; ++row) size += 2 * count(row);
    begin.push_back(begin.back() + size);
  }
  each_group(threads, [&](long group) {
    uint8_t *to = out + begin[group];
    if (!a_.lanes) {
      decode_streams(group, (begin[group + 1] - begin[group]) / 2, to);
      return;
    }
    Symbols block{to};
    each_block(group, block, [&](uint32_t, const int *steps) {
      for (int lane = lanes_of - 1; steps[lane] < steps[0]; --lane)
        for (int step = steps[lane]; step < steps[0]; ++step) {
          uint8_t *symbol = block.out + 2 * lanes_of * step + 4 * (lane / 2) + lane % 2;
          symbol[0] = symbol[2] = 0;
        }
      block.out += 2 * lanes_of * steps[0];
    });
  });
}

void Coded::dense(float *out, int threads) const {
  each_group(threads, [&](long group) {
    if (!a_.lanes) {
      each_row(group, [&](long row, const uint8_t *advances, const uint8_t *weights, long n) {
        float *to = out + row * a_.columns;
        std::memset(to, 0, static_cast<size_t>(a_.columns) * sizeof(float));
        long column = -1;
        for (long i = 0; i < n; ++i) {
          column += advances[i] + 1;
          if (column >= a_.columns) broken("a row leads out of the matrix");
          to[column] = matrix_->codebook[weights[i]];
        }
      });
      return;
    }
    for (long i = group * lanes_of; i < std::min(a_.rows, (group + 1) * lanes_of); ++i)
      std::memset(out + order_[i] * a_.columns, 0, static_cast<size_t>(a_.columns) * sizeof(float));
    Values block;
    each_block(group, block, [&](uint32_t from, const int *steps) {
      for (int lane = 0; steps[lane] > 0; ++lane) {
        float *to = out + order_[group * lanes_of + lane] * a_.columns + from;
        const long place = huffman_place(lane);
        for (long step = 0; step < steps[lane]; ++step)
          to[block.columns[step * stride_of + place] + step] = block.values[step * stride_of + place];
      }
    });
  });
}

void Coded::compressed_rows(int32_t *columns, float *values, int threads) const {
  const std::vector<long> begin = begins();
  each_group(threads, [&](long group) {
    if (!a_.lanes) {
      each_row(group, [&](long row, const uint8_t *advances, const uint8_t *weights, long n) {
        long column = -1;
        for (long i = 0; i < n; ++i) {
          column += advances[i] + 1;
          columns[begin[row] + i] = static_cast<int32_t>(column);
          values[begin[row] + i] = matrix_->codebook[weights[i]];
        }
        if (column >= a_.columns) broken("a row leads out of the matrix");
      });
      return;
    }
    Values block;
    each_block(group, block, [&](uint32_t from, const int *steps) {
      for (int lane = 0; steps[lane] > 0; ++lane) {
        const long at = begin[order_[group * lanes_of + lane]] + from;
        const int place = huffman_place(lane);
        for (int step = 0; step < steps[lane]; ++step) {
          columns[at + step] = static_cast<int32_t>(block.columns[step * stride_of + place] + from) + step;
          values[at + step] = block.values[step * stride_of + place];
        }
      }
    });
  });
}

void Coded::tile(long group, const float *x, long x_ld, int width, float *y, long y_ld, const float *bias,
                 bool relu) const {
  const auto begin = [&](long row) {
    std::fill_n(y + row * y_ld, width, bias ? bias[row] : 0.0f);
    return y + row * y_ld;
  };
  const auto end = [&](long row) {
    if (relu)
      for (int j = 0; j < width; ++j) y[row * y_ld + j] = std::max(y[row * y_ld + j], 0.0f);
  };
  if (!a_.lanes) {
    each_row(group, [&](long row, const uint8_t *advances, const uint8_t *weights, long n) {
      if (kernels->row(matrix_.get(), advances, weights, n, x, x_ld, width, begin(row)))
        broken("a row leads out of the matrix");
      end(row);
    });
    return;
  }
  const long first = group * lanes_of, rows = std::min<long>(lanes_of, a_.rows - first);
  const int32_t *order = order_.data() + first;
  Values block;
  if (width == 1 && x_ld == 1) {
    alignas(64) float sums[lanes_of] = {};
    each_block(group, block, [&](uint32_t from, const int *steps) {
      float before[lanes_of];
      std::copy_n(sums, lanes_of, before);
      kernels->dot(block.columns, block.values, steps[0], x + from, sums);
      // Lanes that end within the block are summed up on their own: what lies behind their end is nobody's.
      for (int lane = lanes_of - 1; steps[lane] < steps[0]; --lane) {
        const int place = huffman_place(lane);
        sums[place] = before[place];
        for (int step = 0; step < steps[lane]; ++step) {
          const int i = step * stride_of + place;
          sums[place] += block.values[i] * x[from + block.columns[i] + static_cast<uint32_t>(step)];
        }
      }
    });
    for (int lane = 0; lane < rows; ++lane) {
      const float sum = sums[huffman_place(lane)] + (bias ? bias[order[lane]] : 0.0f);
      y[order[lane] * y_ld] = relu ? std::max(sum, 0.0f) : sum;
    }
    return;
  }
  for (long lane = 0; lane < rows; ++lane) begin(order[lane]);
  each_block(group, block, [&](uint32_t from, const int *steps) {
    for (int lane = 0; steps[lane] > 0; ++lane) {
      const int place = huffman_place(lane);
      kernels->multiply(block.columns + place, block.values + place, steps[lane], x + from * x_ld, x_ld, width,
                        y + order[lane] * y_ld);
    }
  });
  for (long lane = 0; lane < rows; ++lane) end(order[lane]);
}

void Coded::product(const float *x, long x_ld, long n, float *y, long y_ld, const float *bias, bool relu,
                    int threads) const {
  for (long j = 0; j < n; j += HUFFMAN_TILE) {
    const int width = static_cast<int>(std::min<long>(HUFFMAN_TILE, n - j));
    each_group(threads, [&](long group) { tile(group, x + j, x_ld, width, y + j, y_ld, bias, relu); });
  }
}

void feature_major(const float *x, long x_ld, long n, long columns, float *out) {
  if (n < 1 || n > HUFFMAN_TILE) refuse("a tile has a wrong number of rows");
  constexpr long width = 16;  // floats of a cache line: each is used up before rows that share its set push it out
  float tile[width][HUFFMAN_TILE];
  for (long begin = 0; begin < columns; begin += width) {
    const long count = std::min(width, columns - begin);
    for (long row = 0; row < n; ++row)
      for (long i = 0; i < count; ++i) tile[i][row] = x[row * x_ld + begin + i];
    for (long i = 0; i < count; ++i)
      std::memcpy(out + (begin + i) * n, tile[i], static_cast<size_t>(n) * sizeof(float));
  }
}

void select_huffman(const char *isa) {
  const std::string name = isa;
  kernels = &leandnn_huffman_baseline;
#if defined(__x86_64__)
  if (name == "avx2") kernels = &leandnn_huffman_avx2;
  if (name == "avx512") {
    const bool registers = __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
    kernels = registers ? &leandnn_huffman_avx512 : &leandnn_huffman_avx2;
  }
#endif
}

uint32_t crc32c(const uint8_t *data, long n) { return ~kernels->crc32c(~uint32_t{0}, data, n); }

}  // namespace leandnn
