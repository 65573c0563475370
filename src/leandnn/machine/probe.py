"""The machine card with what must be measured: FMA peak of a core, copy bandwidth, GPU memory."""

from __future__ import annotations

import time
from typing import Any

from leandnn.kernels.peak.ops import fma_gflops
from leandnn.machine import card as machine

COPY_MIB = 64  # beyond any cache that one core has to itself


def copy_gbytes() -> float:
    """Bandwidth of one core copying 64 MiB, reads and writes counted, in 1e9 bytes a second; best of ten."""
    import numpy as np

    source = np.zeros(COPY_MIB << 17, dtype=np.float64)
    target = np.ones_like(source)
    best = 0.0
    for _ in range(10):
        start = time.perf_counter()
        np.copyto(target, source)
        best = max(best, 2 * source.nbytes / (time.perf_counter() - start))
    return best / 1e9


def card(device: str = "cpu") -> dict[str, Any]:
    """machine.card with `fma_peak_gflops` (one core; None without the extension) and `copy_gbytes`."""
    peak = fma_gflops()
    return {
        **machine.read(device),
        "fma_peak_gflops": None if peak is None else round(peak, 1),
        "copy_gbytes": round(copy_gbytes(), 1),
    }
