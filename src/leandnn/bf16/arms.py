"""The study's arms: what each rounds, and what a trial needs for it. Nothing else may differ between them."""

from __future__ import annotations

import dataclasses

from leandnn.bf16.hook import Emulation
from leandnn.bf16.policy import Policy
from leandnn.studies.comparison import Trial
from leandnn.train.task import Settings, Task

PAIR = ("fp32", "bf16")
CONTRASTS = ("truncate", "stochastic", "no-master", "fp16", "fp16-loss-scaling")
POLICIES = {
    "fp32": Policy.fp32(),
    "bf16": Policy.paper(),
    "truncate": Policy.truncate(),
    "stochastic": Policy.stochastic(),
    "no-master": Policy.no_master(),
    "fp16": Policy.fp16(),
    "fp16-loss-scaling": Policy.fp16_loss_scaling(),
}

# What decides the results of every comparison, beside its own domain.
CODE = (
    "bf16/arms.py",
    "bf16/converters.py",
    "bf16/decompose.py",
    "bf16/emulate.py",
    "bf16/hook.py",
    "bf16/mode.py",
    "bf16/policy.py",
    "bf16/update.py",
    "data/prepared.py",
    "kernels/dispatch.py",
    "kernels/rounding",
    "machine/determinism.py",
    "train/loop.py",
    "studies/outcome.py",
    "train/schedules.py",
    "train/task.py",
)


def trial(arm: str, task: Task, settings: Settings) -> Trial:
    """The task under an arm's policy, with hyper-parameters chosen for FP32 and used unchanged by every arm.

    A contrast may fail, and that is its result; of the pair itself a failure is an error.
    """
    if arm in CONTRASTS:
        settings = dataclasses.replace(settings, on_failure="record", loss_scaling=arm == "fp16-loss-scaling")
    return Trial(task, settings, (Emulation(POLICIES[arm], seed=settings.seed),))
