#include "tables.hpp"

#include <stdexcept>
#include <string>

namespace leandnn {

namespace {

[[noreturn]] void refuse(const std::string &what) { throw std::invalid_argument(what); }

}  // namespace

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

void fill_bytes(HuffmanTable &table, const std::vector<uint32_t> &entries, int peek) {
  for (int bits = 0; bits < 1 << peek; ++bits) {
    const uint32_t entry = entries[bits << (HUFFMAN_LONGEST - peek)];
    table.bytes[bits] = static_cast<uint8_t>((entry & 0xff) | ((entry >> 8) - (peek == 8 ? 1 : 0)) << 5);
  }
}

}  // namespace leandnn
