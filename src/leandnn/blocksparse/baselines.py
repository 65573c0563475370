"""The net, data and settings in which sparse patterns are compared, and the runs that the comparisons share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from leandnn.blocksparse import prune
from leandnn.blocksparse.footprint import Footprint
from leandnn.data import cifar
from leandnn.models.vgg_small import SmallVGG
from leandnn.params import Budget
from leandnn.studies.comparison import Scale, Trial
from leandnn.tasks.classification import Classification
from leandnn.train.task import Hook, Settings

SPARSITY = 0.875  # of the comparisons that claims are judged by
BATCH = 128


def trial(
    budget: Budget,
    scale: Scale,
    images: cifar.Pair | None = None,
    *,
    hooks: Sequence[Hook] = (),
    build: Callable[[], nn.Module] = SmallVGG,
) -> Trial:
    """The shared net on CIFAR-10; arms differ in `hooks` and `build` alone.

    FP32, batches of 128, one-cycle SGD with peak 0.2, label smoothing 0.1, weight decay 5e-4: chosen for the
    dense net.

    - images: of the data set, of which `budget` says how many; others for a trial of one's own.
    """
    train, test = images or cifar.pair(budget.train_examples, budget.test_examples)
    task = Classification(
        build, train, test, batch_size=BATCH, seed=scale.seed, device=scale.device, label_smoothing=0.1
    )
    settings = Settings(
        epochs=budget.epochs,
        lr=0.2,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="one_cycle",
        seed=scale.seed,
        threads=scale.threads,
        device=scale.device,
    )
    return Trial(task, settings, hooks)


def pruning(select: prune.Select) -> tuple[Hook, Hook]:
    """Gradual pruning by a rule, and the account of what it saves: hooks for `trial`."""
    pruned = prune.GradualPruning(select)
    return pruned, Footprint(lambda: pruned.patterns, batch_size=BATCH)


def selection(pattern: str, sparsity: float) -> prune.Select:
    """The rule of "unstructured" or "block<height>x<width>"; ValueError for another name."""
    if pattern == "unstructured":
        return prune.unstructured(sparsity)
    height, cross, width = pattern.removeprefix("block").partition("x")
    if not (pattern.startswith("block") and cross and height.isdigit() and width.isdigit()):
        raise ValueError(f"pattern {pattern!r} is unknown, expected unstructured or block<height>x<width>")
    return prune.blocks((int(height), int(width)), sparsity)
