"""Image classification: a residual net and a net of AlexNet's form on CIFAR-10."""

from __future__ import annotations

from leandnn.bf16 import arms
from leandnn.data import cifar
from leandnn.models.resnet_small import SmallResNet
from leandnn.params import TrainBudget
from leandnn.studies.comparison import Comparison, Trial
from leandnn.tasks.classification import Classification
from leandnn.train.task import Settings


def trial(
    arm: str,
    seed: int,
    train: cifar.Images,
    test: cifar.Images,
    *,
    epochs: int,
    threads: int = 1,
    device: str = "cpu",
) -> Trial:
    """SmallResNet on given images."""
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
    return arms.trial(arm, task, settings)


def _make(arm: str, seed: int, budget: TrainBudget, threads: int, device: str) -> Trial:
    train = cifar.load("cifar10", "train", count=budget.train_examples)
    test = cifar.load("cifar10", "test", count=budget.test_examples)
    return trial(arm, seed, train, test, epochs=budget.epochs, threads=threads, device=device)


COMPARISONS = {
    "vision": Comparison(
        paper="bf16",
        name="vision",
        arms=arms.PAIR,
        make=_make,
        data=("cifar10",),
        code=(
            *arms.CODE,
            "bf16/domains/vision.py",
            "data/cifar.py",
            "models/resnet_small.py",
            "tasks/classification.py",
        ),
    )
}
