"""What the loop is given and what it returns: task, settings, hooks, result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from leandnn.errors import LeandnnError


class Task(Protocol):
    """What is learned: the model, its batches, its loss, its metrics."""

    def build(self) -> nn.Module:
        """A new model on the CPU; torch is seeded beforehand."""

    def steps_per_epoch(self) -> int:
        """Batches in one epoch."""

    def batches(self, epoch: int, start: int) -> Iterator[Any]:
        """The epoch's batches from number `start` on, on the training device; a function of these two."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Scalar mean loss of one batch."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Metrics on held-out data; the model is in eval mode, gradients are off."""

    def worst(self) -> dict[str, float]:
        """The metrics of a run that failed: those of a model that has learned nothing. See Settings.on_failure."""


@dataclass(frozen=True)
class Settings:
    """How a run is trained; all of it goes into the run's metrics file.

    - lr: peak learning rate; schedule, warmup, lr_start, lr_end: see schedules.factor.
    - lr_factors: name of parameters ("*" stands for any characters) → factor of their learning rate; the first
      name that fits counts. Their weight decay is divided by it, so that it stays what it is.
    - momentum, nesterov: of SGD; betas: of Adam.
    - weight_decay: on tensors of two or more dimensions only (not on biases and norms), unless decay_vectors.
    - accumulate: batches whose gradients are averaged into one update.
    - amp: "bf16" or "fp16" runs the forward pass under torch's autocast, fp16 with loss scaling.
    - loss_scaling: scale the loss dynamically as fp16 autocast does, without autocast (for emulated FP16).
    - clip_norm: largest gradient norm, None for no clipping.
    - on_failure: where a loss or weight is not finite, "stop" raises; "record" ends the run with the metrics of
      Task.worst and the reason in Result.failure, for studies in which failing is a result.
    - trace: number of fixed steps, evenly spaced, at which the mean training loss since the one before is kept.
    - evaluate_every: epochs from one evaluation to the next; the last epoch always ends with one, and what
      lies between has a history row without metrics.
    - threads, seed, device: see machine.determinism.configure.

    LeandnnError for evaluate_every below 1 and for factors that are not above 0.
    """

    epochs: int
    lr: float
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    schedule: str = "one_cycle"
    warmup: float = 0.0
    lr_start: float = 0.0
    lr_end: float = 0.0
    lr_factors: dict[str, float] = field(default_factory=dict)
    decay_vectors: bool = False
    accumulate: int = 1
    amp: Literal["none", "bf16", "fp16"] = "none"
    loss_scaling: bool = False
    clip_norm: float | None = None
    on_failure: Literal["stop", "record"] = "stop"
    trace: int = 20
    evaluate_every: int = 1
    channels_last: bool = True
    seed: int = 0
    threads: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.evaluate_every < 1:
            raise LeandnnError(f"evaluate_every is {self.evaluate_every} epochs, expected 1 or more")
        for name, factor in self.lr_factors.items():
            if not factor > 0:
                raise LeandnnError(f"the learning rate of {name} has factor {factor}, expected more than 0")


class Hook:
    """What a method adds to the loop; every call is optional."""

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Before the first step, and before a checkpoint is loaded."""

    def wrap(self, model: nn.Module) -> nn.Module:
        """What the training loss is computed with, e.g. the model in DistributedDataParallel."""
        return model

    def forward(self, model: nn.Module) -> AbstractContextManager[Any]:
        """A context around every forward pass, in training and in evaluation."""
        return nullcontext()

    def before_update(self, progress: float) -> None:
        """Gradients are complete (and clipped); `progress` in [0, 1) is the share of training done."""

    def after_update(self, progress: float) -> None:
        """The optimizer has stepped."""

    def epoch_trained(self) -> None:
        """The epoch's last update is made; evaluation is next."""

    def epoch_end(self, epoch: int) -> dict[str, float]:
        """More columns for the history, after evaluation."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""


@dataclass
class Result:
    """A finished run.

    - metrics: those of the last epoch; of a failed run those of Task.worst.
    - history: a row per finished epoch; trace: a row {"step", "train_loss"} per fixed step (see Settings.trace).
    - failure: why the run ended before its time, None if it did not.
    - steps: updates it was to make; seconds: spent on it; model: in eval mode.
    """

    metrics: dict[str, float]
    history: list[dict[str, float]]
    trace: list[dict[str, float]]
    failure: str | None
    weights_sha256: str
    steps: int
    seconds: float
    model: nn.Module = field(repr=False)
