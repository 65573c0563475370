"""`round_to`: float32 tensors rounded to a narrower format and kept as float32.

BFLOAT16 emulation rests on it (arXiv 1905.12322): a product of two rounded operands summed in FP32 is what
BF16 hardware with FP32 accumulation computes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from leandnn.kernels import dispatch
from leandnn.kernels.rounding import reference
from leandnn.kernels.rounding.format import Format, code_of

_CASTS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def round_to(
    x: Tensor,
    fmt: str | Format | tuple[int, int],
    mode: str = "nearest_even",
    *,
    seed: int | None = None,
    out: Tensor | None = None,
    flush_subnormals: bool = False,
) -> Tensor:
    """Round float32 values to values of a narrower format.

    - x: float32 tensor of any shape, strides and device.
    - fmt: "bf16" (8 exponent and 7 mantissa bits), "fp16" (5 and 10), or any other `Format`.
    - mode: "nearest_even" (IEEE 754 roundTiesToEven), "toward_zero", or "stochastic": up or down with
      probabilities that are proportional to the distance from the other side, so right on average. It weighs
      every bit cut off, in 2^-64ths.
    - seed: of the stochastic mode, 0 to 2^64 - 1; drawn from torch's global generator if None. An element's
      random bits depend on the seed and on its index in C order alone: not on threads, memory layout or CPU.
    - out: where to write: a float32 tensor of x's shape and device, `x` itself for in place; a new tensor
      with x's strides if None.
    - flush_subnormals: make results that are subnormal in the format zeros of the same sign.

    Returns `out`, float32. Signs, zeros and infinities are kept. Beyond the largest finite value, nearest even
    and stochastic go on as though the exponent had no bound and give infinity from the first power of two
    out of range; toward zero stops at the largest finite value. The bits of all that is no NaN are those of
    torch's cast. NaN becomes 0x7fc00000 whatever its payload and sign: for BF16 that is torch's scalar
    rounding (c10::BFloat16), but torch itself is not consistent, since its AVX2 and AVX-512 loops write 0xffff0000
    and its FP16 casts keep or lose the payload by an element's place in the tensor.
    No gradient is recorded: the wings state the backward pass themselves.

    Raises ValueError for another format, mode, seed, dtype, shape or device (both values named).
    """
    # Each look at a tensor costs 50 to 100 ns, which emulation pays at each product: few of them here.
    try:
        how = code_of(fmt, mode, flush_subnormals)
    except TypeError:  # not hashable
        raise ValueError(f"format is {fmt!r}, expected a name or (exponent bits, mantissa bits)") from None
    if x.dtype is not torch.float32:
        raise ValueError(f"x has dtype {x.dtype}, expected torch.float32")
    if out is not None and out is not x:
        same_place = out.is_cpu if x.is_cpu else out.device == x.device
        if out.dtype is not torch.float32 or out.shape != x.shape or not same_place:
            raise ValueError(
                f"out is {out.dtype} {tuple(out.shape)} on {out.device}, "
                f"expected torch.float32 {tuple(x.shape)} on {x.device}"
            )
    if mode != "stochastic":
        seed = 0
    elif seed is None:
        seed = int(torch.randint(2**63 - 1, ()))
    elif not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}, expected 0 to {2**64 - 1}")

    native = dispatch.native() if x.is_cpu else None
    if native is not None:
        made = torch.empty_like(x) if out is None else out
        source, target, n = x.data_ptr(), made.data_ptr(), x.numel()
        apart = abs(target - source)
        if (apart == 0 or apart >= 4 * n) and _alike(x, made, any_order=mode != "stochastic"):
            native.round(source, target, n, how, seed, torch.get_num_threads())
            if out is not None:
                _written(out)
            return made
    with torch.no_grad():
        if out is None:
            out = torch.empty_like(x)
        if native is not None:
            # Gaps, strides unlike out's, or a shifted overlap: round a dense copy, then let torch place it.
            dense = x.detach().clone(memory_format=torch.contiguous_format)
            source = dense.data_ptr()
            native.round(source, source, dense.numel(), how, seed, torch.get_num_threads())
        elif not x.is_cpu and isinstance(fmt, str) and mode == "nearest_even" and not flush_subnormals:
            dense = torch.where(x.isnan(), math.nan, x.to(_CASTS[fmt]))  # the device's own cast
        else:
            dense = reference.round_to(x.detach(), fmt, mode, seed=seed, flush_subnormals=flush_subnormals)
        out.detach().copy_(dense)
    return out


def _alike(x: Tensor, out: Tensor, any_order: bool) -> bool:
    """Whether the values of both fill one block of memory in C order, or (any_order) in channels_last order."""
    if x.is_neg() or out.is_neg():  # views of values whose sign torch has yet to change
        return False
    if x.is_contiguous() and out.is_contiguous():
        return True
    last = torch.channels_last
    return any_order and x.dim() == 4 and x.stride() == out.stride() and x.is_contiguous(memory_format=last)


def _written(out: Tensor) -> None:
    """Tell autograd what it could not see."""
    try:
        increment_version(out)
    except RuntimeError:  # an inference tensor has no version
        if not out.is_inference():
            raise
