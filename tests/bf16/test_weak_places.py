"""What a contrast loses first: the place of the first infinity, of the most zeros, of the most updates lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from leandnn.bf16.arms import CONTRASTS, PAIR, Arm
from leandnn.bf16.weak_places import FIRST_SCALE, to_markdown, weak_places
from leandnn.train.task import Settings

SETTINGS = Settings(epochs=1, lr=1e-5, optimizer="sgd", momentum=0.0, nesterov=False, channels_last=False)


def arms(*names: str) -> dict[str, Arm]:
    return {name: (PAIR | CONTRASTS)[name] for name in names}


class Regression:
    """Two layers whose targets have a size of one's own choice: so have the loss and its gradients."""

    def __init__(self, size: float) -> None:
        self.size = size
        self.x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))

    def build(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))

    def steps_per_epoch(self) -> int:
        return 3

    def batches(self, epoch: int, start: int) -> Iterator[Any]:
        return iter([self.x] * (3 - start))

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        return (model(batch) * self.size).mean()

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {"test_size": float(model(self.x).abs().mean())}

    def worst(self) -> dict[str, float]:
        return {"test_size": 0.0}


def test_gradients_too_small_for_fp16_are_found_and_saved():
    plain, scaled = weak_places(Regression(1e-7), SETTINGS, arms("fp16", "fp16-loss-scaling"))
    assert plain.to_zero is not None
    assert (plain.to_zero.module, plain.to_zero.tensor, plain.to_zero.stage) == ("model.1", "dy", "backward")
    assert plain.to_zero.zeros == plain.to_zero.values == 8
    assert scaled.to_zero is None
    assert plain.first_non_finite is scaled.first_non_finite is plain.stalled is None
    assert "| fp16 | none | dy of 1 (linear, backward): 100.0% |" in to_markdown([plain])


def test_gradients_too_large_for_fp16_are_named():
    size = 16 * 65504.0 / FIRST_SCALE  # scaled, each of the eight gets twice FP16's largest number
    plain, scaled = weak_places(Regression(size), SETTINGS, arms("fp16", "fp16-loss-scaling"))
    assert plain.first_non_finite is None
    assert scaled.first_non_finite is not None
    assert (scaled.first_non_finite.module, scaled.first_non_finite.tensor) == ("model.1", "dy")


def test_parameters_that_lose_small_updates_are_named():
    bf16, none = weak_places(Regression(1.0), SETTINGS, arms("bf16", "no-master"))
    assert bf16.stalled is None
    assert none.stalled is not None
    name, share = none.stalled
    assert name in {"0.weight", "1.weight", "0.bias", "1.bias"}
    assert share == 1.0  # a learning rate of 1e-5 moves no weight by half a unit of its last place
    assert to_markdown([none]).endswith(f"| {name}: 100% |")
