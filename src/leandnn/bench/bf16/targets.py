"""What emulating BF16 may cost a training step."""

from __future__ import annotations

from collections.abc import Iterable

from leandnn.bench.benchfile import BenchFile, ratio
from leandnn.bench.targets import Target


def _steps(bench: BenchFile) -> Iterable[float | None]:
    for case in bench.cases():
        times = (bench.row(impl, **case) for impl in ("leandnn", "torch.fp32"))
        yield ratio(*(None if row is None else row["median_s"] for row in times))


TARGETS = {
    "train-step": (Target("an emulated training step: {} × the FP32 step", 1.25, _steps, at_most=True),)
}
