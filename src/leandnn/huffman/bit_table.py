"""Where the bits of a compressed layer go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leandnn.huffman import matrices
from leandnn.kernels.huffman import codes, ops
from leandnn.kernels.huffman.format import Coded


@dataclass(frozen=True)
class LayerBits:
    """One layer's bits; all but the last two are parts of the total, in the file.

    - name; shape: rows and columns of the matrix; layout.
    - nonzeros, fillers: numbers of slots.
    - index_bits: width of an advance before Huffman coding.
    - weight_bits, advance_bits: of the code words.
    - table_bits: code lengths and codebook. count_bits: slots of each row. offset_bits: where streams begin.
    - padding_bits: what is left, in streams that end in whole words and between arrays.
    - total_bits: of the section.
    - weight_entropy, advance_entropy: Shannon's bound for the code words, in bits: each symbol on its own.
    """

    name: str
    rows: int
    columns: int
    layout: str
    nonzeros: int
    fillers: int
    index_bits: int
    weight_bits: int
    advance_bits: int
    table_bits: int
    count_bits: int
    offset_bits: int
    padding_bits: int
    total_bits: int
    weight_entropy: float
    advance_entropy: float

    @property
    def dense_bits(self) -> int:
        """Of the FP32 weights."""
        return 32 * self.rows * self.columns

    @property
    def density(self) -> float:
        """Share of the weights that are not zero."""
        return self.nonzeros / (self.rows * self.columns)

    @property
    def ratio(self) -> float:
        """How many times smaller than FP32."""
        return self.dense_bits / self.total_bits


def layer_bits(name: str, coded: Coded) -> LayerBits:
    """Count one layer's bits; CodedError for broken streams."""
    slots = ops.slots(coded)
    advances = np.bincount(slots.advances, minlength=coded.advance_lengths.size)
    weights = np.bincount(slots.weights, minlength=coded.weight_lengths.size)
    parts = {
        "weight_bits": codes.coded_bits(weights, coded.weight_lengths),
        "advance_bits": codes.coded_bits(advances, coded.advance_lengths),
        "table_bits": 8
        * (coded.advance_lengths.nbytes + coded.weight_lengths.nbytes + coded.codebook.nbytes),
        "count_bits": 8 * coded.counts.nbytes,
        "offset_bits": 8 * coded.offsets.nbytes,
    }
    total = 8 * matrices.nbytes(coded)
    return LayerBits(
        name=name,
        rows=coded.rows,
        columns=coded.columns,
        layout=coded.layout,
        nonzeros=int(weights[1:].sum()),
        fillers=int(weights[0]),
        index_bits=int(coded.advance_lengths.size).bit_length() - 1,
        padding_bits=total - sum(parts.values()),
        total_bits=total,
        weight_entropy=codes.entropy_bits(weights),
        advance_entropy=codes.entropy_bits(advances),
        **parts,
    )


def table(layers: list[LayerBits]) -> str:
    """The layers as a table for a terminal, sizes in bytes, with a line for the whole."""
    head = f"{'layer':<20}{'shape':>14}{'density':>9}{'weights':>10}{'indices':>10}{'other':>9}{'padding':>9}"
    lines = [head + f"{'bytes':>11}{'bits/nz':>9}{'entropy':>9}{'ratio':>8}"]
    for own in layers:
        other = own.table_bits + own.count_bits + own.offset_bits
        nonzeros = max(own.nonzeros, 1)
        lines.append(
            f"{own.name:<20}{f'{own.rows}×{own.columns}':>14}{own.density:>9.1%}{own.weight_bits // 8:>10}"
            f"{own.advance_bits // 8:>10}{other // 8:>9}{own.padding_bits // 8:>9}{own.total_bits // 8:>11}"
            f"{own.total_bits / nonzeros:>9.2f}{(own.weight_entropy + own.advance_entropy) / nonzeros:>9.2f}"
            f"{own.ratio:>8.1f}"
        )
    total = sum(own.total_bits for own in layers)
    dense = sum(own.dense_bits for own in layers)
    ratio = dense / total if total else 1.0
    lines.append(
        f"{'all':<20}{'':>14}{'':>9}{'':>10}{'':>10}{'':>9}{'':>9}{total // 8:>11}{'':>18}{ratio:>8.1f}"
    )
    return "\n".join(lines)
