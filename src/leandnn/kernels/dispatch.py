"""Which implementation serves a call: the extension's best instruction set, or the readable reference.

The environment variable LEANDNN_KERNELS=reference|baseline|avx2|avx512 forces one for the whole process,
so that tests can walk every path the CPU has; `triton` has the panel products run Triton's interpreter on CPU
tensors (TRITON_INTERPRET=1; CUDA tensors are served by Triton in any case). Asking for what the machine lacks
is an error, never a silent fallback. Without the compiled extension the package works through the reference
and says so once.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

CHOICES = ("reference", "baseline", "avx2", "avx512", "triton")


class KernelError(RuntimeError):
    """LEANDNN_KERNELS names an implementation that does not exist or cannot run here."""


@functools.cache
def _extension() -> ModuleType | None:
    try:
        from leandnn.kernels import _native
    except ImportError:
        return None
    module: ModuleType = _native
    return module


def supported() -> tuple[str, ...]:
    """The implementations that can run here, slowest first; "reference" always can."""
    extension = _extension()
    return ("reference", *extension.supported()) if extension else ("reference",)


def _require(choice: str) -> str:
    if choice not in CHOICES:
        raise KernelError(f"LEANDNN_KERNELS is {choice!r}, expected one of {', '.join(CHOICES)}")
    if choice == "triton":
        if importlib.util.find_spec("triton") is None:
            raise KernelError("LEANDNN_KERNELS is 'triton', but the package triton is not installed")
        if os.environ.get("TRITON_INTERPRET") != "1":
            raise KernelError("LEANDNN_KERNELS is 'triton', which needs TRITON_INTERPRET=1 on CPU tensors")
    elif choice not in supported():
        raise KernelError(f"LEANDNN_KERNELS is {choice!r}, but this machine can run {', '.join(supported())}")
    return choice


_override: str | None = None


def active() -> str:
    """The name of the implementation in use: "reference", "baseline", "avx2", "avx512" or "triton"."""
    forced = _override or os.environ.get("LEANDNN_KERNELS")
    return _require(forced) if forced else supported()[-1]


@contextmanager
def using(choice: str) -> Iterator[None]:
    """Force an implementation inside the block, as LEANDNN_KERNELS does for a process (not thread-safe)."""
    global _override
    before, _override = _override, _require(choice)
    _select.cache_clear()
    try:
        yield
    finally:
        _override = before
        _select.cache_clear()


def native() -> ModuleType | None:
    """The extension with its instruction set selected, or None where the reference serves the call."""
    return _select()  # the environment is read by the first call: small tensors notice each microsecond


@functools.cache
def _select() -> ModuleType | None:
    choice = active()
    if choice == "reference":
        if _extension() is None:
            _warn_once()
        return None
    extension = _extension()
    if extension is None:  # choice is "triton"
        return None
    extension.select(supported()[-1] if choice == "triton" else choice)
    return extension


@functools.cache
def _warn_once() -> None:
    warnings.warn(
        "the compiled kernels of leandnn are not installed: slower reference kernels serve instead "
        "(make setup builds them)",
        RuntimeWarning,
        stacklevel=5,
    )
