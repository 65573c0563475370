"""Differentiable products with a sparse matrix W: `linear`, `matmul`, `conv2d`.

Gradients are sparse too: dX = Wᵀ·dY, dW = dY·Xᵀ on the pattern only. They are torch operators
(torch.ops.leandnn.panels_*) with shapes for fake tensors, so torch.compile takes them as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leandnn.kernels import dispatch
from leandnn.kernels.panels import convolution
from leandnn.kernels.panels import plan as plans
from leandnn.kernels.panels.plan import Plan, Prepared

__all__ = ["Plan", "conv2d", "linear", "matmul"]


def linear(values: Tensor, x: Tensor, plan: Plan, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """Relu(x · Wᵀ + bias), as torch.nn.functional.linear with a sparse weight.

    - values: nnz numbers of W (M × K) in the order of storage, float32 or bfloat16.
    - x: (…, K), of values' dtype. bias: (M,) of that dtype, or None.

    Returns (…, M). Raises ValueError for sizes, dtypes or devices that do not fit, with both values.
    """
    if x.dim() == 0 or x.shape[-1] != plan.shape[1]:
        raise ValueError(f"x has shape {tuple(x.shape)}, expected (…, {plan.shape[1]})")
    tokens = _in_unit_steps(x.reshape(-1, plan.shape[1]))
    y = torch.ops.leandnn.panels_product(values, tokens.t(), bias, plan.number, relu)
    return y.t().reshape(*x.shape[:-1], plan.shape[0])  # type: ignore[no-any-return]


def matmul(values: Tensor, x: Tensor, plan: Plan, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """Relu(W · x + bias[:, None]) for feature-major x of K × N; returns M × N. Otherwise as linear."""
    x = _in_unit_steps(x)
    return torch.ops.leandnn.panels_product(values, x, bias, plan.number, relu)  # type: ignore[no-any-return]


def _in_unit_steps(x: Tensor) -> Tensor:
    """X, or a copy of it where neither dimension has a stride of 1."""
    return x if 1 in x.stride() else x.contiguous()


def _pair(value: int | Sequence[int], name: str, least: int) -> list[int]:
    found = list(value) if isinstance(value, Sequence) else [value, value]
    if len(found) != 2 or not all(isinstance(v, (int, np.integer)) and v >= least for v in found):
        raise ValueError(f"{name} is {value}, expected one or two integers of at least {least}")
    return [int(v) for v in found]


def conv2d(
    values: Tensor,
    x: Tensor,
    plan: Plan,
    bias: Tensor | None = None,
    *,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    relu: bool = False,
) -> Tensor:
    """Relu(conv2d(x, W) + bias), as torch.nn.functional.conv2d with a sparse weight and one group.

    - values: nnz numbers of W, whose columns are in the order of weight.flatten(1): (channel, y, x).
    - x: images × channels × height × width, contiguous or made so, of values' dtype.

    The patch matrix never exists as a whole: a forward product whose output is a multiple of 8 pixels wide reads the
    images themselves (float32), others gather patches in blocks of at most 48 columns, the gradient of the values 256
    or 512. Returns images × M × out height × out width. Errors as of linear.
    """
    sizes = [
        *_pair(kernel_size, "kernel_size", 1),
        *_pair(stride, "stride", 1),
        *_pair(padding, "padding", 0),
        *_pair(dilation, "dilation", 1),
    ]
    return torch.ops.leandnn.panels_conv2d(values, x.contiguous(), bias, plan.number, relu, sizes)  # type: ignore[no-any-return]


# --- the operators -----------------------------------------------------------------------------------------
# x and y are K × N and M × N with unit stride in either dimension; `plan` is a plan's number.


def _is_token_major(x: Tensor) -> bool:
    return x.stride(0) == 1 and x.stride(1) != 1


def _by_triton(x: Tensor) -> bool:
    return x.device.type == "cuda" or dispatch.active() == "triton"


def _empty(rows: int, like: Tensor) -> Tensor:
    """Rows × N in the layout of `like`, a matrix of N columns."""
    if like.dim() != 2:
        raise ValueError(f"x has shape {tuple(like.shape)}, expected two dimensions")
    columns = like.shape[1]
    return like.new_empty((columns, rows)).t() if _is_token_major(like) else like.new_empty((rows, columns))


@torch.library.custom_op("leandnn::panels_product", mutates_args=())
def _product(values: Tensor, x: Tensor, bias: Tensor | None, plan: int, relu: bool) -> Tensor:
    own = plans.find(plan)
    if _by_triton(x):
        from leandnn.kernels.panels import gpu

        y = _empty(own.shape[0], x)
        return gpu.forward(own.gpu_index(x.device), values, x, bias, relu, out=y)
    return Prepared(own, values, bias, relu=relu)(x)


@torch.library.custom_op("leandnn::panels_transposed", mutates_args=())
def _transposed(values: Tensor, dy: Tensor, plan: int) -> Tensor:
    own = plans.find(plan)
    if _by_triton(dy):
        from leandnn.kernels.panels import gpu

        index = own.gpu_index(dy.device)
        if _is_token_major(dy):
            return gpu.grad_x(index, values, dy.t(), token_major=True).t()
        return gpu.grad_x(index, values, dy)
    return own.transposed_product(values, dy, out=_empty(own.shape[1], dy))


@torch.library.custom_op("leandnn::panels_sampled", mutates_args=())
def _sampled(dy: Tensor, x: Tensor, plan: int) -> Tensor:
    own = plans.find(plan)
    if _by_triton(x):
        from leandnn.kernels.panels import gpu

        return gpu.grad_values(own.gpu_index(x.device), dy, x)
    return own.sampled_product(dy, x)


@torch.library.custom_op("leandnn::panels_conv2d", mutates_args=())
def _conv2d(
    values: Tensor, x: Tensor, bias: Tensor | None, plan: int, relu: bool, sizes: list[int]
) -> Tensor:
    own = plans.find(plan)
    if _by_triton(x):
        from leandnn.kernels.panels import gpu

        kernel, window = convolution.named(sizes)
        return gpu.conv2d(own.gpu_index(x.device), values, x, kernel, bias, relu, **window)
    return convolution.forward(own, values, x, bias, relu, sizes)


@torch.library.custom_op("leandnn::panels_conv2d_input", mutates_args=())
def _conv2d_input(values: Tensor, dy: Tensor, x_shape: list[int], plan: int, sizes: list[int]) -> Tensor:
    own = plans.find(plan)
    if _by_triton(dy):
        from leandnn.kernels.panels import gpu

        kernel, window = convolution.named(sizes)
        height, width = x_shape[2:]
        return gpu.conv2d_grad_x(own.gpu_index(dy.device), values, dy, (height, width), kernel, **window)
    return convolution.input_gradient(own, values, dy, x_shape, sizes)


@torch.library.custom_op("leandnn::panels_conv2d_values", mutates_args=())
def _conv2d_values(dy: Tensor, x: Tensor, plan: int, sizes: list[int]) -> Tensor:
    own = plans.find(plan)
    if _by_triton(x):
        from leandnn.kernels.panels import gpu

        kernel, window = convolution.named(sizes)
        return gpu.conv2d_grad_values(own.gpu_index(x.device), dy, x, kernel, **window)
    return convolution.values_gradient(own, dy, x, sizes)


# --- their shapes ------------------------------------------------------------------------------------------


@_product.register_fake
def _(values: Tensor, x: Tensor, bias: Tensor | None, plan: int, relu: bool) -> Tensor:
    return _empty(plans.find(plan).shape[0], x)


@_transposed.register_fake
def _(values: Tensor, dy: Tensor, plan: int) -> Tensor:
    return _empty(plans.find(plan).shape[1], dy)


@_sampled.register_fake
def _(dy: Tensor, x: Tensor, plan: int) -> Tensor:
    return x.new_empty((plans.find(plan).nnz,))


@_conv2d.register_fake
def _(values: Tensor, x: Tensor, bias: Tensor | None, plan: int, relu: bool, sizes: list[int]) -> Tensor:
    own = plans.find(plan)
    return x.new_empty((x.shape[0], own.shape[0], *convolution.output_size(own, x.shape, sizes)))


@_conv2d_input.register_fake
def _(values: Tensor, dy: Tensor, x_shape: list[int], plan: int, sizes: list[int]) -> Tensor:
    return dy.new_empty(x_shape)


@_conv2d_values.register_fake
def _(dy: Tensor, x: Tensor, plan: int, sizes: list[int]) -> Tensor:
    return x.new_empty((plans.find(plan).nnz,))


# --- their gradients ---------------------------------------------------------------------------------------


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    values, x, bias, ctx.plan, ctx.relu, *rest = inputs
    ctx.sizes = rest[0] if rest else None
    ctx.has_bias = bias is not None
    ctx.save_for_backward(values, x, *([output] if ctx.relu else []))
    if not torch.compiler.is_compiling():
        ctx.keep = plans.find(ctx.plan)  # alive until the gradient is taken


def _through_relu(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(values, x, dy before the ReLU)."""
    values, x, *output = ctx.saved_tensors
    return values, x, torch.ops.aten.threshold_backward(dy, output[0], 0) if output else dy


def _product_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    values, x, dy = _through_relu(ctx, dy)
    if 1 not in dy.stride():  # an expanded gradient, as of sum()
        dy = dy.contiguous()
    needs = ctx.needs_input_grad
    return (
        torch.ops.leandnn.panels_sampled(dy, x, ctx.plan) if needs[0] else None,
        torch.ops.leandnn.panels_transposed(values, dy, ctx.plan) if needs[1] else None,
        dy.sum(1) if ctx.has_bias and needs[2] else None,
        None,
        None,
    )


def _conv2d_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    values, x, dy = _through_relu(ctx, dy)
    dy, needs = dy.contiguous(), ctx.needs_input_grad
    return (
        torch.ops.leandnn.panels_conv2d_values(dy, x, ctx.plan, ctx.sizes) if needs[0] else None,
        torch.ops.leandnn.panels_conv2d_input(values, dy, list(x.shape), ctx.plan, ctx.sizes)
        if needs[1]
        else None,
        dy.sum((0, 2, 3)) if ctx.has_bias and needs[2] else None,
        None,
        None,
        None,
    )


_product.register_autograd(_product_backward, setup_context=_save)
_conv2d.register_autograd(_conv2d_backward, setup_context=_save)
