"""Panel products on a GPU, by Triton kernels written for the pattern's four factors.

G_o skips empty tiles; G_i's offsets are shared by all tiles, so they are read once per program and held on
chip; G_r and G_b let a loaded input serve R rows, as one dense product per panel on the tensor cores, or by
expanding whole tiles on chip where R is small (`PanelsIndex.choose`). The design follows RBGP4MM of arXiv
2006.13486 as far as its abstract and figures tell; its code is not public.

Sums are FP32. FP32 operands are multiplied as TF32 if torch.backends.cuda.matmul.allow_tf32 says so.
Operands are float32 or bfloat16, all alike (the bias: any float). A product on expanded tiles multiplies
zeros too: an infinite input gives NaN in rows that do not use it, as in a dense product with a masked matrix.
Nothing here uses atomics; with torch.use_deterministic_algorithms block sizes are fixed too.

Triton is imported by the first product. With TRITON_INTERPRET=1 set before, CPU tensors work, slowly.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from leandnn.kernels.panels.gpu_index import Operand, PanelsIndex, output_size

__all__ = [
    "PanelsIndex",
    "conv2d",
    "conv2d_grad_values",
    "conv2d_grad_x",
    "forward",
    "grad_values",
    "grad_x",
    "transposed_values",
]

Pair = tuple[int, int]
DTYPES = (torch.float32, torch.bfloat16)


def forward(
    panels_index: PanelsIndex,
    values: Tensor,
    x: Tensor,
    bias: Tensor | None = None,
    relu: bool = False,
    token_major: bool = False,
    out: Tensor | None = None,
    *,
    variant: str | None = None,
) -> Tensor:
    """Y = W·X, plus bias, then ReLU, in one kernel.

    - values: (nnz,) in storage order. bias: (M,) or None.
    - x: (K, N), or (N, K) if token_major; any strides, any N.
    - out: where to write, (M, N) or (N, M); a new tensor if None.
    - variant: "panels", "tiles" or "rows" instead of the one that `PanelsIndex.choose` names.

    Returns Y, (M, N) or (N, M), of x's dtype. Raises ValueError for other shapes, dtypes or devices.
    """
    rows, columns = panels_index.panels.shape
    _check_values(panels_index, values)
    source = _matrix("x", x, columns, token_major, values)
    shape = (source.tokens, rows) if token_major else (rows, source.tokens)
    if out is None:
        out = x.new_empty(shape)
    elif out.shape != shape or out.dtype != x.dtype or out.device != x.device:
        raise ValueError(
            f"out is {out.dtype} {tuple(out.shape)} on {out.device}, expected {x.dtype} {shape} on {x.device}"
        )
    _check_bias(bias, rows, x)
    _product(panels_index, values, source, Operand.matrix(out, token_major), bias, relu, variant)
    return out


def grad_x(
    panels_index: PanelsIndex,
    values: Tensor,
    dy: Tensor,
    token_major: bool = False,
    *,
    variant: str | None = None,
) -> Tensor:
    """dX = Wᵀ·dY: the forward product with the transposed pattern, its values reordered first.

    - values: (nnz,) in W's storage order. dy: (M, N), or (N, M) if token_major.

    Returns dX, (K, N) or (N, K). Raises ValueError for other shapes, dtypes or devices.
    """
    _check_values(panels_index, values)
    _matrix("dy", dy, panels_index.panels.shape[0], token_major, values)
    reordered = transposed_values(panels_index, values)
    return forward(panels_index.transposed, reordered, dy, token_major=token_major, variant=variant)


def grad_values(
    panels_index: PanelsIndex,
    dy: Tensor,
    x: Tensor,
    token_major: bool = False,
    *,
    variant: str | None = None,
    splits: int | None = None,
) -> Tensor:
    """dW = dY·Xᵀ at the pattern's places only.

    - dy: (M, N), x: (K, N); or (N, M) and (N, K) if token_major.
    - splits: parts of N summed apart, to fill the device when the pattern is small; from the sizes if None.

    Returns (nnz,) in storage order, of x's dtype. Raises ValueError for other shapes, dtypes or devices.
    """
    rows, columns = panels_index.panels.shape
    a = _matrix("dy", dy, rows, token_major, x)
    b = _matrix("x", x, columns, token_major, dy)
    return _gradient(panels_index, a, b, variant, splits)


def transposed_values(panels_index: PanelsIndex, values: Tensor) -> Tensor:
    """W's values (nnz,) in the storage order of Wᵀ, the pattern of panels_index.transposed."""
    from leandnn.kernels.panels import gpu_launch

    _check_values(panels_index, values)
    return gpu_launch.transposed_values(panels_index, values.contiguous())


def conv2d(
    panels_index: PanelsIndex,
    values: Tensor,
    x: Tensor,
    kernel: Pair,
    bias: Tensor | None = None,
    relu: bool = False,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    variant: str | None = None,
) -> Tensor:
    """A convolution whose windows are unfolded inside the kernel (implicit GEMM): no unfolded copy of x.

    - values: (nnz,) of W, out channels × (channels · kernel rows · kernel columns), as weight.flatten(1).
    - x: (batch, channels, height, width), any strides; channels_last in gives channels_last out.
    - kernel, stride, padding (zeros), dilation: (vertical, horizontal).

    Returns (batch, out channels, height', width'). Raises ValueError for other shapes, dtypes or devices.
    """
    rows = panels_index.panels.shape[0]
    _check_values(panels_index, values)
    source = _windows(panels_index, x, kernel, stride, padding, dilation, values)
    _check_bias(bias, rows, x)
    size = output_size((x.shape[2], x.shape[3]), kernel, stride, padding, dilation)
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    order = torch.channels_last if last else torch.contiguous_format
    out = torch.empty((x.shape[0], rows, *size), dtype=x.dtype, device=x.device, memory_format=order)
    _product(panels_index, values, source, Operand.images(out), bias, relu, variant)
    return out


def conv2d_grad_x(
    panels_index: PanelsIndex,
    values: Tensor,
    dy: Tensor,
    size: Pair,
    kernel: Pair,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    variant: str | None = None,
) -> Tensor:
    """The gradient of `conv2d` in x: Wᵀ·dY, then torch's fold.

    Unlike the other two products of a convolution this one writes the unfolded matrix to memory.

    - dy: (batch, out channels, height', width'). size: (height, width) of x.

    Returns (batch, channels, height, width). Raises ValueError for other shapes, dtypes or devices.
    """
    rows, columns = panels_index.panels.shape
    _check_values(panels_index, values)
    a = _images(dy, rows, output_size(size, kernel, stride, padding, dilation), values)
    unfolded = dy.new_empty((dy.shape[0], columns, dy.shape[2], dy.shape[3]))
    reordered = transposed_values(panels_index, values)
    _product(panels_index.transposed, reordered, a, Operand.images(unfolded), None, False, variant)
    return functional.fold(
        unfolded.flatten(2), size, kernel, dilation=dilation, padding=padding, stride=stride
    )


def conv2d_grad_values(
    panels_index: PanelsIndex,
    dy: Tensor,
    x: Tensor,
    kernel: Pair,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    variant: str | None = None,
    splits: int | None = None,
) -> Tensor:
    """The gradient of `conv2d` in the values, windows unfolded inside the kernel.

    - dy: (batch, out channels, height', width'). x: (batch, channels, height, width).

    Returns (nnz,) in storage order. Raises ValueError for other shapes, dtypes or devices.
    """
    b = _windows(panels_index, x, kernel, stride, padding, dilation, dy)
    size = output_size((x.shape[2], x.shape[3]), kernel, stride, padding, dilation)
    a = _images(dy, panels_index.panels.shape[0], size, x)
    return _gradient(panels_index, a, b, variant, splits)


def _product(
    index: PanelsIndex,
    values: Tensor,
    x: Operand,
    y: Operand,
    bias: Tensor | None,
    relu: bool,
    variant: str | None,
) -> None:
    if y.data.numel() == 0:
        return
    from leandnn.kernels.panels import gpu_launch

    gpu_launch.product(
        index, values.contiguous(), x, y, None if bias is None else bias.contiguous(), relu, variant
    )


def _gradient(index: PanelsIndex, dy: Operand, x: Operand, variant: str | None, splits: int | None) -> Tensor:
    if dy.tokens != x.tokens:
        raise ValueError(f"dy has {dy.tokens} tokens, x has {x.tokens}, expected the same")
    if index.panels.nnz == 0 or x.tokens == 0:
        return x.data.new_zeros(index.panels.nnz)
    from leandnn.kernels.panels import gpu_launch

    return gpu_launch.gradient(index, dy, x, variant, splits)


def _check_values(index: PanelsIndex, values: Tensor) -> None:
    if values.shape != (index.panels.nnz,):
        raise ValueError(f"values have shape {tuple(values.shape)}, expected ({index.panels.nnz},)")
    if values.dtype not in DTYPES:
        raise ValueError(f"values have dtype {values.dtype}, expected torch.float32 or torch.bfloat16")
    if values.device != index.device and values.device.type != index.device.type:
        raise ValueError(f"values are on {values.device}, the pattern on {index.device}, expected one device")


def _check_like(name: str, x: Tensor, like: Tensor) -> None:
    if x.dtype not in DTYPES or x.dtype != like.dtype or x.device != like.device:
        raise ValueError(f"{name} is {x.dtype} on {x.device}, expected {like.dtype} on {like.device}")


def _check_bias(bias: Tensor | None, rows: int, x: Tensor) -> None:
    if bias is not None and (
        bias.shape != (rows,) or bias.device != x.device or not bias.is_floating_point()
    ):
        raise ValueError(
            f"bias is {bias.dtype} {tuple(bias.shape)} on {bias.device}, expected floats ({rows},) on {x.device}"
        )


def _matrix(name: str, x: Tensor, rows: int, token_major: bool, like: Tensor) -> Operand:
    if x.dim() != 2 or x.shape[1 if token_major else 0] != rows:
        expected = f"(N, {rows})" if token_major else f"({rows}, N)"
        raise ValueError(f"{name} has shape {tuple(x.shape)}, expected {expected}")
    _check_like(name, x, like)
    return Operand.matrix(x, token_major)


def _windows(
    index: PanelsIndex, x: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, like: Tensor
) -> Operand:
    columns, window = index.panels.shape[1], kernel[0] * kernel[1]
    if x.dim() != 4 or x.shape[1] * window != columns:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, expected (batch, channels, height, width) "
            f"with channels × {kernel[0]} × {kernel[1]} = {columns}"
        )
    _check_like("x", x, like)
    if kernel == (1, 1) == stride and padding == (0, 0):
        return Operand.images(x)  # the same windows, without their arithmetic
    return Operand.windows(x, kernel, stride, padding, dilation)


def _images(dy: Tensor, rows: int, size: Pair, like: Tensor) -> Operand:
    if dy.dim() != 4 or dy.shape[1:] != (rows, *size):
        raise ValueError(f"dy has shape {tuple(dy.shape)}, expected (batch, {rows}, {size[0]}, {size[1]})")
    _check_like("dy", dy, like)
    return Operand.images(dy)
