"""A sparse matrix of few values, Huffman-coded row by row.

Row r is a sequence of counts[r] slots (advance, weight), two symbols. Reading starts at column -1; a slot goes
`advance` + 1 columns on and puts codebook[weight] there. Weight 0 is the value zero: a filler, for gaps that one
slot cannot bridge. Advances and weights have a canonical Huffman code each (codes.py).

Two layouts of the same slots, whose groups decode alone, in any order:

- "lanes": rows sorted by falling count (stably), 128 to a group, one to a lane. All lanes of a group advance together
  and read one stream of 16-bit words. Before each slot, in lane order, each lane with slots left and fewer than 16 bits
  takes the next word. Codes of at most 32 symbols and 8 bits ("narrow") need no more; else lanes take words
  between the two symbols of a slot, too.
- "streams": runs of rows in their own order with at most 16384 slots (or one row). A group's advances and then its
  weights are cut into four equal parts (the last may be shorter), each a bit string of whole bytes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leandnn.kernels.huffman.codes import LONGEST, check_lengths

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

LAYOUTS = ("lanes", "streams")
LANES = 128
STREAMS = 4
GROUP_SLOTS = 16384
NARROW_SYMBOLS, NARROW_BITS = 32, 8


class CodedError(ValueError):
    """Bytes that are no coded matrix: a size, a table or a stream is wrong."""


@dataclass(frozen=True, eq=False)
class Coded:
    """A coded matrix; see the module.

    - rows, columns: of the matrix, columns below 2^31.
    - layout: "lanes" or "streams".
    - advance_lengths, weight_lengths: uint8, bits of each symbol's code word: complete codes of 2 to 256 symbols.
    - codebook: float32, finite; the value of each weight symbol, codebook[0] = 0.
    - counts: unsigned integers, slots of each row, none above `columns`.
    - offsets: uint32, where in `data` each stream begins and the last ends: 16-bit words of the groups' streams
      ("lanes"), or bytes of the 8 streams of each group ("streams").
    - data: uint8, the streams; words are little-endian.

    Raises CodedError for anything else. The streams themselves are checked by what decodes them.
    """

    rows: int
    columns: int
    layout: str
    advance_lengths: Bytes
    weight_lengths: Bytes
    codebook: NDArray[np.float32]
    counts: NDArray[np.unsignedinteger]
    offsets: NDArray[np.uint32]
    data: Bytes

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise CodedError(f"the layout is {self.layout!r}, expected {' or '.join(LAYOUTS)}")
        if not (1 <= self.rows < 1 << 31 and 1 <= self.columns < 1 << 31):
            raise CodedError(f"the matrix is {self.rows} × {self.columns}, expected sides of 1 to 2^31 - 1")
        for name, lengths in (("advance", self.advance_lengths), ("weight", self.weight_lengths)):
            _must_be(lengths, np.dtype(np.uint8), f"{name} code lengths")
            try:
                check_lengths(lengths, LONGEST)
            except ValueError as error:
                raise CodedError(f"the {name} table is broken: {error}") from error
        _must_be(self.codebook, np.dtype(np.float32), "codebook")
        if self.codebook.size != self.weight_lengths.size or not np.isfinite(self.codebook).all():
            raise CodedError(
                f"the codebook has {self.codebook.size} values, expected {self.weight_lengths.size} finite ones"
            )
        if self.codebook[0] != 0.0:
            raise CodedError(f"the codebook begins with {self.codebook[0]}, expected 0")
        if self.counts.dtype not in (np.uint16, np.uint32) or self.counts.shape != (self.rows,):
            raise CodedError(
                f"counts are {self.counts.dtype} of shape {self.counts.shape}, expected ({self.rows},)"
            )
        if int(self.counts.max()) > self.columns:
            raise CodedError(f"a row has {self.counts.max()} slots in {self.columns} columns")
        _must_be(self.data, np.dtype(np.uint8), "data")
        _must_be(self.offsets, np.dtype(np.uint32), "offsets")
        self._check_offsets()
        self._check_room()

    def _check_offsets(self) -> None:
        streams = self.groups * (1 if self.layout == "lanes" else 2 * STREAMS)
        unit = 2 if self.layout == "lanes" else 1
        offsets = self.offsets.astype(np.int64)
        if offsets.size != streams + 1:
            raise CodedError(f"there are {offsets.size} offsets, expected {streams + 1}")
        if offsets[0] != 0 or offsets[-1] * unit != self.data.size or (np.diff(offsets) < 0).any():
            raise CodedError(
                f"offsets must rise from 0 to {self.data.size // unit}, they go from {offsets[0]} to {offsets[-1]}"
            )

    def _check_room(self) -> None:
        """No group has more slots than its bits can hold: what decoding allocates stays in proportion to the file."""
        least = sum(int(own[own > 0].min()) for own in (self.advance_lengths, self.weight_lengths))
        slots = np.add.reduceat(self.counts[self.order].astype(np.int64), self.group_rows[:-1])
        if self.layout == "lanes":
            bits = 16 * np.diff(self.offsets.astype(np.int64))
        else:
            bits = 8 * np.diff(self.offsets[:: 2 * STREAMS].astype(np.int64))
        if (wrong := np.flatnonzero(slots * least > bits)).size:
            group = int(wrong[0])
            raise CodedError(
                f"group {group} has {slots[group]} slots of at least {least} bits in {bits[group]} bits"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.rows, self.columns

    @property
    def narrow(self) -> bool:
        """Whether a slot takes at most 16 bits; see is_narrow."""
        return is_narrow(self.advance_lengths, self.weight_lengths)

    @functools.cached_property
    def slots(self) -> int:
        """Number of slots: non-zeros and fillers."""
        return int(self.counts.sum(dtype=np.int64))

    @functools.cached_property
    def order(self) -> NDArray[np.int32]:
        """Rows in the order of storage, int32."""
        if self.layout == "streams":
            return np.arange(self.rows, dtype=np.int32)
        return np.argsort(-self.counts.astype(np.int64), kind="stable").astype(np.int32)

    @functools.cached_property
    def group_rows(self) -> Ints:
        """Where in `order` each group begins, and the last ends."""
        if self.layout == "lanes":
            return np.append(np.arange(0, self.rows, LANES), self.rows).astype(np.int64)
        return stream_groups(self.counts)

    @property
    def groups(self) -> int:
        """Number of groups."""
        return self.group_rows.size - 1

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (
            self.advance_lengths,
            self.weight_lengths,
            self.codebook,
            self.counts,
            self.offsets,
            self.data,
        )
        return sum(array.nbytes for array in arrays)


def is_narrow(*lengths: NDArray[np.uint8]) -> bool:
    """Whether codes of these word lengths have at most 32 symbols and 8 bits each, so that a slot takes 16 at most."""
    return all(own.size <= NARROW_SYMBOLS and int(own.max()) <= NARROW_BITS for own in lengths)


def stream_groups(counts: NDArray[np.unsignedinteger]) -> Ints:
    """Where the groups of rows of the "streams" layout begin, and the last ends.

    A group takes rows as long as its slots stay within 16384, and always one.
    """
    ends = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    begins = [0]
    while begins[-1] < counts.size:
        last = int(np.searchsorted(ends, ends[begins[-1]] + GROUP_SLOTS, side="right")) - 1
        begins.append(max(last, begins[-1] + 1))
    return np.array(begins, np.int64)


def _must_be(array: NDArray[np.generic], dtype: np.dtype[np.generic], name: str) -> None:
    if array.dtype != dtype or array.ndim != 1:
        raise CodedError(f"{name}: {array.dtype} of shape {array.shape}, expected {dtype}, one dimension")
