"""Click prediction: DLRM and Deep & Cross on a made-up log whose true probabilities are known, and contrasts."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import nn

from leandnn.bf16 import arms
from leandnn.data import clicks
from leandnn.data.clicks_synthesis import SIZES
from leandnn.models.recommendation import DLRM, DeepAndCross
from leandnn.params import TrainBudget
from leandnn.studies.comparison import Comparison, Trial
from leandnn.tasks.clicks import Prediction
from leandnn.train.task import Settings


def _make(
    build: Callable[[], nn.Module], arm: str, seed: int, budget: TrainBudget, threads: int, device: str
) -> Trial:
    task = Prediction(
        build,
        clicks.load("train", count=budget.train_examples),
        clicks.load("test", count=budget.test_examples),
        batch_size=512,
        seed=seed,
        device=device,
    )
    settings = Settings(
        epochs=budget.epochs,
        lr=3e-3,
        optimizer="adam",
        weight_decay=5e-5,
        schedule="one_cycle",
        channels_last=False,
        seed=seed,
        threads=threads,
        device=device,
    )
    return arms.trial(arm, task, settings)


def _comparison(name: str, build: Callable[[], nn.Module], names: tuple[str, ...]) -> Comparison:
    code = (
        *arms.CODE,
        "bf16/domains/recommendation.py",
        "data/clicks.py",
        "data/clicks_synthesis.py",
        "models/recommendation.py",
        "tasks/clicks.py",
    )
    return Comparison("bf16", name, names, functools.partial(_make, build), data=("clicks",), code=code)


_DLRM = functools.partial(DLRM, SIZES, width=8)
COMPARISONS = {
    "recommendation": _comparison("recommendation", _DLRM, arms.PAIR),
    "deep_cross": _comparison("deep_cross", functools.partial(DeepAndCross, SIZES, width=8), arms.PAIR),
    # Its controls are the runs of "recommendation".
    "click_contrasts": _comparison("click_contrasts", _DLRM, arms.CONTRASTS),
}
