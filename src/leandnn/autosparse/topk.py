"""Top-K: the largest weights of every layer are in use, a fixed share; the others train on out of sight.

With annealing (α from 1 to 0) this is the AutoSparse authors' Top-K variant; without, gradients pass to masked
weights as they are. Top-KAST (Jayakumar et al. 2021, arXiv 2106.03517) restricts them to a larger set B.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from leandnn.autosparse import annealing, layers
from leandnn.autosparse.flops import StepDensities
from leandnn.autosparse.masks import top
from leandnn.train.task import Hook


class Gate(nn.Module):
    """The parametrisation of one weight: W inside the mask; the gradient of the rest times α, within B."""

    mask: Tensor
    reached: Tensor

    def __init__(self, weight: Tensor, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))
        self.register_buffer("reached", torch.ones_like(weight, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        """W inside the mask."""
        out: Tensor = _Gated.apply(weight, self.mask, self.reached, self.alpha)  # type: ignore[no-untyped-call]
        return out


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, mask: Tensor, reached: Tensor, alpha: float) -> Tensor:
        ctx.save_for_backward(mask, reached)
        ctx.alpha = alpha
        return weight * mask

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        mask, reached = ctx.saved_tensors
        (gradient,) = gradients
        return torch.where(mask, gradient, gradient * (ctx.alpha * reached)), None, None, None


class TopK(Hook):
    """Uses the largest weights of every layer.

    - density: share in use (set A); explored: share whose gradients are made (set B); 1 for all.
    - alpha, schedule, zero_from: on gradients outside A, as in method.Options.
    - every: updates between two selections (Top-KAST: 100).
    - exclude: names of layers that stay dense.
    - topkast_decay: None, or the optimizer's weight decay, which then acts as Top-KAST's exploration loss: in A
      as it is, in B without A divided by the density, outside B not at all.
    """

    def __init__(
        self,
        density: float,
        *,
        explored: float = 1.0,
        alpha: float = 1.0,
        schedule: str = "sigmoid_cosine",
        zero_from: float | None = 0.9,
        every: int = 10,
        exclude: tuple[str, ...] = (),
        topkast_decay: float | None = None,
    ) -> None:
        annealing.factor(schedule, 0.0, zero_from)
        if not 0 < density <= explored <= 1 or every < 1 or not 0 <= alpha <= 1:
            raise ValueError(
                f"density is {density}, explored {explored}, every {every}, alpha {alpha}, expected "
                "0 < density ≤ explored ≤ 1, every ≥ 1 and alpha in [0, 1]"
            )
        self.density, self.explored, self.every, self.exclude = density, explored, every, exclude
        self.alpha, self.schedule, self.zero_from = alpha, schedule, zero_from
        self.topkast_decay = topkast_decay
        self.updates = 0
        self.gates: dict[str, Gate] = {}

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put the gates on and make the first selection."""
        alpha = self.alpha * annealing.factor(self.schedule, 0.0, self.zero_from)
        self.layers = layers.choose(model, self.exclude)
        for name, layer in self.layers.items():
            self.gates[name] = Gate(layer.get_parameter("weight").detach(), alpha)
            parametrize.register_parametrization(layer, "weight", self.gates[name])
        self._select()
        self._used = self._current

    def before_update(self, progress: float) -> None:
        """Make the weight decay Top-KAST's, if asked for."""
        if self.topkast_decay is None:
            return
        for name, gate in self.gates.items():
            weight = self._weight(name)
            if weight.grad is not None:
                inside = gate.mask + (gate.reached & ~gate.mask) / self.density
                weight.grad.add_(self.topkast_decay * (inside - 1) * weight.detach())

    def after_update(self, progress: float) -> None:
        """Set α; select anew if it is time."""
        self._used = self._current
        self._set_alpha(self.alpha * annealing.factor(self.schedule, progress, self.zero_from))
        self.updates += 1
        if self.updates % self.every == 0:
            self._select()

    def step(self) -> StepDensities:
        """Densities of the update just made."""
        return self._used

    def densities(self) -> dict[str, float]:
        """Share of the weights in use, by layer."""
        return {name: int(gate.mask.sum()) / gate.mask.numel() for name, gate in self.gates.items()}

    def epoch_end(self, epoch: int) -> dict[str, float]:
        """α."""
        return {"alpha": self._alpha}

    def state_dict(self) -> dict[str, Any]:
        """Count and α; the selections are buffers of the model."""
        return {"updates": self.updates, "alpha": self._alpha}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        self.updates = state["updates"]
        self._set_alpha(state["alpha"])
        self._note()
        self._used = self._current

    @property
    def _alpha(self) -> float:
        return next(iter(self.gates.values())).alpha

    def _weight(self, name: str) -> nn.Parameter:
        return self.layers[name].get_parameter("parametrizations.weight.original")

    def _set_alpha(self, alpha: float) -> None:
        ends = self._alpha > 0 and alpha == 0
        for gate in self.gates.values():
            gate.alpha = alpha
        if ends:
            self._note()

    @torch.no_grad()
    def _select(self) -> None:
        for name, gate in self.gates.items():
            size = self._weight(name).abs()
            gate.mask.copy_(top(size, max(1, round(self.density * size.numel()))))
            if self.explored < 1:
                gate.reached.copy_(top(size, max(1, round(self.explored * size.numel()))))
        self._note()

    def _note(self) -> None:
        """Densities from now on."""
        weights = self.densities()
        reached = weights if self._alpha == 0 else dict.fromkeys(weights, self.explored)
        self._current = StepDensities(weights, reached)
