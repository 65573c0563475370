"""What rounding is to reach, and a training step with sparse layers: of dense FP32 the faster layout counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from leandnn.bench.benchfile import BenchFile
from leandnn.bench.targets import Target

DENSE = ("torch.dense", "torch.dense (channels last)")
STEPS = {75.0: 1.5, 87.5: 2.2}  # zeros in percent → bound


def _step(zeros: float) -> Callable[[BenchFile], Iterable[float | None]]:
    return lambda bench: (bench.times(DENSE, **case) for case in bench.cases(net="VGG19", sparsity=zeros))


def _rounded(peer: str, **output: str) -> Callable[[BenchFile], Iterable[float | None]]:
    def values(bench: BenchFile) -> Iterable[float | None]:
        cases = (case for case in bench.cases(**output) if case["mode"] != "stochastic")
        return (bench.times(peer, **case) for case in cases)

    return values


def _stochastic(bench: BenchFile) -> Iterable[float]:
    rows = bench.of(mode="stochastic", output="preallocated")
    return (1 / row["rate"] for row in rows if row["impl"] == "leandnn" and row["threads"] == 1)


TARGETS = {
    "rounding": (
        Target(
            "rounding into a tensor that is there: {} × a copy",
            0.95,
            _rounded("torch.copy", output="preallocated"),
        ),
        Target("rounding, each kind of output: {} × torch's casts", 1.5, _rounded("torch.casts")),
        Target("stochastic rounding: {} ns a value", 2.0, _stochastic, "ns", at_most=True),
    ),
    "sparse-step": tuple(
        Target(f"a training step of VGG19, {zeros:g} % zeros: {{}} × the dense step", bound, _step(zeros))
        for zeros, bound in STEPS.items()
    ),
}
