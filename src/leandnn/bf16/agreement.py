"""How near emulated products are to this machine's own BF16 (torch.autocast: oneDNN on a CPU), and why not nearer.

Both round the same operands to BF16, and products of BF16 numbers are exact in FP32. What may differ is the
order in which FP32 sums are taken, which can move a sum that lies next to a rounding boundary to its other side;
and what is rounded besides: autocast rounds the bias and the weight gradient, the paper's flow neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.bf16.emulate import emulate
from leandnn.bf16.policy import Policy
from leandnn.kernels import round_to

Call = Callable[..., Tensor]


@dataclass(frozen=True)
class Agreement:
    """One tensor of one operation, computed in two ways and compared as BF16 numbers.

    - operation, tensor: e.g. "conv2d" and its result "y", or the gradients "dx" and "dw".
    - compared: "emulated, native", "emulated, exact" or "native, exact"; exact is summed in float64 and
      rounded once. Numbers that are FP32 in one of the two (the emulated dw) are rounded first.
    - values; equal: share of them with the same bits.
    - mean_ulp, max_ulp: distance in units of the last place of the larger of the two.
    - explained: of the unequal values, the share whose exact sum is so near to a rounding boundary that the
      order of an FP32 summation can decide; NaN if all are equal. The bound is that of any order:
      terms · 2^-24 · Σ|products|.
    - near: of all values, the share that lies as near, so what `explained` would be by chance.
    """

    operation: str
    tensor: str
    compared: str
    values: int
    equal: float
    mean_ulp: float
    max_ulp: float
    explained: float
    near: float


@dataclass(frozen=True)
class _Case:
    """An operation on x and w, and how many products one number of y, dx and dw sums.

    - bias: None, or whether the bias has FP32 or BF16 numbers.
    """

    name: str
    call: Call
    x: tuple[int, ...]
    w: tuple[int, ...]
    terms: tuple[int, int, int]
    bias: Literal["FP32", "BF16"] | None = None


CASES = (
    _Case("linear", F.linear, (128, 256), (64, 256), (256, 64, 128)),
    _Case("linear, FP32 bias", F.linear, (128, 256), (64, 256), (257, 64, 128), bias="FP32"),
    _Case("linear, BF16 bias", F.linear, (128, 256), (64, 256), (257, 64, 128), bias="BF16"),
    _Case(
        "conv2d",
        lambda x, w: F.conv2d(x, w, padding=1),
        *((8, 16, 16, 16), (32, 16, 3, 3), (16 * 9, 32 * 9, 8 * 256)),
    ),
    _Case(
        "conv_transpose2d",
        lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1),
        *((8, 16, 16, 16), (16, 32, 4, 4), (16 * 4, 32 * 16, 8 * 256)),
    ),
    _Case("matmul", torch.matmul, (8, 64, 128), (8, 128, 64), (128, 64, 64)),
)


def agreement(seed: int = 0) -> list[Agreement]:
    """Emulated, native and exact results of each operation, compared pairwise: six operations in a second.

    - seed: of the operands, which are drawn from a generator of their own.

    The native numbers are this machine's and this torch's: another CPU may sum in another order.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for case in CASES:
        x = torch.randn(case.x, generator=generator)
        w = torch.randn(case.w, generator=generator) / case.terms[0] ** 0.5
        bias = torch.randn(case.w[0], generator=generator)
        b = () if case.bias is None else (round_to(bias, "bf16") if case.bias == "BF16" else bias,)
        dy = torch.randn(case.call(x, w, *b).shape, generator=generator)
        emulated = _step(case.call, x, w, b, dy, native=False)
        native = _step(case.call, x, w, b, dy, native=True)
        operands = [*(round_to(t, "bf16").double() for t in (x, w, dy)), *(t.double() for t in b)]
        exact = _gradients(case.call, *operands)
        sizes = _gradients(case.call, *(t.abs() for t in operands))
        for i, tensor in enumerate(("y", "dx", "dw")):
            slack = case.terms[i] * 2.0**-24 * sizes[i]
            ways = {"emulated": emulated[i], "native": native[i], "exact": _nearest(exact[i])}
            for one, other in (("emulated", "native"), ("emulated", "exact"), ("native", "exact")):
                rows.append(
                    _compare(case.name, tensor, f"{one}, {other}", ways[one], ways[other], exact[i], slack)
                )
    return rows


def to_markdown(rows: Sequence[Agreement]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "operation | tensor | compared | equal | mean ulp | largest ulp | within the bound of any order | of all values"
    ]
    lines.append(" | ".join(["---"] * 8))
    for r in rows:
        explained = "–" if r.equal == 1 else f"{r.explained:.0%}"
        shares = f"{r.equal:.3%} | {r.mean_ulp:.1e} | {r.max_ulp:.3g} | {explained} | {r.near:.0%}"
        lines.append(f"{r.operation} | {r.tensor} | {r.compared} | {shares}")
    return "\n".join(f"| {line} |" for line in lines)


def _step(
    call: Call, x: Tensor, w: Tensor, b: tuple[Tensor, ...], dy: Tensor, *, native: bool
) -> list[Tensor]:
    """Result and gradients, float64, of values that BF16 has."""
    x, weight = x.clone().requires_grad_(), nn.Parameter(w.clone())
    if native:
        with torch.autocast("cpu", torch.bfloat16):
            y = call(x, weight, *b)
        dy = dy.to(y.dtype)
    else:
        with emulate(nn.ParameterList([weight]), Policy.paper()):
            y = call(x, weight, *b)
    dx, dw = torch.autograd.grad(y, (x, weight), dy)
    return [round_to(t.detach().float(), "bf16").double() for t in (y, dx, dw)]


def _gradients(call: Call, x: Tensor, w: Tensor, dy: Tensor, *b: Tensor) -> list[Tensor]:
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    y = call(x, w, *b)
    return [y.detach(), *torch.autograd.grad(y, (x, w), dy)]


def _nearest(x: Tensor) -> Tensor:
    """Float64 rounded once to eight significant bits, ties to even (BF16 but for its range)."""
    mantissa, exponent = torch.frexp(x)
    return torch.ldexp((mantissa * 256).round() / 256, exponent)


def _spacing(x: Tensor) -> Tensor:
    """The unit of the last of eight significant bits."""
    _, exponent = torch.frexp(x)
    return torch.ldexp(torch.full_like(x, 2.0**-8), exponent)


def _compare(
    operation: str, tensor: str, compared: str, a: Tensor, b: Tensor, exact: Tensor, slack: Tensor
) -> Agreement:
    ulps = (a - b).abs() / _spacing(torch.maximum(a.abs(), b.abs()))
    differ = a != b
    # The boundaries of rounding are the midpoints between neighbours.
    steps = exact / _spacing(exact)
    to_boundary = ((steps - steps.floor()) - 0.5).abs() * _spacing(exact)
    near = (to_boundary <= slack).double()
    return Agreement(
        operation,
        tensor,
        compared,
        values=a.numel(),
        equal=float((~differ).double().mean()),
        mean_ulp=float(ulps.mean()),
        max_ulp=float(ulps.max()),
        explained=float(near[differ].mean()),  # NaN of none
        near=float(near.mean()),
    )
