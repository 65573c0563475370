"""What is run for paper 2: AutoSparse and its competitors from the same seeds, at the same sparsity.

The shared small net (blocksparse/baselines.py), whose dense and pruned runs are made once by blocksparse/study.py
("blocksparse/baselines/dense" in claims), and two small nets of the paper's kinds: a bottleneck ResNet and
MobileNetV1. The first and the last layer are dense in all arms, and hyper-parameters are the dense net's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from leandnn.autosparse import allocation, imagenet
from leandnn.autosparse.accounting import Accounting
from leandnn.autosparse.export import Hardened
from leandnn.autosparse.hooks import Learned
from leandnn.autosparse.masks import Mest, RigL
from leandnn.autosparse.method import Options
from leandnn.autosparse.topk import TopK
from leandnn.blocksparse import baselines
from leandnn.data import cifar
from leandnn.models.mobilenet import small_mobilenet
from leandnn.models.resnet_bottleneck import BottleneckResNet, cifar_resnet50
from leandnn.models.vgg_small import SmallVGG
from leandnn.params import Budget
from leandnn.studies.comparison import Comparison, Make, Scale, Trial, by_name

WEIGHT_DECAY = 5e-4  # baselines.trial's, which STR lets act on its thresholds too
TOPK_ALPHA = 0.25  # in pilots better than 0.5 and than 1, annealed
# Of RigL: with its 100, a run of 1170 updates, a 27th of the paper's, would see 8 changes.
INTERVAL = 50
Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class Net:
    """A net, and the names of its first and last layer, which stay dense."""

    build: Build
    ends: tuple[str, str]


Method = Callable[[Net, float, int], Learned | RigL | Mest | TopK]
"""Makes an arm's hook from a net, the share of zeros to end with, and the seed."""
VGG = Net(SmallVGG, ("features.0", "classifier"))
RESNET = Net(functools.partial(BottleneckResNet, (2, 2, 2), 16), ("conv1", "fc"))
MOBILENET = Net(small_mobilenet, ("features.0", "classifier"))
RESNET50 = Net(cifar_resnet50, ("conv1", "fc"))


def options(net: Net, sparsity: float | None, **changes: object) -> Options:
    """AutoSparse's options in the studies: the paper's, with a sparsity that is asked for.

    The target is reached early, since training is cheap only while the net is sparse.
    """
    chosen = {"exclude": net.ends, "target": sparsity, "reached": 0.3, **changes}
    return Options(**chosen)  # type: ignore[arg-type]


def _learned(changes: Mapping[str, object], net: Net, sparsity: float, seed: int) -> Learned:
    return Learned(options(net, sparsity, **changes))


def _hardened(net: Net, sparsity: float, seed: int) -> Hardened:
    return Hardened(options(net, sparsity))


def _rigl(allocate: Callable[..., Mapping[str, float]], net: Net, sparsity: float, seed: int) -> RigL:
    chosen = functools.partial(allocate, density=1 - sparsity)
    return RigL(chosen, seed=seed, exclude=net.ends, interval=INTERVAL)


def _mest(net: Net, sparsity: float, seed: int) -> Mest:
    return Mest(functools.partial(allocation.uniform, density=1 - sparsity), seed=seed, exclude=net.ends)


def _topk(changes: Mapping[str, object], net: Net, sparsity: float, seed: int) -> TopK:
    return TopK(1 - sparsity, exclude=net.ends, **changes)  # type: ignore[arg-type]


def learned(**changes: object) -> Method:
    """AutoSparse with other options."""
    return functools.partial(_learned, changes)


def topk(**changes: object) -> Method:
    """Top-K with options of TopK."""
    return functools.partial(_topk, changes)


# STR's thresholds get their own gradients and weight decay, as published; the shift to the sparsity asked for is
# the same as AutoSparse's.
METHODS: dict[str, Method] = {
    "autosparse": learned(),
    "str": learned(alpha=0.0, schedule="zero", decay=WEIGHT_DECAY),
    "mest-uniform": _mest,
    "rigl-erk": functools.partial(_rigl, allocation.erk),
    "rigl-uniform": functools.partial(_rigl, allocation.uniform),
    "topk": topk(alpha=TOPK_ALPHA, schedule="constant", zero_from=None),
    "topk-annealed": topk(alpha=TOPK_ALPHA),
    "topk-zero": topk(alpha=0.0, schedule="zero"),
    "topk-straight": topk(alpha=1.0, schedule="constant", zero_from=None),
    "topkast": topk(explored=0.5, schedule="constant", zero_from=None, topkast_decay=WEIGHT_DECAY),
}
# One thing changed each: the schedule of α, what has a threshold, the kind of threshold, the backward pass.
VARIANTS: dict[str, Method] = {
    **{name: learned(schedule=name) for name in ("cosine", "sigmoid", "linear", "constant", "zero")},
    "constant-to-end": learned(schedule="constant", zero_from=None),
    "per-channel": learned(per="channel"),
    "alpha-25": learned(alpha=0.25),
    "alpha-75": learned(alpha=0.75),
    "backward-half": learned(backward_sparsity=0.5),
    "dst": learned(threshold="step", annealed=False),
    "dst-annealed": learned(threshold="step"),
    "hierarchical": _hardened,
}
# Not forced to a sparsity, but left to weight decay on s; without gradients under the threshold that is STR's own way.
FREE: dict[str, Method] = {
    "free": learned(target=None, decay=WEIGHT_DECAY),
    "free_zero": learned(target=None, decay=WEIGHT_DECAY, alpha=0.0, schedule="zero"),
}


def _with_method(
    method: Method, net: Net, sparsity: float, budget: Budget, scale: Scale, images: cifar.Pair | None = None
) -> Trial:
    hook = method(net, sparsity, scale.seed)
    hooks = (hook, Accounting(hook, batch_size=baselines.BATCH))
    return baselines.trial(budget, scale, images, hooks=hooks, build=net.build)


def _dense(net: Net, budget: Budget, scale: Scale, images: cifar.Pair | None = None) -> Trial:
    hooks = (Accounting(None, batch_size=baselines.BATCH),)
    return baselines.trial(budget, scale, images, hooks=hooks, build=net.build)


def _pruned(
    net: Net, sparsity: float, budget: Budget, scale: Scale, images: cifar.Pair | None = None
) -> Trial:
    hooks = baselines.pruning(baselines.selection("unstructured", sparsity))
    return baselines.trial(budget, scale, images, hooks=hooks, build=net.build)


def arm(name: str, net: Net = VGG, sparsity: float = 0.8) -> Make:
    """An arm by name: of METHODS, VARIANTS or FREE, "dense", "gmp" (gradual pruning), or "autosparse_<percent>"."""
    known = {**METHODS, **VARIANTS, **FREE}
    method, _, percent = name.partition("_")
    if percent.isdigit():
        name, sparsity = method, float(percent) / 100
    if name == "gmp":
        return functools.partial(_pruned, net, sparsity)
    if name == "dense":
        return functools.partial(_dense, net)
    if name not in known:
        raise ValueError(f"arm {name!r} is unknown, expected one of dense, gmp, {', '.join(known)}")
    return functools.partial(_with_method, known[name], net, sparsity)


def _comparison(name: str, arms: Sequence[str], net: Net = VGG, sparsity: float = 0.8) -> Comparison:
    return Comparison("autosparse", name, {name: arm(name, net, sparsity) for name in arms})


_THREE = ("str", "mest-uniform", "autosparse")
_OTHERS = ("gmp", "rigl-erk", "rigl-uniform", "topkast")
_REQUESTED = (*FREE, *(f"autosparse_{percent}" for percent in (50, 70, 90, 95, 98)))
COMPARISONS = by_name(
    _comparison("methods", _THREE),
    _comparison("others", _OTHERS),
    _comparison("methods_90", (*_THREE, *_OTHERS), sparsity=0.9),
    _comparison("topk", ("topk", "topk-annealed", "topk-zero", "topk-straight")),
    _comparison("mobilenet", ("str", "autosparse", "dense"), MOBILENET, 0.75),
    _comparison("mobilenet_90", _THREE, MOBILENET, 0.9),
    _comparison("bottleneck", (*_THREE, "dense"), RESNET),
    _comparison("bottleneck_90", _THREE, RESNET, 0.9),
    _comparison("variants", tuple(VARIANTS)),
    _comparison("requested", _REQUESTED),
    _comparison("resnet50", ("dense", "str", "mest-uniform", "autosparse"), RESNET50),
    imagenet.COMPARISON,
)
