"""The study's arms: what each rounds, and what a trial needs for it. Nothing else may differ between them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

from leandnn.bf16.hook import Emulation
from leandnn.bf16.policy import Policy
from leandnn.studies.comparison import Make, Trial
from leandnn.train.task import Settings, Task


@dataclasses.dataclass(frozen=True)
class Arm:
    """One arm: what it rounds; a contrast may fail, and that is its result (of the pair a failure is an error)."""

    policy: Policy
    contrast: bool = False


PAIR = {"fp32": Arm(Policy.fp32()), "bf16": Arm(Policy.paper())}
CONTRASTS = {
    "truncate": Arm(Policy.truncate(), contrast=True),
    "stochastic": Arm(Policy.stochastic(), contrast=True),
    "no-master": Arm(Policy.no_master(), contrast=True),
    "fp16": Arm(Policy.fp16(), contrast=True),
    "fp16-loss-scaling": Arm(Policy.fp16_loss_scaling(), contrast=True),
}


def trial(arm: Arm, task: Task, settings: Settings) -> Trial:
    """The task under an arm's policy, with hyper-parameters chosen for FP32 and used unchanged by every arm."""
    if arm.contrast:
        settings = dataclasses.replace(settings, on_failure="record", loss_scaling=arm.policy.loss_scaling)
    return Trial(task, settings, (Emulation(arm.policy, seed=settings.seed),))


def all_of(make: Make, arms: Mapping[str, Arm], *first: object) -> dict[str, Make]:
    """The arms of a comparison: `make` takes `first`, an arm, a budget and a scale."""
    return {name: functools.partial(make, *first, arm) for name, arm in arms.items()}
