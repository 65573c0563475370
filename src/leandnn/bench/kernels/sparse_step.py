"""What sparse layers save in training: one step of VGG19 at full width, batch 32, FP32, one thread.

A step is forward, backward and an update by SGD with momentum. In the same interleaved run: the dense net in
both memory layouts, the dense net with masked weights (weight · mask in the forward product, so that gradients
are masked too), and the dense net under torch's BF16 autocast, which is what a CPU with BF16 products would be
used for. The sparse net is the masked one after `convert`: its parameters are the non-zeros. The first
convolution (3 channels) and the classifier are dense in all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.bench.benchfile import Row
from leandnn.bench.kernels.targets import STEPS
from leandnn.bench.timing import interleave, row
from leandnn.blocksparse import BlockSparseConv2d, Pattern, convert
from leandnn.errors import LeandnnError
from leandnn.machine import determinism
from leandnn.models.vgg import VGG19

BATCH = 32
REPEAT, BLOCK = (4, 2), (4, 4)
REPEATS, QUICK_REPEATS = 20, 5
QUICK_CHECK = 8  # images of the check: float64 convolutions are slow
LAYER_TOLERANCE, NET_TOLERANCE = 2.0**-18, 0.05  # of gradients; see _check
Patterns = dict[str, Pattern]
Context = Callable[[], AbstractContextManager[Any]]


class MaskedConv2d(nn.Conv2d):
    """nn.Conv2d that multiplies its weight by a constant mask in every forward pass."""

    mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """The convolution with weight · mask."""
        return F.conv2d(x, self.weight * self.mask, None, self.stride, self.padding)


def _net() -> nn.Module:
    """The net, with the same weights every time."""
    torch.manual_seed(0)
    return VGG19()


def _patterns(sparsity: float) -> Patterns:
    """An RBGP4 pattern for every convolution but the first, by the layer's name."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        name: module.weight.flatten(1).shape
        for name, module in _net().named_modules()
        if isinstance(module, nn.Conv2d) and module.in_channels > 3
    }
    found = {}
    for name, (rows, columns) in shapes.items():
        # Of a column, one panel at least: 64 rows at 87.5 % leave room for panels of 8 rows, not of 16.
        height = min(REPEAT[0], int(rows * (1 - sparsity / 100)) // BLOCK[0])
        repeat = (height, REPEAT[1])
        found[name] = Pattern.random_product(rows, columns, sparsity / 100, repeat, BLOCK, generator)
    return found


def _masked(patterns: Patterns) -> nn.Module:
    """The net with masked convolutions."""
    model = _net()
    for name, pattern in patterns.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        layer.__class__ = MaskedConv2d
        layer.register_buffer("mask", pattern.mask().reshape(layer.weight.shape).to(layer.weight.dtype))
    return model


class _Step:
    """A net, its optimizer and a fixed batch; calling it makes one update."""

    def __init__(
        self,
        model: nn.Module,
        *,
        batch: int = BATCH,
        context: Context = nullcontext,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self.model = model.to(memory_format=layout)  # type: ignore[call-overload]
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(batch, 3, 32, 32, generator=generator)
        self.images = images.contiguous(memory_format=layout)
        self.labels = torch.randint(10, (batch,), generator=generator)
        self.context = context

    def gradients(self) -> dict[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        with self.context():
            logits = self.model(self.images)
        F.cross_entropy(logits.float(), self.labels).backward()
        return {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}

    def __call__(self) -> None:
        self.gradients()
        self.optimizer.step()


def _sparse_gradients(gradients: dict[str, Tensor], patterns: Patterns) -> dict[str, Tensor]:
    """The gradients of a masked net, named and ordered as those of the sparse net."""
    found = {}
    for name, gradient in gradients.items():
        layer = name.removesuffix(".weight")
        if layer in patterns:
            found[f"{layer}.values"] = patterns[layer].gather(gradient)
        else:
            found[name] = gradient
    return found


def _check(patterns: Patterns, batch: int) -> None:
    """The measured step is right: its gradients for `batch` images are those of the masked net.

    Two rules, both of distances relative to the size. Of every sparse layer, given the input and the output's
    gradient that it met in the step: output, input's gradient and gradient on the pattern are within
    LAYER_TOLERANCE of float64's with the masked weight. Of the whole net: every parameter's gradient is within
    NET_TOLERANCE of the masked net's, no closer because a ReLU or max-pool whose inputs nearly tie may fall
    either way.
    """
    step = _Step(convert(_net(), patterns), batch=batch)
    met: dict[str, dict[str, Tensor]] = {name: {} for name in patterns}
    for name in patterns:
        step.model.get_submodule(name).register_forward_hook(functools.partial(_keep, met[name]))
    ours = step.gradients()
    for name, pattern in patterns.items():
        layer, own = step.model.get_submodule(name), met[name]
        assert isinstance(layer, BlockSparseConv2d)
        x = own["x"].double().requires_grad_()
        weight = layer.to_dense().weight.detach().double().requires_grad_()
        y = F.conv2d(x, weight, None, layer.stride, layer.padding)
        dx, dw = torch.autograd.grad(y, (x, weight), own["dy"].double())
        exact = {"output": y.detach(), "input gradient": dx, "gradient": pattern.gather(dw)}
        found = {"output": own["y"], "input gradient": own["dx"], "gradient": ours[f"{name}.values"]}
        for what in exact:
            _require(f"{what} of {name}", found[what], exact[what], LAYER_TOLERANCE)
    masked = _sparse_gradients(_Step(_masked(patterns), batch=batch).gradients(), patterns)
    for name, gradient in masked.items():
        _require(f"gradient of {name}", ours[name], gradient, NET_TOLERANCE)


def _keep(met: dict[str, Tensor], layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
    """A forward hook that notes what a layer met in a step: x, y and, once they are known, dx, dy."""
    met["x"], met["y"] = inputs[0].detach().clone(), output.detach().clone()
    inputs[0].register_hook(lambda gradient: met.update(dx=gradient))
    output.register_hook(lambda gradient: met.update(dy=gradient))


def _require(what: str, found: Tensor, exact: Tensor, allowed: float) -> None:
    distance = float((found.double() - exact).norm() / exact.norm())
    if not distance <= allowed:
        raise LeandnnError(
            f"the sparse step's {what} is wrong: {distance:.2g} away, expected at most {allowed:.2g}"
        )


def _autocast() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16)


def _rows(sparsity: float, repeats: int, checked: int) -> list[Row]:
    patterns = _patterns(sparsity)
    _check(patterns, checked)
    sparse = convert(_net(), patterns)
    if sum(isinstance(m, BlockSparseConv2d) for m in sparse.modules()) != len(patterns):
        raise LeandnnError("not every pattern became a sparse layer")
    calls: dict[str, Callable[[], object]] = {
        "leandnn": _Step(sparse),
        "torch.dense": _Step(_net()),
        "torch.dense (channels last)": _Step(_net(), layout=torch.channels_last),
        "torch.masked": _Step(_masked(patterns)),
        "torch.autocast": _Step(_net(), context=_autocast),
    }
    times = interleave(calls, repeats=repeats, warmup=2, label=f"sparse-step {sparsity}")
    case = {"net": "VGG19", "batch": BATCH, "sparsity": sparsity, "pattern": "rbgp4"}
    return [row("sparse-step", case, name, 1, t, BATCH, "images") for name, t in times.items()]


def rows(quick: bool) -> list[Row]:
    """Measured rows; leaves torch at one thread. Quick: only 75 %, 5 repeats."""
    determinism.configure(seed=0, threads=1)
    if quick:
        return _rows(next(iter(STEPS)), QUICK_REPEATS, QUICK_CHECK)
    return [row for sparsity in STEPS for row in _rows(sparsity, REPEATS, BATCH)]


def summary(rows: list[Row]) -> str:
    """How many times faster than its peers the sparse step is; of the dense layouts the faster counts."""
    lines = []
    for mine in (r for r in rows if r["impl"] == "leandnn"):
        sparsity = mine["case"]["sparsity"]
        times = {r["impl"]: r["median_s"] / mine["median_s"] for r in rows if r["case"] == mine["case"]}
        dense = min(ratio for impl, ratio in times.items() if impl.startswith("torch.dense"))
        lines.append(
            f"{sparsity} % sparse: {dense:.2f} × faster than dense FP32, "
            f"{times['torch.masked']:.2f} × than masked FP32, {times['torch.autocast']:.2f} × than dense BF16 "
            f"(autocast); medians of n = {mine['n']}"
        )
    return "\n".join(lines)
