"""Tiny runs for a notebook that was opened on its own: real training, far too short to mean anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from leandnn.data import cifar
from leandnn.errors import LeandnnError
from leandnn.studies.comparison import Trial
from leandnn.train import loop

IMAGES, TEST_IMAGES, EPOCHS, SEEDS = 640, 500, 2, (0, 1)


def images() -> tuple[cifar.Images, cifar.Images, str]:
    """A sliver of CIFAR-10, or of the synthetic substitute where it is not there: (train, test, what it is)."""
    try:
        train = cifar.load("cifar10", "train", count=IMAGES)
        return train, cifar.load("cifar10", "test", count=TEST_IMAGES), f"{IMAGES} CIFAR-10 images"
    except LeandnnError:
        synthetic = cifar.synthetic("train", IMAGES), cifar.synthetic("test", TEST_IMAGES)
        return *synthetic, f"{IMAGES} SYNTHETIC images"


def classification(
    arms: Sequence[str], trial: Callable[[str, int, cifar.Images, cifar.Images], Trial]
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Train every arm from two seeds on a sliver of data.

    - trial: makes the trial of (arm, seed, train images, test images).

    Returns (final, history) as runs.load does, and a note for the first figure's title.
    """
    train, test, what = images()
    finals, histories = [], []
    for seed in SEEDS:
        for arm in arms:
            made = trial(arm, seed, train, test)
            result = loop.train(made.task, made.settings, made.hooks)
            finals.append(
                {
                    "arm": arm,
                    "seed": seed,
                    **result.metrics,
                    **{f"train_loss@{row['step']:.0f}": row["train_loss"] for row in result.trace},
                    "steps": result.steps,
                    "parameters": sum(p.numel() for p in result.model.parameters()),
                    "failure": result.failure,
                }
            )
            histories.append(pd.DataFrame(result.history).assign(arm=arm, seed=seed))
    final = pd.DataFrame(finals).sort_values(["arm", "seed"], ignore_index=True)
    note = f"SMOKE: tiny runs made in this notebook on {what}; they show the machinery, not the claim"
    return final, pd.concat(histories, ignore_index=True), note
