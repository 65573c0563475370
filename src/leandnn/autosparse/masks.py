"""Sparse from the first step: masks that a method changes now and then, weights outside them zero. MEST, RigL."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from leandnn.autosparse import layers
from leandnn.autosparse.allocation import Shapes
from leandnn.autosparse.flops import StepDensities
from leandnn.train.task import Hook


class Masked(Hook):
    """Random masks of fixed densities; with `mutate` left as it is here, a static sparse net.

    - allocate: the density of each layer, from the shapes of the weights by name (see allocation).
    - seed: of the masks and whatever else is drawn.
    - exclude: names of layers that stay dense (see layers.choose).

    A mask's weights are zero outside it after every update and get no gradient there.
    """

    def __init__(
        self, allocate: Callable[[Shapes], Mapping[str, float]], *, seed: int, exclude: tuple[str, ...] = ()
    ) -> None:
        self.allocate, self.seed, self.exclude = allocate, seed, exclude
        self.updates = 0
        self.weights: dict[str, nn.Parameter] = {}
        self.masks: dict[str, Tensor] = {}

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Draw the masks."""
        self.optimizer = optimizer
        chosen = layers.choose(model, self.exclude)
        self.weights = {name: layer.get_parameter("weight") for name, layer in chosen.items()}
        densities = self.allocate({name: tuple(w.shape) for name, w in self.weights.items()})
        self.counts = {name: max(1, round(densities[name] * w.numel())) for name, w in self.weights.items()}
        for name in self.weights:
            self.masks[name] = top(self.draw(name, 0), self.counts[name])
        self._zero()
        self._used = self._current = self._now()

    def before_update(self, progress: float) -> None:
        """Change the masks if it is time; keep gradients inside them."""
        self._used = self._current
        if self.mutate(progress):
            self._current = self._now()
        for name, weight in self.weights.items():
            if weight.grad is not None:
                weight.grad.mul_(self.masks[name])

    def mutate(self, progress: float) -> bool:
        """What a method does before an update; returns whether masks changed."""
        return False

    def after_update(self, progress: float) -> None:
        """Undo what momentum did outside the masks."""
        self._zero()
        self.updates += 1

    def draw(self, name: str, event: int) -> Tensor:
        """Uniform numbers shaped like a layer's weight, a function of (seed, layer, event), on its device."""
        weight, index = self.weights[name], list(self.weights).index(name)
        mixed = np.random.SeedSequence(self.seed, spawn_key=(index, event)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(mixed[0]))
        return torch.rand(weight.shape, generator=generator).to(weight.device)

    def begin_at(self, name: str, new: Tensor, mask: Tensor) -> None:
        """Set a layer's mask; weights and optimizer state at `new` places start from zero."""
        weight = self.weights[name]
        self.masks[name] = mask
        with torch.no_grad():
            weight.mul_(~new)
            for value in self.optimizer.state.get(weight, {}).values():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    value.mul_(~new)

    def step(self) -> StepDensities:
        """Densities of the update just made."""
        return self._used

    def densities(self) -> dict[str, float]:
        """Share of the weights inside the masks now, by layer."""
        return {name: int(mask.sum()) / mask.numel() for name, mask in self.masks.items()}

    def state_dict(self) -> dict[str, Any]:
        """Masks and count."""
        return {"updates": self.updates, "masks": self.masks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        self.updates = state["updates"]
        self.masks = {name: mask.to(self.weights[name].device) for name, mask in state["masks"].items()}
        self._used = self._current = self._now()

    def _now(self) -> StepDensities:
        """Everything inside the masks: forward, data gradient, weight gradient."""
        densities = self.densities()
        return StepDensities(densities, densities)

    @torch.no_grad()
    def _zero(self) -> None:
        for name, weight in self.weights.items():
            weight.mul_(self.masks[name])


def top(scores: Tensor, count: int) -> Tensor:
    """A mask of the `count` highest scores."""
    mask = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    mask[scores.flatten().topk(count).indices] = True
    return mask.view(scores.shape)


class RigL(Masked):
    """Drop the smallest weights, grow where the dense gradient is largest (Evci et al. 2020, arXiv 1911.11134).

    - interval: ΔT, updates between two changes; in place of a change's update no weight moves, as published.
    - drop: share of a layer's non-zeros that the first change drops; a cosine takes it to 0 at `until`.
    - until: share of the training after which masks stay.

    Grown weights start from zero, with zero momentum; a weight that is dropped may be grown again at once and
    then stays as it was.
    """

    def __init__(
        self,
        allocate: Callable[[Shapes], Mapping[str, float]],
        *,
        seed: int,
        exclude: tuple[str, ...] = (),
        interval: int = 100,
        drop: float = 0.3,
        until: float = 0.75,
    ) -> None:
        if interval < 1 or not 0 < drop < 1 or not 0 < until <= 1:
            raise ValueError(
                f"interval is {interval}, drop {drop}, until {until}, expected interval ≥ 1, drop in (0, 1), "
                "until in (0, 1]"
            )
        super().__init__(allocate, seed=seed, exclude=exclude)
        self.interval, self.drop, self.until = interval, drop, until

    def share(self, progress: float) -> float:
        """Share of the non-zeros that a change drops."""
        return 0.5 * self.drop * (1 + math.cos(math.pi * min(1.0, progress / self.until)))

    def mutate(self, progress: float) -> bool:
        """Every `interval` updates, change the masks instead of the weights."""
        if self.updates == 0 or self.updates % self.interval or progress > self.until:
            return False
        for name, weight in self.weights.items():
            gradient, mask = weight.grad, self.masks[name]
            if gradient is None:
                continue
            dropped = int(self.share(progress) * self.counts[name])
            held = top(weight.detach().abs().masked_fill(~mask, -1.0), self.counts[name] - dropped)
            grown = top(gradient.abs().masked_fill(held, -1.0), dropped)
            self.begin_at(name, grown & ~mask, held | grown)
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        self._used = StepDensities(
            self._current.weights
        )  # this update needed every entry of the weight gradients
        return True


class Mest(Masked):
    """Elastic mutation and soft memory bound (MEST EM&S: Yuan et al. 2021, arXiv 2110.14032, and its code).

    In every round the masks are cut to their density by magnitude, then random places are added for the round, so
    that training explores with more weights than it may keep. What is added shrinks in steps to nothing.

    - rounds: rounds in a whole training; the public scripts change masks every 5 of 160 epochs.
    - extra: (share of training from which it holds, what is added, as a share of the density) in order; the
      scripts for 90 % add 5 points, then 2.5 from epoch 90 on, and nothing from 120 on, of 160.

    The scripts rank by magnitude alone; so does this. Added weights start from zero.
    """

    def __init__(
        self,
        allocate: Callable[[Shapes], Mapping[str, float]],
        *,
        seed: int,
        exclude: tuple[str, ...] = (),
        rounds: int = 32,
        extra: tuple[tuple[float, float], ...] = ((0.0, 0.5), (90 / 160, 0.25), (120 / 160, 0.0)),
    ) -> None:
        if rounds < 1 or not extra or extra[0][0] != 0 or list(extra) != sorted(extra, key=lambda e: e[0]):
            raise ValueError(
                f"rounds is {rounds}, extra {extra}, expected rounds ≥ 1 and shares of training in order from 0"
            )
        super().__init__(allocate, seed=seed, exclude=exclude)
        self.rounds, self.extra, self.round = rounds, extra, -1

    def added(self, progress: float) -> float:
        """What is added now, as a share of the density."""
        return [share for start, share in self.extra if progress >= start][-1]

    def mutate(self, progress: float) -> bool:
        """At the start of a round, cut and add."""
        now = math.floor(progress * self.rounds + 1e-9)
        if now <= self.round:
            return False
        self.round = now
        for name, weight in self.weights.items():
            mask, count = self.masks[name], self.counts[name]
            held = top(weight.detach().abs().masked_fill(~mask, -1.0), count)
            wanted = min(round(count * self.added(progress)), mask.numel() - count)
            grown = top(self.draw(name, now + 1).masked_fill(held, -1.0), wanted)
            self.begin_at(name, grown & ~mask, held | grown)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Masks, count and round."""
        return {**super().state_dict(), "round": self.round}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        super().load_state_dict(state)
        self.round = state["round"]
