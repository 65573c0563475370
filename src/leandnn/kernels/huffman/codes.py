"""Canonical Huffman codes of limited length.

A code is described by the lengths of its words alone. Words are given out in the order (length, symbol), each
one more than the one before, and are written most significant bit first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

LONGEST = 11  # bits of a code word at most, so that a decoder's table of 2^11 entries stays in the L1 cache
LARGEST = 256  # symbols of an alphabet at most


def code_lengths(frequencies: ArrayLike, limit: int = LONGEST) -> Bytes:
    """Lengths of the best code whose words have at most `limit` bits (package-merge; Larmore, Hirschberg 1990).

    - frequencies: how often each symbol occurs, integers >= 0, at least two symbols; their sum times `limit` stays
      below 2^63.

    Returns uint8 lengths, 0 for symbols that do not occur. The code is complete: the sum of 2^-length is 1. Where
    fewer than two symbols occur, others get words as well so that this holds.

    Raises ValueError for other frequencies, or more than 2^limit symbols that occur.
    """
    given = np.asarray(frequencies)
    if given.ndim != 1 or given.size < 2 or not np.issubdtype(given.dtype, np.integer):
        raise ValueError(
            f"frequencies are {given.dtype} of shape {given.shape}, expected integers, at least two"
        )
    total = sum(map(int, given))
    if min(map(int, given)) < 0 or not 1 <= limit <= 32 or total * limit >= 1 << 63:
        raise ValueError(
            f"frequencies of {min(map(int, given))} and more with sum {total} at a limit of {limit} bits, "
            "expected none below 0, limit 1 to 32, and a product below 2^63"
        )
    weights = given.astype(np.int64)
    used = np.flatnonzero(weights)
    if used.size < 2:
        unused = np.flatnonzero(weights == 0)
        used = np.sort(np.concatenate([used, unused[: 2 - used.size]]))
    if used.size > 1 << limit:
        raise ValueError(f"{used.size} symbols do not fit into code words of {limit} bits")
    used = used[np.argsort(weights[used], kind="stable")]
    leaves = weights[used]
    merged, is_leaf = leaves, [np.ones(leaves.size, bool)]
    for _ in range(limit - 1):
        packages = merged[: merged.size // 2 * 2].reshape(-1, 2).sum(1)
        both = np.concatenate([leaves, packages])
        order = np.argsort(both, kind="stable")
        merged = both[order]
        is_leaf.append(order < leaves.size)
    lengths = np.zeros(weights.size, np.uint8)
    take = (
        2 * used.size - 2
    )  # items of the last list that are bought; each package buys two of the list before
    for leaf in reversed(is_leaf):
        bought = int(leaf[:take].sum())
        lengths[used[:bought]] += 1
        take = 2 * (take - bought)
    return lengths


def check_lengths(lengths: Bytes, limit: int = LONGEST) -> None:
    """ValueError unless these are the lengths of a complete code of 2 to 256 symbols and at most `limit` bits."""
    if lengths.ndim != 1 or not 2 <= lengths.size <= LARGEST:
        raise ValueError(f"a code has {lengths.size} symbols, expected 2 to {LARGEST}")
    longest = int(lengths.max())
    if longest > limit:
        raise ValueError(f"a code word has {longest} bits, expected at most {limit}")
    filled = int((1 << (limit - lengths[lengths > 0].astype(np.int64))).sum())
    if filled != 1 << limit:
        kind = "over" if filled > 1 << limit else "under"
        raise ValueError(f"the code is {kind}-subscribed: its words fill {filled} of {1 << limit} slots")


def canonical(lengths: Bytes) -> NDArray[np.uint32]:
    """The code words of a complete code, right-aligned; 0 for symbols without one."""
    order = np.lexsort((np.arange(lengths.size), lengths))
    order = order[lengths[order] > 0]
    longest = int(lengths.max())
    shares = 1 << (longest - lengths[order].astype(np.int64))
    words = np.zeros(lengths.size, np.uint32)
    words[order] = (np.cumsum(shares) - shares) >> (longest - lengths[order].astype(np.int64))
    return words


def table(lengths: Bytes, width: int) -> tuple[Bytes, Bytes]:
    """(symbols, lengths) by the next `width` bits of a stream, 2^width entries each.

    ValueError unless the lengths are those of a complete code of at most `width` bits.
    """
    check_lengths(lengths, width)
    order = np.lexsort((np.arange(lengths.size), lengths))
    order = order[lengths[order] > 0]
    repeats = 1 << (width - lengths[order].astype(np.int64))
    return np.repeat(order.astype(np.uint8), repeats), np.repeat(lengths[order], repeats)


def entropy_bits(frequencies: Ints) -> float:
    """Shannon's bound for a sequence with these frequencies: its length times its entropy, in bits."""
    counts = frequencies[frequencies > 0].astype(np.float64)
    return float((counts * np.log2(counts.sum() / counts)).sum()) if counts.size else 0.0


def coded_bits(frequencies: Ints, lengths: Bytes) -> int:
    """Bits of a sequence with these frequencies in this code."""
    return int((frequencies * lengths).sum())
