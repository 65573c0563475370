"""What a training step of VGG19 with sparse layers is to reach, in times of the dense FP32 step's faster layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from leandnn.bench.benchfile import BenchFile
from leandnn.bench.targets import Target

DENSE = ("torch.dense", "torch.dense (channels last)")
STEPS = {75.0: 1.5, 87.5: 2.2}  # zeros in percent → bound


def _step(zeros: float) -> Callable[[BenchFile], Iterable[float | None]]:
    return lambda bench: (bench.times(DENSE, **case) for case in bench.cases(net="VGG19", sparsity=zeros))


TARGETS = {
    "sparse-step": tuple(
        Target(f"a training step of VGG19, {zeros:g} % zeros: {{}} × the dense step", bound, _step(zeros))
        for zeros, bound in STEPS.items()
    )
}
