"""Image classification: a residual net on CIFAR-10."""

from __future__ import annotations

from leandnn.bf16 import arms
from leandnn.bf16.arms import Arm
from leandnn.data import cifar
from leandnn.models.resnet_small import SmallResNet
from leandnn.params import Budget
from leandnn.studies.comparison import Comparison, Scale, Trial, by_name
from leandnn.tasks.classification import Classification
from leandnn.train.task import Settings


def _make(arm: Arm, budget: Budget, scale: Scale, images: cifar.Pair | None = None) -> Trial:
    train, test = images or cifar.pair(budget.train_examples, budget.test_examples)
    task = Classification(
        SmallResNet,
        train,
        test,
        batch_size=128,
        seed=scale.seed,
        device=scale.device,
        label_smoothing=0.1,
    )
    settings = Settings(
        epochs=budget.epochs,
        lr=0.4,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="one_cycle",
        seed=scale.seed,
        threads=scale.threads,
        device=scale.device,
    )
    return arms.trial(arm, task, settings)


COMPARISONS = by_name(Comparison("bf16", "vision", arms.all_of(_make, arms.PAIR)))
