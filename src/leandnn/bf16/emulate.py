"""BF16 training emulated on FP32 tensors (the role of the paper's Quantlib).

A BF16 value is an FP32 value whose lower half is zero, and the product of two of them is exact in FP32. So
rounding the operands of an FP32 product to BF16 gives what BF16 hardware with FP32 accumulation gives, up to
the order of summation. A torch-function mode intercepts the GEMM-class functions while a model runs: no
module is edited, functional calls are seen too, and autograd carries the rounding to the backward pass:

    y = Q(conv(Q(x), Q(w)))      dx = Q(convᵀ(Q(dy), Q(w)))      dw = conv(Q(x), Q(dy))  stays FP32
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from leandnn.bf16.policy import Policy
from leandnn.kernels import round_to

# Products with a weight: factors 0 and 1, and factor 1 is the weight whatever it was computed from (a masked
# or normalised parameter is still a weight, whose gradient stays FP32).
_LAYERS = frozenset(
    (
        F.linear,
        *(torch.conv1d, torch.conv2d, torch.conv3d),
        *(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
    )
)
# Products of any two tensors: a parameter of the model, or a view of one, is a weight; the rest activations.
_MATMULS = frozenset(
    (
        *(torch.matmul, torch.mm, torch.bmm, torch.mv, torch.linalg.matmul),
        *(Tensor.matmul, Tensor.mm, Tensor.bmm, Tensor.mv, Tensor.__matmul__, Tensor.__rmatmul__),
    )
)
_KEYWORDS = ("input", "weight", "other", "mat2", "vec")  # of factors, in the order of their positions

# Products this emulator has no rule for yet. Passing them on would silently compute them in FP32.
_UNSUPPORTED = frozenset(
    getattr(place, name)
    for place, names in (
        (F, "bilinear embedding_bag multi_head_attention_forward scaled_dot_product_attention"),
        (
            torch,
            "addbmm addmm addmv addr baddbmm cdist chain_matmul conv_tbc convolution dot einsum inner kron",
        ),
        (torch, "matrix_power tensordot vdot lstm gru rnn_tanh rnn_relu"),
        (torch, "lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell"),
        (torch.linalg, "matrix_power multi_dot vecdot"),
        (torch.sparse, "addmm mm"),
        (Tensor, "addbmm addmm addmv addr baddbmm dot inner matrix_power vdot"),
    )
    for name in names.split()
)


class _Operand(torch.autograd.Function):
    """A factor on its way into a product: rounded forward; its gradient rounded backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, fmt: str | None, grad_fmt: str | None) -> Tensor:
        ctx.grad_fmt = grad_fmt
        return x.view_as(x) if fmt is None else round_to(x, fmt)

    @staticmethod
    @once_differentiable  # rounding has no derivative: a second backward pass is refused, not left wrong
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        # In place: the product's backward made this gradient for this node alone. An expanded gradient
        # (stride 0) shares memory between its own elements and takes the copy.
        fmt = ctx.grad_fmt
        if fmt is not None:
            grad = round_to(grad, fmt, out=grad if 0 not in grad.stride() else None)
        return grad, None, None


class _Output(torch.autograd.Function):
    """A product's result: rounded forward in place; the gradient that comes back rounded before its use."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, fmt: str | None, grad_fmt: str | None) -> Tensor:
        ctx.grad_fmt = grad_fmt
        if fmt is None:
            return y.view_as(y)
        ctx.mark_dirty(y)
        return round_to(y, fmt, out=y)

    @staticmethod
    @once_differentiable  # rounding has no derivative: a second backward pass is refused, not left wrong
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        # Never in place: a residual sum hands one gradient tensor to both of its branches.
        return (grad if ctx.grad_fmt is None else round_to(grad, ctx.grad_fmt)), None, None


_operand: Callable[[Tensor, str | None, str | None], Tensor] = _Operand.apply
_output: Callable[[Tensor, str | None, str | None], Tensor] = _Output.apply


class _Emulation(TorchFunctionMode):
    def __init__(self, weights: set[int], policy: Policy) -> None:
        super().__init__()
        self.weights, self.policy = weights, policy

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _UNSUPPORTED:
            raise NotImplementedError(
                f"BF16 emulation has no rule for {func.__name__}; it would stay FP32 unseen"
            )
        if func not in _LAYERS and func not in _MATMULS:
            return func(*args, **kwargs)
        factors = list(args)
        for name in _KEYWORDS:
            if name in kwargs:
                factors.append(kwargs.pop(name))
        factors[0] = self.operand(factors[0], is_weight=self.owns(factors[0]))
        factors[1] = self.operand(factors[1], is_weight=func in _LAYERS or self.owns(factors[1]))
        product = func(*factors, **kwargs)
        return _output(product, self.policy.activations, self.policy.gradients)

    def owns(self, x: Tensor) -> bool:
        """Whether x is a parameter of the model, or a view of one such as weight.t()."""
        return id(x._base if x._is_view() and x._base is not None else x) in self.weights

    def operand(self, x: Tensor, is_weight: bool) -> Tensor:
        policy = self.policy
        if is_weight:
            return _operand(x, policy.weights, None)
        return _operand(x, policy.activations, policy.gradients)


@contextmanager
def emulate(model: nn.Module, policy: Policy) -> Iterator[nn.Module]:
    """Run `model` (and any functional calls inside the block) with every product rounded as `policy` says.

    - model: any module. Weights are its parameters (and views of them) and whatever a linear or convolution
      function gets as its weight; their gradients stay FP32. All other factors are activations.
    - policy: formats by role; Policy.fp32() changes nothing.

    Wrap the forward pass (and the loss); the backward pass may run inside or outside. All tensors stay
    float32. A model that recomputes activations (torch.utils.checkpoint) needs
    `context_fn=lambda: (nullcontext(), emulate(model, policy))` there, or its second forward pass is FP32.

    Raises NotImplementedError at a product it has no rule for (recurrent layers, attention, einsum). Code
    that torch.jit has compiled, and other threads, are not seen.
    """
    if policy == Policy.fp32():
        yield model
        return
    with _Emulation({id(p) for p in model.parameters()}, policy):
        yield model
