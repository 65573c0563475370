"""A coded matrix as a section of a .lhuf file (docs/lhuf.md)."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leandnn.kernels.huffman.format import LAYOUTS, Coded, CodedError

Bytes = NDArray[np.uint8]

# Layout, symbols of the two alphabets, bytes of a count, rows, columns, number of offsets, zero, bytes of data.
_HEAD = struct.Struct("<IIIIQQIIQ")
_DATA_ALIGNMENT = 64  # of the streams, from the section's begin


def to_bytes(coded: Coded) -> Bytes:
    """The section's bytes."""
    head = _HEAD.pack(
        LAYOUTS.index(coded.layout),
        coded.advance_lengths.size,
        coded.weight_lengths.size,
        coded.counts.itemsize,
        coded.rows,
        coded.columns,
        coded.offsets.size,
        0,
        coded.data.size,
    )
    result = np.zeros(nbytes(coded), np.uint8)
    result[: len(head)] = np.frombuffer(head, np.uint8)
    arrays: tuple[NDArray[Any], ...] = (
        coded.advance_lengths,
        coded.weight_lengths,
        coded.codebook,
        coded.counts,
        coded.offsets,
        coded.data,
    )
    for begin, array in zip(_begins(coded), arrays, strict=True):
        little = array.astype(array.dtype.newbyteorder("<"))
        result[begin : begin + little.nbytes] = little.view(np.uint8)
    return result


def nbytes(coded: Coded) -> int:
    """Bytes of the section."""
    return _begins(coded)[-1] + coded.data.size


def from_bytes(data: Bytes) -> Coded:
    """The matrix in a section's bytes; CodedError for bytes that are none.

    All sizes are compared with the number of bytes before anything is made of them. The streams are a view of the
    bytes; the other arrays are copied, so that what was checked stays so when a file is overwritten under its mapping.
    """
    if data.size < _HEAD.size:
        raise CodedError(f"a matrix takes at least {_HEAD.size} bytes, the section has {data.size}")
    layout, advances, weights, count_bytes, rows, columns, offsets, zero, size = _HEAD.unpack(
        data[: _HEAD.size].tobytes()
    )
    if layout >= len(LAYOUTS) or count_bytes not in (2, 4) or zero != 0:
        raise CodedError(f"layout {layout} with counts of {count_bytes} bytes does not exist")
    begins = _places(advances, weights, count_bytes * rows, offsets)
    if max(begins) + size != data.size:
        raise CodedError(
            f"the sizes of a matrix need {max(begins) + size} bytes, the section has {data.size}"
        )
    lengths = (advances, weights, 4 * weights, count_bytes * rows, 4 * offsets, size)
    parts = [data[begin : begin + length] for begin, length in zip(begins, lengths, strict=True)]
    ends = [_HEAD.size] + [begin + length for begin, length in zip(begins, lengths, strict=True)]
    if any(data[end:begin].any() for end, begin in zip(ends, begins, strict=False)):
        raise CodedError("what lies between the arrays of a matrix is not zero")
    return Coded(
        rows=rows,
        columns=columns,
        layout=LAYOUTS[layout],
        advance_lengths=parts[0].copy(),
        weight_lengths=parts[1].copy(),
        codebook=parts[2].view("<f4").astype(np.float32),
        counts=parts[3].view(f"<u{count_bytes}").astype(f"u{count_bytes}"),
        offsets=parts[4].view("<u4").astype(np.uint32),
        data=parts[5],
    )


def _begins(coded: Coded) -> tuple[int, ...]:
    return _places(
        coded.advance_lengths.size, coded.weight_lengths.size, coded.counts.nbytes, coded.offsets.size
    )


def _places(advances: int, weights: int, counts: int, offsets: int) -> tuple[int, ...]:
    """Where the arrays begin: each at a multiple of 4 bytes, the streams at one of 64."""
    begins, at = [], _HEAD.size
    for size in (advances, weights, 4 * weights, counts, 4 * offsets):
        begins.append(at)
        at = -(-(at + size) // 4) * 4
    return *begins, -(-at // _DATA_ALIGNMENT) * _DATA_ALIGNMENT
