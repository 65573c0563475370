"""Device, threads, seeds, determinism: what decides the bits of a run (machine/card.py describes where it ran)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from leandnn.errors import LeandnnError
from leandnn.machine import memory

if TYPE_CHECKING:
    import torch


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
    memory.keep_freed()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    # Fills every fresh tensor with NaN under deterministic mode: a debugging aid that costs a pass of memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    return found
