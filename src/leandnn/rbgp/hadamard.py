"""Ramanujan bipartite graphs without chance: k 2-lifts of K_m,n at once, signed by characters of GF(2^t).

A lift by the group GF(2)^k is k 2-lifts one after the other. Left vertex (i, g) meets right vertex (j, h) where
g ⊕ h = v(i, j), the lowest k bits of the product α_i·β_j in GF(2^t), with 2^t ≥ max(m, n, 2^k). Its spectrum is
that of K_m,n and those of the matrices (−1)^{c·v(i, j)}, one for each c ≠ 0 in GF(2)^k. Every such c is an
additive character of the field, so each matrix is a part of a 2^t × 2^t Hadamard matrix, and none of its singular
values exceeds 2^{t/2}: for m = n = 2^t that is √m, about half the Ramanujan bound 2·√(m−1), and no m × m matrix
of signs has a smaller one. Random lifts come near the bound; these stay far below.

Our own choice (the papers lift at random); the parts are textbook: voltage lifts of abelian groups, Sylvester's
matrices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from leandnn.rbgp.graphs import TOLERANCE, BipartiteGraph, ramanujan_bound

# Irreducible polynomials over GF(2) of degree 1 to 12; bit i is the coefficient of x^i.
_POLYNOMIALS = (0b11, 0b111, 0b1011, 0b10011, 0b100101, 0b1000011, 0b10000011, 0b100011011, 0b1000010001,
                0b10000001001, 0b100000000101, 0b1000001010011)  # fmt: skip


def multiply(a: NDArray[np.int64], b: NDArray[np.int64], degree: int) -> NDArray[np.int64]:
    """Products in GF(2^degree) of broadcast arrays of elements (bit i is the coefficient of x^i)."""
    polynomial = _POLYNOMIALS[degree - 1]
    found, a = np.zeros(np.broadcast_shapes(a.shape, b.shape), np.int64), a.copy()
    for bit in range(degree):
        found = found ^ np.where(b >> bit & 1, a, 0)
        a = a << 1
        a = np.where(a >> degree & 1, a ^ polynomial, a)
    return found


def voltages(m: int, n: int, lifts: int) -> NDArray[np.int64]:
    """v(i, j) of the module's text for m × n vertices: integers below 2^lifts.

    Raises ValueError above 4096 vertices a side.
    """
    degree = max(lifts, (max(m, n) - 1).bit_length(), 1)
    if degree > len(_POLYNOMIALS):
        raise ValueError(f"the field has 2^{degree} elements, expected at most 2^{len(_POLYNOMIALS)}")
    products = multiply(np.arange(m)[:, None], np.arange(n)[None, :], degree)
    return products & ((1 << lifts) - 1)


def hadamard(m: int, n: int, lifts: int) -> BipartiteGraph:
    """The graph of m·2^lifts × n·2^lifts vertices with degrees n (left) and m (right).

    Raises ValueError where it is not Ramanujan: m and n that differ much from each other or from a power of two,
    or more lifts than log₂ of the smaller allows; the message holds singular value and bound.
    """
    size = 1 << lifts
    voltage = voltages(m, n, lifts)
    bound, largest = ramanujan_bound(n, m), 0.0
    for character in range(1, size):
        signed = np.where(_parity(voltage & character), -1.0, 1.0)
        largest = max(largest, float(np.linalg.norm(signed, 2)))
    if largest > bound + TOLERANCE or largest**2 > m * n - TOLERANCE:  # √(m·n): another component
        raise ValueError(
            f"{lifts} lifts of K_{m},{n} by characters have a singular value of {largest:.3f}, expected at most "
            f"{bound:.3f} and less than √(m·n) = {(m * n) ** 0.5:.3f}"
        )
    g = np.arange(size)
    mask = (g[:, None] ^ g[None, :])[None, :, None, :] == voltage[:, None, :, None]
    return BipartiteGraph.from_biadjacency(mask.reshape(m * size, n * size))


def _parity(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the number of set bits is odd."""
    odd: NDArray[np.bool_] = np.bitwise_count(values) % 2 == 1
    return odd
