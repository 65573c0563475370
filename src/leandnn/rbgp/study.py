"""What is run for paper 3: nets that are sparse from the first step, beside the nets that all papers share.

Dense nets, and nets whose masks are found by pruning, are made once, by blocksparse/study.py, from the same seeds
on the same data with the same settings; claims and figures call them "blocksparse/baselines/…". The arms here
differ from them in how the net is built: block-sparse layers instead of dense ones, whose patterns never change.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import nn

from leandnn.blocksparse import baselines
from leandnn.blocksparse.connectivity import Connected
from leandnn.blocksparse.footprint import Footprint
from leandnn.blocksparse.prune import GradualPruning
from leandnn.blocksparse.study import CODE as SHARED_CODE
from leandnn.data import cifar
from leandnn.models.vgg import VGG19
from leandnn.models.vgg_small import SmallVGG
from leandnn.models.wide_resnet import WideResNet
from leandnn.params import TrainBudget
from leandnn.rbgp import nets
from leandnn.studies.comparison import Comparison, Trial
from leandnn.tasks import distillation
from leandnn.tasks.distillation import Distillation
from leandnn.train import loop
from leandnn.train.task import Hook

# In arms named <pattern>_<percent>; 87 and 93 stand for 87.5 % and 93.75 %.
PERCENT = {"50": 0.5, "75": 0.75, "87": baselines.SPARSITY, "93": 0.9375}
Build = Callable[[], nn.Module]
WIDE: Build = functools.partial(WideResNet, 10, 2)  # a block of 32, of 64 and of 128 channels


def trial(
    arm: str,
    seed: int,
    train: cifar.Images,
    test: cifar.Images,
    *,
    epochs: int,
    build: Build = SmallVGG,
    rules: Callable[[str], nets.Rule] = nets.random_blocks,
    threads: int = 1,
    device: str = "cpu",
) -> Trial:
    """An arm on given images.

    - arm: "dense", or <pattern>_<percent>, or <pattern> at 87.5 %. Patterns: "rbgp4"; "unstructured" and
      "block<height>x<width>", found by pruning; any other is fixed before training by rules(pattern).
    - build: makes the dense net.
    """
    pattern, _, percent = arm.partition("_")
    sparsity = PERCENT[percent] if percent else baselines.SPARSITY
    common = functools.partial(
        baselines.trial, seed, train, test, epochs=epochs, threads=threads, device=device
    )
    if pattern == "dense":
        return common(build=build, hooks=(Footprint(batch_size=baselines.BATCH),))
    if pattern == "unstructured" or pattern.startswith("block"):
        pruned = GradualPruning(baselines.selection(pattern, sparsity))
        costs = Footprint(lambda: pruned.patterns, batch_size=baselines.BATCH)
        return common(build=build, hooks=(pruned, costs, Connected(lambda: pruned.patterns)))
    own = (build, sparsity, seed) if pattern == "rbgp4" else (build, sparsity, seed, rules(pattern))
    return common(build=functools.partial(nets.fixed_net, *own), hooks=_hooks())


def _hooks() -> tuple[Hook, ...]:
    """Of a net that is built sparse."""
    return nets.DecayedValues(), Footprint(batch_size=baselines.BATCH), Connected()


def _net(arm: str, seed: int, budget: TrainBudget, threads: int, device: str, *, build: Build) -> Trial:
    images = baselines.images(budget)
    return trial(arm, seed, *images, epochs=budget.epochs, build=build, threads=threads, device=device)


def graph_trial(
    arm: str,
    seed: int,
    train: cifar.Images,
    test: cifar.Images,
    *,
    epochs: int,
    sparsity: float = baselines.SPARSITY,
    threads: int = 1,
    device: str = "cpu",
) -> Trial:
    """The shared net with one graph a layer, all of the same degrees, by arm: see nets.single_graph."""
    build = functools.partial(nets.fixed_net, SmallVGG, sparsity, seed, nets.single_graph(arm))
    return baselines.trial(
        seed, train, test, epochs=epochs, hooks=_hooks(), build=build, threads=threads, device=device
    )


def _graphs(arm: str, seed: int, budget: TrainBudget, threads: int, device: str, *, sparsity: float) -> Trial:
    images = baselines.images(budget)
    return graph_trial(
        arm, seed, *images, epochs=budget.epochs, sparsity=sparsity, threads=threads, device=device
    )


def _distilled(arm: str, seed: int, budget: TrainBudget, threads: int, device: str) -> Trial:
    """The net of "patterns" taught by a dense one, which is trained first, as long, and from the same seed.

    A run that is resumed trains its teacher anew, to the same bits.
    """
    images = baselines.images(budget)
    make = functools.partial(trial, epochs=budget.epochs, threads=threads, device=device)
    own, dense = make("rbgp4", seed, *images), make("dense", seed, *images)
    teacher = loop.train(dense.task, dense.settings, dense.hooks).model
    terms = {
        "temperature": getattr(budget, "temperature", distillation.TEMPERATURE),
        "weight": getattr(budget, "weight", distillation.WEIGHT),
    }
    return Trial(Distillation(own.task, teacher, **terms), own.settings, own.hooks)


CODE = tuple(
    sorted(
        {
            *SHARED_CODE,
            "blocksparse/connectivity.py",
            "blocksparse/sampling.py",
            "blocksparse/study.py",
            "kernels/dispatch.py",
            "kernels/panels",
            "models/vgg.py",
            "models/wide_resnet.py",
            "rbgp/construction.py",
            "rbgp/controls.py",
            "rbgp/graphs.py",
            "rbgp/hadamard.py",
            "rbgp/lifts.py",
            "rbgp/nets.py",
            "rbgp/sparsify.py",
            "rbgp/study.py",
            "tasks/distillation.py",
        }
        - {"kernels/panels/format.py"}  # within kernels/panels
    )
)
PRUNED = ("unstructured", "block4x4")
SWEEP = (
    *(
        f"{pattern}_50" for pattern in (*PRUNED, "block8x8", "block16x16")
    ),  # blocksparse/study.py has the others
    *(
        f"{pattern}_{percent}"
        for percent in PERCENT
        for pattern in ("rbgp4", *nets.RANDOM)
        if (pattern, percent) != ("rbgp4", "87")  # that is "patterns"
    ),
)
# For nets that no other paper's study has.
ARMS = ("dense", "unstructured_87", "block4x4_87", "rbgp4_87")
WIDE_ARMS = (
    "dense",
    *(f"{pattern}_{percent}" for percent in PERCENT for pattern in ("rbgp4", *PRUNED, *nets.RANDOM)),
)


def _comparison(name: str, arms: tuple[str, ...], make: Callable[..., Trial]) -> Comparison:
    return Comparison("rbgp", name, arms, make, data=("cifar10",), code=CODE)


COMPARISONS = {
    comparison.name: comparison
    for comparison in (
        _comparison("patterns", ("rbgp4",), functools.partial(_net, build=SmallVGG)),
        _comparison("sparsities", SWEEP, functools.partial(_net, build=SmallVGG)),
        _comparison("wide_resnet", WIDE_ARMS, functools.partial(_net, build=WIDE)),
        _comparison("connectivity", nets.GRAPHS, functools.partial(_graphs, sparsity=baselines.SPARSITY)),
        _comparison("connectivity_93", nets.GRAPHS, functools.partial(_graphs, sparsity=0.9375)),
        _comparison("distillation", ("distilled",), _distilled),
        # The paper's own nets, for a GPU.
        _comparison("vgg19", ARMS, functools.partial(_net, build=VGG19)),
        _comparison("wrn40_4", ARMS, functools.partial(_net, build=WideResNet)),
    )
}
