"""What emulating BF16 costs: one training step of the vision study's net, batch 128, one thread.

Peers in the same interleaved run: the FP32 step it emulates on, torch's own BF16 autocast (which on a CPU
computes in BF16 rather than emulating it), and a step whose rounding is torch's pair of casts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn import runtime
from leandnn.bench.timing import Row, interleave, row
from leandnn.bf16 import Policy, emulate
from leandnn.errors import LeandnnError
from leandnn.kernels import dispatch
from leandnn.models.vision import SmallResNet

BATCH = 128


class _Step:
    """A net, its optimizer and a fixed batch; calling it makes one update."""

    def __init__(self, context: Callable[[nn.Module], AbstractContextManager[Any]]) -> None:
        torch.manual_seed(0)
        self.model = SmallResNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
        images = torch.randn(BATCH, 3, 32, 32)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(10, (BATCH,))
        self.context = context

    def gradients(self) -> list[Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        with self.context(self.model):
            logits = self.model(self.images)
        F.cross_entropy(logits.float(), self.labels).backward()
        return [p.grad for p in self.model.parameters() if p.grad is not None]

    def __call__(self) -> None:
        self.gradients()
        self.optimizer.step()


def _emulated(model: nn.Module) -> AbstractContextManager[Any]:
    return emulate(model, Policy.paper())


def _check() -> None:
    """The measured step is right: every kernel gives the reference's gradients, bit for bit."""
    with dispatch.using("reference"):
        expected = _Step(_emulated).gradients()
    found = _Step(_emulated).gradients()
    if not all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)):
        raise LeandnnError("the emulated step's gradients differ from those of the reference kernel")
    plain = _Step(lambda model: nullcontext()).gradients()
    if all(torch.equal(a, b) for a, b in zip(found, plain, strict=True)):
        raise LeandnnError("the emulated step's gradients equal the FP32 step's: nothing was rounded")


def rows(quick: bool) -> list[Row]:
    """Measured rows; leaves torch at one thread."""
    runtime.configure(seed=0, threads=1)
    _check()
    calls: dict[str, Callable[[], object]] = {
        "leandnn": _Step(_emulated),
        "torch.fp32": _Step(lambda model: nullcontext()),
        "torch.autocast": _Step(lambda model: torch.autocast("cpu", torch.bfloat16)),
    }
    times = interleave(calls, repeats=20 if quick else 60, label="train-step")
    case = {"net": "SmallResNet", "batch": BATCH, "kernel": dispatch.active()}
    return [row("train-step", case, name, 1, t, BATCH, "images") for name, t in times.items()]


def summary(rows: list[Row]) -> str:
    """The one number: emulated step over FP32 step."""
    medians = {r["impl"]: r["median_s"] for r in rows}
    ratio = medians["leandnn"] / medians["torch.fp32"]
    return f"emulated-BF16 step / FP32 step = {ratio:.3f} (target ≤ 1.25), medians of n = {rows[0]['n']}"
