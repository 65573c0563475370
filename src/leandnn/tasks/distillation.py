"""Knowledge distillation: any task, taught by a net that has learned it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.train.task import Task

TEMPERATURE, WEIGHT = 4.0, 0.9  # in the range that is usual for CIFAR since Hinton et al.


class Distillation:
    """A student's task: its own loss and, with a weight, the distance from a teacher's outputs.

    Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), section 2: both nets' logits are divided by a temperature T; the
    divergence of the student's distribution from the teacher's is multiplied by T², so that its gradients keep
    their size whatever T is.

        loss = (1 − weight) · task.loss + weight · T² · KL(softmax(teacher / T) ‖ softmax(student / T))

    - task: what the student learns and is judged by; its `build` makes the student, and its loss calls the model
      with the batch's first tensor.
    - teacher: gives logits of the same classes. A copy in eval mode is kept, which takes no gradients and is no
      part of the student's checkpoints.
    - temperature: T > 0. weight: in [0, 1]; 0 is the task alone.

    Raises ValueError for other values.
    """

    def __init__(
        self, task: Task, teacher: nn.Module, *, temperature: float = TEMPERATURE, weight: float = WEIGHT
    ) -> None:
        if not temperature > 0:
            raise ValueError(f"the temperature is {temperature}, expected more than 0")
        if not 0 <= weight <= 1:
            raise ValueError(f"the weight is {weight}, expected a value in [0, 1]")
        self.task, self.temperature, self.weight = task, temperature, weight
        self.teacher = copy.deepcopy(teacher).eval().requires_grad_(False)

    def build(self) -> nn.Module:
        """A new student."""
        return self.task.build()

    def steps_per_epoch(self) -> int:
        """As of the task."""
        return self.task.steps_per_epoch()

    def batches(self, epoch: int, start: int) -> Iterator[Any]:
        """As of the task."""
        return self.task.batches(epoch, start)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The weighted sum; see the class. The student runs once."""
        kept = _Once(model, batch[0])
        own = self.task.loss(kept, batch)
        if self.weight == 0:
            return own
        with torch.no_grad():
            taught = self._teacher_on(batch[0].device)(batch[0]).float()
        return (1 - self.weight) * own + self.weight * divergence(kept.logits, taught, self.temperature)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """The task's metrics, of the student."""
        return self.task.evaluate(model)

    def worst(self) -> dict[str, float]:
        """As of the task."""
        return self.task.worst()

    def _teacher_on(self, device: torch.device) -> nn.Module:
        if next(self.teacher.parameters()).device != device:
            self.teacher = self.teacher.to(device)
        return self.teacher


class _Once(nn.Module):
    """Answers a model's call with logits that were computed before: a task's loss calls the model itself."""

    def __init__(self, model: nn.Module, inputs: Tensor) -> None:
        super().__init__()
        self.inputs = inputs
        self.logits: Tensor = model(inputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """The logits of the inputs given before."""
        if inputs is not self.inputs:
            raise ValueError(
                "the task's loss calls the model with other inputs than the batch's first tensor"
            )
        return self.logits


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)), the mean over examples, in nats.

    - student, teacher: logits (examples, classes).

    Raises ValueError for different shapes.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"the student's logits have shape {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}"
        )
    student, teacher = (F.log_softmax(logits.float() / temperature, dim=1) for logits in (student, teacher))
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
