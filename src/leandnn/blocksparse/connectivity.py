"""How well a sparse net is connected: the spectral gap of its patterns, and paths from inputs to outputs.

A pattern is a bipartite graph of inputs and outputs. Its gap, 1 − σ₂/σ₁ of the mask, is 0 where the graph falls
apart and near 1 where every output mixes all inputs alike (expander mixing lemma). Along a chain of layers the
mixing can be seen directly, by counting the paths between each input channel of the first layer and each output
channel of the last one: the product of the layers' channel masks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from leandnn.blocksparse.layers import BlockSparse, BlockSparseConv2d
from leandnn.blocksparse.pattern import Pattern
from leandnn.train.task import Hook


def spectral_gap(pattern: Pattern) -> float:
    """1 − σ₂/σ₁ of the mask, in [0, 1]; 1 for a complete pattern, 0 for an empty or disconnected one.

    A convolution's window changes nothing where it is kept or dropped whole.
    """
    values = pattern.spectrum()
    if values.numel() == 0 or float(values[0]) == 0:
        return 0.0
    return 1 - float(values[1] / values[0]) if values.numel() > 1 else 1.0


def channel_mask(pattern: Pattern, window: int = 1) -> Tensor:
    """Which outputs see which input channels: bool (M, K / window).

    - window: area of a convolution's kernel; a channel is seen if any of its weights may be non-zero.
    """
    rows, columns = pattern.shape
    if columns % window:
        raise ValueError(f"a window of {window} does not divide the {columns} columns")
    return pattern.mask().view(rows, columns // window, window).any(2)


def path_counts(masks: Sequence[Tensor]) -> Tensor:
    """Number of paths through consecutive layers, float64 (outputs of the last, inputs of the first).

    - masks: bool (outputs, inputs) of each layer, in the order of the data's way.

    Raises ValueError where a layer's inputs are not as many as the outputs before it, or without layers.
    """
    if not masks:
        raise ValueError("there are no masks, expected one layer at least")
    found = masks[0].double()
    for number, mask in enumerate(masks[1:], 1):
        if mask.shape[1] != found.shape[0]:
            raise ValueError(
                f"layer {number} has {mask.shape[1]} inputs, expected {found.shape[0]}, the outputs before it"
            )
        found = mask.double() @ found
    return found


def connectivity(layers: Sequence[tuple[Pattern, int]]) -> dict[str, float]:
    """Metrics of a net's sparse layers, in the order of the data's way.

    - layers: (pattern, kernel area) of each.

    Returns spectral_gap (the layers' mean) and smallest_gap; for a chain of layers also path_share, the share of
    (input, output) channel pairs that a path connects, and path_spread, the standard deviation of the number of
    paths of a pair over its mean (0 where all pairs have equally many). Layers that are no chain (shortcuts,
    layers in between) have the gaps only. Empty without layers.
    """
    if not layers:
        return {}
    gaps = [spectral_gap(pattern) for pattern, _ in layers]
    found = {"spectral_gap": math.fsum(gaps) / len(gaps), "smallest_gap": min(gaps)}
    masks = [channel_mask(pattern, window) for pattern, window in layers]
    if all(after.shape[1] == before.shape[0] for before, after in itertools.pairwise(masks)):
        counts = path_counts(masks)
        found["path_share"] = float((counts > 0).double().mean())
        found["path_spread"] = float(counts.std(correction=0) / counts.mean().clamp(min=1e-300))
    return found


def sparse_layers(model: nn.Module, pruned: Mapping[str, Pattern] | None = None) -> list[tuple[Pattern, int]]:
    """The patterns of a model's sparse layers, in the model's order, with their kernel areas, for `connectivity`.

    - pruned: patterns of dense layers by name, as of GradualPruning.patterns; block-sparse layers have their own.
    """
    found = []
    for name, module in model.named_modules():
        pattern = module.pattern if isinstance(module, BlockSparse) else (pruned or {}).get(name)
        if pattern is not None:
            window = module.kernel_size if isinstance(module, BlockSparseConv2d | nn.Conv2d) else (1, 1)
            found.append((pattern, math.prod(window)))
    return found


class Connected(Hook):
    """Reports the connectivity of a run's sparse layers beside its metrics, after every epoch.

    - pruned: the patterns of dense layers that are pruned, asked anew every time (GradualPruning.patterns).

    Columns: those of `connectivity`.
    """

    def __init__(self, pruned: Callable[[], Mapping[str, Pattern]] = dict) -> None:
        self.pruned = pruned

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Keep the model."""
        self.model = model

    def epoch_end(self, epoch: int) -> dict[str, float]:
        """The columns."""
        return connectivity(sparse_layers(self.model, self.pruned()))
