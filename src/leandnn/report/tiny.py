"""Tiny runs for a notebook that was opened on its own: real training, far too short to mean anything."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import pandas as pd

from leandnn.data import cifar
from leandnn.errors import LeandnnError
from leandnn.params import Budget
from leandnn.studies.comparison import Comparison, Make, Scale
from leandnn.train import loop
from leandnn.train.task import Result

BUDGET, SEEDS = Budget(epochs=2, train_examples=640, test_examples=500), (0, 1)


@functools.cache
def images() -> tuple[cifar.Pair, str]:
    """A sliver of CIFAR-10, or of the synthetic substitute where it is not there; and what it is, in words."""
    sizes = BUDGET.train_examples, BUDGET.test_examples
    try:
        return cifar.pair(*sizes), f"{sizes[0]} CIFAR-10 images"
    except LeandnnError:
        synthetic = cifar.synthetic("train", sizes[0]), cifar.synthetic("test", sizes[1])
        return synthetic, f"{sizes[0]} SYNTHETIC images"


def arms(*comparisons: Comparison) -> dict[str, Make]:
    """The arms of several comparisons, as claims name them: "rbgp/patterns/rbgp4"."""
    return {f"{c.paper}/{c.name}/{arm}": make for c in comparisons for arm, make in c.arms.items()}


def train(make: Make, seed: int = 0) -> Result:
    """An arm, trained on `images` to the end of BUDGET."""
    trial = make(BUDGET, Scale(seed), images=images()[0])
    return loop.train(trial.task, trial.settings, trial.hooks)


def classification(arms: Mapping[str, Make]) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Train every arm from two seeds on a sliver of data.

    - arms: by name; each takes (budget, scale, images=(train, test)).

    Returns (final, history) as runs.load does, and a note for the first figure's title.
    """
    finals, histories = [], []
    for seed in SEEDS:
        for arm, make in arms.items():
            result = train(make, seed)
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
    note = f"SMOKE: tiny runs made in this notebook on {images()[1]}; they show the machinery, not the claim"
    return final, pd.concat(histories, ignore_index=True), note
