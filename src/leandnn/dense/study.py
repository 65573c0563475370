"""How accurate the fast nets are without any of the papers' methods, and the pilots by which they were tuned.

Both train in native BF16, which is what makes them fast. Finals train on all training images and are judged on the
test set; pilots train on 45,000 of them and are judged on the other 5,000.
"""

from __future__ import annotations

import dataclasses
import functools

from leandnn.data import cifar
from leandnn.dense import recipe
from leandnn.params import Budget
from leandnn.studies.comparison import Comparison, Make, Scale, Trial, by_name


def _final(size: str, budget: Budget, scale: Scale, images: cifar.Pair | None = None) -> Trial:
    pair = images or cifar.pair(budget.train_examples, budget.test_examples)
    return _native(recipe.trial(recipe.recipe(size, epochs=budget.epochs), scale, pair))


def _pilot(chosen: recipe.Recipe, budget: Budget, scale: Scale, images: cifar.Pair | None = None) -> Trial:
    share = budget.test_examples / (budget.train_examples + budget.test_examples)
    pair = images or recipe.images("validation", share)
    chosen = dataclasses.replace(chosen, epochs=budget.epochs)
    return _native(recipe.trial(chosen, scale, pair, judge="validation"))


def _native(trial: Trial) -> Trial:
    return dataclasses.replace(trial, settings=dataclasses.replace(trial.settings, amp="bf16"))


PILOTS: dict[str, Make] = {
    name: functools.partial(_pilot, chosen)
    for name, chosen in {
        "chosen": recipe.recipe("main"),
        "lookahead-20": recipe.recipe("main", lookahead=20),
        "lr-0.8": recipe.recipe("main", lr=9.2),  # of the source's learning rate
        "smoothing-0.1": recipe.recipe("main", label_smoothing=0.1),
    }.items()
}

COMPARISONS = by_name(
    *(Comparison("dense", size, {"native-bf16": functools.partial(_final, size)}) for size in recipe.RECIPES),
    Comparison("dense", "pilots", PILOTS),
)
