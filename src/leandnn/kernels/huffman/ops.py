"""What layers do with a coded matrix: decode it, multiply by it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from leandnn.kernels.huffman import reference
from leandnn.kernels.huffman.encode import Slots
from leandnn.kernels.huffman.format import Coded


def decode(coded: Coded, out: Tensor | None = None) -> Tensor:
    """The matrix, rows × columns, float32, on the CPU.

    - out: where to write: float32, contiguous, of that shape; a new tensor if None.

    Raises CodedError for broken streams and ValueError for another `out`.
    """
    shape = coded.rows, coded.columns
    if out is None:
        out = torch.empty(shape)
    elif out.dtype != torch.float32 or tuple(out.shape) != shape or not out.is_contiguous() or not out.is_cpu:
        raise ValueError(f"out is {out.dtype} {tuple(out.shape)}, expected contiguous torch.float32 {shape}")
    return out.copy_(torch.from_numpy(reference.dense(coded)))


def slots(coded: Coded) -> Slots:
    """Advances and weights of all slots, row by row; CodedError for broken streams."""
    return reference.slots(coded)


def linear(coded: Coded, x: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """Relu(x · Wᵀ + bias) with the coded matrix W, float32, on the CPU.

    - x: (…, columns). bias: (rows,) or None.

    Returns (…, rows). A weight of zero takes no part, as in any sparse product: 0 · ∞ is not computed. No gradient
    is recorded. Raises CodedError for broken streams and ValueError for another x or bias.
    """
    if x.dtype != torch.float32 or not x.is_cpu or x.dim() == 0 or x.shape[-1] != coded.columns:
        raise ValueError(
            f"x is {x.dtype} {tuple(x.shape)} on {x.device}, expected float32 (…, {coded.columns}) on the CPU"
        )
    if bias is not None and (bias.dtype != torch.float32 or tuple(bias.shape) != (coded.rows,)):
        raise ValueError(f"bias is {bias.dtype} {tuple(bias.shape)}, expected float32 ({coded.rows},)")
    with torch.no_grad():
        y = F.linear(x, decode(coded), bias)
        return y.relu_() if relu else y
