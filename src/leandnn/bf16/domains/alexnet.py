"""Image classification with a net of AlexNet's form on CIFAR-10, and what other formats and roundings do to it."""

from __future__ import annotations

from leandnn.bf16 import arms
from leandnn.bf16.arms import Arm
from leandnn.data import cifar
from leandnn.models.alexnet import SmallAlexNet
from leandnn.params import Budget
from leandnn.studies.comparison import Comparison, Scale, Trial, by_name
from leandnn.tasks.classification import Classification
from leandnn.train.task import Settings


def _make(arm: Arm, budget: Budget, scale: Scale) -> Trial:
    task = Classification(
        SmallAlexNet,
        cifar.load("cifar10", "train", count=budget.train_examples),
        cifar.load("cifar10", "test", count=budget.test_examples),
        batch_size=128,
        seed=scale.seed,
        device=scale.device,
    )
    settings = Settings(
        epochs=budget.epochs,
        lr=0.1,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="one_cycle",
        clip_norm=1.0,
        seed=scale.seed,
        threads=scale.threads,
        device=scale.device,
    )
    return arms.trial(arm, task, settings)


COMPARISONS = by_name(
    Comparison("bf16", "alexnet", arms.all_of(_make, arms.PAIR)),
    # Its controls are the runs of "alexnet".
    Comparison("bf16", "contrasts", arms.all_of(_make, arms.CONTRASTS)),
)
