"""RBGP4 patterns: sizes, sparsity, factors, spectrum, convolutions, refusals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leandnn.blocksparse import BlockSparseConv2d, Pattern
from leandnn.rbgp import BipartiteGraph, rbgp4


@given(
    rows=st.sampled_from([64, 96, 128, 160, 256]), cols=st.sampled_from([64, 96, 128, 320]), k=st.integers(0, 4),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_the_mask_is_the_product_of_its_factors_and_has_the_sparsity(rows: int, cols: int, k: int, seed: int):
    pattern = rbgp4(rows, cols, 1 - 2.0**-k, seed=seed)
    mask = torch.ones(1, 1, dtype=torch.bool)
    for factor in pattern.factors:
        mask = torch.kron(mask.int(), torch.from_numpy(factor.mask()).int()).bool()
    assert torch.equal(pattern.mask(), mask)
    assert pattern.shape == (rows, cols)
    assert pattern.sparsity == pytest.approx(1 - 2.0**-k)
    outer, repeat, inner, block = (BipartiteGraph(factor) for factor in pattern.factors)
    assert outer.is_ramanujan() and inner.is_ramanujan()
    assert repeat.sparsity == block.sparsity == 0
    assert 1 - outer.sparsity == pytest.approx(2.0 ** -((k + 1) // 2))
    assert 1 - inner.sparsity == pytest.approx(2.0 ** -(k // 2))


def test_sixteen_rows_share_their_columns_where_the_matrix_is_large_enough():
    pattern = rbgp4(512, 512, 0.875)
    assert pattern.panels.rows == 16
    assert pattern.panels.block == (4, 4)


def test_the_spectrum_is_that_of_the_mask():
    pattern = rbgp4(64, 128, 0.75, seed=3)
    exact = torch.linalg.svdvals(pattern.mask().double())
    found = pattern.spectrum()
    assert found.shape == exact.shape
    torch.testing.assert_close(found, exact, atol=1e-5, rtol=0)


def test_the_window_of_a_convolution_belongs_to_the_block():
    pattern = rbgp4(64, 64, 0.75, kernel=(3, 3))
    mask = pattern.mask().view(64, 64, 9)
    assert pattern.shape == (64, 576)
    assert torch.equal(mask.any(2), mask.all(2)), "a kernel window is kept or dropped whole"
    layer = BlockSparseConv2d(pattern, 64, 3, padding=1)
    assert layer(torch.randn(2, 64, 8, 8)).shape == (2, 64, 8, 8)


def test_the_index_is_that_of_the_factors_alone():
    pattern = rbgp4(4096, 4096, 0.75)
    edges = sum(pattern.factors[i].edges for i in (0, 2))
    assert pattern.index_nbytes <= 4 * edges
    assert pattern.index_nbytes * 100 < Pattern.from_mask(pattern.mask(), (4, 4)).index_nbytes


def test_sizes_and_lifts_may_be_given():
    pattern = rbgp4(256, 256, 0.875, repeat=(2, 1), block=(2, 2), inner=(16, 16), lifts=(1, 2))
    outer, repeat, inner, block = pattern.factors
    assert inner.mask().shape == (16, 16) and inner.mask().mean() == 0.25
    assert repeat.mask().shape == (2, 1) and block.mask().shape == (2, 2)
    assert outer.mask().mean() == 0.5


@pytest.mark.parametrize(
    ("arguments", "keywords", "words"),
    [
        ((64, 64, 0.7), {}, "sparsity is 0.7, expected 1 − 2.−k, the nearest are 0.5 and 0.75"),
        ((64, 64, 1.0), {}, "sparsity is 1.0"),
        ((67, 71, 0.5), {}, "67 × 71 pattern of sparsity 0.5"),
        ((64, 3, 0.75), {}, "64 × 3 pattern"),
        ((64, 64, 0.75), {"lifts": (2, 1)}, "lifts are .2, 1., expected two numbers with sum 2"),
        ((64, 64, 0.75), {"inner": (5, 5)}, "64 × 64 pattern"),
    ],
)
def test_what_has_no_factors_is_refused(arguments, keywords, words: str):
    with pytest.raises(ValueError, match=words):
        rbgp4(*arguments, **keywords)
