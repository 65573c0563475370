"""AutoSparse: thresholds that are learned, under which gradients are annealed. DST's thresholds, annealed, too."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from leandnn.autosparse import annealing, layers, target
from leandnn.autosparse.thresholds import soft_threshold, step_threshold
from leandnn.errors import LeandnnError


@dataclass(frozen=True)
class Options:
    """How AutoSparse is applied.

    - alpha: α0, the factor on the gradients of masked weights at the start; schedule: how it decays (see
      annealing.SCHEDULES); zero_from: share of the training from which it is 0, None for never.
    - threshold: "soft" (AutoSparse, STR) or "step" (DST).
    - annealed: False for DST's thresholds as published; "soft" ones are annealed always (STR is α0 = 0).
    - per: one threshold per "layer" or per output "channel".
    - init: s at the start (T = sigmoid(s)), or t for "step"; None for -5, or 0.
    - decay: weight decay on s or t: STR's way to sparsity.
    - penalty: of DST's loss term penalty · Σ exp(−t), for "step".
    - backward_sparsity: see thresholds.soft_threshold.
    - exclude: names of layers that stay dense (see layers.choose).
    - target: the share of zeros to end with, over all layers with thresholds; None leaves it to the training. All
      thresholds are then shifted together (the differences between layers stay learned) so that the sparsity
      follows a cubic ramp which reaches the target at `reached` of the training.
    - every: updates between two looks at the sparsity, at which the target and the floors are enforced.

    Raises ValueError for a value outside its range.
    """

    alpha: float = 0.5
    schedule: str = "sigmoid_cosine"
    zero_from: float | None = 0.9
    threshold: Literal["soft", "step"] = "soft"
    annealed: bool = True
    per: Literal["layer", "channel"] = "layer"
    init: float | None = None
    decay: float = 0.0
    penalty: float = 0.0
    backward_sparsity: float = 0.0
    exclude: tuple[str, ...] = ()
    target: float | None = None
    reached: float = 0.5
    every: int = 10

    def __post_init__(self) -> None:
        annealing.factor(self.schedule, 0.0, self.zero_from)  # refuses what it does not know
        for name, value, high in (
            ("alpha", self.alpha, 1.0),
            ("backward_sparsity", self.backward_sparsity, 0.99),
            ("reached", self.reached, 1.0),
        ):
            if not 0 <= value <= high:
                raise ValueError(f"{name} is {value}, expected a value in [0, {high:g}]")
        if self.every < 1 or not math.isfinite(self.start) or min(self.decay, self.penalty) < 0:
            raise ValueError(
                f"every is {self.every}, init {self.init}, decay {self.decay}, penalty {self.penalty}, expected "
                "every ≥ 1, a finite init, and no negative decay or penalty"
            )
        if not self.annealed and self.threshold == "soft":
            raise ValueError(
                "annealed is False with soft thresholds, expected alpha = 0 instead: that is STR"
            )
        if self.backward_sparsity and self.threshold == "step":
            raise ValueError("backward_sparsity is set with step thresholds, expected soft ones")

    @property
    def start(self) -> float:
        """The thresholds' parameter before training."""
        if self.init is not None:
            return self.init
        return -5.0 if self.threshold == "soft" else 0.0


class Thresholded(nn.Module):
    """The parametrisation of one weight: from W to W̃. Holds the learned score (s or t) and α."""

    shift: Tensor

    def __init__(self, weight: Tensor, options: Options) -> None:
        super().__init__()
        shape = layers.per_row(weight) if options.per == "channel" else (1,)
        self.options, self.alpha = options, options.alpha * annealing.factor(options.schedule, 0.0)
        self.frozen = False  # W̃ has become W, and stays as it is
        self.score = nn.Parameter(weight.new_full(shape, options.start))
        self.register_buffer("shift", weight.new_zeros(()))

    def shifted(self) -> Tensor:
        """The score that the threshold is made of: learned, plus the shift that a target asks for."""
        return self.score + self.shift

    def threshold(self) -> Tensor:
        """T, of the score's shape, without gradient."""
        score = self.shifted().detach()
        return torch.sigmoid(score) if self.options.threshold == "soft" else score

    def forward(self, weight: Tensor) -> Tensor:
        """W̃."""
        if self.frozen:
            return weight
        if self.options.threshold == "soft":
            return soft_threshold(weight, self.shifted(), self.alpha, self.options.backward_sparsity)
        return step_threshold(weight, self.shifted(), self.alpha if self.options.annealed else None)


class AutoSparse:
    """Learned thresholds on a model's layers. The model's weights are then W̃, its parameters W and the scores.

    - model: changed in place (torch.nn.utils.parametrize); `remove` makes it a plain one again.
    - options: see Options; keywords override single ones.

    In a training loop of one's own: give `parameters()` to the optimizer (their weight decay is
    options.decay), call `update(progress)` after every optimizer step, and `remove()` at the end. In this
    package's loop a hook does so (hooks.Learned).

    Raises ValueError for options or a target that the model does not allow.
    """

    def __init__(self, model: nn.Module, options: Options | None = None, **changes: Any) -> None:
        self.options = Options(**{**vars(options or Options()), **changes})
        self.model = model
        self.layers = layers.choose(model, self.options.exclude)
        sizes = [layer.weight.numel() for layer in self.layers.values()]
        if self.options.target is not None:
            target.check(self.options.target, sizes)
        self.gates: dict[str, Thresholded] = {}
        for name, layer in self.layers.items():
            gate = Thresholded(layer.weight.detach(), self.options)
            parametrize.register_parametrization(layer, "weight", gate)
            self.gates[name] = gate
        self.updates = 0
        self.at_floor: set[str] = set()
        self.began = self.sparsity()
        # At the last look: which weights are above the threshold (flat masks), and their share, by layer.
        self.kept: dict[str, Tensor] = {}
        self.seen: dict[str, float] = {}
        self._look(0.0, None)

    @property
    def alpha(self) -> float:
        """α now."""
        return next(iter(self.gates.values())).alpha

    def parameters(self) -> list[nn.Parameter]:
        """The scores, one per layer, for the optimizer."""
        return [gate.score for gate in self.gates.values()]

    def original(self, name: str) -> Tensor:
        """W of a layer (its parameter)."""
        return self.layers[name].get_parameter("parametrizations.weight.original")

    @torch.no_grad()
    def densities(self) -> dict[str, float]:
        """Share of non-zero weights, by layer."""
        counts = [torch.count_nonzero(layer.weight) for layer in self.layers.values()]
        numbers = torch.stack(counts).tolist()  # one wait for the device
        return {name: n / self.original(name).numel() for name, n in zip(self.layers, numbers, strict=True)}

    def sparsity(self) -> float:
        """Share of zeros over all layers with thresholds."""
        return layers.sparsity(self.densities(), {n: self.original(n).numel() for n in self.layers})

    def add_penalty(self) -> None:
        """Add the gradient of DST's penalty · Σ exp(−t) to the scores; between backward and optimizer step."""
        if self.options.penalty:
            for gate in self.gates.values():
                if gate.score.grad is not None:
                    gate.score.grad.sub_(self.options.penalty * torch.exp(-gate.shifted().detach()))

    def update(self, progress: float) -> None:
        """After an optimizer step: set α for the next, and enforce target and floors every few updates.

        - progress: share of the training done, in [0, 1].

        Raises LeandnnError, naming the layer, for a threshold that is not finite, and for a target that is out of
        reach. Warns once for each layer that is held at its floor.
        """
        alpha = self.options.alpha * annealing.factor(self.options.schedule, progress, self.options.zero_from)
        for gate in self.gates.values():
            gate.alpha = alpha
        self.updates += 1
        if self.updates % self.options.every == 0:
            self._check()
            self._look(progress, self.options.target)

    @torch.no_grad()
    def freeze(self) -> None:
        """Let W̃ be the parameters from now on: weights train on, without thresholds."""
        for name, gate in self.gates.items():
            self.original(name).copy_(self.layers[name].weight)
            gate.frozen = True

    def remove(self) -> nn.Module:
        """Leave W̃ as the layers' weights, without thresholds; the object is of no use afterwards."""
        for layer in self.layers.values():
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        return self.model

    def state_dict(self) -> dict[str, Any]:
        """What the model's own state does not hold."""
        return {
            "updates": self.updates,
            "alpha": self.alpha,
            "began": self.began,
            "at_floor": sorted(self.at_floor),
            "seen": self.seen,
            "kept": self.kept,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict; the model's state is loaded beforehand."""
        self.updates, self.began = state["updates"], state["began"]
        self.at_floor, self.seen = set(state["at_floor"]), state["seen"]
        self.kept = {name: mask.to(self.kept[name].device) for name, mask in state["kept"].items()}
        for gate in self.gates.values():
            gate.alpha = state["alpha"]

    def _check(self) -> None:
        finite = torch.stack([torch.isfinite(gate.score).all() for gate in self.gates.values()]).tolist()
        for (name, gate), good in zip(self.gates.items(), finite, strict=True):
            if not good:
                raise LeandnnError(
                    f"the threshold of layer {name} is not finite after {self.updates} updates (s = "
                    f"{gate.score.detach().flatten()[:3].tolist()}), expected finite numbers: lower the learning rate"
                )

    @torch.no_grad()
    def _look(self, progress: float, wanted: float | None) -> None:
        """Shift the thresholds to where the target wants them, hold the floors, and note which weights are kept."""
        soft = self.options.threshold == "soft"
        distances = {n: target.distances(self.original(n), g.score, soft) for n, g in self.gates.items()}
        shift = float(next(iter(self.gates.values())).shift)
        if wanted is not None:
            now = target.ramp(progress, self.began, wanted, self.options.reached)
            shift = target.shift_for(list(distances.values()), now)
            if not math.isfinite(shift):
                raise LeandnnError(
                    f"a sparsity of {now:.4%} cannot be reached after {self.updates} updates: more than {1 - now:.4%} "
                    "of the weights are 1 or larger, thresholds are below 1; lower the learning rate, or let the "
                    "target be reached later"
                )
            for gate in self.gates.values():
                gate.shift.fill_(shift)
        self.kept = {name: distance > shift for name, distance in distances.items()}
        counts = torch.stack([mask.sum() for mask in self.kept.values()]).tolist()  # one wait for the device
        for (name, mask), count in zip(self.kept.items(), counts, strict=True):
            least = target.kept_at_least(mask.numel())
            if count < least:
                self._hold(name, distances[name] - shift, least, count)
        self.seen = {
            name: max(count, target.kept_at_least(mask.numel())) / mask.numel()
            for (name, mask), count in zip(self.kept.items(), counts, strict=True)
        }

    def _hold(self, name: str, above: Tensor, least: int, count: int) -> None:
        """Lower a layer's scores so that its `least` largest weights are above the threshold."""
        lower = -above.topk(least).values[-1] + 1e-4
        self.gates[name].score.sub_(lower)
        self.kept[name] = above + lower > 0
        if name not in self.at_floor:
            self.at_floor.add(name)
            warnings.warn(
                f"{count} weights of layer {name} are above its threshold: it is held at {least} of {above.numel()}",
                stacklevel=4,
            )
