"""Floating-point formats that values are rounded to."""

from __future__ import annotations

import functools
from typing import NamedTuple


class Format(NamedTuple):
    """A binary format as IEEE 754 lays it out: subnormals, infinities and NaN, exponent bias 2^(e-1) - 1.

    - exponent_bits: e, 2 to 8 (float32 has 8).
    - mantissa_bits: stored bits of the significand, 1 to 22 (float32 has 23).

    `Format(8, 10)` is TF32, `Format(5, 2)` the FP8 format E5M2. E4M3 as accelerators have it gives up its
    infinities for one more binade and is none of these.
    """

    exponent_bits: int
    mantissa_bits: int

    @property
    def bias(self) -> int:
        """Exponent bias, which is also the exponent of the largest binade."""
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def largest(self) -> float:
        """The largest finite value."""
        return (2.0 - 2.0**-self.mantissa_bits) * 2.0**self.bias

    @property
    def least_normal(self) -> float:
        """The smallest normal value; what lies below is subnormal."""
        return 2.0 ** (1 - self.bias)

    @property
    def least(self) -> float:
        """The smallest value above zero."""
        return self.least_normal * 2.0**-self.mantissa_bits


FORMATS = {"bf16": Format(8, 7), "fp16": Format(5, 10)}
MODES = ("nearest_even", "toward_zero", "stochastic")


def format_of(fmt: str | tuple[int, int]) -> Format:
    """The format that a name, a Format or a pair of integers means; ValueError if there is none."""
    if isinstance(fmt, str):
        if fmt not in FORMATS:
            raise ValueError(f"format {fmt!r} is unknown, expected one of {', '.join(FORMATS)} or a Format")
        return FORMATS[fmt]
    if not isinstance(fmt, tuple) or len(fmt) != 2 or not all(type(bits) is int for bits in fmt):
        raise ValueError(f"format is {fmt!r}, expected a name or (exponent bits, mantissa bits)")
    found = Format(*fmt)
    if not 2 <= found.exponent_bits <= 8:
        raise ValueError(f"format has {found.exponent_bits} exponent bits, expected 2 to 8")
    if not 1 <= found.mantissa_bits <= 22:
        raise ValueError(f"format has {found.mantissa_bits} mantissa bits, expected 1 to 22")
    return found


@functools.lru_cache(maxsize=256)
def code_of(fmt: str | tuple[int, int], mode: str, flush: bool) -> int:
    """Format, mode and flushing as the compiled kernels take them; ValueError for what does not exist."""
    found = format_of(fmt)
    if mode not in MODES:
        raise ValueError(f"rounding mode {mode!r} is unknown, expected one of {', '.join(MODES)}")
    return found.exponent_bits | found.mantissa_bits << 8 | MODES.index(mode) << 16 | bool(flush) << 24
