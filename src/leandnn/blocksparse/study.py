"""Runs that several papers' comparisons share: a dense net, and nets pruned to single weights and to blocks.

Their masks are found by gradual magnitude pruning (prune.py) within the same number of steps as the dense net.
"""

from __future__ import annotations

import functools

from leandnn.blocksparse import baselines
from leandnn.blocksparse.footprint import Footprint
from leandnn.blocksparse.prune import Select
from leandnn.data import cifar
from leandnn.params import Budget
from leandnn.studies.comparison import Comparison, Make, Scale, Trial, by_name

# Arms beside the claims' sparsity, named <pattern>_<percent>; 93 stands for 93.75 %.
PERCENT = {"75": 0.75, "87": baselines.SPARSITY, "93": 0.9375}
SWEEP = tuple(
    f"{pattern}_{percent}"
    for percent in PERCENT
    for pattern in ("unstructured", "block4x4", "block8x8", "block16x16")
    if percent != "87" or pattern.startswith(("block8", "block16"))  # the others are in "baselines"
)


def _dense(budget: Budget, scale: Scale, images: cifar.Pair | None = None) -> Trial:
    return baselines.trial(budget, scale, images, hooks=(Footprint(batch_size=baselines.BATCH),))


def _pruned(
    pattern: str, sparsity: float, budget: Budget, scale: Scale, images: cifar.Pair | None = None
) -> Trial:
    hooks = baselines.pruning(baselines.selection(pattern, sparsity))
    return baselines.trial(budget, scale, images, hooks=hooks)


def _kind(arm: str) -> tuple[str, float]:
    """(pattern, sparsity) of an arm that is a pattern's name, at 87.5 % or with _<percent>."""
    pattern, _, percent = arm.partition("_")
    return pattern, PERCENT[percent] if percent else baselines.SPARSITY


def select(arm: str) -> Select:
    """The rule by which an arm other than "dense" is pruned."""
    return baselines.selection(*_kind(arm))


def pruned(arm: str) -> Make:
    """The arm of a pattern's name, at 87.5 % or with _<percent>."""
    return functools.partial(_pruned, *_kind(arm))


COMPARISONS = by_name(
    Comparison(
        "blocksparse",
        "baselines",
        {"dense": _dense, **{arm: pruned(arm) for arm in ("unstructured", "block4x4")}},
    ),
    Comparison("blocksparse", "sparsities", {arm: pruned(arm) for arm in SWEEP}),
)
