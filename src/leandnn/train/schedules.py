"""Learning-rate schedules as pure functions of training progress, so that resuming needs no state."""

from __future__ import annotations

import math

SCHEDULES = ("constant", "cosine", "linear", "one_cycle")


def factor(schedule: str, progress: float, warmup: float = 0.0) -> float:
    """The learning rate of a step as a share of the peak.

    - schedule: "constant"; "cosine" and "linear" fall to 0 at the end; "one_cycle" is "linear" with a
      warm-up of at least a fifth.
    - progress: steps done / steps in all, in [0, 1).
    - warmup: share of the training over which the rate rises linearly from 0 (the first step has a
      little more than 0: the rise counts to the end of the step).

    Raises ValueError for an unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule {schedule!r} is unknown, expected one of {', '.join(SCHEDULES)}")
    if schedule == "one_cycle":
        schedule, warmup = "linear", max(warmup, 0.2)
    if progress < warmup:
        return progress / warmup
    rest = (progress - warmup) / (1.0 - warmup) if warmup < 1.0 else 0.0
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * rest))
    return 1.0 - rest if schedule == "linear" else 1.0
