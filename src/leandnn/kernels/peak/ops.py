"""`fma_gflops`: the measured peak of one core."""

from __future__ import annotations

import time

from leandnn.kernels import dispatch


def fma_gflops(seconds: float = 0.2) -> float | None:
    """Peak rate of FP32 fused multiply-adds on one core, in 1e9 floating-point operations a second.

    - seconds: how long to measure; the best of ten equal parts counts, since a peak is a maximum.

    None without the compiled extension.
    """
    native = dispatch.native()
    if native is None:
        return None
    rounds, took = 1 << 16, 0.0
    while took < seconds / 20:  # long enough that the clock's resolution does not matter
        rounds *= 2
        start = time.perf_counter()
        native.fma(rounds)
        took = time.perf_counter() - start
    best = 0.0
    for _ in range(10):
        start = time.perf_counter()
        operations = native.fma(rounds)
        best = max(best, operations / (time.perf_counter() - start))
    return best / 1e9
