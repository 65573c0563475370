"""A sparsity that is asked for: the common shift of all thresholds that gives it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from leandnn.autosparse.layers import kth_smallest

# Of a layer's weights at least this share is kept, and at least one weight: a layer without any passes nothing on.
FLOOR = 0.001


def kept_at_least(numel: int) -> int:
    """How many of a layer's weights are always kept."""
    return max(1, round(FLOOR * numel))


def check(target: float, sizes: Sequence[int]) -> None:
    """ValueError for a target sparsity that the floors of layers of these sizes do not allow, or outside (0, 1)."""
    if not 0 < target < 1:
        raise ValueError(f"the target sparsity is {target}, expected a share between 0 and 1")
    reachable = 1 - sum(kept_at_least(size) for size in sizes) / sum(sizes)
    if target > reachable:
        raise ValueError(
            f"a target sparsity of {target:.4%} cannot be reached: every layer keeps {FLOOR:.1%} of its weights "
            f"and at least one, which allows {reachable:.4%}"
        )


def ramp(progress: float, start: float, target: float, end: float) -> float:
    """The sparsity wanted at a share of the training: from `start` to `target`, reached at share `end`, cubic.

    The shape of gradual pruning (Zhu and Gupta 2017, arXiv 1710.01878): fast at first, when the net recovers
    easily.
    """
    left = max(0.0, 1 - progress / end) if end > 0 else 0.0
    return target + (start - target) * left**3


def distances(weight: Tensor, score: Tensor, soft: bool) -> Tensor:
    """By how much each weight's threshold must be shifted to reach it (flat, float32): a weight whose number is
    at most the shift is masked.

    - soft: thresholds are sigmoid(s + shift), so |W| lies at s + shift = logit(|W|), weights of 1 or more out of
      reach. Otherwise they are t + shift.
    """
    size = weight.detach().abs()
    place = torch.logit(size.clamp(1e-30, 1.0)) if soft else size
    return (place - score.detach()).flatten().float()


def shift_for(distances: Sequence[Tensor], sparsity: float) -> float:
    """The shift of all thresholds at which just this share of all weights is masked (to one weight)."""
    every = torch.cat(list(distances))
    masked = round(sparsity * every.numel())
    return float(every.min()) - 1.0 if masked == 0 else float(kth_smallest(every, masked))
