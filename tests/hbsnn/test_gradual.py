"""Gradual hierarchical pruning: each level's schedule, blocks that only ever get lost, windows that are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from leandnn.blocksparse import prune
from leandnn.hbsnn.gradual import coarse_first, densities_at, gradual

BLOCKS, DENSITIES = ((16, 12), (4, 1)), (0.5, 0.25)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(0)))


def test_coarse_levels_come_first():
    assert coarse_first(1) == ((0.0, 1.0),)
    assert coarse_first(2) == ((0.0, 0.6), (0.4, 1.0))
    assert coarse_first(3) == ((0.0, 0.6), (0.2, 0.8), (0.4, 1.0))


def test_levels_follow_the_cubic_schedule_within_their_windows():
    windows = ((0.0, 0.5), (0.5, 1.0))
    assert densities_at(DENSITIES, windows, 0.0) == (1.0, 1.0)
    assert densities_at(DENSITIES, windows, 0.25) == (1 - prune.cubic(0.5, 0.5), 1.0)
    assert densities_at(DENSITIES, windows, 0.5) == (0.5, 1.0)
    assert densities_at(DENSITIES, windows, 0.75) == (0.5, 1 - prune.cubic(0.75, 0.5))
    assert densities_at(DENSITIES, windows, 1.0) == DENSITIES
    together = densities_at(DENSITIES, ((0.0, 1.0), (0.0, 1.0)), 0.5)
    assert together == (1 - prune.cubic(0.5, 0.5), 1 - prune.cubic(0.75, 0.5))


@pytest.mark.parametrize("saliency", ["l1", "l2", "gradient", "random"])
@pytest.mark.parametrize("share", ["parent", "level"])
def test_blocks_are_only_ever_lost_large_ones_first(saliency: str, share: str):
    weight = parameter(32, 8, 3, 3)
    select = gradual(BLOCKS, DENSITIES, saliency=saliency, share=share)
    alive = np.ones((32, 72), bool)
    generator = torch.Generator().manual_seed(1)
    for i in range(1, 11):
        with torch.no_grad():  # training goes on between two prunings, inside the mask
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
            weight *= torch.from_numpy(alive).view_as(weight)
        weight.grad = torch.randn(weight.shape, generator=generator)
        pattern = select(weight, i / 10)
        mask = pattern.mask().numpy()
        assert not (mask & ~alive).any()
        alive = mask
        whole = mask.reshape(2, 16, 6, 12).any((1, 3))
        expected = densities_at(DENSITIES, coarse_first(2), i / 10)
        assert whole.sum() == np.floor(expected[0] * 12 + 0.5)
        if i <= 4:
            assert (
                mask.reshape(2, 16, 6, 12).all((1, 3)).sum() == whole.sum()
            )  # nothing inside them is lost yet
    assert [level.density for level in pattern.levels] == [0.5, 0.25]
    assert pattern.density == 0.125


@pytest.mark.parametrize(
    "windows", [((0, 1),), ((0, 0.5), (0.5, 1.5)), ((0, 0.5), (0.6, 0.6)), ((-0.1, 0.5), (0, 1))]
)
def test_windows_that_cannot_be_kept_are_refused(windows: tuple):
    with pytest.raises(ValueError, match="expected 2, one for each density, with 0 ≤ start < end ≤ 1"):
        gradual(BLOCKS, DENSITIES, windows=windows)
