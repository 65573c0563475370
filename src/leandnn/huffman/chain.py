"""A model as a chain of units, each of which may have a batch size of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from leandnn.errors import LeandnnError
from leandnn.huffman.decoders import Decoded, Decoder
from leandnn.huffman.layers import HuffmanLayer
from leandnn.huffman.model import Compressed


@dataclass(frozen=True, eq=False)
class Unit:
    """A coded layer and the uncoded steps behind it, up to the next coded layer.

    - name: of its first coded layer; there are more where the model branches inside.
    - call: from the unit's input to its result.
    """

    name: str
    call: Callable[[Tensor], Any]


def units(model: Compressed, decoder: Decoder | None = None) -> list[Unit]:
    """The model's units, in order; what precedes the first coded layer belongs to the first unit.

    - decoder: how the coded layers compute (decoders.py); their own way if None.

    Cut is where one tensor alone goes on: before each layer of a chain, between the blocks of a residual net. Raises
    LeandnnError for a model without a program.
    """
    program = model.program
    if program is None:
        raise LeandnnError(f"the model cannot be cut into units: {model.untraced}")
    if decoder is not None:
        layers = model.layers().values()
        changed = program.with_modules({layer: Decoded(layer, decoder) for layer in layers})
    else:
        changed = program
    cuts = program.cuts()
    found: list[Unit] = []
    begin, names = cuts[0], list[str]()
    for left, right in itertools.pairwise(cuts):
        steps = program.steps[left + 1 : right + 1]
        coded = [step.name for step in steps if isinstance(program.module(step), HuffmanLayer)]
        if coded and names:
            found.append(Unit(names[0], changed.part(begin, left)))
            begin, names = left, []
        names += coded
    found.append(Unit(names[0] if names else "model", changed.part(begin, cuts[-1])))
    return found
