"""What AutoSparse's thresholds may cost a training step, and what counting multiply-adds may take."""

from __future__ import annotations

from collections.abc import Iterable

from leandnn.bench.benchfile import BenchFile, ratio
from leandnn.bench.targets import Target


def _steps(bench: BenchFile) -> Iterable[float | None]:
    for case in bench.cases(what="step"):
        times = (bench.row(impl, **case) for impl in ("leandnn", "torch.dense"))
        yield ratio(*(None if row is None else row["median_s"] for row in times))


def _ledger(bench: BenchFile) -> Iterable[float]:
    return (row["median_s"] for row in bench.of(what="ledger"))


TARGETS = {
    "autosparse": (
        Target("a step with thresholds: {} × dense", 1.1, _steps, at_most=True),
        Target("the ledger of ResNet50: {} s", 1.0, _ledger, "s", at_most=True),
    )
}
