"""`round_to`: float32 tensors rounded to a narrower format and kept as float32.

BFLOAT16 emulation rests on it (arXiv 1905.12322): a product of two rounded operands summed in FP32 is what
BF16 hardware with FP32 accumulation computes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from leandnn.kernels import dispatch
from leandnn.kernels.rounding import reference

FORMATS = ("bf16",)
MODES = ("nearest_even",)


def round_to(x: Tensor, fmt: str, mode: str = "nearest_even", *, out: Tensor | None = None) -> Tensor:
    """Round float32 values to the nearest value of a narrower format.

    - x: float32 tensor of any shape, strides and device.
    - fmt: "bf16" (1 sign, 8 exponent, 7 mantissa bits).
    - mode: "nearest_even" (IEEE 754 roundTiesToEven).
    - out: where to write: a float32 tensor of x's shape and device, `x` itself for in place; a new tensor
      with x's strides if None.

    Returns `out`, float32. Subnormals are kept, overflow gives infinity, NaN becomes torch's 0x7fc00000.
    No gradient is recorded: the wings state the backward pass themselves.

    Raises ValueError for another format, mode, dtype, shape or device (both values named).
    """
    if fmt not in FORMATS:
        raise ValueError(f"format {fmt!r} is unknown, expected one of {', '.join(FORMATS)}")
    if mode not in MODES:
        raise ValueError(f"rounding mode {mode!r} is unknown, expected one of {', '.join(MODES)}")
    if x.dtype != torch.float32:
        raise ValueError(f"x has dtype {x.dtype}, expected torch.float32")
    with torch.no_grad():
        if out is None:
            out = torch.empty_like(x)
        elif out.dtype != torch.float32 or out.shape != x.shape or out.device != x.device:
            raise ValueError(
                f"out is {out.dtype} {tuple(out.shape)} on {out.device}, "
                f"expected torch.float32 {tuple(x.shape)} on {x.device}"
            )
        _round_bf16(x.detach(), out.detach())
    return out


def _is_dense(x: Tensor) -> bool:
    """Whether x's elements fill one block of memory, in any order of dimensions (channels_last too)."""
    return x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))


def _round_bf16(x: Tensor, out: Tensor) -> None:
    if x.device.type != "cpu":
        out.copy_(x.to(torch.bfloat16))  # the device's own cast rounds to nearest even
        return
    native = dispatch.native()
    if native is None:
        out.copy_(reference.round_bf16(x))
        return
    if x.numel() == 0:
        return
    if (
        x.stride() == out.stride()
        and _is_dense(x)
        and (x.data_ptr() == out.data_ptr() or not _overlap(x, out))
    ):
        native.round_bf16(x.data_ptr(), out.data_ptr(), x.numel())
        return
    # Gaps or other strides: round a dense copy, then let torch place it.
    dense = x.contiguous() if not x.is_contiguous() else x.clone()
    native.round_bf16(dense.data_ptr(), dense.data_ptr(), dense.numel())
    out.copy_(dense)


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Whether the memory of two dense tensors of one size meets."""
    return abs(a.data_ptr() - b.data_ptr()) < a.numel() * a.element_size()
