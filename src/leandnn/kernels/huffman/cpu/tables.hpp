// Decoding tables of the two codes of a matrix, made from the lengths of their words.
#pragma once

#include <cstdint>
#include <vector>

#include "huffman.hpp"

namespace leandnn {

// HuffmanTable::entries of one code, and its longest word; std::invalid_argument for lengths of no complete code.
int fill(std::vector<uint32_t> &entries, const uint8_t *lengths, long symbols, const char *name);
// HuffmanTable::many.
void fill_many(std::vector<uint64_t> &many, const std::vector<uint32_t> &entries);
// HuffmanTable::bytes, where all code words have at most `peek` bits (7 or 8) and symbols are below 32.
void fill_bytes(HuffmanTable &table, const std::vector<uint32_t> &entries, int peek);

}  // namespace leandnn
