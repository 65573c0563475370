"""What is run for paper 3: nets that are sparse from the first step, beside the nets that all papers share.

Dense nets, and nets whose masks are found by pruning, are made once, by blocksparse/study.py, from the same seeds
on the same data with the same settings; claims and figures call them "blocksparse/baselines/…". The arms here
differ from them in how the net is built: block-sparse layers instead of dense ones, whose patterns never change.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from leandnn.blocksparse import baselines
from leandnn.blocksparse.connectivity import Connected
from leandnn.blocksparse.footprint import Footprint
from leandnn.blocksparse.prune import GradualPruning
from leandnn.data import cifar
from leandnn.models.vgg import VGG19
from leandnn.models.vgg_small import SmallVGG
from leandnn.models.wide_resnet import WideResNet
from leandnn.params import Budget, bounded
from leandnn.rbgp import nets
from leandnn.studies.comparison import Comparison, Make, Scale, Trial, by_name
from leandnn.tasks.distillation import Distillation
from leandnn.train import loop

# In arms named <pattern>_<percent>; 87 and 93 stand for 87.5 % and 93.75 %.
PERCENT = {"50": 0.5, "75": 0.75, "87": baselines.SPARSITY, "93": 0.9375}
Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class Distilled(Budget):
    """A budget with the terms of knowledge distillation (tasks/distillation.py).

    - temperature: T, by which the logits of teacher and student are divided. weight: of the teacher's part of the loss.
    """

    temperature: float = bounded(0.01, 1000)
    weight: float = bounded(0, 1)


WIDE: Build = functools.partial(WideResNet, 10, 2)  # a block of 32, of 64 and of 128 channels


def _dense(build: Build, budget: Budget, scale: Scale, images: cifar.Pair | None = None) -> Trial:
    return baselines.trial(budget, scale, images, build=build, hooks=(Footprint(batch_size=baselines.BATCH),))


def _pruned(
    build: Build,
    pattern: str,
    sparsity: float,
    budget: Budget,
    scale: Scale,
    images: cifar.Pair | None = None,
) -> Trial:
    """A mask that is found by pruning."""
    pruned = GradualPruning(baselines.selection(pattern, sparsity))
    costs = Footprint(lambda: pruned.patterns, batch_size=baselines.BATCH)
    hooks = (pruned, costs, Connected(lambda: pruned.patterns))
    return baselines.trial(budget, scale, images, build=build, hooks=hooks)


def _fixed(
    build: Build,
    sparsity: float,
    rule: nets.Rule,
    budget: Budget,
    scale: Scale,
    images: cifar.Pair | None = None,
) -> Trial:
    """A net that is sparse from the first step: in RBGP4 patterns, or in those of a rule."""
    fixed = functools.partial(nets.fixed_net, build, sparsity, scale.seed, rule)
    hooks = (nets.DecayedValues(), Footprint(batch_size=baselines.BATCH), Connected())
    return baselines.trial(budget, scale, images, build=fixed, hooks=hooks)


def arm(name: str, build: Build = SmallVGG) -> Make:
    """The arm called "dense", or <pattern>_<percent>, or <pattern> at 87.5 %, of a net.

    Patterns: "rbgp4"; "unstructured" and "block<height>x<width>", found by pruning; nets.RANDOM, fixed before training.
    """
    pattern, _, percent = name.partition("_")
    sparsity = PERCENT[percent] if percent else baselines.SPARSITY
    if pattern == "dense":
        return functools.partial(_dense, build)
    if pattern == "unstructured" or pattern.startswith("block"):
        return functools.partial(_pruned, build, pattern, sparsity)
    if pattern == "rbgp4":
        return functools.partial(_fixed, build, sparsity, nets.as_planned)
    if pattern not in nets.RANDOM:
        raise ValueError(f"pattern {pattern!r} is unknown, expected one of {', '.join(nets.RANDOM)}")
    return functools.partial(
        _fixed, build, sparsity, functools.partial(nets.random_blocks, nets.RANDOM[pattern])
    )


def graph_arm(name: str, sparsity: float = baselines.SPARSITY) -> Make:
    """The shared net with one graph a layer, all of the same degrees, by arm: see nets.single_graph."""
    return functools.partial(_fixed, SmallVGG, sparsity, functools.partial(nets.single_graph, name))


def _distilled(budget: Distilled, scale: Scale, images: cifar.Pair | None = None) -> Trial:
    """The net of "patterns" taught by a dense one, which is trained first, as long, and from the same seed.

    A run that is resumed trains its teacher anew, to the same bits.
    """
    own = _fixed(SmallVGG, baselines.SPARSITY, nets.as_planned, budget, scale, images)
    dense = _dense(SmallVGG, budget, scale, images)
    teacher = loop.train(dense.task, dense.settings, dense.hooks).model
    taught = Distillation(own.task, teacher, temperature=budget.temperature, weight=budget.weight)
    return Trial(taught, own.settings, own.hooks)


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


def _comparison(name: str, arms: Sequence[str], build: Build = SmallVGG) -> Comparison:
    return Comparison("rbgp", name, {name: arm(name, build) for name in arms})


def _graphs(name: str, sparsity: float) -> Comparison:
    return Comparison("rbgp", name, {name: graph_arm(name, sparsity) for name in nets.GRAPHS})


COMPARISONS = by_name(
    _comparison("patterns", ("rbgp4",)),
    _comparison("sparsities", SWEEP),
    _comparison("wide_resnet", WIDE_ARMS, WIDE),
    _graphs("connectivity", baselines.SPARSITY),
    _graphs("connectivity_93", 0.9375),
    Comparison("rbgp", "distillation", {"distilled": _distilled}, budget=Distilled),
    # The paper's own nets, for a GPU.
    _comparison("vgg19", ARMS, VGG19),
    _comparison("wrn40_4", ARMS, WideResNet),
)
