"""A small problem that sparse methods train on in under a second."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.train.task import Settings

SETTINGS = Settings(epochs=3, lr=0.1, weight_decay=1e-4, channels_last=False)


class Shapes:
    """Ten classes of noisy 8×8 patterns and a net of four layers."""

    def __init__(self, steps: int = 40) -> None:
        generator = torch.Generator().manual_seed(5)
        self.patterns = torch.randn(10, 3, 8, 8, generator=generator)
        self.steps = steps

    def build(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(64, 10),
        )

    def steps_per_epoch(self) -> int:
        return self.steps

    def batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        for i in range(start, self.steps):
            generator = torch.Generator().manual_seed(1000 * epoch + i)
            labels = torch.randint(10, (16,), generator=generator)
            yield self.patterns[labels] + torch.randn(16, 3, 8, 8, generator=generator), labels

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1])

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        x, y = next(self.batches(99, 0))
        return {"test_accuracy": float((model(x).argmax(1) == y).double().mean())}

    def worst(self) -> dict[str, float]:
        return {"test_accuracy": 0.1}


class Killed(Exception):
    """Stands for a SIGKILL."""


def killed_at(update: int):
    def progress(done: int, total: int, text: str) -> None:
        if done == update:
            raise Killed

    return progress
