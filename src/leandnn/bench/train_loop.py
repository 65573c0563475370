"""What the training loop costs beside the arithmetic: steps of the fast CIFAR-10 recipe, one thread.

In one interleaved run: a step of our loop with its hooks and checks; the same step written bare (the same batches,
net, optimizer, learning rates and Lookahead, nothing else), which ends with the same bits; and, of that step, what
making the batch takes. Evaluation is a part of a run: its share follows from the recipe's epochs.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from leandnn.bench.benchfile import Row
from leandnn.bench.timing import interleave, row
from leandnn.bf16.precision import in_precision
from leandnn.data import cifar
from leandnn.dense import recipe as fast_cifar
from leandnn.errors import LeandnnError
from leandnn.machine import determinism
from leandnn.studies.comparison import Scale, Trial
from leandnn.train import checkpoint, loop, schedules
from leandnn.train.hooks import Lookahead
from leandnn.train.optimizer import make_optimizer

PRECISIONS = ("native-bf16", "fp32")
LOOP, AUGMENTATION, EVALUATION = 1.03, 0.03, 0.03  # targets: of a bare step, of a step, of a run
REPEATS, QUICK_REPEATS = 40, 20
TRAINED, JUDGED = 50_000, 10_000  # images of a run, of an evaluation
EXAMPLES, EVALUATED = 4096, 500  # here


class Steps:
    """Calls of it are the steps of a trial, on one batch after another."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.batches = self._batches()

    def _batches(self) -> Iterator[Any]:
        for epoch in range(self.trial.settings.epochs):
            yield from self.trial.task.batches(epoch, 0)


class Looped(Steps):
    """As our loop makes them."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self.loop = loop._Loop(trial.task, trial.settings, trial.hooks, None, 0.0, None)
        self.model = self.loop.model.train()

    def __call__(self) -> None:
        """One update."""
        self.loop.step(self.batches)


class Bare(Steps):
    """Written out."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        determinism.configure(seed=trial.settings.seed, threads=1)
        model = trial.task.build().train()
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(self.model, trial.settings)
        self.lookahead = next(hook for hook in trial.hooks if isinstance(hook, Lookahead))
        self.lookahead.attach(self.model, self.optimizer)
        self.done, self.total = 0, trial.settings.epochs * trial.task.steps_per_epoch()

    def __call__(self) -> None:
        """One update."""
        s = self.trial.settings
        at = (self.done + 1) / (self.total + 1)
        lr = s.lr * schedules.factor(s.schedule, at, s.warmup, start=s.lr_start, end=s.lr_end)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_factor"]
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.trial):
            loss = self.trial.task.loss(self.model, next(self.batches))
        loss.backward()
        self.optimizer.step()
        self.lookahead.after_update(self.done / self.total)
        self.done += 1


def autocast(trial: Trial) -> AbstractContextManager[Any]:
    """What the trial's forward passes run under."""
    return nullcontext() if trial.settings.amp == "none" else torch.autocast("cpu", torch.bfloat16)


def trial(net: str, precision: str) -> Trial:
    """The recipe on made-up images, and for longer than any bench runs."""
    pair = cifar.synthetic("train", EXAMPLES), cifar.synthetic("test", EVALUATED)
    return in_precision(fast_cifar.trial(fast_cifar.recipe(net, epochs=100), Scale(0), pair), precision)


def check(net: str, precision: str, steps: int = 6) -> None:
    """The bare steps are the loop's: LeandnnError unless both nets are equal to the bit after some."""
    mine, bare = Looped(trial(net, precision)), Bare(trial(net, precision))
    for _ in range(steps):
        mine()
        bare()
    if checkpoint.weights_sha256(mine.model) != checkpoint.weights_sha256(bare.model):
        raise LeandnnError(f"{net} in {precision}: the bare steps do not end with the bits of the loop's")


def _rows(net: str, precision: str, repeats: int) -> list[Row]:
    check(net, precision)
    looped, bare, other = (
        Looped(trial(net, precision)),
        Bare(trial(net, precision)),
        Steps(trial(net, precision)),
    )

    def evaluate() -> None:
        looped.model.eval()
        with torch.no_grad(), autocast(looped.trial):
            looped.trial.task.evaluate(looped.model)
        looped.model.train()

    calls: dict[str, Callable[[], object]] = {
        "leandnn": looped,
        "torch, bare": bare,
        "augmentation": lambda: next(other.batches),
        "evaluation": evaluate,
    }
    times = interleave(calls, repeats=repeats, label=f"train-loop {net} {precision}")
    batch = fast_cifar.RECIPES[net].batch
    case = {"net": net, "precision": precision, "batch": batch}
    gc.collect()
    work = dict.fromkeys(calls, batch) | {"evaluation": EVALUATED}
    return [row("train-loop", case, name, 1, t, work[name], "images") for name, t in times.items()]


def rows(quick: bool) -> list[Row]:
    """Measured rows; leaves torch at one thread. Quick: the smaller net in one precision, fewer repeats."""
    nets, precisions = (("proxy",), PRECISIONS[:1]) if quick else (tuple(fast_cifar.RECIPES), PRECISIONS)
    repeats = QUICK_REPEATS if quick else REPEATS
    return [row for net in nets for precision in precisions for row in _rows(net, precision, repeats)]


def evaluations(net: str) -> int:
    """In one run of the recipe."""
    chosen = fast_cifar.RECIPES[net]
    return len({*range(chosen.evaluate_every, chosen.epochs + 1, chosen.evaluate_every), chosen.epochs})


def summary(rows: list[Row]) -> str:
    """Loop over bare step, and the shares of augmentation and evaluation, net by net."""
    lines = []
    for mine in (r for r in rows if r["impl"] == "leandnn"):
        rate = {r["impl"]: r["median_s"] / r["work"] for r in rows if r["case"] == mine["case"]}
        net, step = mine["case"]["net"], rate["leandnn"]
        evaluated = evaluations(net) * JUDGED * rate["evaluation"]
        share = evaluated / (evaluated + fast_cifar.RECIPES[net].epochs * TRAINED * step)
        lines += [
            f"{net} in {mine['case']['precision']}, {1 / step:,.0f} images/s, medians of n = {mine['n']}:",
            f"  loop / bare steps = {step / rate['torch, bare']:.3f} (target ≤ {LOOP})",
            f"  augmentation = {rate['augmentation'] / step:.2%} of a step (target ≤ {AUGMENTATION:.0%})",
            f"  evaluation = {share:.2%} of a run (target ≤ {EVALUATION:.0%})",
        ]
    return "\n".join(lines)
