"""Image classification with a net of AlexNet's form on CIFAR-10, and what other formats and roundings do to it."""

from __future__ import annotations

from leandnn.bf16 import arms
from leandnn.data import cifar
from leandnn.models.alexnet import SmallAlexNet
from leandnn.params import TrainBudget
from leandnn.studies.comparison import Comparison, Trial
from leandnn.tasks.classification import Classification
from leandnn.train.task import Settings


def _make(arm: str, seed: int, budget: TrainBudget, threads: int, device: str) -> Trial:
    task = Classification(
        SmallAlexNet,
        cifar.load("cifar10", "train", count=budget.train_examples),
        cifar.load("cifar10", "test", count=budget.test_examples),
        batch_size=128,
        seed=seed,
        device=device,
    )
    settings = Settings(
        epochs=budget.epochs,
        lr=0.1,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="one_cycle",
        clip_norm=1.0,
        seed=seed,
        threads=threads,
        device=device,
    )
    return arms.trial(arm, task, settings)


_CODE = (
    *arms.CODE,
    "bf16/domains/alexnet.py",
    "data/cifar.py",
    "models/alexnet.py",
    "tasks/classification.py",
)
COMPARISONS = {
    "alexnet": Comparison("bf16", "alexnet", arms.PAIR, _make, data=("cifar10",), code=_CODE),
    # Its controls are the runs of "alexnet".
    "contrasts": Comparison("bf16", "contrasts", arms.CONTRASTS, _make, data=("cifar10",), code=_CODE),
}
