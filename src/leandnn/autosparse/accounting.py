"""What a run costs, kept in its history: sparsity, and the ledger integrated over training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn

from leandnn.autosparse import layers
from leandnn.autosparse.flops import Macs, StepDensities, dense_gradient, ledger
from leandnn.train.task import Hook

IMAGE = (3, 32, 32)


class Sparsifying(Protocol):
    """A method whose costs can be counted."""

    def step(self) -> StepDensities:
        """Densities of the update just made."""

    def densities(self) -> Mapping[str, float]:
        """Share of non-zero weights now, by layer, of the layers that the method makes sparse."""


class Accounting(Hook):
    """Counts a run's multiply-adds update by update; stands after the method's hook.

    - method: the hook of a sparse method; None for a dense net.
    - batch_size: examples in an update; input_shape: of one example.

    Columns:

    - sparsity: share of zeros over the weights of the method's layers.
    - inference_macs: a forward pass on one example, without the zeros that the weights have now.
    - train_macs: training so far: forward, data gradient and weight gradient, each without what it does not need;
      a weight gradient that is used everywhere is counted dense.
    - train_macs_formula: the same by 2 f_S + f_D, the published count for methods with a dense weight gradient,
      whether or not all of it was used.
    - density:<layer>: share of non-zero weights of each of the method's layers.
    """

    def __init__(
        self, method: Sparsifying | None, *, batch_size: int, input_shape: tuple[int, ...] = IMAGE
    ) -> None:
        self.method, self.batch_size, self.input_shape = method, batch_size, input_shape
        self.forward_sum = self.gradient_sum = 0.0
        self.updates = 0
        self.last: tuple[StepDensities, Macs] | None = None

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Count the model."""
        self.ledger = ledger(model, self.input_shape)
        self.sizes = {entry.name: entry.numel for entry in self.ledger.layers}

    def after_update(self, progress: float) -> None:
        """Add the update's multiply-adds."""
        step = StepDensities({}) if self.method is None else self.method.step()
        if (
            self.last is None or self.last[0] is not step
        ):  # methods return the same object while nothing changes
            self.last = step, self.ledger.step(step)
        self.forward_sum += self.last[1].forward
        self.gradient_sum += self.last[1].weight_gradient
        self.updates += 1

    def epoch_end(self, epoch: int) -> dict[str, float]:
        """The columns."""
        densities = {} if self.method is None else self.method.densities()
        return {
            "sparsity": layers.sparsity(densities, {n: self.sizes[n] for n in densities})
            if densities
            else 0.0,
            "inference_macs": round(self.ledger.forward(densities)),
            "train_macs": round(self.batch_size * (2 * self.forward_sum + self.gradient_sum)),
            "train_macs_formula": round(
                self.batch_size * dense_gradient(self.forward_sum, self.updates * self.ledger.forward_macs)
            ),
            **{f"density:{name}": share for name, share in densities.items()},
        }

    def state_dict(self) -> dict[str, Any]:
        """The sums."""
        return {"forward": self.forward_sum, "gradient": self.gradient_sum, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        self.forward_sum, self.gradient_sum = state["forward"], state["gradient"]
        self.updates = state["updates"]
