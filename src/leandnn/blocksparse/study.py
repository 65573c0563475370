"""Runs that several papers' comparisons share: a dense net, and nets pruned to single weights and to blocks.

Their masks are found by gradual magnitude pruning (prune.py) within the same number of steps as the dense net.
"""

from __future__ import annotations

from leandnn.blocksparse import baselines
from leandnn.blocksparse.footprint import Footprint
from leandnn.blocksparse.prune import Select
from leandnn.data import cifar
from leandnn.params import TrainBudget
from leandnn.studies.comparison import Comparison, Trial
from leandnn.train.task import Hook

# What decides the results of every run on the shared net; wings add their own files.
CODE = (
    "blocksparse/baselines.py",
    "blocksparse/convert.py",
    "blocksparse/footprint.py",
    "blocksparse/layers.py",
    "blocksparse/index_bits.py",
    "blocksparse/pattern.py",
    "blocksparse/prune.py",
    "blocksparse/saliency.py",
    "blocksparse/sampling.py",
    "blocksparse/storage.py",
    "data/cifar.py",
    "data/prepared.py",
    "kernels/dispatch.py",
    "kernels/panels",
    "models/macs.py",
    "models/vgg_small.py",
    "machine/determinism.py",
    "tasks/classification.py",
    "train/loop.py",
    "studies/outcome.py",
    "train/schedules.py",
    "train/task.py",
)
# Arms beside the claims' sparsity, named <pattern>_<percent>; 93 stands for 93.75 %.
PERCENT = {"75": 0.75, "87": baselines.SPARSITY, "93": 0.9375}
SWEEP = tuple(
    f"{pattern}_{percent}"
    for percent in PERCENT
    for pattern in ("unstructured", "block4x4", "block8x8", "block16x16")
    if percent != "87" or pattern.startswith(("block8", "block16"))  # the others are in "baselines"
)


def select(arm: str) -> Select:
    """The rule by which an arm other than "dense" is pruned: a pattern's name, at 87.5 % or with _<percent>."""
    pattern, _, percent = arm.partition("_")
    return baselines.selection(pattern, PERCENT[percent] if percent else baselines.SPARSITY)


def trial(
    arm: str,
    seed: int,
    train: cifar.Images,
    test: cifar.Images,
    *,
    epochs: int,
    threads: int = 1,
    device: str = "cpu",
) -> Trial:
    """An arm on given images: "dense", or one that `select` knows."""
    hooks: tuple[Hook, ...] = (Footprint(batch_size=baselines.BATCH),)
    if arm != "dense":
        hooks = baselines.pruning(select(arm))
    return baselines.trial(seed, train, test, epochs=epochs, hooks=hooks, threads=threads, device=device)


def _make(arm: str, seed: int, budget: TrainBudget, threads: int, device: str) -> Trial:
    train, test = baselines.images(budget)
    return trial(arm, seed, train, test, epochs=budget.epochs, threads=threads, device=device)


def _comparison(name: str, arms: tuple[str, ...]) -> Comparison:
    code = ("blocksparse/study.py", *CODE)
    return Comparison("blocksparse", name, arms, _make, data=("cifar10",), code=tuple(sorted(code)))


COMPARISONS = {
    comparison.name: comparison
    for comparison in (
        _comparison("baselines", ("dense", "unstructured", "block4x4")),
        _comparison("sparsities", SWEEP),
    )
}
