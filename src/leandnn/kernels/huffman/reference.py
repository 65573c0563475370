"""The readable decoders: all groups (or streams) side by side, one symbol of each at a time."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from leandnn.kernels.huffman import codes
from leandnn.kernels.huffman.encode import Slots
from leandnn.kernels.huffman.format import LANES, STREAMS, Coded, CodedError

Ints = NDArray[np.int64]


def slots(coded: Coded) -> Slots:
    """The slots of all rows; CodedError if a stream is too short, too long, or a row leaves the matrix."""
    found = _lanes(coded) if coded.layout == "lanes" else _streams(coded)
    positions(coded, found)
    return found


def dense(coded: Coded) -> NDArray[np.float32]:
    """The matrix, rows × columns; errors of slots."""
    found = slots(coded)
    rows, columns = positions(coded, found)
    matrix = np.zeros((coded.rows, coded.columns), np.float32)
    matrix[rows, columns] = coded.codebook[found.weights]
    return matrix


def positions(coded: Coded, found: Slots) -> tuple[Ints, Ints]:
    """Row and column of each slot; CodedError if a row leaves the matrix."""
    rows = np.repeat(np.arange(coded.rows), found.counts)
    after = np.cumsum(found.advances.astype(np.int64) + 1)
    begin = np.concatenate([[0], after])[np.cumsum(found.counts) - found.counts]
    columns = after - begin[rows] - 1
    if columns.size and int(columns.max()) >= coded.columns:
        raise CodedError(f"a row goes to column {columns.max()}, expected fewer than {coded.columns} columns")
    return rows, columns


def symbols(coded: Coded) -> NDArray[np.uint8]:
    """All symbols in the order of storage; see ops.symbols."""
    if coded.layout == "streams":
        found = _streams(coded)
        ends = np.concatenate([[0], np.cumsum(found.counts)])[coded.group_rows].tolist()
        parts = [
            kind[begin:end]
            for begin, end in itertools.pairwise(ends)
            for kind in (found.advances, found.weights)
        ]
        return np.concatenate(parts)
    found = _lanes(coded)
    begins = np.cumsum(found.counts) - found.counts
    result = []
    for group in range(coded.groups):
        rows = coded.order[group * LANES : (group + 1) * LANES]
        block = np.zeros((int(found.counts[rows].max()), LANES // 2, 2, 2), np.uint8)
        for lane, row in enumerate(rows):
            own = slice(begins[row], begins[row] + found.counts[row])
            block[: found.counts[row], lane // 2, 0, lane % 2] = found.advances[own]
            block[: found.counts[row], lane // 2, 1, lane % 2] = found.weights[own]
        result.append(block.reshape(-1))
    return np.concatenate(result)


class _Lanes:
    """Bits of all lanes: each at most 31, left-aligned in 32."""

    def __init__(self, coded: Coded) -> None:
        shape = coded.groups, LANES
        self.words = coded.data.view("<u2").astype(np.int64)
        self.at, self.end = coded.offsets[:-1].astype(np.int64), coded.offsets[1:].astype(np.int64)
        self.bits, self.valid = np.zeros(shape, np.int64), np.zeros(shape, np.int64)

    def refill(self, active: NDArray[np.bool_]) -> None:
        """Lanes that are active and hold fewer than 16 bits take the next words, in lane order."""
        need = active & (self.valid < 16)
        place = self.at[:, None] + np.cumsum(need, 1) - 1
        self.at += need.sum(1)
        if (self.at > self.end).any():
            raise CodedError("a group's stream ends before its rows do")
        self.bits[need] |= self.words[place[need]] << (16 - self.valid[need])
        self.valid[need] += 16

    def take(self, symbols: NDArray[np.uint8], lengths: NDArray[np.uint8], active: NDArray[np.bool_]) -> Ints:
        """The next symbol of each active lane."""
        entry = self.bits >> (32 - codes.LONGEST)
        used = lengths[entry] * active
        self.bits = self.bits << used & 0xFFFFFFFF
        self.valid -= used
        found: Ints = symbols[entry].astype(np.int64)
        return found


def _lanes(coded: Coded) -> Slots:
    counts = coded.counts.astype(np.int64)
    padded = np.zeros(coded.groups * LANES, np.int64)
    padded[: coded.rows] = counts[coded.order]
    steps = padded.reshape(-1, LANES)
    flat = np.zeros(padded.size, np.int64)
    flat[: coded.rows] = (np.cumsum(counts) - counts)[coded.order]
    begin = flat.reshape(-1, LANES)
    advance_table = codes.table(coded.advance_lengths, codes.LONGEST)
    weight_table = codes.table(coded.weight_lengths, codes.LONGEST)
    advances, weights = np.zeros(coded.slots, np.uint8), np.zeros(coded.slots, np.uint8)
    lanes = _Lanes(coded)
    for step in range(int(counts.max())):
        active = step < steps
        lanes.refill(active)
        first = lanes.take(*advance_table, active)
        if not coded.narrow:
            lanes.refill(active)
        second = lanes.take(*weight_table, active)
        target = begin[active] + step
        advances[target], weights[target] = first[active], second[active]
    if (lanes.at != lanes.end).any():
        raise CodedError("a group's stream goes on after its rows have ended")
    return Slots(counts, advances, weights)


def _streams(coded: Coded) -> Slots:
    counts = coded.counts.astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(counts)])[coded.group_rows]
    begins, sizes = ends[:-1], np.diff(ends)
    part = -(-sizes // STREAMS)
    # Streams × groups: where each stream's slots begin, and how many there are.
    index = np.arange(STREAMS)[:, None]
    first = np.minimum(index * part, sizes)
    length = np.minimum((index + 1) * part, sizes) - first
    offsets = coded.offsets.astype(np.int64)
    data = np.concatenate([coded.data.astype(np.int64), np.zeros(3, np.int64)])
    result = []
    for kind, lengths in enumerate((coded.advance_lengths, coded.weight_lengths)):
        symbols, bits = codes.table(lengths, codes.LONGEST)
        number = kind * STREAMS + index + 2 * STREAMS * np.arange(coded.groups)
        at, end = 8 * offsets[number], 8 * offsets[number + 1]
        out = np.zeros(coded.slots, np.uint8)
        for step in range(int(length.max())):
            active = step < length
            byte, shift = np.minimum(at[active] >> 3, coded.data.size), at[active] & 7
            window = data[byte] << 16 | data[byte + 1] << 8 | data[byte + 2]
            entry = window >> (24 - codes.LONGEST - shift) & ((1 << codes.LONGEST) - 1)
            out[(begins + first)[active] + step] = symbols[entry]
            at[active] += bits[entry]
            if (at > end).any():
                raise CodedError("a stream ends before its slots do")
        if (end - at >= 8).any():
            raise CodedError("a stream goes on after its slots have ended")
        result.append(out)
    return Slots(counts, result[0], result[1])
