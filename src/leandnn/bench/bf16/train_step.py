"""What emulating BF16 costs: one training step of every net of the BF16 study, as the study trains it, one thread.

A step is what the loop makes of a batch: forward pass and loss, backward pass, update. Peers in the same
interleaved run: the FP32 step that the emulation works on; torch's own BF16 autocast, which computes in BF16
rather than emulating it; and the emulated step with another library's rounding in our kernel's place (pychop,
qtorch, where they are installed). Nets with a written-out recurrence have one row more: the library's fused FP32
layers in its place, which the emulation cannot see into.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from leandnn.bench.benchfile import Row
from leandnn.bench.kernels import rounding_peers
from leandnn.bench.timing import interleave, row
from leandnn.bf16 import converters
from leandnn.bf16.study import COMPARISONS
from leandnn.errors import LeandnnError
from leandnn.kernels import Format, dispatch, round_to
from leandnn.machine import determinism
from leandnn.models import language, speech
from leandnn.params import Budget
from leandnn.studies.comparison import Scale, Trial
from leandnn.train.optimizer import make_optimizer

# Comparison → (net, examples of a batch are called).
NETS = {
    "vision": ("SmallResNet", "images"),
    "alexnet": ("SmallAlexNet", "images"),
    "speech": ("DeepSpeech", "utterances"),
    "language": ("GNMT", "sentences"),
    "transformer": ("Transformer", "sentences"),
    "generative": ("DCGAN", "images"),
    "super_resolution": ("SRGAN", "images"),
    "recommendation": ("DLRM", "clicks"),
    "deep_cross": ("DeepAndCross", "clicks"),
}
REPEATS, QUICK_REPEATS = 25, 20
QUICK = ("vision", "speech", "recommendation")
PEERS = ("pychop", "qtorch")
BF16 = Format(exponent_bits=8, mantissa_bits=7)
# The nets with a written-out recurrence, and what puts the library's layers in its place.
FUSED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "speech": speech.with_fused_recurrence,
    "language": language.with_fused_recurrence,
}
Context = Callable[[], AbstractContextManager[Any]]


class Step:
    """A trial's model, optimizer and one batch of the middle of an epoch; calling it makes one update."""

    def __init__(
        self,
        trial: Trial,
        *,
        context: Context = nullcontext,
        change: Callable[[nn.Module], nn.Module] = lambda model: model,
    ) -> None:
        self.trial, self.context = trial, context
        determinism.configure(seed=0, threads=1)
        model = change(trial.task.build())
        if trial.settings.channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model = model.train()
        self.optimizer = make_optimizer(self.model, trial.settings)
        for hook in trial.hooks:
            hook.attach(self.model, self.optimizer)
        self.batch = next(trial.task.batches(1, trial.task.steps_per_epoch() // 2))
        for group in self.optimizer.param_groups:
            group["lr"] = 1e-4  # so that sixty updates of one batch stay ordinary numbers

    def gradients(self) -> list[Tensor]:
        """The gradients of one forward and backward pass."""
        self.optimizer.zero_grad(set_to_none=True)
        with ExitStack() as stack:
            stack.enter_context(self.context())
            for hook in self.trial.hooks:
                stack.enter_context(hook.forward(self.model))
            loss = self.trial.task.loss(self.model, self.batch)
        loss.backward()
        return [p.grad for p in self.model.parameters() if p.grad is not None]

    def __call__(self) -> None:
        """One update."""
        self.gradients()
        for hook in self.trial.hooks:
            hook.before_update(0.5)
        self.optimizer.step()
        for hook in self.trial.hooks:
            hook.after_update(0.5)


@contextmanager
def _rounding_by(peer: rounding_peers.Rounder) -> Iterator[None]:
    """Emulation with another library's rounding to BF16."""

    def rounded(x: Tensor, fmt: Any, mode: str = "nearest_even", *, out: Tensor | None = None) -> Tensor:
        found = torch.as_tensor(peer(x.detach()))
        return found if out is None else out.copy_(found)

    with mock.patch.object(converters, "round_to", rounded):
        yield


def _autocast() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16)


def trial(comparison: str, arm: str) -> Trial:
    """The study's trial on the first few thousand training examples of its data."""
    examples = 4096 if NETS[comparison][1] in ("images", "clicks") else 1024
    if comparison in ("recommendation", "deep_cross"):
        examples *= 4
    budget = Budget(epochs=2, train_examples=examples, test_examples=256)
    return COMPARISONS[comparison].trial(arm, budget, Scale(0))


def check(comparison: str) -> None:
    """The measured step is right: every kernel gives the reference's gradients, bit for bit, unlike FP32's."""
    made = trial(comparison, "bf16")
    with dispatch.using("reference"):
        expected = Step(made).gradients()
    found = Step(made).gradients()
    if not all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)):
        raise LeandnnError(
            f"{comparison}: the emulated step's gradients differ from those of the reference kernel"
        )
    plain = Step(trial(comparison, "fp32")).gradients()
    if all(torch.equal(a, b) for a, b in zip(found, plain, strict=True)):
        raise LeandnnError(
            f"{comparison}: the emulated step's gradients equal the FP32 step's: nothing was rounded"
        )


def check_peer(comparison: str, name: str, peer: rounding_peers.Rounder) -> None:
    """A peer's step is rounded by the peer, and each value to a nearest BF16 number (of a tie, to either)."""
    rounded = 0

    def checked(x: Tensor) -> Tensor:
        nonlocal rounded
        found = torch.as_tensor(peer(x))
        nearest = round_to(x.detach(), "bf16")
        if not torch.equal(round_to(found, "bf16"), found) or not torch.equal(
            (found - x).abs(), (nearest - x).abs()
        ):
            raise LeandnnError(f"{comparison}: {name} does not round to the nearest BF16 number")
        rounded += x.numel()
        return found

    Step(trial(comparison, "bf16"), context=functools.partial(_rounding_by, checked)).gradients()
    if not rounded:
        raise LeandnnError(f"{comparison}: {name} was not called by the emulated step")


def _rows(comparison: str, repeats: int) -> list[Row]:
    check(comparison)
    net, unit = NETS[comparison]
    fp32, bf16 = trial(comparison, "fp32"), trial(comparison, "bf16")
    calls: dict[str, Callable[[], object]] = {
        "leandnn": Step(bf16),
        "torch.fp32": Step(fp32),
        "torch.autocast": Step(fp32, context=_autocast),
    }
    if comparison in FUSED:
        calls["torch.fp32 (fused recurrence)"] = Step(fp32, change=FUSED[comparison])
    for name, peer in rounding_peers.installed(BF16, "nearest_even").items():
        if name in PEERS:
            check_peer(comparison, name, peer)
            calls[name] = Step(bf16, context=functools.partial(_rounding_by, peer))
    times = interleave(calls, repeats=repeats, label=f"train-step {comparison}")
    batch = _size(Step(fp32).batch)
    case = {"comparison": comparison, "net": net, "batch": batch, "kernel": dispatch.active()}
    gc.collect()
    return [row("train-step", case, name, 1, t, batch, unit) for name, t in times.items()]


def _size(batch: Any) -> int:
    """Examples of a batch: the length of its first tensor."""
    first = batch[0] if isinstance(batch, tuple | list) else next(iter(vars(batch).values()))
    return len(first)


def rows(quick: bool) -> list[Row]:
    """Measured rows; leaves torch at one thread. Quick: three nets, fewer repeats."""
    determinism.configure(seed=0, threads=1)
    names = QUICK if quick else tuple(NETS)
    return [row for name in names for row in _rows(name, QUICK_REPEATS if quick else REPEATS)]


def summary(rows: list[Row]) -> str:
    """Emulated step over FP32 step, net by net."""
    lines = []
    for mine in (r for r in rows if r["impl"] == "leandnn"):
        others = {r["impl"]: r["median_s"] for r in rows if r["case"] == mine["case"]}
        ratio = mine["median_s"] / others["torch.fp32"]
        lines.append(
            f"{mine['case']['net']}: emulated-BF16 step / FP32 step = {ratio:.3f}, medians of n = {mine['n']}"
        )
    return "\n".join(lines)
