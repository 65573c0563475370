"""What is run for paper 1. Hyper-parameters were chosen for FP32 and are used unchanged by every arm."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from torch import nn

from leandnn.bf16.emulate import emulate
from leandnn.bf16.policy import Policy
from leandnn.data import cifar
from leandnn.models.resnet_small import SmallResNet
from leandnn.params import TrainBudget
from leandnn.train.classification import Classification
from leandnn.train.study import Comparison, Trial
from leandnn.train.task import Hook, Settings

POLICIES = {"fp32": Policy.fp32(), "bf16": Policy.paper()}


class Emulation(Hook):
    """Runs every forward pass of the loop, in training and in evaluation, under a policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def forward(self, model: nn.Module) -> AbstractContextManager[Any]:
        """The emulation around one forward pass."""
        return emulate(model, self.policy)


def vision_trial(
    arm: str,
    seed: int,
    train: cifar.Images,
    test: cifar.Images,
    *,
    epochs: int,
    threads: int = 1,
    device: str = "cpu",
) -> Trial:
    """A small residual net on given images, under the arm's policy: the same in all else."""
    task = Classification(
        SmallResNet, train, test, batch_size=128, seed=seed, device=device, label_smoothing=0.1
    )
    settings = Settings(
        epochs=epochs,
        lr=0.4,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="one_cycle",
        seed=seed,
        threads=threads,
        device=device,
    )
    return Trial(task, settings, (Emulation(POLICIES[arm]),))


def _vision(arm: str, seed: int, budget: TrainBudget, threads: int, device: str) -> Trial:
    train = cifar.load("cifar10", "train", count=budget.train_examples)
    test = cifar.load("cifar10", "test", count=budget.test_examples)
    return vision_trial(arm, seed, train, test, epochs=budget.epochs, threads=threads, device=device)


COMPARISONS = {
    "vision": Comparison(
        paper="bf16",
        name="vision",
        arms=("fp32", "bf16"),
        make=_vision,
        data=("cifar10",),
        code=(
            "bf16/emulate.py",
            "bf16/policy.py",
            "bf16/study.py",
            "data/cifar.py",
            "data/prepared.py",
            "kernels/dispatch.py",
            "kernels/rounding",
            "models/resnet_small.py",
            "runtime.py",
            "train/classification.py",
            "train/loop.py",
            "train/outcome.py",
            "train/schedules.py",
            "train/task.py",
        ),
    ),
}
