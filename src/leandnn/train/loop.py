"""The one training loop. Wings hand it a `Task` and hooks; nothing else in the package loops over batches.

Everything random is a function of (seed, epoch, step) or travels in the checkpoint, so a run that was
killed and resumed ends with the same bits as an unbroken one (same machine, same thread count).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from leandnn.errors import LeandnnError
from leandnn.machine import card, determinism
from leandnn.train import checkpoint, distributed, schedules
from leandnn.train.optimizer import make_optimizer
from leandnn.train.task import Hook, Result, Settings, Task


class NonFiniteError(LeandnnError):
    """A loss, weight or metric became NaN or infinite; the message names the step and the tensor at fault."""


Progress = Callable[[int, int, str], None]


def train(
    task: Task,
    settings: Settings,
    hooks: Sequence[Hook] = (),
    *,
    checkpoint_path: Path | None = None,
    checkpoint_every_s: float = 10.0,
    progress: Progress | None = None,
) -> Result:
    """Train a task to the end, resuming from `checkpoint_path` if that file exists.

    - checkpoint_path: where the full state goes every `checkpoint_every_s` seconds and after each epoch;
      None for no checkpoints. The caller removes it when it has stored the result.
    - progress: called as progress(updates done, updates in all, the last epoch's numbers) after every update.

    In a group of processes (see distributed.py) the first alone writes the checkpoint, and all read it.

    Raises NonFiniteError (unless settings.on_failure is "record"), and LeandnnError for a damaged checkpoint.
    """
    return _Loop(task, settings, hooks, checkpoint_path, checkpoint_every_s, progress).run()


class _Loop:
    def __init__(
        self,
        task: Task,
        settings: Settings,
        hooks: Sequence[Hook],
        path: Path | None,
        every_s: float,
        progress: Progress | None,
    ) -> None:
        self.task, self.settings, self.hooks = task, settings, hooks
        self.path, self.every_s, self.progress = path, every_s, progress
        self.device = determinism.configure(
            seed=settings.seed, threads=settings.threads, device=settings.device
        )
        if settings.amp == "bf16" and self.device.type == "cpu" and card.lacks_bf16():
            _warn_once()
        model = task.build().to(self.device)
        if settings.channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model: nn.Module = model
        self.optimizer = make_optimizer(model, settings)
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=settings.amp == "fp16" or settings.loss_scaling
        )
        self.trained = self.model  # the model as the training loss sees it
        for hook in hooks:
            hook.attach(model, self.optimizer)
            self.trained = hook.wrap(self.trained)
        self.updates_per_epoch = task.steps_per_epoch() // settings.accumulate
        if self.updates_per_epoch == 0:
            raise LeandnnError(
                f"an epoch has {task.steps_per_epoch()} batches, expected at least {settings.accumulate} "
                "(one update)"
            )
        # Position and running sums: all of it is in the checkpoint.
        self.epoch = 0
        self.update = 0  # within the epoch
        self.history: list[dict[str, float]] = []
        self.trace: list[dict[str, float]] = []
        # Sums stay on the device, so that a GPU need not wait for the host at every step.
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.trace_sum = torch.zeros_like(self.loss_sum)  # since the trace's last row
        self.seconds = 0.0  # spent by earlier processes on this run
        self.started = time.monotonic()
        self.text = ""
        self.first_bad = torch.full((), -1, dtype=torch.int64, device=self.device)

    # -- state ---------------------------------------------------------------------------------------

    def save(self) -> None:
        assert self.path is not None
        # A checkpoint past a NaN could never be trained on.
        self.check_finite()
        for name, weight in self.model.named_parameters():
            if not bool(torch.isfinite(weight).all()):
                raise NonFiniteError(
                    f"weight {name} is not finite after {self.epoch} epochs and {self.update} updates"
                )
        state = {
            "settings": dataclasses.asdict(self.settings),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "hooks": [hook.state_dict() for hook in self.hooks],
            "epoch": self.epoch,
            "update": self.update,
            "history": self.history,
            "trace": self.trace,
            "loss_sum": self.loss_sum,
            "trace_sum": self.trace_sum,
            "seconds": self.elapsed(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
        }
        checkpoint.save(self.path, state)

    def restore(self) -> None:
        if self.path is None or not self.path.exists():
            return
        state = checkpoint.load(self.path)
        if state["settings"] != dataclasses.asdict(self.settings):
            raise LeandnnError(
                f"checkpoint {self.path.name} was made with other settings: {state['settings']}, "
                f"expected {dataclasses.asdict(self.settings)}"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        for hook, saved in zip(self.hooks, state["hooks"], strict=True):
            hook.load_state_dict(saved)
        self.epoch, self.update, self.history = state["epoch"], state["update"], state["history"]
        self.trace, self.trace_sum = state["trace"], state["trace_sum"].to(self.device)
        self.loss_sum, self.seconds = state["loss_sum"].to(self.device), state["seconds"]
        self.describe()
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"]:
            torch.cuda.set_rng_state_all(state["cuda_rng"])

    # -- the loop ------------------------------------------------------------------------------------

    def run(self) -> Result:
        self.restore()
        failure = None
        try:
            self.all_epochs()
        except NonFiniteError as error:
            if self.settings.on_failure == "stop":
                raise
            failure = str(error)
        self.model.eval()
        metrics = self.history[-1] if failure is None else self.task.worst()
        return Result(
            metrics={k: v for k, v in metrics.items() if k not in ("epoch", "lr")},
            history=self.history,
            trace=self.trace,
            failure=failure,
            weights_sha256=checkpoint.weights_sha256(self.model),
            steps=self.updates_per_epoch * self.settings.epochs,
            seconds=self.elapsed(),
            model=self.model,
        )

    def all_epochs(self) -> None:
        saves = self.path is not None and distributed.rank() == 0
        saved_at = time.monotonic()
        while self.epoch < self.settings.epochs:
            self.model.train()
            batches = self.task.batches(self.epoch, self.update * self.settings.accumulate)
            while self.update < self.updates_per_epoch:
                self.step(batches)
                if saves and time.monotonic() - saved_at > self.every_s:
                    self.save()
                    saved_at = time.monotonic()
            self.end_epoch()
            if saves:
                self.save()
                saved_at = time.monotonic()

    def elapsed(self) -> float:
        """Seconds spent on this run, those of killed processes up to their last checkpoint included."""
        return self.seconds + time.monotonic() - self.started

    def describe(self) -> None:
        """Set the line that progress shows: the last epoch's numbers."""
        if self.history:
            numbers = (f"{k} {v:.4g}" for k, v in self.history[-1].items() if k not in ("epoch", "lr"))
            self.text = f"epoch {self.epoch}/{self.settings.epochs}: " + ", ".join(numbers)

    def report(self) -> None:
        if self.progress is not None:
            done = self.epoch * self.updates_per_epoch + self.update
            self.progress(done, self.settings.epochs * self.updates_per_epoch, self.text)

    def step(self, batches: Iterator[Any]) -> None:
        settings = self.settings
        done = self.epoch * self.updates_per_epoch + self.update
        total = settings.epochs * self.updates_per_epoch
        share = done / total
        lr = settings.lr * schedules.factor(
            settings.schedule,
            (done + 1) / (total + 1),
            settings.warmup,
            start=settings.lr_start,
            end=settings.lr_end,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_factor", 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        for _ in range(settings.accumulate):
            batch = next(batches)
            with self.forward_context():
                loss = self.task.loss(self.trained, batch)
            self.scaler.scale(loss / settings.accumulate).backward()
            value = loss.detach()
            self.loss_sum += value
            self.trace_sum += value
            self.first_bad = torch.where(
                (self.first_bad < 0) & ~torch.isfinite(value),
                torch.full_like(self.first_bad, done),
                self.first_bad,
            )
            if self.device.type == "cpu" or done % 50 == 0:  # on a GPU each look makes the host wait
                self.check_finite(batch)
        self.scaler.unscale_(self.optimizer)  # clipping and hooks see the gradients themselves
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        for hook in self.hooks:
            hook.before_update(share)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        for hook in self.hooks:
            hook.after_update(share)
        self.update += 1
        self.note(done + 1, total)
        self.report()

    def note(self, done: int, total: int) -> None:
        """Add a row to the trace if the update `done` (from 1) of `total` is one of its fixed steps."""
        points = self.settings.trace
        if done * points // total == (done - 1) * points // total:
            return
        before = int(self.trace[-1]["step"]) if self.trace else 0
        mean = float(self.trace_sum) / ((done - before) * self.settings.accumulate)
        self.trace.append({"step": done, "train_loss": mean})
        self.trace_sum.zero_()

    def end_epoch(self) -> None:
        self.check_finite()
        for hook in self.hooks:
            hook.epoch_trained()
        self.model.eval()
        metrics: dict[str, float] = {}
        done = self.epoch + 1
        if done % self.settings.evaluate_every == 0 or done == self.settings.epochs:
            with torch.no_grad(), self.forward_context():
                metrics = self.task.evaluate(self.model)
        count = self.updates_per_epoch * self.settings.accumulate
        row: dict[str, float] = {
            "epoch": done,
            "lr": float(self.optimizer.param_groups[0]["lr"]),
            "train_loss": float(self.loss_sum) / count,
            **metrics,
        }
        if self.settings.loss_scaling:
            row["loss_scale"] = self.scaler.get_scale()
        for hook in self.hooks:
            row.update(hook.epoch_end(self.epoch))
        bad = [name for name, value in row.items() if not math.isfinite(value)]
        if bad:
            raise NonFiniteError(
                f"epoch {self.epoch + 1} ends with {bad[0]} = {row[bad[0]]}, expected a finite value"
            )
        self.history.append(row)
        self.epoch, self.update = self.epoch + 1, 0
        self.loss_sum.zero_()
        self.describe()
        self.report()

    def forward_context(self) -> ExitStack:
        """Autocast, if asked for, and every hook's context."""
        stack = ExitStack()
        if self.settings.amp != "none":
            dtype = torch.bfloat16 if self.settings.amp == "bf16" else torch.float16
            stack.enter_context(torch.autocast(self.device.type, dtype))
        for hook in self.hooks:
            stack.enter_context(hook.forward(self.model))
        return stack

    def check_finite(self, batch: Any = None) -> None:
        """Stop with the step and the first tensor that is not finite, if a loss was not."""
        bad = int(self.first_bad)
        if bad < 0:
            return
        culprit = _first_non_finite(self.model, batch)
        raise NonFiniteError(f"the loss of step {bad} is not finite; the first tensor at fault is {culprit}")


def _first_non_finite(model: nn.Module, batch: Any) -> str:
    inputs = batch if isinstance(batch, tuple | list) else [batch]
    for i, item in enumerate(inputs):
        if isinstance(item, Tensor) and item.is_floating_point() and not bool(torch.isfinite(item).all()):
            return f"input {i} of the batch"
    for kind, named in (("weight", model.named_parameters()), ("buffer", model.named_buffers())):
        for name, tensor in named:
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                return f"{kind} {name}"
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return f"the gradient of {name}"
    return "the loss itself (weights, buffers, inputs and gradients are finite)"


@functools.cache
def _warn_once() -> None:
    warnings.warn(
        f"{card.cpu_model()} has no BF16 products: autocast rounds all the same, but is no faster than FP32",
        RuntimeWarning,
        stacklevel=4,
    )
