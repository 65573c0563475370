"""Whole networks in RBGP4: a pattern for every layer that has one, and a report of those that stay dense."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from leandnn.blocksparse import Pattern, convert
from leandnn.blocksparse.layers import BlockSparse
from leandnn.rbgp.construction import Size, nearest_halvings, other_lifts, rbgp4
from leandnn.rbgp.lifts import Construction


@dataclass(frozen=True)
class LayerPlan:
    """What becomes of one linear or convolution layer.

    - name: in the model; weights: numbers in its weight.
    - pattern: its RBGP4 pattern, None if it stays dense.
    - note: why it stays dense, or what of its factors is not rbgp4's default; else empty.
    """

    name: str
    weights: int
    pattern: Pattern | None
    note: str


@dataclass(frozen=True)
class NetPlan:
    """The layers of a model in its order, and what their patterns save."""

    layers: tuple[LayerPlan, ...]

    @property
    def patterns(self) -> dict[str, Pattern]:
        """Name → pattern of the layers that become sparse, as `convert` takes them."""
        return {layer.name: layer.pattern for layer in self.layers if layer.pattern is not None}

    @property
    def sparsity(self) -> float:
        """Share of zeros among the weights of the layers that become sparse; 0 without any."""
        found = self.patterns.values()
        weights = sum(math.prod(pattern.shape) for pattern in found)
        return 1 - sum(pattern.nnz for pattern in found) / weights if weights else 0.0

    @property
    def index_nbytes(self) -> int:
        """Bytes of all patterns: see Pattern.index_nbytes."""
        return sum(pattern.index_nbytes for pattern in self.patterns.values())

    def __str__(self) -> str:
        """A table: name, weights, sparsity, sizes and degrees of the factors, index bytes, note."""
        head = ("layer", "weights", "zeros", "G_o", "G_r", "G_i", "G_b", "index bytes", "note")
        body = [_line(layer) for layer in self.layers]
        widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [head, *body]
        )


def _line(layer: LayerPlan) -> tuple[str, ...]:
    pattern = layer.pattern
    if pattern is None:
        return (layer.name, f"{layer.weights:,}", "0 %", "", "", "", "", "", f"dense: {layer.note}")
    outer, repeat, inner, block = (f"{factor.left}×{factor.right}" for factor in pattern.factors)
    g_o, g_i = pattern.factors[0], pattern.factors[2]
    return (
        layer.name,
        f"{layer.weights:,}",
        f"{pattern.sparsity:.4g}",
        f"{outer}, {g_o.edges // g_o.left} a row",
        repeat,
        f"{inner}, {g_i.edges // g_i.left} a row",
        block,
        str(pattern.index_nbytes),
        layer.note,
    )


def plan(
    model: nn.Module,
    sparsity: float,
    *,
    dense: Collection[str] | None = None,
    sizes: Sequence[tuple[Size, Size]] = (),
    construction: Construction = "random",
    seed: int = 0,
) -> NetPlan:
    """Patterns of one sparsity for the linear and convolution layers of a model, which is left as it is.

    - sparsity: 1 − 2^−k.
    - dense: names of layers that stay dense; if None the first and the last one, which have few weights and
      sides that are no channels (colours, classes).
    - sizes: (G_r, G_b) to try first, in this order; then those that the kernels like best.
    - construction, seed: see ramanujan; every layer draws graphs of its own.

    Where rbgp4's even division of the lifts does not fit a layer, the next even one that does is taken and noted.
    Where none fits the layer stays dense, as do groups and what `convert` has no layer for, and the note says why.

    Raises ValueError for a sparsity that is not 1 − 2^−k, and for a name in `dense` that no layer has.
    """
    k = nearest_halvings(sparsity)
    if not math.isclose(sparsity, 1 - 2.0**-k, abs_tol=1e-12):
        raise ValueError(f"sparsity is {sparsity:g}, expected 1 − 2^−k such as {1 - 2.0**-k:g}")
    kinds = (nn.Linear, nn.Conv2d)
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
    names = [name for name, _ in found]
    if unknown := sorted(set(dense or ()) - set(names)):
        raise ValueError(f"the model has no linear or convolution layer {', '.join(unknown)}")
    kept = {names[0], names[-1]} if dense is None and names else set(dense or ())
    layers = []
    for number, (name, module) in enumerate(found):
        pattern, note = None, "kept" if name in kept else _unfit(module)
        if not note:
            pattern, note = _pattern(module, sparsity, sizes, construction, seed * 4096 + 2 * number)
        layers.append(LayerPlan(name, module.weight.numel(), pattern, note))
    return NetPlan(tuple(layers))


def sparsify(
    model: nn.Module,
    sparsity: float,
    *,
    dense: Collection[str] | None = None,
    sizes: Sequence[tuple[Size, Size]] = (),
    construction: Construction = "random",
    seed: int = 0,
    rescale: bool = True,
) -> NetPlan:
    """Convert a model to RBGP4 in place, before training; returns the plan, whose text is the report.

    - rescale: multiply the weights that stay by 1/√density, so that what a layer puts out has the variance that
      the dense layer's initial weights gave it.

    Otherwise as plan; errors of convert, too.
    """
    found = plan(model, sparsity, dense=dense, sizes=sizes, construction=construction, seed=seed)
    convert(model, found.patterns)
    if rescale:
        rescaled(model)
    return found


def rescaled(model: nn.Module) -> nn.Module:
    """Multiply the values of every block-sparse layer by 1/√density, in place; returns the model.

    New dense weights have a variance for all of a row's inputs; of these, only a share is left.
    """
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, BlockSparse):
                module.values.mul_(module.pattern.density**-0.5)
    return model


def _unfit(module: nn.Linear | nn.Conv2d) -> str:
    """Why a layer cannot become block-sparse at all; empty if it can."""
    if type(module) not in (nn.Linear, nn.Conv2d):
        return f"a {type(module).__name__} is no plain layer"
    if isinstance(module, nn.Conv2d) and module.groups != 1:
        return f"{module.groups} groups"
    return ""


def _pattern(
    module: nn.Linear | nn.Conv2d,
    sparsity: float,
    sizes: Sequence[tuple[Size, Size]],
    construction: Construction,
    seed: int,
) -> tuple[Pattern | None, str]:
    """A layer's pattern and what is to be noted about it."""
    rows, cols = module.weight.shape[:2]
    kernel = (1, 1) if isinstance(module, nn.Linear) else (module.kernel_size[0], module.kernel_size[1])

    def make(repeat: Size | None, block: Size | None, lifts: Size | None) -> tuple[Pattern, str] | None:
        """The pattern and a note, by random lifts where deterministic ones miss the bound; None if none fits."""
        for chosen in dict.fromkeys((construction, "random")):
            try:
                pattern = rbgp4(
                    rows, cols, sparsity, kernel=kernel, repeat=repeat, block=block, lifts=lifts,
                    construction=chosen, seed=seed,
                )  # fmt: skip
            except ValueError as error:
                refusals.append(str(error))
                continue
            return pattern, "" if chosen == construction else "random lifts"
        return None

    refusals: list[str] = []
    for repeat, block in sizes:
        if (found := make(repeat, block, None)) is not None:
            return found
    if (found := make(None, None, None)) is not None:
        return found[0], ", ".join(filter(None, ("sizes as fit" if sizes else "", found[1])))
    why = refusals[-1]
    for lifts in other_lifts(rows, cols, sparsity):
        if (found := make(None, None, lifts)) is not None:
            return found[0], ", ".join(filter(None, (f"lifts {lifts}", found[1])))
    return None, why
