"""The readable truth of rounding: FP32 to BF16 on the bits, in plain integer tensor arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor


def round_bf16(x: Tensor) -> Tensor:
    """Round to the nearest BF16 value, ties to even; the result stays float32.

    - x: float32 tensor of any shape. NaN becomes 0x7fc00000 as in torch's cast; overflow gives infinity.
    """
    bits = x.view(torch.int32)  # two's complement: the additions below wrap as unsigned ones would
    lowest_kept_bit = (bits >> 16) & 1
    rounded = ((bits + 0x7FFF + lowest_kept_bit) & -0x10000).view(torch.float32)
    return torch.where(torch.isnan(x), torch.full_like(bits, 0x7FC00000).view(torch.float32), rounded)
