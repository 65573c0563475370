"""Gradual pruning in the training loop: masks that grow by Zhu and Gupta's schedule while the net trains on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from leandnn.blocksparse.layers import BlockSparse
from leandnn.blocksparse.pattern import Pattern, Size
from leandnn.blocksparse.saliency import keep_top, weight_scores
from leandnn.train.task import Hook

Select = Callable[[Tensor, float], Pattern]
"""A layer's weight, with its gradient, and how far pruning is, in (0, 1] → the pattern of the survivors."""


def cubic(final: float, share: float) -> float:
    """Sparsity when `share` (0 to 1) of the pruning is done: final · (1 − (1 − share)³).

    Zhu and Gupta 2017 (arXiv 1710.01878), equation 1, from a dense start: most is pruned early, when much is
    redundant.
    """
    return final * (1 - (1 - share) ** 3)


def prunable(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that are pruned, by name: every convolution and linear layer but the first and the last one.

    Those two hold few weights and are dense in all our comparisons. Block-sparse layers count too.
    """
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear | BlockSparse)
    ]
    return dict(found[1:-1])


def unstructured(sparsity: float, saliency: str = "l1") -> Select:
    """Single weights: of every layer the same share, those of the highest scores (saliency.weight_scores)."""

    def select(weight: Tensor, share: float) -> Pattern:
        scores = weight_scores(weight, saliency, gradient=weight.grad)
        count = max(1, round((1 - cubic(sparsity, share)) * scores.numel()))
        return Pattern.unstructured(keep_top(scores.numpy().reshape(1, -1), count).reshape(scores.shape))

    return select


def blocks(block: Size, sparsity: float, saliency: str = "l1") -> Select:
    """Blocks of (height, width) of weight.flatten(1): of every layer the same share, by the sum of their scores.

    What it returns raises ValueError for a layer that such blocks do not divide.
    """

    def select(weight: Tensor, share: float) -> Pattern:
        scores = weight_scores(weight, saliency, gradient=weight.grad)
        (rows, columns), (height, width) = scores.shape, block
        if rows % height or columns % width:
            raise ValueError(f"blocks of {block} do not divide the {rows} × {columns} weight")
        sums = scores.view(rows // height, height, columns // width, width).sum((1, 3)).numpy()
        count = max(1, round((1 - cubic(sparsity, share)) * sums.size))
        return Pattern.blocks(keep_top(sums.reshape(1, -1), count).reshape(sums.shape), block)

    return select


class GradualPruning(Hook):
    """Prunes layers step by step while they train; what is pruned stays zero.

    - select: which weights survive; called with each layer's weight `times` times.
    - layers: names of the layers, those of `prunable` if None.
    - start, end: shares of training; pruning `i` of `times` comes at the first update from
      start + (end − start) · i / times on. The survivors train on after `end`, so a run must have an update then.

    Weights outside the masks are set to zero and get no gradient, so that dense layers compute what sparse
    ones would.

    Raises ValueError for other than 0 ≤ start < end < 1 and times ≥ 1; attach does for a layer the model does
    not have.
    """

    def __init__(
        self,
        select: Select,
        *,
        layers: tuple[str, ...] | None = None,
        start: float = 0.1,
        end: float = 0.6,
        times: int = 20,
    ) -> None:
        if not (0 <= start < end < 1 and times >= 1):
            raise ValueError(
                f"pruning goes {times} times from {start} to {end} of training, expected at least once "
                "and 0 ≤ start < end < 1"
            )
        self.select, self.layers = select, layers
        self.start, self.end, self.times = start, end, times
        self.done = 0
        self.patterns: dict[str, Pattern] = {}
        self._weights: dict[str, nn.Parameter] = {}
        self._masks: dict[str, Tensor] = {}

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Find the layers."""
        modules = dict(model.named_modules()) if self.layers is not None else prunable(model)
        names = modules if self.layers is None else self.layers
        if missing := [name for name in names if not isinstance(modules.get(name), nn.Conv2d | nn.Linear)]:
            raise ValueError(f"the model has no dense layer {', '.join(missing)} to prune")
        self._weights = {name: modules[name].get_parameter("weight") for name in names}

    def before_update(self, progress: float) -> None:
        """Prune, if it is time, and keep gradients inside the masks."""
        passed = (progress - self.start) / (self.end - self.start)
        due = min(self.times, math.floor(passed * self.times + 1e-9))
        if due > self.done:
            self.done = due
            for name, weight in self._weights.items():
                self._set(name, self.select(weight, due / self.times))
            self._zero_pruned()
        for name, mask in self._masks.items():
            gradient = self._weights[name].grad
            if gradient is not None:
                gradient.mul_(mask)

    def after_update(self, progress: float) -> None:
        """Undo what momentum did to pruned weights."""
        self._zero_pruned()

    def state_dict(self) -> dict[str, Any]:
        """How often was pruned, and the patterns."""
        return {
            "done": self.done,
            "patterns": {name: pattern.to_state() for name, pattern in self.patterns.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        self.done = state["done"]
        for name, saved in state["patterns"].items():
            self._set(name, Pattern.from_state(saved))

    def _set(self, name: str, pattern: Pattern) -> None:
        weight = self._weights[name]
        self.patterns[name] = pattern
        self._masks[name] = torch.empty_like(weight, requires_grad=False).copy_(
            pattern.mask().reshape(weight.shape)
        )

    @torch.no_grad()
    def _zero_pruned(self) -> None:
        for name, mask in self._masks.items():
            self._weights[name].mul_(mask)
