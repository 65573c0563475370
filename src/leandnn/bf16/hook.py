"""What the training loop is given to run under a policy."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from leandnn.bf16.emulate import emulate, exempt_modules
from leandnn.bf16.policy import Policy
from leandnn.bf16.update import MasterWeights
from leandnn.train.task import Hook


class Emulation(Hook):
    """Runs every forward pass of the loop, in training and in evaluation, under a policy.

    Under a policy that rounds the master weights they are rounded as training begins and after each update,
    and the history gains `lost_updates`: of all numbers that the optimizer has changed so far, the share
    which rounding set back.

    - seed: takes the place of the policy's, e.g. the run's own. The random bits of the stochastic modes are
      a function of it and of how many passes and updates were made, so a resumed run draws the same.
    """

    def __init__(self, policy: Policy, seed: int | None = None) -> None:
        self.policy = policy if seed is None else dataclasses.replace(policy, seed=seed)
        self.passes = self.updates = 0
        self.master: MasterWeights | None = None

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Round the master weights, if the policy says so."""
        rounding = self.policy.master_weights
        if rounding is not None:
            exempt = {p for module in exempt_modules(model, self.policy) for p in module.parameters()}
            trained = {n: p for n, p in model.named_parameters() if p.requires_grad and p not in exempt}
            self.master = MasterWeights(trained, rounding, self.policy.seed)

    def forward(self, model: nn.Module) -> AbstractContextManager[Any]:
        """The emulation around one forward pass, or around one evaluation."""
        self.passes += 1
        return emulate(model, self.policy, step=self.passes - 1)

    def before_update(self, progress: float) -> None:
        """Remember the weights, to know what rounding will lose."""
        if self.master is not None:
            self.master.keep()

    def after_update(self, progress: float) -> None:
        """Round the master weights, if the policy says so."""
        if self.master is not None:
            self.master.round(self.updates)
        self.updates += 1

    def epoch_end(self, epoch: int) -> dict[str, float]:
        """The share of lost updates, for a policy that can lose some."""
        if self.master is None:
            return {}
        return {"lost_updates": sum(self.master.lost.values()) / max(1, sum(self.master.changed.values()))}

    def state_dict(self) -> dict[str, Any]:
        """Passes and updates made, and the counts of lost updates."""
        master = self.master
        counts = {} if master is None else {"lost": dict(master.lost), "changed": dict(master.changed)}
        return {"passes": self.passes, "updates": self.updates, **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        self.passes, self.updates = state["passes"], state["updates"]
        if self.master is not None:
            self.master.lost, self.master.changed = dict(state["lost"]), dict(state["changed"])
