"""Gradient annealing: how much of a masked weight's gradient survives, as training goes on.

AutoSparse (Kundu et al. 2023, arXiv 2304.06941) multiplies the gradients of masked weights by a factor α that
decays non-linearly. The formulas are those of a public re-implementation (CERN PQuant), since the paper's text
could not be read: the schedule is the larger of a cosine and a sigmoid, with L0 = -6 and L1 = 6.
"""

from __future__ import annotations

import math

L0, L1 = -6.0, 6.0
SCHEDULES = ("sigmoid_cosine", "cosine", "sigmoid", "linear", "constant", "zero")


def factor(schedule: str, progress: float, zero_from: float | None = None) -> float:
    """α as a share of α0, in [0, 1].

    - schedule: "sigmoid_cosine" (the paper's: first half sigmoid, second half cosine, both 0.5 in the middle),
      "cosine", "sigmoid", "linear", "constant" (1), or "zero" (no gradient under the threshold: STR).
    - progress: share of the training done, in [0, 1].
    - zero_from: from this share on α is 0, None for never.

    Raises ValueError for an unknown schedule or a share outside [0, 1].
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule {schedule!r} is unknown, expected one of {', '.join(SCHEDULES)}")
    for name, share in (("progress", progress), ("zero_from", zero_from)):
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}, expected a share in [0, 1]")
    if schedule == "zero" or (zero_from is not None and progress >= zero_from):
        return 0.0
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    sigmoid = 1 - 1 / (1 + math.exp(-(L0 + (L1 - L0) * progress)))
    return {
        "sigmoid_cosine": max(cosine, sigmoid),
        "cosine": cosine,
        "sigmoid": sigmoid,
        "linear": 1 - progress,
        "constant": 1.0,
    }[schedule]
