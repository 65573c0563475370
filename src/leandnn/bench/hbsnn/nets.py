"""Rows of the bench `hbsnn` for convolutions at their real sizes, and for the study's whole net."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn import rbgp
from leandnn.bench.benchfile import Row
from leandnn.bench.timing import interleave, row
from leandnn.blocksparse import BlockSparseConv2d, Pattern, convert, prune
from leandnn.blocksparse import study as shared
from leandnn.blocksparse.inference import fold
from leandnn.errors import LeandnnError
from leandnn.hbsnn import study
from leandnn.models.vgg import VGG19
from leandnn.models.vgg_small import SmallVGG

NETS: dict[str, tuple[Callable[[], nn.Module], int]] = {"SmallVGG": (SmallVGG, 128), "VGG19": (VGG19, 16)}
LAYERS = {"hbs16x12-4x1": ((16, 12), (4, 1)), "hbs16x12-8x4": ((16, 12), (8, 4))}
TOLERANCE = 2.0**-16  # relative distance of FP32 results from float64's
Call = Callable[[], object]
Patterns = Mapping[str, Pattern]


def layers(net: str, sparsity: float, repeats: int) -> list[Row]:
    """Forward pass of every convolution of another size, in all patterns and dense in both layouts.

    - sparsity: in percent, 1 − 2^−k of it.
    """
    build, batch = NETS[net]
    torch.manual_seed(0)
    model = build().eval()
    products = rbgp.plan(model, sparsity / 100).patterns
    found: list[Row] = []
    for name, module, shape in _convolutions(model):
        patterns = _layer_patterns(module, sparsity / 100)
        if name in products:
            patterns["rbgp4"] = products[name]
        x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(1))
        case = {"what": "layer", "net": net, "batch": batch, "layer": name, "sparsity": sparsity}
        size = f"{module.in_channels}→{module.out_channels} at {shape[1]}×{shape[2]}"
        found += _layer_rows(module, x, patterns, {**case, "size": size}, repeats)
    return found


def _inputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What the layers that are pruned get, by name, when the model gets x."""
    found: dict[str, Tensor] = {}

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found[name] = inputs[0].detach().clone(memory_format=torch.preserve_format)

    handles = [
        module.register_forward_pre_hook(functools.partial(note, name))
        for name, module in prune.prunable(model).items()
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return found


def _convolutions(model: nn.Module) -> Iterator[tuple[str, nn.Conv2d, tuple[int, ...]]]:
    """The pruned convolutions with the shape of one input, each size once."""
    seen = set()
    for name, own in _inputs(model, torch.zeros(1, 3, 32, 32)).items():
        module, shape = model.get_submodule(name), tuple(own.shape[1:])
        if isinstance(module, nn.Conv2d) and (module.out_channels, *shape) not in seen:
            seen.add((module.out_channels, *shape))
            yield name, module, shape


def _layer_patterns(module: nn.Conv2d, sparsity: float) -> dict[str, Pattern]:
    weight = module.weight
    found = {
        name: study.Form(blocks, (3 / 4, 4 / 3 * (1 - sparsity))).select(0)(weight, 1.0)
        for name, blocks in LAYERS.items()
    }
    found["block4x4"] = prune.blocks((4, 4), sparsity)(weight, 1.0)
    found["unstructured"] = prune.unstructured(sparsity)(weight, 1.0)
    return found


def _layer_rows(
    module: nn.Conv2d, x: Tensor, patterns: Patterns, case: Mapping[str, object], repeats: int
) -> list[Row]:
    """The layer in every pattern and dense, checked, in one interleaved run."""
    layouts = {"": x, " (channels last)": x.contiguous(memory_format=torch.channels_last)}
    calls: dict[tuple[str, str], Call] = {}
    for layout, own in layouts.items():
        for name, pattern in patterns.items():
            layer = BlockSparseConv2d.from_dense(module, pattern)
            with torch.no_grad():
                _require(f"{name}{layout} in {dict(case)}", layer(own), _exact(module, pattern, x))
            calls[name, f"leandnn{layout}"] = functools.partial(layer, own)
        calls["dense", f"torch.dense{layout}"] = functools.partial(module, own)
    with torch.no_grad():
        times = interleave(
            {"|".join(key): call for key, call in calls.items()},
            repeats=repeats,
            label=f"{case['net']} {case['layer']}",
        )
    places = x.shape[0] * x.shape[2] * x.shape[3] // (module.stride[0] * module.stride[1])
    work = 2 * module.weight.numel() * (1 - float(str(case["sparsity"])) / 100) * places / 1e9
    return [
        row("hbsnn", {**case, "pattern": name}, impl, 1, times[f"{name}|{impl}"], work, "Gflop")
        for name, impl in calls
    ]


def arms() -> dict[str, tuple[float, Patterns]]:
    """Arm of the studies → (sparsity, patterns of the net's layers), for weights of seed 0; dense has none.

    Time depends on the kind of pattern and its density, not on which blocks training leaves.
    """
    torch.manual_seed(0)
    model = SmallVGG()
    weights = {name: module.get_parameter("weight") for name, module in prune.prunable(model).items()}
    for weight in weights.values():
        weight.grad = torch.randn_like(weight)  # for the arms that ask for one
    rules: dict[str, prune.Select] = {}
    for comparison in shared.COMPARISONS.values():
        names = [arm for arm in comparison.arms if arm != "dense"]
        rules |= {f"blocksparse/{comparison.name}/{arm}": shared.select(arm) for arm in names}
    for comparison in study.COMPARISONS.values():
        rules |= {f"hbsnn/{comparison.name}/{arm}": study.FORMS[arm].select(0) for arm in comparison.arms}
    found: dict[str, tuple[float, Patterns]] = {"blocksparse/baselines/dense": (0.0, {})}
    for arm, rule in rules.items():
        found[arm] = _with_sparsity({name: rule(weight, 1.0) for name, weight in weights.items()})
    for arm, sparsity in {
        "rbgp/sparsities/rbgp4_75": 0.75,
        "rbgp/patterns/rbgp4": 0.875,
        "rbgp/sparsities/rbgp4_93": 0.9375,
    }.items():
        found[arm] = _with_sparsity(rbgp.plan(model, sparsity).patterns)
    return found


def _with_sparsity(patterns: Patterns) -> tuple[float, Patterns]:
    weights = sum(p.shape[0] * p.shape[1] for p in patterns.values())
    return 1 - sum(p.nnz for p in patterns.values()) / weights, patterns


def whole_net(chosen: Mapping[str, tuple[float, Patterns]], batch: int, repeats: int) -> list[Row]:
    """Forward pass of the small net in the patterns of some arms, and of its pruned layers alone.

    Norms are folded into the layers before them, ReLUs into sparse ones. All is in channels last, which is the
    faster layout for torch's layers and ours; of the dense net there are rows in the other one, too.
    """
    x = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    last = x.contiguous(memory_format=torch.channels_last)
    torch.manual_seed(0)
    inputs = _inputs(SmallVGG().eval(), last)
    found: list[Row] = []
    whole: dict[tuple[str, str], Call] = {}
    pruned: dict[tuple[str, str], Call] = {}
    for arm, (_, patterns) in chosen.items():
        torch.manual_seed(0)
        ready = fold(convert(SmallVGG().eval(), patterns)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if patterns:
            with torch.no_grad():
                _require(arm, ready(last[:2]), _masked(patterns)(x[:2].double()))
        impl = "leandnn" if patterns else "torch.dense"
        whole[arm, impl] = functools.partial(ready, last)
        steps = [functools.partial(ready.get_submodule(name), own) for name, own in inputs.items()]
        pruned[arm, impl] = functools.partial(_all, steps)
        if not patterns:
            torch.manual_seed(0)
            whole[arm, "torch.dense (contiguous)"] = functools.partial(fold(SmallVGG().eval()), x)
    for what, calls in (("net", whole), ("pruned layers", pruned)):
        with torch.no_grad():
            keys = {"|".join(key): call for key, call in calls.items()}
            times = interleave(keys, repeats=repeats, label=f"SmallVGG, {what}")
        for arm, impl in calls:
            case = {
                "what": what,
                "net": "SmallVGG",
                "batch": batch,
                "arm": arm,
                "sparsity": 100 * chosen[arm][0],
            }
            found.append(row("hbsnn", case, impl, 1, times[f"{arm}|{impl}"], batch, "images"))
    return found


def rounds(arms: Mapping[str, prune.Select], batch: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of all pruned layers of VGG19 in the patterns of some rules, round by round of one interleaved run.

    FP32, one thread, contiguous inputs. Layers of one size share their pattern and input; each is checked before.
    """
    torch.manual_seed(0)
    model = VGG19().eval()
    inputs = _inputs(model, torch.zeros(1, 3, 32, 32))
    made: dict[tuple[object, ...], Call] = {}
    steps: dict[str, list[Call]] = {arm: [] for arm in arms}
    for name, own in inputs.items():
        module, shape = model.get_submodule(name), tuple(own.shape[1:])
        assert isinstance(module, nn.Conv2d)
        x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(1))
        for arm, rule in arms.items():
            key = (arm, module.out_channels, *shape)
            if key not in made:
                pattern = rule(module.weight, 1.0)
                layer = BlockSparseConv2d.from_dense(module, pattern)
                with torch.no_grad():
                    _require(f"{arm} in VGG19's {name}", layer(x[:1]), _exact(module, pattern, x[:1]))
                made[key] = functools.partial(layer, x)
            steps[arm].append(made[key])
    with torch.no_grad():
        calls = {arm: functools.partial(_all, own) for arm, own in steps.items()}
        return interleave(calls, repeats=repeats, warmup=1, label="VGG19")


def _all(calls: Sequence[Call]) -> None:
    for call in calls:
        call()


def _exact(module: nn.Conv2d, pattern: Pattern, x: Tensor) -> Tensor:
    """The convolution in float64 with zeros outside the pattern."""
    weight = (module.weight * pattern.mask().view_as(module.weight)).double()
    return F.conv2d(x.double(), weight, None, module.stride, module.padding)


def _masked(patterns: Patterns) -> nn.Module:
    """The dense net in float64 with zeros outside the patterns."""
    torch.manual_seed(0)
    model = SmallVGG().eval().double()
    with torch.no_grad():
        for name, pattern in patterns.items():
            weight = model.get_submodule(name).get_parameter("weight")
            weight.mul_(pattern.mask().view_as(weight))
    return model


def _require(what: str, found: Tensor, exact: Tensor) -> None:
    """LeandnnError unless a result is within TOLERANCE."""
    distance = float((found.double() - exact).norm() / exact.norm())
    if not distance <= TOLERANCE:
        raise LeandnnError(f"{what} is wrong: {distance:.2g} away, expected at most {TOLERANCE:.2g}")
