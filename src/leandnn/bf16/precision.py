"""One setting for the precision of any trial: FP32, the machine's own BF16, or BF16 emulated as the paper has it."""

from __future__ import annotations

import dataclasses

from leandnn.bf16.hook import Emulation
from leandnn.bf16.policy import Policy
from leandnn.errors import LeandnnError
from leandnn.studies.comparison import Trial

PRECISIONS = ("fp32", "native-bf16", "emulated-bf16")


def in_precision(trial: Trial, precision: str) -> Trial:
    """The trial, its hyper-parameters unchanged, in another precision.

    - precision: "fp32" is as it stands; "native-bf16" is torch's autocast, on a CPU without BF16 products no
      faster than FP32 (the loop says so once); "emulated-bf16" is the paper's policy on FP32 tensors, whose hook
      comes last.

    LeandnnError for another precision, and for a trial that has autocast already.
    """
    if precision not in PRECISIONS:
        raise LeandnnError(f"there is no precision {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if trial.settings.amp != "none":
        raise LeandnnError(f"the trial has autocast in {trial.settings.amp} already, expected FP32")
    if precision == "native-bf16":
        return dataclasses.replace(trial, settings=dataclasses.replace(trial.settings, amp="bf16"))
    if precision == "emulated-bf16":
        emulation = Emulation(Policy.paper(), seed=trial.settings.seed)
        return dataclasses.replace(trial, hooks=(*trial.hooks, emulation))
    return trial
