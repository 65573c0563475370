"""What RBGP4 layers and nets are to reach, in times of torch's dense FP32 (contiguous)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from leandnn.bench.benchfile import BenchFile
from leandnn.bench.targets import Target

WIDE = 128  # channels on either side that a layer's target asks for
LAYERS = {75.0: 3.0, 87.5: 5.5}  # zeros in percent → bound


def layer_target(case: dict[str, Any]) -> float | None:
    """The bound of a layer's case, where it has one."""
    return LAYERS.get(case["sparsity"]) if case["channels"] >= WIDE else None


def _layers(sparsity: float) -> Callable[[BenchFile], Iterable[float | None]]:
    def values(bench: BenchFile) -> Iterable[float | None]:
        cases = (case for case in bench.cases(sparsity=sparsity) if "layer" in case)
        return (bench.times("torch.conv2d", **case) for case in cases if layer_target(case))

    return values


def _nets(**case: object) -> Callable[[BenchFile], Iterable[float | None]]:
    def values(bench: BenchFile) -> Iterable[float | None]:
        found = (own for own in bench.cases(net="VGG19", **case) if "peak_mib" not in own)
        return (bench.times("torch.dense", **own) for own in found)

    return values


TARGETS = {
    "rbgp": (
        *(
            Target(
                f"layers of ≥ {WIDE} channels, {zeros:g} % zeros: {{}} × torch's dense layer",
                bound,
                _layers(zeros),
            )
            for zeros, bound in LAYERS.items()
        ),
        Target(
            "VGG19, batch 128, 87.5 % zeros: {} × torch's dense net", 3.0, _nets(batch=128, sparsity=87.5)
        ),
        Target("VGG19, every batch, from 75 % zeros on: {} × torch's dense net", 1.0, _nets()),
    )
}
