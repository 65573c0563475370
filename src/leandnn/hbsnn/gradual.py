"""Gradual hierarchical pruning: a schedule for every level, coarse levels first, the survivors trained on.

Our choice, as the pattern itself: how HBsNN (arXiv 1808.03420) finds its masks is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from leandnn.blocksparse import Pattern
from leandnn.blocksparse.prune import Select, cubic
from leandnn.hbsnn.selection import Size, hierarchical

Window = tuple[float, float]


def coarse_first(levels: int) -> tuple[Window, ...]:
    """Windows that overlap, the coarsest level's from 0 to 0.6, the smallest blocks' from 0.4 to 1.

    One level takes all the time.
    """
    if levels == 1:
        return ((0.0, 1.0),)
    lag = 0.4 / (levels - 1)
    return tuple((round(i * lag, 9), round(0.6 + i * lag, 9)) for i in range(levels))


def densities_at(densities: Sequence[float], windows: Sequence[Window], progress: float) -> tuple[float, ...]:
    """Each level's density when `progress` (0 to 1) of the pruning is done: 1 before its window, its own after.

    Within its window a level follows Zhu and Gupta's cubic schedule (prune.cubic).
    """
    passed = [min(1.0, max(0.0, (progress - start) / (end - start))) for start, end in windows]
    return tuple(1 - cubic(1 - density, share) for density, share in zip(densities, passed, strict=True))


def gradual(
    blocks: Sequence[int | Size],
    densities: Sequence[float],
    *,
    windows: Sequence[Window] | None = None,
    saliency: str | Sequence[str] = "l1",
    share: str = "parent",
    seed: int = 0,
) -> Select:
    """The rule of a GradualPruning hook that prunes hierarchically.

    - blocks, densities, saliency, share, seed: see selection.hierarchical; `densities` are the last ones.
    - windows: each level's (start, end) as shares of the pruning, coarse_first if None.

    Raises ValueError for windows that are not one for each level with 0 ≤ start < end ≤ 1; what it returns does
    where selection.hierarchical does.
    """
    spans = coarse_first(len(blocks)) if windows is None else tuple(windows)
    if len(spans) != len(densities) or not all(0 <= start < end <= 1 for start, end in spans):
        raise ValueError(
            f"windows are {spans}, expected {len(densities)}, one for each density, with 0 ≤ start < end ≤ 1"
        )

    def select(weight: Tensor, progress: float) -> Pattern:
        return hierarchical(
            weight,
            blocks,
            densities_at(densities, spans, progress),
            saliency=saliency,
            share=share,
            gradient=weight.grad,
            seed=seed,  # always the same, so that a random choice only ever loses blocks
        )

    return select
