"""AutoSparse (and with α = 0 STR, and DST) in the training loop, and what is seen of it while it trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from leandnn.autosparse.flops import Step
from leandnn.autosparse.layers import sparsity
from leandnn.autosparse.method import AutoSparse, Options
from leandnn.train.task import Hook


class Learned(Hook):
    """Learned thresholds on the loop's model.

    - options: of AutoSparse.

    Columns: alpha; threshold_low, threshold_high (of all thresholds); masked_gradient (share of the weight
    gradient's norm that lies on masked weights, of the last update looked at); returned and fell (share of the
    weights that between the last two looks moved over, or under, the threshold of the first: by their own motion,
    not the threshold's); at_floor (layers held at their floor).
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.masked_gradient = self.returned = self.fell = 0.0

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put the thresholds on, and give them to the optimizer."""
        self.sparse = AutoSparse(model, self.options)
        optimizer.add_param_group({"params": self.sparse.parameters(), "weight_decay": self.options.decay})
        self._used = self._current = self._now()
        self._levels = self._thresholds()

    def before_update(self, progress: float) -> None:
        """Add DST's penalty; see what reaches masked weights."""
        self.sparse.add_penalty()
        if (self.sparse.updates + 1) % self.options.every == 0:
            self._see_gradients()

    def after_update(self, progress: float) -> None:
        """Set α, enforce target and floors."""
        self._used, alpha, before = self._current, self.sparse.alpha, self.sparse.kept
        self.sparse.update(progress)
        looked = self.sparse.kept is not before
        if looked:
            self._see_moves(before)
            self._levels = self._thresholds()
        if looked or (alpha > 0 and self.sparse.alpha == 0):
            self._current = self._now()

    def step(self) -> Step:
        """Densities of the update just made (of the last look before it)."""
        return self._used

    def densities(self) -> dict[str, float]:
        """Share of non-zero weights now, by layer."""
        return self.sparse.densities()

    def epoch_end(self, epoch: int) -> dict[str, float]:
        """The columns."""
        thresholds = torch.cat([gate.threshold().flatten() for gate in self.sparse.gates.values()])
        traced = self.traced()
        del traced["sparsity_seen"]  # Accounting counts it exactly
        return {
            **traced,
            "threshold_low": float(thresholds.min()),
            "threshold_high": float(thresholds.max()),
            "at_floor": float(len(self.sparse.at_floor)),
        }

    def traced(self) -> dict[str, float]:
        """What changes from look to look: the trace's columns."""
        sizes = {name: mask.numel() for name, mask in self.sparse.kept.items()}
        return {
            "alpha": self.sparse.alpha,
            "sparsity_seen": sparsity(self.sparse.seen, sizes),
            "masked_gradient": self.masked_gradient,
            "returned": self.returned,
            "fell": self.fell,
        }

    def state_dict(self) -> dict[str, Any]:
        """The method's state, and what was seen last."""
        seen = {k: getattr(self, k) for k in ("masked_gradient", "returned", "fell")}
        return {"sparse": self.sparse.state_dict(), "seen": seen, "levels": self._levels}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict; the model's state is loaded beforehand."""
        self.sparse.load_state_dict(state["sparse"])
        for name, value in state["seen"].items():
            setattr(self, name, value)
        self._levels = {name: level.to(self._levels[name].device) for name, level in state["levels"].items()}
        self._used = self._current = self._now()

    def _now(self) -> Step:
        """What the next update uses: weights as seen last; gradients dense while anything reaches masked weights."""
        options, seen = self.options, self.sparse.seen
        reached = 1 - options.backward_sparsity
        if self.sparse.alpha == 0 and options.annealed:
            return Step(seen, {name: min(share, reached) for name, share in seen.items()})
        return Step(seen, dict.fromkeys(seen, reached) if reached < 1 else None)

    @torch.no_grad()
    def _see_gradients(self) -> None:
        masked = total = 0.0
        for name, layer in self.sparse.layers.items():
            gradient = self.sparse.original(name).grad
            if gradient is not None:
                square = gradient.square()
                total += float(square.sum())
                masked += float((square * (layer.weight == 0)).sum())
        self.masked_gradient = (masked / total) ** 0.5 if total else 0.0

    def _thresholds(self) -> dict[str, Tensor]:
        return {name: gate.threshold().clone() for name, gate in self.sparse.gates.items()}

    @torch.no_grad()
    def _see_moves(self, before: Mapping[str, Tensor]) -> None:
        over = {n: (self.sparse.original(n).abs() > level).flatten() for n, level in self._levels.items()}
        numbers = sum(mask.numel() for mask in before.values())
        self.returned = sum(int((over[n] & ~kept).sum()) for n, kept in before.items()) / numbers
        self.fell = sum(int((kept & ~over[n]).sum()) for n, kept in before.items()) / numbers
