"""Tiny runs for a notebook that was opened on its own: real training, far too short to mean anything."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from leandnn.data import cifar
from leandnn.errors import LeandnnError
from leandnn.params import Budget
from leandnn.studies import registry
from leandnn.studies.comparison import Make, Scale
from leandnn.train import loop
from leandnn.train.task import Result

BUDGET, SEEDS = Budget(epochs=2, train_examples=640, test_examples=500), (0, 1)


def images() -> tuple[cifar.Pair, str]:
    """A sliver of CIFAR-10, or of the synthetic substitute where it is not there: (train, test), and what it is."""
    counts = {"train": BUDGET.train_examples, "test": BUDGET.test_examples}
    try:
        train, test = (cifar.load("cifar10", part, count=count) for part, count in counts.items())
        return (train, test), f"{BUDGET.train_examples} CIFAR-10 images"
    except LeandnnError:
        train, test = (cifar.synthetic(part, count) for part, count in counts.items())
        return (train, test), f"{BUDGET.train_examples} SYNTHETIC images"


def arms(*names: str) -> dict[str, Make]:
    """Arms of the studies by "<paper>/<comparison>/<arm>"."""
    found = {}
    for name in names:
        study, _, arm = name.rpartition("/")
        found[name] = registry.find(study.replace("/", "-")).arms[arm]
    return found


def train(make: Make, seed: int = 0) -> Result:
    """Train an arm that takes images on a sliver of data."""
    made = make(BUDGET, Scale(seed), images()[0])
    return loop.train(made.task, made.settings, made.hooks)


def classification(makes: Mapping[str, Make]) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Train every arm from two seeds on a sliver of data.

    - makes: arms by the name that they are to have in the tables.

    Returns (final, history) as runs.load does, and a note for the first figure's title.
    """
    finals, histories = [], []
    for seed in SEEDS:
        for arm, make in makes.items():
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
