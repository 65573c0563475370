"""What a weight or a block of weights is worth, and which are kept: scores, and exact top shares of groups."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SALIENCIES = ("l1", "l2", "gradient", "random")
Scores = NDArray[np.float32]
Mask = NDArray[np.bool_]


def weight_scores(
    weight: Tensor, saliency: str = "l1", *, gradient: Tensor | None = None, seed: int = 0
) -> Tensor:
    """Scores of single weights, which add up to those of blocks; the more a weight is worth, the higher.

    - weight: (M, …) float; M × K is weight.flatten(1).
    - saliency: "l1" the magnitude, "l2" its square (a block's sum orders blocks as their L2 norm does),
      "gradient" |gradient · weight|, what the loss would change at first order without the weight (of a block:
      at most), "random" numbers uniform in [0, 1).
    - gradient: of the loss, shaped like weight; for "gradient" only.
    - seed: of "random".

    Returns float32 (M, K) on the CPU, none below 0.

    Raises ValueError for an unknown saliency, a weight of fewer than two dimensions, a weight or gradient that
    is not finite, a missing gradient or one of another shape, and a layer whose scores are all zero.
    """
    if saliency not in SALIENCIES:
        raise ValueError(f"saliency {saliency!r} is unknown, expected one of {', '.join(SALIENCIES)}")
    matrix = _matrix(weight, "weight")
    if saliency == "random":
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(matrix.shape, generator=generator)
    if saliency == "gradient":
        if gradient is None or gradient.shape != weight.shape:
            found = None if gradient is None else tuple(gradient.shape)
            raise ValueError(f"the gradient has shape {found}, expected {tuple(weight.shape)} for 'gradient'")
        matrix = matrix * _matrix(gradient, "gradient")
    scores = matrix.square() if saliency == "l2" else matrix.abs()
    if not bool(scores.any()):
        raise ValueError(f"the scores ({saliency}) of the {tuple(weight.shape)} layer are all zero")
    return scores


def _matrix(tensor: Tensor, name: str) -> Tensor:
    """The tensor as a float32 matrix on the CPU; ValueError unless it is finite and has two dimensions or more."""
    if tensor.dim() < 2:
        raise ValueError(f"the {name} has shape {tuple(tensor.shape)}, expected two dimensions or more")
    matrix = tensor.detach().flatten(1).float().cpu()
    if not math.isfinite(float(matrix.sum())):  # far cheaper than looking at each, and NaN stays NaN in a sum
        bad = matrix.numel() - int(torch.isfinite(matrix).sum())
        if bad:
            raise ValueError(f"the {name} has {bad} of {matrix.numel()} entries that are not finite")
    return matrix


def keep_top(scores: Scores, counts: int | NDArray[np.integer]) -> Mask:
    """A mask of the highest `counts` scores of every row; of equal ones the first.

    - scores: (groups, members).
    - counts: how many of each row to keep, one number or one per row; at most `members`.
    """
    mask = np.zeros(scores.shape, dtype=bool)
    wanted = np.broadcast_to(np.asarray(counts), scores.shape[:1])
    for count in np.unique(wanted):
        rows = slice(None) if (wanted == count).all() else wanted == count
        mask[rows] = _top(scores[rows], int(count))
    return mask


def _top(scores: Scores, count: int) -> Mask:
    """The highest `count` of every row."""
    members = scores.shape[1]
    if not 0 <= count <= members:
        raise ValueError(f"{count} of {members} members were asked for, expected 0 to {members}")
    if count in (0, members):
        return np.full(scores.shape, count > 0)
    last = np.partition(scores, members - count, axis=1)[:, members - count, None]
    mask: Mask = scores >= last
    surplus = np.nonzero(np.count_nonzero(mask, axis=1) > count)[0]
    if surplus.size:  # ties at the last place: the first of them stay
        tied = scores[surplus] == last[surplus]
        above = scores[surplus] > last[surplus]
        room = count - np.count_nonzero(above, axis=1)[:, None]
        mask[surplus] = above | (tied & (np.cumsum(tied, axis=1) <= room))
    return mask
