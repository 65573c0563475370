"""CRC32C (Castagnoli), the checksum of .lhuf sections: iSCSI's, polynomial 0x1EDC6F41, reflected."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78  # reflected
_CHUNKS = 1024  # computed side by side


@functools.cache
def _table() -> NDArray[np.uint32]:
    value = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        value = np.where(value & 1, (value >> 1) ^ np.uint32(_POLYNOMIAL), value >> 1)
    return value


def crc32c(data: NDArray[np.uint8]) -> int:
    """CRC32C of bytes (one-dimensional uint8), as a number below 2^32."""
    size = data.size // _CHUNKS if data.size >= 4 * _CHUNKS else 0
    state = 0xFFFFFFFF
    if size:
        # The state is linear in what came before: chunks are computed from 0 all at once, then joined by
        # passing the state over each chunk's length of zero bytes.
        chunks, own = data[: size * _CHUNKS].reshape(_CHUNKS, size), np.zeros(_CHUNKS, np.uint32)
        table = _table()
        for column in chunks.T:
            own = table[(own ^ column) & 0xFF] ^ (own >> 8)
        skip = _advance(size)
        for chunk in own.tolist():
            state = _apply(skip, state) ^ chunk
    entries = _table().tolist()
    for byte in data[size * _CHUNKS :].tolist():
        state = entries[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


@functools.lru_cache(maxsize=64)
def _advance(count: int) -> tuple[int, ...]:
    """What `count` zero bytes make of each bit of the state."""
    entries = _table().tolist()
    step = tuple(entries[(1 << bit) & 0xFF] ^ ((1 << bit) >> 8) for bit in range(32))
    result = tuple(1 << bit for bit in range(32))
    while count:
        if count & 1:
            result = tuple(_apply(step, column) for column in result)
        step = tuple(_apply(step, column) for column in step)
        count >>= 1
    return result


def _apply(columns: tuple[int, ...], state: int) -> int:
    result = 0
    while state:
        low = state & -state
        result ^= columns[low.bit_length() - 1]
        state ^= low
    return result
