// What the driver of the Huffman kernels and their instruction-set units agree on. Types only, no standard
// headers: see CMakeLists.txt. format.py beside this folder says what the streams are.
#pragma once

#include <stdint.h>

enum {
  HUFFMAN_LANES = 128,
  HUFFMAN_STREAMS = 4,
  HUFFMAN_LONGEST = 11,       // bits of a code word at most
  HUFFMAN_TABLE = 1 << 11,    // entries of a table by the next 11 bits
  HUFFMAN_STRIDE = 144,       // from one step to the next in a block; powers of two lie in the same cache sets
  HUFFMAN_BLOCK = 24,         // steps that are decoded before they are multiplied, at most
  HUFFMAN_SPARE_WORDS = 32,   // words that a decoder may read past those it takes
  HUFFMAN_TILE = 64,          // columns of x that are multiplied at once
};

// Where a lane lies in all arrays by lane: of 32 neighbours those of even number first, then the others. A vector of
// 32 words that the lanes take then falls apart into two vectors of 16 lanes by masks, without a shuffle.
constexpr int huffman_place(int lane) { return (lane & ~31) | (lane & 1) << 4 | (lane & 31) >> 1; }

// One code, by the next bits of a stream.
struct HuffmanTable {
  alignas(64) uint8_t bytes[256];  // by 7 bits: symbol | length << 5; by 8: symbol | (length - 1) << 5
  // Null where `bytes` serve: lanes of narrow codes.
  const uint32_t *entries;  // by 11 bits: symbol | length << 8
  const uint64_t *many;     // by 11 bits: up to 6 symbols in bytes 0 to 5, their bits in byte 6, their number in byte 7
};

struct HuffmanMatrix {
  long rows, columns;
  int peek;  // bits of an index into `bytes`, 7 or 8, where both codes are narrow; else 0
  HuffmanTable advance, weight;
  alignas(64) float codebook[256];
};

// The lanes of a group. Each holds `valid` bits, left-aligned in `bits`, and stands at column
// advanced + (steps done) - 1.
struct HuffmanLanes {
  alignas(64) uint32_t bits[HUFFMAN_LANES];
  alignas(64) uint32_t valid[HUFFMAN_LANES];
  alignas(64) uint32_t advanced[HUFFMAN_LANES];
  const uint16_t *at;  // the next word
};

// One instruction set. The functions on lanes do up to HUFFMAN_BLOCK steps, each with the first active[step] lanes, a
// number that does not grow; null: with all. The caller sees to it that a word a lane and refill, and
// HUFFMAN_SPARE_WORDS more, can be read. What is written for lanes that are not active is nobody's.
struct HuffmanKernels {
  // Steps lie HUFFMAN_STRIDE apart: columns[step][place] = min(advanced, limit - step) after it, values[step][place].
  // `limit` is the last column less the steps done before. `advanced` stays what it was when a lane ended.
  void (*segment)(const HuffmanMatrix *, HuffmanLanes *, int steps, const uint8_t *active, uint32_t limit,
                  uint32_t *columns, float *values);
  // out[step][i]: of lanes 2i and 2i + 1 the advances, then the weights: four bytes.
  void (*symbols)(const HuffmanMatrix *, HuffmanLanes *, int steps, const uint8_t *active, uint8_t *out);
  // Of all lanes: sums[place] += sum over steps of value · x[column + step].
  void (*dot)(const uint32_t *columns, const float *values, int steps, const float *x, float *sums);
  // The same for four columns: sums[4 * place + j] += … x[(column + step) * 4 + j]. Null where `multiply` is as fast.
  void (*four)(const uint32_t *columns, const float *values, int steps, const float *x, float *sums);
  // Of a lane's steps: y[place][j] += sum of value · x[(column + step) * ld + j], j < width <= HUFFMAN_TILE. The first
  // lane without steps ends the list.
  void (*multiply)(const uint32_t *columns, const float *values, const int *steps, const float *x, long ld, int width,
                   float *const *y);
  // Four bit strings of n symbols (the last of fewer) one after another into out; 0, or 1 if one is too short or long.
  int (*streams)(const HuffmanTable *, const uint8_t *data, const uint32_t *offsets, long n, uint8_t *out);
  // A row's slots: y[j] += sum of codebook[weight] · x[column * ld + j]; 0, or 1 if a column is out of range.
  int (*row)(const HuffmanMatrix *, const uint8_t *advances, const uint8_t *weights, long n, const float *x, long ld,
             int width, float *y);
  // CRC32C of n bytes, continued from a state.
  uint32_t (*crc32c)(uint32_t state, const uint8_t *data, long n);
};
