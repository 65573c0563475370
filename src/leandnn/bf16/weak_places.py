"""Where a format or a rounding is weak: what each contrast's policy loses first in a net that has begun to learn."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from leandnn.bf16.arms import CONTRASTS, Arm
from leandnn.bf16.hook import Emulation
from leandnn.bf16.site_report import Site
from leandnn.bf16.sites import rounding_sites
from leandnn.train import loop
from leandnn.train.task import Settings, Task

FIRST_SCALE = 2.0**16  # with which dynamic loss scaling begins


@dataclasses.dataclass(frozen=True)
class Weakness:
    """The places at which one policy does most harm; None where it does none of that kind.

    - first_non_finite: the first place of a step whose result holds an infinity or NaN.
    - to_zero: the place of that step with the largest share of values that were not 0 and are.
    - stalled: of a policy that rounds master weights, the parameter of which the largest share of changes was
      rounded away over a short training, and that share.
    """

    arm: str
    first_non_finite: Site | None
    to_zero: Site | None
    stalled: tuple[str, float] | None


def weak_places(task: Task, settings: Settings, arms: Mapping[str, Arm] = CONTRASTS) -> list[Weakness]:
    """Train a net in FP32, count what its next step loses under each arm's policy, and what updates lose.

    - task, settings: what is trained and how; a few dozen updates are enough, and a study's end is not shown.
    - arms: by name, whose policies are looked at.
    """
    net = _Loss(loop.train(task, settings).model.train(), task)
    batch = next(task.batches(0, 0))
    found = []
    for name, arm in arms.items():
        policy = arm.policy
        scale = FIRST_SCALE if policy.loss_scaling else 1.0
        report = rounding_sites(net, (batch,), policy, loss=functools.partial(torch.mul, scale))
        stalled = None
        if policy.master_weights is not None:
            hook = Emulation(policy, seed=settings.seed)
            loop.train(task, settings, (hook,))
            assert hook.master is not None
            shares = hook.master.shares()
            stalled = max(shares.items(), key=lambda item: item[1])
        found.append(Weakness(name, report.first_non_finite, report.worst("zeros"), stalled))
    return found


def to_markdown(rows: Sequence[Weakness]) -> str:
    """The rows as a Markdown table."""
    head = ["arm", "first infinity or NaN", "most values to zero", "most updates lost"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        first, zero, stalled = row.first_non_finite, row.to_zero, row.stalled
        cells = [
            "none" if first is None else _place(first),
            "none" if zero is None else f"{_place(zero)}: {zero.zeros / zero.values:.1%}",
            "" if stalled is None else f"{stalled[0]}: {stalled[1]:.0%}",
        ]
        lines.append([row.arm, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _place(site: Site) -> str:
    return f"{site.tensor} of {site.module.removeprefix('model.')} ({site.operation}, {site.stage})"


class _Loss(nn.Module):
    """A model together with its loss: a batch goes in, a scalar comes out."""

    def __init__(self, model: nn.Module, task: Task) -> None:
        super().__init__()
        self.model = model

        def loss(model: nn.Module, batch: Any) -> Tensor:
            return task.loss(model, batch)

        self.loss: Callable[[nn.Module, Any], Tensor] = loss  # a copy of a function does not copy the data

    def forward(self, batch: Any) -> Tensor:
        return self.loss(self.model, batch)
