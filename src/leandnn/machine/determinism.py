"""Device, threads, seeds, determinism: what decides the bits of a run (machine/card.py describes where it ran)."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leandnn.errors import LeandnnError

if TYPE_CHECKING:
    import torch


def keep_freed_memory() -> None:
    """Make glibc keep freed blocks for the next allocation instead of returning them to the system.

    A training step frees and asks for the same megabytes over and over; by default each new block is mapped
    afresh and every page of it faults, which costs a small net about a quarter of its step. Elsewhere than
    glibc this does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    trim_threshold, mmap_threshold = -1, -3  # names of malloc.h; 32 MiB is the largest threshold it takes
    mallopt(mmap_threshold, 32 << 20)
    mallopt(trim_threshold, 2**31 - 1)


def configure(*, seed: int, threads: int, device: str = "cpu") -> torch.device:
    """Fix what decides the bits of a run: thread count, seeds, deterministic algorithms.

    - seed: seeds torch's generators on every device.
    - threads: torch's intra-op threads; CPU results are bit-equal only at one thread count.
    - device: "cpu", "cuda" or "cuda:N".

    Returns the torch device. Raises LeandnnError if the device does not exist.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS when CUDA starts
    import torch

    found = torch.device(device)
    gpus = torch.cuda.device_count()
    if found.type == "cuda" and (found.index or 0) >= gpus:
        raise LeandnnError(f"device {device} does not exist, torch sees {gpus} CUDA devices")
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    # Fills every fresh tensor with NaN under deterministic mode: a debugging aid that costs a pass of memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    return found


def rank() -> int:
    """This process's number in its group, as torchrun says it; 0 for a process by itself."""
    return int(os.environ.get("RANK", "0"))


@functools.cache
def torchvision_operators() -> str:
    """Make `import torchvision` work, and say how: "compiled" or "schemas only".

    A torchvision built for CUDA cannot load its operators beside a CPU torch, and its import then fails while
    it registers meta kernels for two operators that do not exist. Declaring their schemas first mends that;
    it is done only when the operators did not load. Call this before the first `import torchvision`.
    """
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("torchvision is not installed")
    library = next(Path(spec.origin).parent.glob("_C*.so"), None)
    if library is not None:
        try:
            torch.ops.load_library(str(library))
            return "compiled"
        except OSError:
            pass
    schemas = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        schemas.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(schemas)  # a Library undoes its definitions when it is collected
    return "schemas only"


_kept: list[Any] = []
