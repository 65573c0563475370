"""What malloc does with freed memory, and how much a call needs at its peak. Peaks: Linux only."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from pathlib import Path

from leandnn.errors import LeandnnError

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def keep_freed() -> None:
    """Make glibc keep freed blocks for the next allocation, for the rest of the process.

    A training step frees and asks for the same megabytes over and over; by default each new block is mapped
    afresh and every page of it faults, which costs a small net about a quarter of its step. Elsewhere than
    glibc this does nothing.
    """
    _thresholds(mmap=32 << 20, trim=2**31 - 1)  # 32 MiB is the largest that the first one takes


def return_freed() -> None:
    """The opposite: have malloc return large freed blocks to the system at once.

    By default it keeps most of them, and a process may then hold far more than it uses: call this before a
    plan whose memory must stay within its budget. Fresh pages cost time: measure costs after this call, too.
    """
    _thresholds(mmap=64 << 10, trim=64 << 10)


def _thresholds(*, mmap: int, trim: int) -> None:
    """Bytes from which a block is mapped by itself, and of free memory at the end that are given back."""
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        trim_threshold, mmap_threshold = -1, -3  # names of malloc.h
        mallopt(mmap_threshold, mmap)
        mallopt(trim_threshold, trim)


def trim() -> None:
    """Give what malloc keeps of freed memory back to the system, so that it is not taken for memory in use."""
    with contextlib.suppress(AttributeError, OSError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak() -> int:
    """Begin a measurement; bytes resident now. LeandnnError where the system cannot count peaks."""
    trim()
    try:
        _CLEAR.write_text("5")
    except OSError as error:
        raise LeandnnError(
            f"peaks of memory are measured through {_CLEAR}, which cannot be written here ({error.strerror})"
        ) from error
    return _bytes("VmRSS")


def peak() -> int:
    """Most bytes resident since reset_peak."""
    return _bytes("VmHWM")


def growth(call: Callable[[], object]) -> int:
    """Bytes by which a call's peak exceeds what was resident before it, its result included.

    What the call keeps for later ones (tables, code made at the first call) is part of it: call it once before, for
    the memory of every further call.
    """
    before = reset_peak()
    result = call()
    most = peak()
    del result
    return max(most - before, 0)


def _bytes(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise LeandnnError(f"{_STATUS} has no {field}")
