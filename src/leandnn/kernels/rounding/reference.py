"""The readable truth of rounding: on the bits of float32, in plain integer tensor arithmetic.

No floating-point unit takes part, so neither its rounding mode nor its treatment of subnormals can matter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from leandnn.kernels.rounding.format import format_of

_NAN, _INFINITY = 0x7FC00000, 0x7F800000
_LOW = 0xFFFFFFFF  # the lower half of 64 bits


def round_to(
    x: Tensor,
    fmt: str | tuple[int, int],
    mode: str = "nearest_even",
    *,
    seed: int = 0,
    flush_subnormals: bool = False,
) -> Tensor:
    """Round to a narrower format; a new float32 tensor. Arguments as in `leandnn.kernels.round_to`."""
    exponent_bits, mantissa_bits = format_of(fmt)
    bias = (1 << (exponent_bits - 1)) - 1
    least_normal = (128 - bias) << 23  # bits of the format's smallest normal value
    beyond = (128 + bias) << 23  # bits of the first power of two too large for it
    signed = x.contiguous().view(torch.int32).to(torch.int64)
    magnitude = signed & 0x7FFFFFFF
    sign = signed & 0x80000000

    # The value is significand * 2^(exponent - 150). The format keeps all but its `cut` lowest bits; below the
    # smallest normal value its steps no longer shrink, so more is cut.
    bounded = magnitude.clamp(max=beyond)
    exponent = (bounded >> 23).clamp(min=1)
    significand = (bounded & 0x7FFFFF) | ((bounded >= 1 << 23).long() << 23)
    cut = (23 - mantissa_bits) + ((least_normal >> 23) - exponent).clamp(min=0)
    # From 26 bits on, a significand of 24 bits lies below a quarter of a step, whatever the number.
    few = cut.clamp(max=26)
    kept = significand >> few
    rest = significand - (kept << few)

    if mode == "nearest_even":
        half = 1 << (few - 1)
        up = (rest > half) | ((rest == half) & (kept % 2 == 1))
    elif mode == "toward_zero":
        up = torch.zeros_like(rest, dtype=torch.bool)
    else:
        up = _overflows(rest, cut, *random_halves(x.shape, seed, x.device))

    # In the bits of a float, the value a step away is a step in place of the last kept bit further: a carry
    # out of the mantissa moves on to the next exponent. Below one step there are just zero and the step.
    inside = cut <= 23
    place = 1 << few.clamp(max=23)
    least = max(least_normal - (mantissa_bits << 23), 0)
    down = torch.where(inside, bounded // place * place, 0)
    result = down + up * torch.where(inside, place, least)

    if mode == "toward_zero":
        largest = beyond - (1 << (23 - mantissa_bits))
        result = torch.where(magnitude == _INFINITY, _INFINITY, result.clamp(max=largest))
    else:
        result = torch.where(result >= beyond, _INFINITY, result)
    if flush_subnormals:
        result = torch.where(result < least_normal, 0, result)
    result = torch.where(magnitude > _INFINITY, _NAN, result | sign)
    return result.to(torch.int32).view(torch.float32)  # the cast keeps the low 32 bits


def _overflows(rest: Tensor, cut: Tensor, high: Tensor, low: Tensor) -> Tensor:
    """Whether 2^64 * rest / 2^cut plus the random number (high, low) reaches 2^64.

    The random number is uniform on 64 bits, so this comes true in `rest` of 2^cut cases: with a probability
    that is the distance from the lower neighbour in steps (in whole units of 2^-64 where cut > 64).
    """
    threshold_high = (rest << (32 - cut).clamp(min=0)) >> (cut - 32).clamp(0, 63)
    threshold_low = ((rest << (64 - cut).clamp(0, 63)) >> (cut - 64).clamp(0, 63)) & _LOW
    threshold_low = torch.where(cut > 32, threshold_low, 0)
    carry = (threshold_low + low) >> 32
    return (threshold_high + high + carry) >> 32 == 1


def random_halves(shape: torch.Size, seed: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """64 random bits for each element, as upper and lower 32: splitmix64 over seed and index in C order."""
    state = _wrap(_mix_one(seed + _WEYL) + _WEYL)
    index = torch.arange(shape.numel(), dtype=torch.int64, device=device)
    z = index * _wrap(_WEYL) + state  # int64 wraps around as unsigned numbers do
    z = (z ^ _shift(z, 30)) * _wrap(_MIX1)
    z = (z ^ _shift(z, 27)) * _wrap(_MIX2)
    z = (z ^ _shift(z, 31)).reshape(shape)
    return _shift(z, 32), z & _LOW


_WEYL, _MIX1, _MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _shift(z: Tensor, by: int) -> Tensor:
    """Shift right, zeros coming in, as unsigned numbers do."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def _wrap(value: int) -> int:
    """The value modulo 2^64, as a signed number."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _mix_one(value: int) -> int:
    """splitmix64's finaliser on one number."""
    z = value % (1 << 64)
    z = (z ^ (z >> 30)) * _MIX1 % (1 << 64)
    z = (z ^ (z >> 27)) * _MIX2 % (1 << 64)
    return z ^ (z >> 31)
