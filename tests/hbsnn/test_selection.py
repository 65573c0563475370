"""Hierarchical patterns: against brute force, conv and padding counted by hand, what is refused, determinism."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from leandnn.blocksparse import BlockSparseConv2d, BlockSparseLinear, Pattern
from leandnn.hbsnn import hierarchical

Size = tuple[int, int]


def weight(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiles(top: int, left: int, shape: Size, size: Size):
    """Blocks of a rectangle whose corner is (top, left), cut off at the matrix's edges, as slices."""
    for i in range(top, top + shape[0], size[0]):
        for j in range(left, left + shape[1], size[1]):
            yield slice(i, i + size[0]), slice(j, j + size[1])


def brute_force(matrix: np.ndarray, sizes: list[Size], densities: list[float], survivors: bool) -> np.ndarray:
    """The definition, block by block: recursion over levels, a parent's best children by their sums of |w|."""

    def best(region: np.ndarray, level: int) -> np.ndarray:
        """Mask of what is kept of a kept region (of the matrix, for level 0)."""
        kept = np.ones(region.shape, bool)
        if level == len(sizes):
            return kept
        kept[:] = False
        parts = list(tiles(0, 0, region.shape, sizes[level]))
        inner = [best(region[part], level + 1) for part in parts]
        sums = [
            np.abs(region[part])[mask if survivors else ...].sum()
            for part, mask in zip(parts, inner, strict=True)
        ]
        count = max(1, math.floor(densities[level] * len(parts) + 0.5))
        for k in sorted(range(len(parts)), key=lambda k: (-sums[k], k))[:count]:
            kept[parts[k]] = inner[k]
        return kept

    return best(matrix, 0)


@st.composite
def nested(draw: st.DrawFn) -> tuple[list[Size], list[float], Size]:
    sizes = [(draw(st.integers(1, 2)), draw(st.integers(1, 2)))]
    for _ in range(draw(st.integers(0, 2))):
        factor = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        sizes.insert(0, (sizes[0][0] * factor[0], sizes[0][1] * factor[1]))
    # A half and more keeps one block at least of any parent.
    densities = draw(st.lists(st.sampled_from([0.5, 0.6, 1.0]), min_size=len(sizes), max_size=len(sizes)))
    return sizes, densities, draw(st.tuples(st.integers(2, 25), st.integers(1, 25)))


@settings(deadline=None, max_examples=150)
@given(nested(), st.booleans(), st.integers(0, 5))
def test_it_is_the_definition_block_by_block(
    case: tuple[list[Size], list[float], Size], survivors: bool, seed: int
):
    sizes, densities, shape = case
    matrix = weight(*shape, seed=seed).mul(64).round()  # whole numbers: sums are exact, ties happen
    if not matrix.any():
        return
    pattern = hierarchical(matrix, sizes, densities, survivors=survivors)
    expected = brute_force(matrix.numpy(), sizes, densities, survivors)
    assert pattern.shape == shape
    assert np.array_equal(pattern.mask().numpy(), expected)
    assert pattern.nnz == expected.sum()
    product = math.prod(level.density for level in pattern.levels)
    assert product == pytest.approx(pattern.density)
    assert Pattern.from_state(pattern.to_state()) == pattern


@settings(deadline=None, max_examples=100)
@given(nested(), st.integers(0, 5))
def test_a_share_per_level_takes_the_best_of_the_level(case: tuple[list[Size], list[float], Size], seed: int):
    sizes, densities, shape = case
    matrix = weight(*shape, seed=seed)
    kept = np.ones(shape, bool)
    for size, density in zip(sizes, densities, strict=True):
        parts = [part for part in tiles(0, 0, shape, size) if kept[part].any()]
        assert all(kept[part].all() for part in parts)  # blocks nest
        parts.sort(key=lambda part: -float(matrix[part].abs().sum()))
        kept = np.zeros(shape, bool)
        for part in parts[: math.floor(density * len(parts) + 0.5)]:
            kept[part] = True
    pattern = hierarchical(matrix, sizes, densities, share="level")
    assert np.array_equal(pattern.mask().numpy(), kept)


def test_levels_and_bytes_by_hand():
    pattern = hierarchical(weight(128, 64), (64, 8, 1), (0.5, 0.25, 0.5))
    coarse, middle, fine = pattern.levels
    assert pattern.kind == "hierarchical" and pattern.block == (1, 1) and pattern.coarse == ((64, 64), (8, 8))
    assert [level.density for level in pattern.levels] == [0.5, 0.25, 0.5]
    assert [level.blocks for level in pattern.levels] == [1, 16, 512]
    assert coarse.index_nbytes == 2 * (2 + 1) + 2 * 1
    assert middle.index_nbytes == 2 * (1 + 1) + 2 * 16
    assert fine.index_nbytes == 2 * (16 + 1) + 2 * 512
    assert pattern.index_nbytes == coarse.index_nbytes + middle.index_nbytes + fine.index_nbytes
    assert pattern.nnz == 512 and pattern.density == 1 / 16


def test_one_level_is_a_block_or_an_unstructured_pattern():
    w = weight(16, 24)
    assert hierarchical(w, (4,), (0.5,)).kind == "block"
    assert hierarchical(w, (1,), (0.25,)).kind == "unstructured"
    magnitude = w.abs().flatten().sort(descending=True).values[95]
    assert torch.equal(hierarchical(w, (1,), (0.25,)).mask(), w.abs() >= magnitude)


def test_every_parent_keeps_the_same_number():
    pattern = hierarchical(weight(256, 256), (64, (8, 4), (4, 1)), (0.5, 0.25, 0.5))
    mask = pattern.mask().numpy()[::4]  # 4 × 1 blocks
    large = mask.reshape(4, 16, 4, 64).sum((1, 3))
    assert sorted(large.ravel()) == [0] * 8 + [128] * 8
    middle = mask.reshape(32, 2, 64, 4).sum((1, 3))
    assert set(middle.ravel()) == {0, 4}


def test_a_convolution_is_the_matrix_of_its_weight():
    conv = weight(32, 16, 3, 3)
    pattern = hierarchical(conv, ((16, 36), (4, 1)), (0.5, 0.25))
    assert pattern == hierarchical(conv.flatten(1), ((16, 36), (4, 1)), (0.5, 0.25))
    layer = nn.Conv2d(16, 32, 3, padding=1)
    sparse = BlockSparseConv2d.from_dense(layer, pattern)
    x = torch.randn(2, 16, 9, 9)
    masked = nn.functional.conv2d(
        x, layer.weight * pattern.mask().view_as(layer.weight), layer.bias, padding=1
    )
    torch.testing.assert_close(sparse(x), masked, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(30, 70), (100, 36), (5, 3), (64, 65)])
@pytest.mark.parametrize("blocks", [(64, 8, 1), (16, 4), ((8, 4), (4, 2))])
def test_layers_that_do_not_divide_equal_masked_dense_ones(shape: Size, blocks: tuple):
    dense = nn.Linear(shape[1], shape[0])
    pattern = hierarchical(dense.weight, blocks, [0.6] * len(blocks))
    assert pattern.shape == shape and 0 < pattern.density < 1
    sparse = BlockSparseLinear.from_dense(dense, pattern)
    x = torch.randn(7, shape[1], requires_grad=True)
    y = sparse(x)
    expected = x @ (dense.weight * pattern.mask()).t() + dense.bias
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    dy = torch.randn_like(y)
    found, wanted = (torch.autograd.grad(out, x, dy, retain_graph=True)[0] for out in (y, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_survivors_keep_the_most_that_these_shares_can():
    """All patterns of a 4 × 4 matrix with 2 of 4 blocks of 2 × 2, in each 1 of 4 weights."""
    for seed in range(20):
        magnitudes = weight(4, 4, seed=seed).abs().double()
        blocks = [magnitudes[part].flatten() for part in tiles(0, 0, (4, 4), (2, 2))]
        most = max(
            sum(float(block[k]) for block, k in zip(chosen, places, strict=True))
            for chosen in itertools.combinations(blocks, 2)
            for places in itertools.product(range(4), repeat=2)
        )
        found = hierarchical(magnitudes, (2, 1), (0.5, 0.25), survivors=True)
        plain = hierarchical(magnitudes, (2, 1), (0.5, 0.25))
        assert float(magnitudes[found.mask()].sum()) == pytest.approx(most)
        assert float(magnitudes[plain.mask()].sum()) <= most + 1e-9


def test_each_level_has_its_own_saliency():
    w, g = weight(8, 8), weight(8, 8, seed=1)
    w[:4, :4] = 10 * w[:4, :4].sign()  # the largest block by magnitude
    g[4:, 4:] = 1000.0  # the largest by gradient
    by = {
        name: hierarchical(w, (4, 1), (0.25, 0.5), saliency=name, gradient=g).mask()
        for name in ("l1", "gradient")
    }
    assert by["l1"][:4, :4].sum() == 8 and by["gradient"][4:, 4:].sum() == 8
    mixed = hierarchical(w, (4, 1), (0.25, 0.5), saliency=("gradient", "l1"), gradient=g)
    order = w[4:, 4:].abs().flatten().sort(descending=True).values
    assert torch.equal(mixed.mask()[4:, 4:], w[4:, 4:].abs() >= order[7])
    # The L2 norm prefers one large weight, the L1 norm many middling ones.
    few = torch.zeros(4, 8)
    few[0, 0], few[:, 4:] = 5.0, 0.5
    few[1:, :4] = 0.01
    assert hierarchical(few, (4, 2), (0.5, 0.25), saliency="l2").mask()[:, :4].any()
    assert hierarchical(few, (4, 2), (0.5, 0.25), saliency="l1").mask()[:, 4:].any()


def test_random_patterns_depend_on_the_seed_alone():
    a, b = weight(64, 64), weight(64, 64, seed=9)
    arguments = ((16, 4), (0.5, 0.5))
    first = hierarchical(a, *arguments, saliency="random", seed=1)
    assert first == hierarchical(b, *arguments, saliency="random", seed=1)
    assert first != hierarchical(a, *arguments, saliency="random", seed=2)
    levels = [hierarchical(a, *arguments, saliency=s, seed=1) for s in (("random", "l1"), ("l1", "random"))]
    assert levels[0] != levels[1]


def test_the_weight_is_only_read():
    w = weight(16, 16).requires_grad_()
    before = w.detach().clone()
    hierarchical(w, (8, 2), (0.5, 0.5))
    assert torch.equal(w, before) and w.grad is None
    assert hierarchical(w.detach().bfloat16(), (8, 2), (0.5, 0.5)).nnz == 64


W = weight(16, 16)
NAN = W.clone()
NAN[3, 5] = float("nan")
REFUSED = {
    "no nesting": (lambda: hierarchical(W, (8, 3), (0.5, 0.5)), r"\(3, 3\) do not nest in those of \(8, 8\)"),
    "small above large": (lambda: hierarchical(W, (4, 8), (0.5, 0.5)), r"\(8, 8\) do not nest"),
    "no nesting one way": (
        lambda: hierarchical(W, ((8, 4), (4, 8)), (0.5, 0.5)),
        r"\(4, 8\) do not nest in those of \(8, 4\)",
    ),
    "density zero": (lambda: hierarchical(W, (8, 1), (0.5, 0.0)), "a density is 0.0, expected more than 0"),
    "density above one": (lambda: hierarchical(W, (8, 1), (1.5, 0.5)), "a density is 1.5"),
    "density NaN": (lambda: hierarchical(W, (8, 1), (math.nan, 0.5)), "a density is nan"),
    "more levels than sizes": (
        lambda: hierarchical(W, (8,), (0.5, 0.5)),
        "2 densities were given, expected 1",
    ),
    "fewer densities": (lambda: hierarchical(W, (8, 4, 1), (0.5, 0.5)), "2 densities were given, expected 3"),
    "saliencies": (
        lambda: hierarchical(W, (8, 1), (0.5, 0.5), saliency=("l1",)),
        "1 saliencies were given, expected 2",
    ),
    "four levels": (
        lambda: hierarchical(W, (8, 4, 2, 1), (0.5,) * 4),
        r"blocks is \(8, 4, 2, 1\), expected one to 3 sizes",
    ),
    "no level": (lambda: hierarchical(W, (), ()), "expected one to 3 sizes"),
    "size zero": (lambda: hierarchical(W, (8, 0), (0.5, 0.5)), "expected two sizes of at least 1"),
    "three sides": (lambda: hierarchical(W, ((8, 8, 8), 1), (0.5, 0.5)), "expected two sizes"),
    "all zero": (lambda: hierarchical(torch.zeros(16, 16), (8, 1), (0.5, 0.5)), "all zero"),
    "all zero, random": (
        lambda: hierarchical(torch.zeros(16, 16), (8, 1), (0.5, 0.5), saliency="random"),
        r"\(16, 16\) is all zero",
    ),
    "NaN": (lambda: hierarchical(NAN, (8, 1), (0.5, 0.5)), "1 of 256 entries that are not finite"),
    "NaN, random": (
        lambda: hierarchical(NAN, (8, 1), (0.5, 0.5), saliency="random"),
        "1 of 256 entries that are not finite",
    ),
    "saliency": (lambda: hierarchical(W, (8, 1), (0.5, 0.5), saliency="l7"), "saliency 'l7' is unknown"),
    "share": (lambda: hierarchical(W, (8, 1), (0.5, 0.5), share="row"), "share 'row' is unknown"),
    "survivors of a level": (
        lambda: hierarchical(W, (8, 1), (0.5, 0.5), share="level", survivors=True),
        "share 'parent' alone",
    ),
    "gradient missing": (
        lambda: hierarchical(W, (8, 1), (0.5, 0.5), saliency="gradient"),
        r"gradient has shape None, expected \(16, 16\)",
    ),
    "vector": (lambda: hierarchical(torch.ones(16), (8, 1), (0.5, 0.5)), "expected two dimensions"),
    "too sparse at the top": (
        lambda: hierarchical(W, (8, 1), (0.1, 0.5)),
        r"density 0.1 keeps none of a parent's 4 blocks of \(8, 8\) at level 1, expected at least 0.125",
    ),
    "too sparse inside": (
        lambda: hierarchical(W, (8, 4), (0.5, 0.1)),
        r"density 0.1 keeps none of a parent's 4 blocks of \(4, 4\) at level 2",
    ),
    "too sparse a level": (
        lambda: hierarchical(W, (8, 4), (0.25, 0.1), share="level"),
        r"keeps none of the level's 4 blocks of \(4, 4\) at level 2",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named(case: str):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()
