"""The products of a sparse convolution: forward, input gradient, gradient of the values.

`sizes` is [kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w] throughout.
"""

from __future__ import annotations

import functools
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

from leandnn.kernels import dispatch
from leandnn.kernels.panels import reference
from leandnn.kernels.panels.plan import DTYPES, Plan, address_of, check_bias, check_values


class Window(TypedDict):
    """How a kernel moves: keywords of torch's functions and ours."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


def named(sizes: list[int]) -> tuple[tuple[int, int], Window]:
    """(kernel size, the other sizes by name)."""
    kernel, stride, padding, dilation = ((sizes[i], sizes[i + 1]) for i in (0, 2, 4, 6))
    return kernel, Window(stride=stride, padding=padding, dilation=dilation)


def output_size(plan: Plan, x_shape: tuple[int, ...], sizes: list[int]) -> tuple[int, int]:
    """(height, width) of the output; ValueError where x, the kernel and the plan do not fit."""
    least = (1, 1, 1, 1, 0, 0, 1, 1)
    if len(sizes) != 8 or not all(low <= size < 1 << 31 for low, size in zip(least, sizes, strict=True)):
        raise ValueError(f"the sizes are {sizes}, expected 8 of at least {least}, below 2^31")
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w = sizes
    if len(x_shape) != 4:
        raise ValueError(f"x has shape {tuple(x_shape)}, expected images × channels × height × width")
    if (columns := x_shape[1] * kernel_h * kernel_w) != plan.shape[1]:
        raise ValueError(f"x's channels and the kernel make {columns} columns, expected {plan.shape[1]}")
    height = (x_shape[2] + 2 * pad_h - dilation_h * (kernel_h - 1) - 1) // stride_h + 1
    width = (x_shape[3] + 2 * pad_w - dilation_w * (kernel_w - 1) - 1) // stride_w + 1
    if height < 1 or width < 1 or height * width >= 1 << 31:
        raise ValueError(
            f"the output would have {height} × {width} pixels, expected at least 1 × 1, below 2^31 in all"
        )
    return height, width


@functools.lru_cache(maxsize=256)
def _geometry(x_shape: tuple[int, ...], sizes: tuple[int, ...], out: tuple[int, int]) -> Any:
    from leandnn.kernels import _native

    numbers: list[int] = [*x_shape, *sizes, *out]
    return _native.Geometry(*numbers)


def _checked(plan: Plan, x: Tensor, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if tuple(x.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(x.shape)}, expected {shape}")
    if x.dtype != dtype or x.device.type != "cpu":
        raise ValueError(f"{name} is {x.dtype} on {x.device}, expected {dtype} on cpu")
    if not x.is_contiguous():
        raise ValueError(f"{name} has strides {x.stride()}, expected contiguous images × channels × pixels")
    address_of(x, name)


def forward(
    plan: Plan, values: Tensor, x: Tensor, bias: Tensor | None, relu: bool, sizes: list[int]
) -> Tensor:
    """Relu(conv2d(x, W) + bias), images × M × height × width; ValueError for what does not fit."""
    check_values(plan, values)
    out = output_size(plan, x.shape, sizes)
    _checked(plan, x, "x", values.dtype, tuple(x.shape))
    if bias is not None:
        check_bias(plan, bias, values.dtype)
    if dispatch.native() is None:
        kernel, window = named(sizes)
        return reference.conv2d(plan.panels, values, x, bias, relu, kernel, **window)
    y = x.new_empty((x.shape[0], plan.shape[0], *out))
    native, own = plan.forward_values(values)
    wide = None if bias is None else bias.float().contiguous()
    bf16 = values.dtype == torch.bfloat16
    native.conv(
        own.data_ptr(),
        x.data_ptr(),
        bf16,
        _geometry(tuple(x.shape), tuple(sizes), out),
        y.data_ptr(),
        bf16,
        0 if wide is None else wide.data_ptr(),
        relu,
        torch.get_num_threads(),
    )
    return y


def input_gradient(plan: Plan, values: Tensor, dy: Tensor, x_shape: list[int], sizes: list[int]) -> Tensor:
    """The gradient of the input from dy (images × M × height × width, contiguous)."""
    check_values(plan, values)
    out = output_size(plan, tuple(x_shape), sizes)
    _checked(plan, dy, "dy", values.dtype, (x_shape[0], plan.shape[0], *out))
    if dispatch.native() is None:
        kernel, window = named(sizes)
        weight = reference.dense(plan.panels, values).view(plan.shape[0], -1, *kernel)
        dx: Tensor = conv2d_input(x_shape, weight, dy, **window)
        return dx
    dx = torch.empty(x_shape, dtype=torch.float32, device="cpu")  # patches meet in a pixel and add up
    own = values.float()
    plan.native_transposed.conv_transposed(
        own.data_ptr(),
        dy.data_ptr(),
        dy.dtype == torch.bfloat16,
        _geometry(tuple(x_shape), tuple(sizes), out),
        dx.data_ptr(),
        torch.get_num_threads(),
    )
    return dx.to(dy.dtype)


def values_gradient(plan: Plan, dy: Tensor, x: Tensor, sizes: list[int]) -> Tensor:
    """The gradient of the values (nnz) from dy and the input x, both contiguous."""
    out = output_size(plan, x.shape, sizes)
    if x.dtype not in DTYPES:
        raise ValueError(f"x has dtype {x.dtype}, expected {' or '.join(map(str, DTYPES))}")
    _checked(plan, x, "x", x.dtype, tuple(x.shape))
    _checked(plan, dy, "dy", x.dtype, (x.shape[0], plan.shape[0], *out))
    if dispatch.native() is None:
        kernel, window = named(sizes)
        size = [plan.shape[0], x.shape[1], *kernel]
        grad: Tensor = conv2d_weight(x, size, dy, **window)
        rows, columns = (torch.from_numpy(c) for c in plan.panels.coordinates())
        return grad.flatten(1)[rows, columns]
    found = torch.empty(plan.nnz, dtype=torch.float32, device="cpu")
    plan.native.conv_sampled(
        dy.data_ptr(),
        dy.dtype == torch.bfloat16,
        x.data_ptr(),
        _geometry(tuple(x.shape), tuple(sizes), out),
        found.data_ptr(),
        torch.get_num_threads(),
    )
    return found.to(dy.dtype)
