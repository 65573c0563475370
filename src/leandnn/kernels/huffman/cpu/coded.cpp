#include "coded.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>

#include "decoding.hpp"
#include "tables.hpp"

namespace leandnn {

namespace {

constexpr long group_slots = 16384;  // format.py: GROUP_SLOTS

[[noreturn]] void refuse(const std::string &what) { throw std::invalid_argument(what); }

}  // namespace

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

void Coded::must_be_inside(uint64_t column) const {
  if (column > static_cast<uint64_t>(a_.columns)) broken("a row leads out of the matrix");
}

// The advances of a group, then its weights.
void Coded::decode_streams(long group, long slots, uint8_t *out) const {
  const uint32_t *offsets = a_.offsets + 2 * HUFFMAN_STREAMS * group;
  if (huffman_kernels->streams(&matrix_->advance, a_.data, offsets, slots, out) ||
      huffman_kernels->streams(&matrix_->weight, a_.data, offsets + HUFFMAN_STREAMS, slots, out + slots))
    broken("a stream ends before or after its rows do");
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

}  // namespace leandnn
