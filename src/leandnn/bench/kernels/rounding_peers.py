"""Other libraries that round to narrow formats, as far as they are installed.

None of them is a dependency: `pip install ml_dtypes pychop gfloat qtorch` adds them to a comparison. All of
them make a new array. qtorch compiles itself when it is first imported, and rounds ties away from zero.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from leandnn.kernels import Format

Rounder = Callable[[Tensor], Any]
NAMES = ("ml_dtypes", "pychop", "gfloat", "qtorch")


def _ml_dtypes(library: Any, fmt: Format, mode: str) -> Rounder | None:
    kinds = {Format(8, 7): library.bfloat16, Format(5, 10): np.float16, Format(5, 2): library.float8_e5m2}
    if mode != "nearest_even" or fmt not in kinds:
        return None
    return lambda x: x.numpy().astype(kinds[fmt]).astype(np.float32)


def _pychop(library: Any, fmt: Format, mode: str) -> Rounder | None:
    code = {"nearest_even": 1, "toward_zero": 4, "stochastic": 5}[mode]
    chop = library.Chop(*fmt, rmode=code)
    return lambda x: chop(x)


def _gfloat(library: Any, fmt: Format, mode: str) -> Rounder | None:
    formats = importlib.import_module("gfloat.formats")
    known = {
        Format(8, 7): formats.format_info_bfloat16,
        Format(5, 10): formats.format_info_binary16,
        Format(5, 2): formats.format_info_ocp_e5m2,
    }
    modes = {
        "nearest_even": library.RoundMode.TiesToEven,
        "toward_zero": library.RoundMode.TowardZero,
    }
    if fmt not in known or mode not in modes:
        return None
    return lambda x: library.round_ndarray(known[fmt], x.numpy(), modes[mode])


def _qtorch(library: Any, fmt: Format, mode: str) -> Rounder | None:
    quantize = importlib.import_module("qtorch.quant").float_quantize
    rounding = {"nearest_even": "nearest", "stochastic": "stochastic"}
    if mode not in rounding:
        return None
    return lambda x: quantize(x, exp=fmt.exponent_bits, man=fmt.mantissa_bits, rounding=rounding[mode])


_MAKERS: dict[str, Callable[[Any, Format, str], Rounder | None]] = {
    "ml_dtypes": _ml_dtypes,
    "pychop": _pychop,
    "gfloat": _gfloat,
    "qtorch": _qtorch,
}


def installed(fmt: Format, mode: str) -> dict[str, Rounder]:
    """The peers that are there and know this format and mode: name → function of a tensor."""
    found = {}
    for name in NAMES:
        try:
            rounder = _MAKERS[name](importlib.import_module(name), fmt, mode)
        except Exception:  # absent, or unable to build or to run with this torch and numpy
            continue
        if rounder is not None:
            found[name] = rounder
    return found


def missing() -> list[str]:
    """The names of the peers that cannot be imported."""
    absent = []
    for name in NAMES:
        try:
            importlib.import_module(name)
        except Exception:
            absent.append(name)
    return absent
