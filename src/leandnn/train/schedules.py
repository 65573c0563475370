"""Learning-rate schedules as pure functions of training progress, so that resuming needs no state."""

from __future__ import annotations

import math

from leandnn.errors import LeandnnError

SCHEDULES = ("constant", "cosine", "linear", "one_cycle")


def factor(
    schedule: str, progress: float, warmup: float = 0.0, *, start: float = 0.0, end: float = 0.0
) -> float:
    """The learning rate of a step as a share of the peak.

    - schedule: "constant"; "cosine" and "linear" fall to `end`; "one_cycle" is "linear" with a warm-up of at
      least a fifth. "linear" with a warm-up is the triangle of the fast CIFAR-10 recipes.
    - progress: steps done / steps in all, in [0, 1).
    - warmup: share of the training over which the rate rises linearly from `start` (the first step has a
      little more: the rise counts to the end of the step).
    - start, end: shares of the peak.

    Raises ValueError for an unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule {schedule!r} is unknown, expected one of {', '.join(SCHEDULES)}")
    if schedule == "one_cycle":
        schedule, warmup = "linear", max(warmup, 0.2)
    if progress < warmup:
        return start + (1.0 - start) * (progress / warmup)
    rest = (progress - warmup) / (1.0 - warmup) if warmup < 1.0 else 0.0
    if schedule == "cosine":
        return end + (1.0 - end) * (0.5 * (1.0 + math.cos(math.pi * rest)))
    return end + (1.0 - end) * (1.0 - rest) if schedule == "linear" else 1.0


def decoupled(lr: float, weight_decay: float, momentum: float, batch_size: int) -> tuple[float, float]:
    """Learning rate and weight decay of torch's Nesterov SGD on a mean loss, from those per 1024 examples.

    Under steady gradients Nesterov's momentum m makes an update 1 / (1 - m) times as long. The source divides by
    one more than that, and so do we, to use its numbers: `lr` and `weight_decay` then say, but for this constant,
    how far 1024 examples move and shrink the weights at any batch size, and neither changes what the other does.

    Source: Jordan 2024 (arXiv 2404.00498), after Page 2018 (How to train your ResNet, part 5).
    LeandnnError for a rate that is not above 0 and a momentum outside [0, 1).
    """
    if not lr > 0 or not 0 <= momentum < 1:
        raise LeandnnError(
            f"the learning rate is {lr} and the momentum {momentum}, expected more than 0 and 0 ≤ momentum < 1"
        )
    return lr * batch_size / (1024 * (1 + 1 / (1 - momentum))), weight_decay / lr
