"""The Triton kernel that decodes "lanes" (format.py; `gpu` calls it)."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def refill(data, at, end, bits, valid, active):
    """Lanes that are active and hold fewer than 16 bits take the next words, in lane order: (bits, valid, at).

    Words behind the stream's end read as 0; `at` then leaves it behind, too.
    """
    need = active & (valid < 16)
    rank = tl.cumsum(need.to(tl.int32), 0)
    word = tl.load(data + at + rank - 1, mask=need & (at + rank <= end), other=0)
    shift = tl.where(need, 16 - valid, 0).to(tl.uint32)
    bits = bits | (word.to(tl.int32) & 0xFFFF).to(tl.uint32) << shift
    return bits, tl.where(need, valid + 16, valid), at + tl.sum(need.to(tl.int32), 0)


@triton.jit
def take(table, bits, valid, active, LONGEST: tl.constexpr):
    """The next symbol of each active lane: (symbol, bits, valid)."""
    index = (bits >> (32 - LONGEST)).to(tl.int32)
    entry = tl.load(table + index, mask=active, other=0)
    length = entry >> 8
    return entry & 0xFF, bits << length.to(tl.uint32), valid - length


@triton.jit
def decode_lanes(
    data, offsets, order, counts, advances, weights, codebook, out, status, rows, columns,
    LANES: tl.constexpr, LONGEST: tl.constexpr, NARROW: tl.constexpr,
):  # fmt: skip
    """One group a program, one row a lane.

    - data: int16, the words. offsets: int64, where each group's begin.
    - order: int32, rows in the order of storage. counts: int32, slots of each row.
    - advances, weights: int32, by the next LONGEST bits: symbol | length << 8. codebook: float32.
    - out: float32, rows × columns, zeros before. status: int32, by group: see `gpu.decode`.
    """
    group = tl.program_id(0)
    place = group * LANES + tl.arange(0, LANES)
    real = place < rows
    row = tl.load(order + place, mask=real, other=0)
    count = tl.load(counts + row, mask=real, other=0)
    at = tl.load(offsets + group)
    end = tl.load(offsets + group + 1)
    target = out + row.to(tl.int64) * columns
    bits = tl.zeros((LANES,), dtype=tl.uint32)
    valid = tl.zeros((LANES,), dtype=tl.int32)
    column = tl.zeros((LANES,), dtype=tl.int64) - 1
    for step in range(tl.max(count, 0)):
        active = step < count
        bits, valid, at = refill(data, at, end, bits, valid, active)
        advance, bits, valid = take(advances, bits, valid, active, LONGEST)
        if not NARROW:
            bits, valid, at = refill(data, at, end, bits, valid, active)
        weight, bits, valid = take(weights, bits, valid, active, LONGEST)
        column = tl.where(active, column + advance + 1, column)
        value = tl.load(codebook + weight, mask=active, other=0.0)
        tl.store(target + column, value, mask=active & (column < columns))
    short = (at > end).to(tl.int32)
    long = (at < end).to(tl.int32)
    outside = tl.max((column >= columns).to(tl.int32), 0)
    tl.store(status + group, short + 2 * long + 4 * outside)
