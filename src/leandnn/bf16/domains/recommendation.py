"""Click prediction: DLRM and Deep & Cross on a made-up log whose true probabilities are known, and contrasts."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import nn

from leandnn.bf16 import arms
from leandnn.bf16.arms import Arm
from leandnn.data import clicks
from leandnn.data.clicks_synthesis import SIZES
from leandnn.models.recommendation import DLRM, DeepAndCross
from leandnn.params import Budget
from leandnn.studies.comparison import Comparison, Scale, Trial, by_name
from leandnn.tasks.clicks import Prediction
from leandnn.train.task import Settings


def _make(build: Callable[[], nn.Module], arm: Arm, budget: Budget, scale: Scale) -> Trial:
    task = Prediction(
        build,
        clicks.load("train", count=budget.train_examples),
        clicks.load("test", count=budget.test_examples),
        batch_size=512,
        seed=scale.seed,
        device=scale.device,
    )
    settings = Settings(
        epochs=budget.epochs,
        lr=3e-3,
        optimizer="adam",
        weight_decay=5e-5,
        schedule="one_cycle",
        channels_last=False,
        seed=scale.seed,
        threads=scale.threads,
        device=scale.device,
    )
    return arms.trial(arm, task, settings)


_DLRM = functools.partial(DLRM, SIZES, width=8)
_DEEP_CROSS = functools.partial(DeepAndCross, SIZES, width=8)
COMPARISONS = by_name(
    Comparison("bf16", "recommendation", arms.all_of(_make, arms.PAIR, _DLRM), data=("clicks",)),
    Comparison("bf16", "deep_cross", arms.all_of(_make, arms.PAIR, _DEEP_CROSS), data=("clicks",)),
    # Its controls are the runs of "recommendation".
    Comparison("bf16", "click_contrasts", arms.all_of(_make, arms.CONTRASTS, _DLRM), data=("clicks",)),
)
