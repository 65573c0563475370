"""What is run for paper 2: AutoSparse and its competitors from the same seeds, at the same sparsity.

The shared small net (blocksparse/baselines.py), whose dense and pruned runs are made once by blocksparse/study.py
("blocksparse/baselines/dense" in claims), and two small nets of the paper's kinds: a bottleneck ResNet and
MobileNetV1. The first and the last layer are dense in all arms, and hyper-parameters are the dense net's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from leandnn.autosparse import allocation
from leandnn.autosparse.accounting import Accounting
from leandnn.autosparse.export import Hardened
from leandnn.autosparse.hooks import Learned
from leandnn.autosparse.masks import Mest, RigL
from leandnn.autosparse.method import Options
from leandnn.autosparse.topk import TopK
from leandnn.blocksparse import baselines
from leandnn.blocksparse.study import CODE as SHARED_CODE
from leandnn.data import cifar
from leandnn.models.mobilenet import small_mobilenet
from leandnn.models.resnet_bottleneck import BottleneckResNet, cifar_resnet50
from leandnn.models.vgg_small import SmallVGG
from leandnn.params import TrainBudget
from leandnn.studies.comparison import Comparison, Trial
from leandnn.train.task import Hook

WEIGHT_DECAY = 5e-4  # baselines.trial's, which STR lets act on its thresholds too
TOPK_ALPHA = 0.25  # in pilots better than 0.5 and than 1, annealed
# Of RigL: with its 100, a run of 1170 updates, a 27th of the paper's, would see 8 changes.
INTERVAL = 50
Build = Callable[[], nn.Module]
Hooks = tuple[Hook, ...]


@dataclass(frozen=True)
class Net:
    """A net, and the names of its first and last layer, which stay dense."""

    build: Build
    ends: tuple[str, str]


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


def hooks(arm: str, net: Net, sparsity: float, seed: int) -> Hooks:
    """The hooks of an arm: a name of METHODS or VARIANTS, "dense" or "gmp"; ValueError for another."""
    if arm == "gmp":
        return baselines.pruning(baselines.selection("unstructured", sparsity))
    if arm == "dense":
        return (Accounting(None, batch_size=baselines.BATCH),)
    makers = {**METHODS, **VARIANTS}
    if arm not in makers:
        raise ValueError(f"arm {arm!r} is unknown, expected one of dense, gmp, {', '.join(makers)}")
    method = makers[arm](net, sparsity, seed)
    return method, Accounting(method, batch_size=baselines.BATCH)


def _learned(**changes: object) -> Callable[[Net, float, int], Learned]:
    return lambda net, sparsity, seed: Learned(options(net, sparsity, **changes))


def _rigl(allocate: Callable[..., Mapping[str, float]]) -> Callable[[Net, float, int], RigL]:
    def make(net: Net, sparsity: float, seed: int) -> RigL:
        chosen = functools.partial(allocate, density=1 - sparsity)
        return RigL(chosen, seed=seed, exclude=net.ends, interval=INTERVAL)

    return make


def _mest(net: Net, sparsity: float, seed: int) -> Mest:
    return Mest(functools.partial(allocation.uniform, density=1 - sparsity), seed=seed, exclude=net.ends)


def _topk(**changes: object) -> Callable[[Net, float, int], TopK]:
    return lambda net, sparsity, seed: TopK(1 - sparsity, exclude=net.ends, **changes)  # type: ignore[arg-type]


# STR's thresholds get their own gradients and weight decay, as published; the shift to the sparsity asked for is
# the same as AutoSparse's.
METHODS: dict[str, Callable[[Net, float, int], Learned | RigL | Mest | TopK]] = {
    "autosparse": _learned(),
    "str": _learned(alpha=0.0, schedule="zero", decay=WEIGHT_DECAY),
    "mest-uniform": _mest,
    "rigl-erk": _rigl(allocation.erk),
    "rigl-uniform": _rigl(allocation.uniform),
    "topk": _topk(alpha=TOPK_ALPHA, schedule="constant", zero_from=None),
    "topk-annealed": _topk(alpha=TOPK_ALPHA),
    "topk-zero": _topk(alpha=0.0, schedule="zero"),
    "topk-straight": _topk(alpha=1.0, schedule="constant", zero_from=None),
    "topkast": _topk(explored=0.5, schedule="constant", zero_from=None, topkast_decay=WEIGHT_DECAY),
}
# One thing changed each: the schedule of α, what has a threshold, the kind of threshold, the backward pass.
VARIANTS: dict[str, Callable[[Net, float, int], Learned | RigL | Mest | TopK]] = {
    **{name: _learned(schedule=name) for name in ("cosine", "sigmoid", "linear", "constant", "zero")},
    "constant-to-end": _learned(schedule="constant", zero_from=None),
    "per-channel": _learned(per="channel"),
    "alpha-25": _learned(alpha=0.25),
    "alpha-75": _learned(alpha=0.75),
    "backward-half": _learned(backward_sparsity=0.5),
    "dst": _learned(threshold="step", annealed=False),
    "dst-annealed": _learned(threshold="step"),
    "hierarchical": lambda net, sparsity, seed: Hardened(options(net, sparsity)),
}


def trial(
    arm: str,
    seed: int,
    train: cifar.Images,
    test: cifar.Images,
    *,
    epochs: int,
    net: Net = VGG,
    sparsity: float = 0.8,
    threads: int = 1,
    device: str = "cpu",
) -> Trial:
    """An arm on given images: see hooks."""
    found = hooks(arm, net, sparsity, seed)
    return baselines.trial(
        seed, train, test, epochs=epochs, hooks=found, build=net.build, threads=threads, device=device
    )


def _make(
    arm: str, seed: int, budget: TrainBudget, threads: int, device: str, *, net: Net, sparsity: float
) -> Trial:
    images = baselines.images(budget)
    return trial(
        arm, seed, *images, epochs=budget.epochs, net=net, sparsity=sparsity, threads=threads, device=device
    )


def _requested(arm: str, seed: int, budget: TrainBudget, threads: int, device: str) -> Trial:
    """AutoSparse with a sparsity that is asked for (autosparse_<percent>), or left to weight decay on s.

    - arm: also "free", and "free_zero" without gradients under the threshold, which is STR left to itself.
    """
    name, _, rest = arm.partition("_")
    if name == "free":
        left: dict[str, object] = {"decay": WEIGHT_DECAY}
        chosen = options(VGG, None, **left, **({"alpha": 0.0, "schedule": "zero"} if rest else {}))
    else:
        chosen = options(VGG, float(rest) / 100)
    method = Learned(chosen)
    found = (method, Accounting(method, batch_size=baselines.BATCH))
    images = baselines.images(budget)
    return baselines.trial(seed, *images, epochs=budget.epochs, hooks=found, threads=threads, device=device)


_OWN = (
    "allocation", "annealing", "export", "flops", "hooks", "layers", "masks", "method", "record", "study",
    "target", "thresholds", "topk",
)  # fmt: skip
CODE = tuple(
    sorted(
        {
            *(entry for entry in SHARED_CODE if not entry.startswith("kernels/panels/")),
            *(f"autosparse/{name}.py" for name in _OWN),
            "blocksparse/convert.py",
            "blocksparse/sampling.py",
            "blocksparse/study.py",
            "kernels/dispatch.py",
            "kernels/panels",
            "models/macs.py",
            "models/mobilenet.py",
            "models/resnet_bottleneck.py",
        }
    )
)


def _comparison(
    name: str,
    arms: tuple[str, ...],
    make: Callable[..., Trial] | None = None,
    net: Net = VGG,
    sparsity: float = 0.8,
) -> Comparison:
    own = make or functools.partial(_make, net=net, sparsity=sparsity)
    return Comparison("autosparse", name, arms, own, data=("cifar10",), code=CODE)


_THREE = ("str", "mest-uniform", "autosparse")
_OTHERS = ("gmp", "rigl-erk", "rigl-uniform", "topkast")
COMPARISONS = {
    comparison.name: comparison
    for comparison in (
        _comparison("methods", _THREE),
        _comparison("others", _OTHERS),
        _comparison("methods_90", (*_THREE, *_OTHERS), sparsity=0.9),
        _comparison("topk", ("topk", "topk-annealed", "topk-zero", "topk-straight")),
        _comparison("mobilenet", ("str", "autosparse", "dense"), net=MOBILENET, sparsity=0.75),
        _comparison("mobilenet_90", _THREE, net=MOBILENET, sparsity=0.9),
        _comparison("bottleneck", (*_THREE, "dense"), net=RESNET),
        _comparison("bottleneck_90", _THREE, net=RESNET, sparsity=0.9),
        _comparison("variants", tuple(VARIANTS)),
        _comparison(
            "requested",
            ("free", "free_zero", *(f"autosparse_{percent}" for percent in (50, 70, 90, 95, 98))),
            _requested,
        ),
        _comparison("resnet50", ("dense", "str", "mest-uniform", "autosparse"), net=RESNET50),
    )
}
