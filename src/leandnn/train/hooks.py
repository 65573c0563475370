"""Hooks that belong to recipes, not to a paper's method: Lookahead, and parameters that stop training."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from leandnn.errors import LeandnnError
from leandnn.train.task import Hook


class Lookahead(Hook):
    """Slow weights that follow the trained ones and take their place every few updates, and after each epoch.

        slow ← ρ slow + (1 − ρ) trained,    trained ← slow,    ρ = decay^updates · (share of training done)³

    So training is nearly free at first and averages over many updates at its end. Running statistics of batch
    norms are averaged alike. A trained weight that is exactly 0 was pruned and leaves the slow weights at once;
    hooks that prune come after this one.

    - every: updates from one exchange to the next (fewer before an epoch's end, so that none is lost there).
    - decay: of the slow weights' past, per update.

    Source: Zhang et al. 2019 (arXiv 1907.08610), with the schedule of Jordan 2024 (arXiv 2404.00498).
    LeandnnError for other than every ≥ 1 and 0 ≤ decay < 1.
    """

    def __init__(self, every: int = 5, decay: float = 0.95) -> None:
        if every < 1 or not 0 <= decay < 1:
            raise LeandnnError(
                f"Lookahead has every {every} and decay {decay}, expected 1 or more and 0 ≤ decay < 1"
            )
        self.every, self.decay = every, decay
        self.updates, self.progress = 0, 0.0  # since the last exchange; of training
        self.trained: dict[str, Tensor] = {}
        self.slow: dict[str, Tensor] = {}

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Find what is trained, and begin with it."""
        self.trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        for name, buffer in model.named_buffers():
            if name.rpartition(".")[2] in ("running_mean", "running_var"):
                self.trained[name] = buffer
        self.slow = {name: tensor.clone() for name, tensor in self.trained.items()}

    def after_update(self, progress: float) -> None:
        """Exchange, if it is time."""
        self.updates, self.progress = self.updates + 1, progress
        if self.updates == self.every:
            self._exchange()

    def epoch_trained(self) -> None:
        """Exchange, so that the slow weights are judged."""
        if self.updates:
            self._exchange()

    def _exchange(self) -> None:
        kept = self.decay**self.updates * self.progress**3
        for name, trained in self.trained.items():
            slow = self.slow[name].lerp_(trained, 1 - kept).mul_(trained != 0)
            trained.copy_(slow)
        self.updates = 0

    def state_dict(self) -> dict[str, Any]:
        """The slow weights, and where the exchange stands."""
        return {"updates": self.updates, "progress": self.progress, "slow": self.slow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        self.updates, self.progress = state["updates"], state["progress"]
        for name, slow in self.slow.items():
            slow.copy_(state["slow"][name])


class Freeze(Hook):
    """Parameters that stop training after a share of it.

    - names: of parameters, "*" stands for any characters; after: the share, in [0, 1].

    LeandnnError for another share, and where no trained parameter has such a name.
    """

    def __init__(self, names: str, after: float) -> None:
        if not 0 <= after <= 1:
            raise LeandnnError(f"{names} stops after {after} of training, expected a share in [0, 1]")
        self.names, self.after = names, after
        self.parameters: list[nn.Parameter] = []

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Find the parameters."""
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.parameters = [p for name, p in trained.items() if fnmatchcase(name, self.names)]
        if not self.parameters:
            raise LeandnnError(
                f"{self.names!r} should stop training, but the trained parameters are {', '.join(trained)}"
            )

    def before_update(self, progress: float) -> None:
        """Stop, if it is time: without a gradient the optimizer leaves a parameter alone, momentum included."""
        if progress >= self.after:
            for parameter in self.parameters:
                parameter.requires_grad_(False)
                parameter.grad = None
