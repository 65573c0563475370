"""Converters Q: what a policy does to the tensors around one product, as functions and autograd nodes.

y = Q(conv(Q(x), Q(w)))      dx = Q(convᵀ(Q(dy), Q(w)))      dw = conv(Q(x), Q(dy))  stays FP32
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from leandnn.bf16.policy import Rounding
from leandnn.kernels import round_to


class Converter(Protocol):
    """Rounds a float32 tensor of any shape: into `out` (x itself, for in place), or into a new tensor."""

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """The rounded tensor."""


class Converters(NamedTuple):
    """What stands around one product; None is FP32. (Weights have theirs in WorkingCopies.)"""

    activations_in: Converter | None
    activations_out: Converter | None
    data_gradients: Converter | None
    weight_gradients: Converter | None


def deterministic(rounding: Rounding) -> Converter:
    """The converter of a mode that draws nothing."""
    fmt, mode = rounding

    def convert(x: Tensor, out: Tensor | None = None) -> Tensor:
        if x.is_contiguous() or x.dim() < 2 or (out is not None and out is not x):
            return round_to(x, fmt, mode, out=out)
        # A transposed tensor without gaps is rounded as it lies in memory: ten times as fast.
        order = sorted(range(x.dim()), key=x.stride, reverse=True)
        lying = x.permute(order)
        if not lying.is_contiguous():
            return round_to(x, fmt, mode, out=out)
        if out is not None:
            round_to(lying, fmt, mode, out=lying)
            return out
        back = sorted(range(x.dim()), key=order.__getitem__)
        return round_to(lying, fmt, mode).permute(back)

    return convert


def stochastic(rounding: Rounding, seed: int) -> Converter:
    """A converter of the stochastic mode; its call number n draws the random bits of seed + n."""
    fmt, mode = rounding
    drawn = seed

    def convert(x: Tensor, out: Tensor | None = None) -> Tensor:
        nonlocal drawn
        drawn += 1
        return round_to(x, fmt, mode, seed=(drawn - 1) % 2**64, out=out)

    return convert


def first_seed(seed: int, *position: int | str) -> int:
    """Where the random bits of one pass begin: a hash of the policy's seed and the pass's position."""
    text = " ".join(map(str, (seed, *position)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


class WorkingCopies:
    """The working copy of each parameter, made at its first use and kept until the parameter changes.

    - parameters: those to keep copies of. Views of them, such as weight.t(), are views of the copies. What
      was computed from a parameter (a masked weight) is converted anew at each use.
    - convert: of the role weights, None for FP32.
    """

    def __init__(self, parameters: Iterable[Tensor], convert: Converter | None) -> None:
        self.convert = convert
        self.parameters = {
            id(p): p for p in parameters if not p.is_inference()
        }  # holding them keeps ids apart
        self.copies: dict[int, tuple[int, int, Tensor]] = {}

    def __call__(self, w: Tensor) -> Tensor:
        """The rounded weight; a new tensor, but on memory that every caller shares."""
        convert = self.convert
        if convert is None:
            return w.view_as(w)
        base = w._base
        if base is None:
            base = w
        key = id(base)
        if key not in self.parameters:
            return convert(w)
        # The version counts changes in place; an assignment to .data brings other memory.
        version, place = base._version, base.data_ptr()
        kept = self.copies.get(key)
        if kept is None or kept[0] != version or kept[1] != place:
            copy = convert(base.detach())
            if copy.stride() != base.stride():  # of a parameter with gaps, which no view can follow
                return copy if base is w else convert(w)
            kept = self.copies[key] = (version, place, copy)
        copy = kept[2]
        if base is w:
            return copy.detach()
        return copy.as_strided(w.size(), w.stride(), w.storage_offset() - base.storage_offset())


def _only_once() -> None:
    """Refuse a backward pass that is to be differentiated again: rounding has no derivative."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "backward is called with create_graph under BF16 emulation, expected without: rounded gradients have "
            "no derivative of their own"
        )


class _Operand(torch.autograd.Function):
    """A factor on its way into a product: converted forward; its gradient converted backward."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, convert: Callable[[Tensor], Tensor] | None, gradient: Converter | None
    ) -> Tensor:
        ctx.gradient = gradient
        return x.view_as(x) if convert is None else convert(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        _only_once()
        (grad,) = grads
        convert = ctx.gradient
        if convert is not None:
            if grad.is_sparse:  # of an embedding table: its rows
                grad = grad.coalesce()
                convert(grad.values(), grad.values())
            else:
                # In place: the product's backward made this gradient for this node alone. An expanded
                # gradient (stride 0) shares memory between its own elements and takes the copy.
                grad = convert(grad, grad if 0 not in grad.stride() else None)
        return grad, None, None


class _Output(torch.autograd.Function):
    """A product's result: converted forward, in place; the gradient that comes back converted before its use."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, convert: Converter | None, gradient: Converter | None) -> Tensor:
        ctx.gradient = gradient
        if convert is None:
            return y.view_as(y)
        # Not in place for a view: autograd would rebuild its history, and refuses to for custom operators.
        if y._is_view():
            return convert(y)
        ctx.mark_dirty(y)
        return convert(y, y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        _only_once()
        (grad,) = grads
        # Never in place: a residual sum hands one gradient tensor to both of its branches.
        return (grad if ctx.gradient is None else ctx.gradient(grad)), None, None


class _Linear(torch.autograd.Function):
    """F.linear between its converters as one node, since a recurrent net makes hundreds of small calls.

    The products are those of torch's own nodes, so the numbers are those of _Operand, F.linear and _Output.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, working: WorkingCopies, q: Converters
    ) -> Tensor:
        ctx.q, ctx.b_shape = q, None if b is None else b.shape
        x = x if q.activations_in is None else q.activations_in(x)
        w = working(w)
        ctx.save_for_backward(x, w)
        y = F.linear(x, w, b)
        return y if q.activations_out is None else q.activations_out(y, y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        _only_once()
        (dy,) = grads
        x, w = ctx.saved_tensors  # torch.utils.checkpoint makes them here, under an emulation of its own
        q: Converters = ctx.q
        needs_x, needs_w, needs_b, *_ = ctx.needs_input_grad
        dx = dw = db = None
        with (
            torch._C.DisableTorchFunction()
        ):  # backward() may run inside the emulation: these are no products
            if q.data_gradients is not None:
                dy = q.data_gradients(dy)  # never in place, see _Output
            shape = x.shape
            if len(shape) != 2:
                dy, x = dy.reshape(-1, w.shape[0]), x.reshape(-1, w.shape[1])
            if needs_x:
                dx = dy.mm(w)
                if q.data_gradients is not None:
                    q.data_gradients(dx, dx)
                if len(shape) != 2:
                    dx = dx.view(shape)
            if needs_w:
                dw = dy.t().mm(x)
                if q.weight_gradients is not None:
                    q.weight_gradients(dw, dw)
            if needs_b:
                db = dy.sum_to_size(ctx.b_shape)
        return dx, dw, db, None, None


operand: Callable[[Tensor, Callable[[Tensor], Tensor] | None, Converter | None], Tensor] = _Operand.apply
output: Callable[[Tensor, Converter | None, Converter | None], Tensor] = _Output.apply
linear: Callable[[Tensor, Tensor, Tensor | None, WorkingCopies, Converters], Tensor] = _Linear.apply
