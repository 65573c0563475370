"""The readable truth of the panel products: the pattern made dense, and torch's own operations.

Float64 values and inputs give a float64 result, against which the kernels are tested.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from leandnn.kernels.panels.format import Panels


def dense(panels: Panels, values: Tensor) -> Tensor:
    """The matrix (M × K) with these values (nnz, in the order of storage) and zeros elsewhere."""
    rows, columns = (torch.from_numpy(c).to(values.device) for c in panels.coordinates())
    return values.new_zeros(panels.shape).index_put((rows, columns), values)


def _wide(*tensors: Tensor) -> list[Tensor]:
    """BF16 as float32, in which its products are summed; the rest as it is."""
    return [t.float() if t.dtype == torch.bfloat16 else t for t in tensors]


def product(panels: Panels, values: Tensor, x: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    """relu(W · x + bias) for x of K × N."""
    wide, wide_x = _wide(values, x)
    y = dense(panels, wide) @ wide_x
    if bias is not None:
        y = y + bias[:, None]
    return (y.relu() if relu else y).to(x.dtype)


def transposed(panels: Panels, values: Tensor, dy: Tensor) -> Tensor:
    """Wᵀ · dy for dy of M × N."""
    wide, wide_dy = _wide(values, dy)
    return (dense(panels, wide).t() @ wide_dy).to(dy.dtype)


def sampled(panels: Panels, dy: Tensor, x: Tensor) -> Tensor:
    """The entries of dy · xᵀ on the pattern, in the order of storage."""
    rows, columns = (torch.from_numpy(c).to(x.device) for c in panels.coordinates())
    wide_dy, wide_x = _wide(dy, x)
    return (wide_dy @ wide_x.t())[rows, columns].to(x.dtype)


def conv2d(
    panels: Panels,
    values: Tensor,
    x: Tensor,
    bias: Tensor | None,
    relu: bool,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """torch's conv2d with the dense weight."""
    wide, wide_x = _wide(values, x)
    weight = dense(panels, wide).view(panels.shape[0], -1, *kernel_size)
    wide_bias = None if bias is None else bias.to(wide.dtype)
    y = F.conv2d(wide_x, weight, wide_bias, stride, padding, dilation)
    return (y.relu() if relu else y).to(x.dtype)
