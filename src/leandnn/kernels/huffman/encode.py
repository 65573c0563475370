"""Encoding of a matrix of weight symbols; format.py says what comes out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leandnn.kernels.huffman import codes
from leandnn.kernels.huffman.format import (
    LANES,
    LAYOUTS,
    NARROW_SYMBOLS,
    STREAMS,
    Coded,
    is_narrow,
    stream_groups,
)

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

NARROW_LIMIT = 7  # bits of a code word, by default, where a decoder keeps its tables in registers


@dataclass(frozen=True, eq=False)
class Slots:
    """The slots of all rows, row by row: counts (int64, one a row), advances and weights (uint8, one a slot)."""

    counts: Ints
    advances: Bytes
    weights: Bytes


def encode(
    symbols: Bytes,
    codebook: NDArray[np.float32],
    *,
    layout: str = "lanes",
    index_bits: int | None = None,
    limit: int | None = None,
) -> Coded:
    """Code a matrix.

    - symbols: uint8, rows × columns: for each weight its place in the codebook, 0 for a weight of zero.
    - codebook: float32, 2 to 256 values, codebook[0] = 0.
    - layout: "lanes" for CPUs with AVX2 or better, "streams" for others and for the smallest size; format.py.
    - index_bits: advances have 2^index_bits symbols, 1 to 8; if None the width with the fewest bytes (of at most 5
      for "lanes" and a codebook of at most 32 values, whose tables then fit into registers).
    - limit: longest code word in bits; if None 7 where the tables fit into registers, else 11.

    Raises ValueError for other arguments, both values named.
    """
    if (
        symbols.dtype != np.uint8
        or symbols.ndim != 2
        or not 1 <= min(symbols.shape) <= max(symbols.shape) < 1 << 31
    ):
        raise ValueError(f"symbols are {symbols.dtype} of shape {symbols.shape}, expected a matrix of uint8")
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}, expected {' or '.join(LAYOUTS)}")
    if codebook.ndim != 1 or not 2 <= codebook.size <= codes.LARGEST:
        raise ValueError(f"the codebook has shape {codebook.shape}, expected 2 to {codes.LARGEST} values")
    if int(symbols.max()) >= codebook.size:
        raise ValueError(f"a symbol is {symbols.max()}, the codebook has {codebook.size} values")
    if index_bits is not None and not 1 <= index_bits <= 8:
        raise ValueError(f"index_bits is {index_bits}, expected 1 to 8")
    if limit is not None and not 1 <= limit <= codes.LONGEST:
        raise ValueError(f"limit is {limit}, expected 1 to {codes.LONGEST}")
    in_registers = layout == "lanes" and codebook.size <= NARROW_SYMBOLS
    rows, gaps, weights = _gaps(symbols)
    widths = range(1, (5 if in_registers else 8) + 1) if index_bits is None else (index_bits,)
    best: tuple[float, Slots, Bytes, Bytes] | None = None
    for width in widths:
        slots = _slots(symbols.shape[0], rows, gaps, weights, width)
        longest = limit or (NARROW_LIMIT if in_registers and width <= 5 else codes.LONGEST)
        advance_counts = np.bincount(slots.advances, minlength=1 << width)
        weight_counts = np.bincount(slots.weights, minlength=codebook.size)
        lengths = codes.code_lengths(advance_counts, longest), codes.code_lengths(weight_counts, longest)
        bits = codes.coded_bits(advance_counts, lengths[0]) + codes.coded_bits(weight_counts, lengths[1])
        bits += 8 * (1 << width)
        if best is None or bits < best[0]:
            best = bits, slots, *lengths
    assert best is not None
    return from_slots(best[1], symbols.shape[1], best[2], best[3], codebook, layout)


def from_slots(
    slots: Slots,
    columns: int,
    advance_lengths: Bytes,
    weight_lengths: Bytes,
    codebook: NDArray[np.float32],
    layout: str,
) -> Coded:
    """Code given slots in given codes; Coded's arguments and errors."""
    most = int(slots.counts.max(initial=0))
    counts: NDArray[np.unsignedinteger] = (
        slots.counts.astype(np.uint16) if most < 1 << 16 else slots.counts.astype(np.uint32)
    )
    tables = [
        (lengths.astype(np.int64), codes.canonical(lengths).astype(np.int64))
        for lengths in (advance_lengths, weight_lengths)
    ]
    if layout == "lanes":
        offsets, data = _lanes(slots, tables, is_narrow(advance_lengths, weight_lengths))
    else:
        offsets, data = _streams(slots, tables, counts)
    return Coded(
        rows=slots.counts.size,
        columns=columns,
        layout=layout,
        advance_lengths=advance_lengths,
        weight_lengths=weight_lengths,
        codebook=codebook.astype(np.float32),
        counts=counts,
        offsets=offsets,
        data=data,
    )


def _gaps(symbols: Bytes) -> tuple[Ints, Ints, Bytes]:
    """Of each non-zero: its row, how many columns lie between it and the one before, its symbol."""
    flat = np.flatnonzero(symbols)
    rows, columns = np.divmod(flat, symbols.shape[1])
    before = np.concatenate([[-1], columns[:-1]])
    before[np.flatnonzero(np.diff(rows, prepend=-1))] = -1
    return rows, columns - before - 1, symbols.reshape(-1)[flat]


def _slots(count: int, rows: Ints, gaps: Ints, weights: Bytes, width: int) -> Slots:
    """Fillers put in where a gap is too wide for an advance of `width` bits."""
    fillers = gaps >> width
    ends = np.cumsum(fillers + 1)
    total = int(ends[-1]) if ends.size else 0
    advances = np.full(total, (1 << width) - 1, np.uint8)
    advances[ends - 1] = gaps & ((1 << width) - 1)
    spread = np.zeros(total, np.uint8)
    spread[ends - 1] = weights
    return Slots(np.bincount(rows, fillers + 1, minlength=count).astype(np.int64), advances, spread)


def _pack(values: Ints, lengths: Ints, at: Ints, unit: int, size: int) -> Ints:
    """Units of `unit` >= 16 bits with code words written most significant bit first from bit `at` of each on."""
    units = np.zeros(size + 1, np.int64)
    place, within = at // unit, at % unit
    wide = values << (2 * unit - lengths - within)
    # Words touch disjoint bits, so that adding is as good as or-ing.
    units += np.bincount(place, wide >> unit, minlength=size + 1).astype(np.int64)
    units += np.bincount(place + 1, wide & ((1 << unit) - 1), minlength=size + 1)[: size + 1].astype(np.int64)
    return units[:size]


def _lanes(slots: Slots, tables: list[tuple[Ints, Ints]], narrow: bool) -> tuple[NDArray[np.uint32], Bytes]:
    rows = slots.counts.size
    order = np.argsort(-slots.counts, kind="stable")
    rank = np.empty(rows, np.int64)
    rank[order] = np.arange(rows)
    owner = np.repeat(np.arange(rows), slots.counts)
    ends = np.cumsum(slots.counts)
    step = np.arange(owner.size) - (ends - slots.counts)[owner]
    (advance_lengths, advance_words), (weight_lengths, weight_words) = tables
    first, second = advance_lengths[slots.advances], weight_lengths[slots.weights]
    after = np.cumsum(first + second)
    row_begin = np.concatenate([[0], after])[(ends - slots.counts)]
    before = after - first - second - row_begin[owner]  # bits of the row consumed before the slot

    # Bits of each row from a whole word on, with room behind for a word that a lane takes and does not use up.
    bits = np.concatenate([[0], after])[ends] - row_begin
    room = bits // 16 + 3
    base = np.cumsum(room) - room
    at = base[owner] * 16 + before
    size = int(room.sum())
    words = _pack(advance_words[slots.advances], first, at, 16, size)
    words += _pack(weight_words[slots.weights], second, at + first, 16, size)

    # A lane that has consumed c bits has taken ceil(c / 16) + 1 words: at least 16 bits more.
    taken = [before] if narrow else [before, before + first]
    per_slot = len(taken)
    words_taken = -(-np.stack(taken, 1).reshape(-1) // 16) + 1
    previous = np.concatenate([[0], words_taken[:-1]])
    previous[np.flatnonzero(step == 0) * per_slot] = 0
    new = np.flatnonzero(words_taken > previous)
    slot = new // per_slot
    lane = rank[owner[slot]]
    moment = step[slot] * per_slot + new % per_slot
    source = base[owner[slot]] + words_taken[new] - 1
    sequence = np.lexsort((lane, moment, lane // LANES))
    groups = -(-rows // LANES)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(lane // LANES, minlength=groups))])
    return _offsets(offsets), words[source[sequence]].astype("<u2").view(np.uint8)


def _streams(
    slots: Slots, tables: list[tuple[Ints, Ints]], counts: NDArray[np.unsignedinteger]
) -> tuple[NDArray[np.uint32], Bytes]:
    groups = stream_groups(counts)
    ends = np.concatenate([[0], np.cumsum(slots.counts)])[groups]
    parts, sizes = [], []
    for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        for symbols, (lengths, words) in zip((slots.advances, slots.weights), tables, strict=True):
            part = -(-(end - begin) // STREAMS)
            for stream in range(STREAMS):
                own = symbols[min(begin + stream * part, end) : min(begin + (stream + 1) * part, end)]
                bits = lengths[own]
                after = np.cumsum(bits)
                size = -(-int(after[-1]) // 8) if own.size else 0
                units = _pack(words[own], bits, after - bits, 16, -(-size // 2))
                parts.append(units.astype(">u2").view(np.uint8)[:size])
                sizes.append(size)
    data = np.concatenate(parts) if parts else np.zeros(0, np.uint8)
    return _offsets(np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])), data


def _offsets(offsets: Ints) -> NDArray[np.uint32]:
    if int(offsets[-1]) >= 1 << 32:
        raise ValueError(f"the streams take {offsets[-1]} units, expected fewer than 2^32: split the matrix")
    return offsets.astype(np.uint32)
