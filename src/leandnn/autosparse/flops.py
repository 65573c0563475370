"""A ledger of multiply-adds: forward, data gradient, weight gradient, each with the sparsity that it really has.

One training step of a layer with weight W is three products of the same size when dense:

    forward           Y = W X           sparse where W is
    data gradient     dX = Wᵀ dY        sparse where W is
    weight gradient   dW = dY Xᵀ        sparse where an entry of dW is used for nothing

A MAC is one multiplication and one addition. Published "FLOPs" of this field are MACs (STR: ResNet50 4.09 G) or
twice as many (RigL: 8.2 G). Counts are per example, and data gradients are counted for every layer, the first one
too, which needs none: so do the published formulas, in which a dense step is three forward passes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from leandnn.blocksparse import to_dense
from leandnn.blocksparse.layers import BlockSparse
from leandnn.models import macs
from leandnn.models.macs import LayerMacs

Densities = Mapping[str, float]


@dataclass(frozen=True)
class StepDensities:
    """Densities of one training step, by layer name; layers that are not named are dense.

    - weights: of the weights in use, for forward and data gradient.
    - gradients: of the weight gradients that are used; None for all (dense).
    """

    weights: Densities
    gradients: Densities | None = None


@dataclass(frozen=True)
class Macs:
    """Multiply-adds per example of a step, or their mean over steps."""

    forward: float
    data_gradient: float
    weight_gradient: float

    @property
    def total(self) -> float:
        """All three."""
        return self.forward + self.data_gradient + self.weight_gradient


@dataclass(frozen=True)
class Ledger:
    """What a net's products cost per example; see `ledger`."""

    layers: tuple[LayerMacs, ...]

    @property
    def forward_macs(self) -> int:
        """A forward pass with dense weights."""
        return sum(layer.macs for layer in self.layers)

    @property
    def training_macs(self) -> int:
        """A training step with dense weights: three forward passes."""
        return 3 * self.forward_macs

    @property
    def inference_macs(self) -> float:
        """A forward pass without the zeros that the weights have now."""
        return sum(layer.macs * layer.density for layer in self.layers)

    @property
    def densities(self) -> dict[str, float]:
        """Share of non-zero weights now, by layer name."""
        return {layer.name: layer.density for layer in self.layers if layer.weight is not None}

    def forward(self, densities: Densities) -> float:
        """A forward pass with these densities, by layer name; other layers are dense.

        Raises ValueError for a layer that the net does not have.
        """
        self._know(densities)
        return macs.forward_macs(self.layers, densities)

    def step(self, step: StepDensities) -> Macs:
        """One training step. Raises ValueError for a layer that the net does not have."""
        forward = self.forward(step.weights)
        gradient = self.forward_macs if step.gradients is None else self.forward(step.gradients)
        return Macs(forward, forward, float(gradient))

    def training(self, steps: Iterable[tuple[StepDensities, float]]) -> Macs:
        """Mean over a training of (step, how many such steps); ValueError without any."""
        sums, count = [0.0, 0.0, 0.0], 0.0
        for step, times in steps:
            found = self.step(step)
            count += times
            for i, part in enumerate((found.forward, found.data_gradient, found.weight_gradient)):
                sums[i] += times * part
        if count <= 0:
            raise ValueError(f"the training has {count:g} steps, expected more than 0")
        return Macs(*(part / count for part in sums))

    def rows(self, step: StepDensities | None = None) -> list[dict[str, str | float]]:
        """A table: per layer its dense MACs and the fractions of dense of all three products; last the total.

        - step: the densities; by default those that the weights have now, with dense weight gradients.
        """
        step = step or StepDensities(self.densities)
        found: list[dict[str, str | float]] = []
        for layer in self.layers:
            weights = step.weights.get(layer.name, 1.0) if layer.weight is not None else 1.0
            gradients = 1.0 if step.gradients is None else step.gradients.get(layer.name, 1.0)
            found.append(_row(layer.name, layer.macs, weights, gradients))
        total = self.step(step)
        dense = float(self.forward_macs)
        return [*found, _row("total", dense, total.forward / dense, total.weight_gradient / dense)]

    def _know(self, densities: Densities) -> None:
        if unknown := sorted(set(densities) - {layer.name for layer in self.layers}):
            raise ValueError(f"the ledger has no layer {', '.join(unknown)}")


def _row(name: str, dense: float, weights: float, gradients: float) -> dict[str, str | float]:
    return {
        "layer": name,
        "dense_macs": dense,
        "forward": weights,
        "data_gradient": weights,
        "weight_gradient": gradients,
        "training": (2 * weights + gradients) / 3,
    }


def ledger(model: nn.Module, input_shape: Sequence[int]) -> Ledger:
    """The ledger of a model: dense, masked, with learned thresholds, or of block-sparse layers.

    - model: not run on data, not changed.
    - input_shape: of one example, without the batch.

    Raises ValueError for a model that does not take such an input.
    """
    stored = {n: m.pattern.density for n, m in model.named_modules() if isinstance(m, BlockSparse)}
    if (
        stored
    ):  # the same product in layers that torch can count; a stored weight is multiplied even if it is zero
        model = to_dense(copy.deepcopy(model))
    counted = macs.count(model, input_shape)
    return Ledger(tuple(replace(layer, density=stored.get(layer.name, layer.density)) for layer in counted))


# --- the published formulas -------------------------------------------------------------------------------
# f_S and f_D are the forward MACs of the sparse and the dense net; each gives a step's MACs. Sources: the RigL
# paper's appendix as coded in varun19299/rigl-reproducibility (inference_train_FLOPs.py, print_stats.py).


def dense(f_d: float) -> float:
    """A dense step: 3 f_D."""
    return 3 * f_d


def static(f_s: float) -> float:
    """A fixed mask, SET, and MEST (whose f_S is that of its soft memory bound while that holds): 3 f_S."""
    return 3 * f_s


def rigl(f_s: float, f_d: float, interval: int) -> float:
    """RigL, dense weight gradients once in `interval` + 1 steps: (3 f_S ΔT + 2 f_S + f_D) / (ΔT + 1)."""
    return (3 * f_s * interval + 2 * f_s + f_d) / (interval + 1)


def dense_gradient(f_s: float, f_d: float) -> float:
    """SNFS, gradual pruning, learned thresholds (f_S the mean over training): 2 f_S + f_D.

    The AutoSparse paper's own formula is not known here; this one is compatible with its factor of two.
    """
    return 2 * f_s + f_d
