"""RBGP4 patterns: sizes, sparsity, factors, spectrum, convolutions, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leandnn.blocksparse import BlockSparseConv2d, Pattern, convert, storage
from leandnn.errors import LeandnnError
from leandnn.rbgp import BipartiteGraph, from_factors, ramanujan, rbgp4, reachable
from leandnn.rbgp.construction import other_lifts


@given(
    rows=st.sampled_from([64, 96, 128, 160, 256]), cols=st.sampled_from([64, 96, 128, 320]), k=st.integers(0, 4),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_the_mask_is_the_product_of_its_factors(rows: int, cols: int, k: int, seed: int):
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


def test_sixteen_rows_share_columns_in_a_large_matrix():
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
        ((64, 64, 0.7), {}, "64 × 64 RBGP4 pattern of sparsity 0.7; the nearest reachable: 0.5, 0.75"),
        ((64, 64, 0.999), {}, "the nearest reachable: 0.875, 0.9375"),
        ((64, 64, 1.0), {}, "sparsity is 1.0, expected 0 ≤ sparsity < 1"),
        ((64, 64, -0.5), {}, "sparsity is -0.5"),
        ((67, 71, 0.5), {}, "67 × 71 RBGP4 pattern of sparsity 0.5; the nearest reachable: 0$"),
        ((64, 3, 0.75), {}, "64 × 3 RBGP4 pattern of sparsity 0.75; the nearest reachable: 0$"),
        ((32, 16, 0.875), {}, "with lifts .2, 1. .lifts .3, 0. would.; the nearest reachable: 0.5, 0.75"),
        ((64, 64, 0.75), {"lifts": (2, 1)}, "lifts are .2, 1., expected two numbers with sum 2"),
        ((64, 64, 0.75), {"inner": (5, 5)}, "sparsity 0.75, inner .5, 5.: the sizes do not divide"),
        ((64, 64, 0.75), {"block": (7, 1)}, "block .7, 1.: the sizes do not divide"),
        ((64, 64, 0.75), {"block": (0, 1)}, "block .0, 1.: the sizes do not divide"),
    ],
)
def test_what_has_no_factors_is_refused_with_what_is_near(arguments, keywords, words: str):
    with pytest.raises(ValueError, match=words):
        rbgp4(*arguments, **keywords)


@given(
    rows=st.sampled_from([24, 32, 48, 64]), cols=st.sampled_from([16, 32, 96]), block=st.sampled_from([None, (2, 1)])
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_what_is_called_reachable_is_reached_and_nothing_else(
    rows: int, cols: int, block: tuple[int, int] | None
):
    known = reachable(rows, cols, block=block)
    assert list(known) == sorted(known)
    for k in range(8):
        sparsity = 1 - 2.0**-k
        if sparsity in known:
            assert rbgp4(rows, cols, sparsity, block=block).sparsity == pytest.approx(sparsity)
        else:
            with pytest.raises(ValueError, match="no factors"):
                rbgp4(rows, cols, sparsity, block=block)


def test_other_lifts_are_those_that_reach_the_sparsity():
    assert other_lifts(32, 16, 0.875) == ((3, 0), (0, 3))
    assert rbgp4(32, 16, 0.875, lifts=(3, 0)).sparsity == 0.875
    assert (2, 1) not in other_lifts(512, 512, 0.875)


def test_deterministic_lifts_have_the_greater_gap():
    sizes = {"repeat": (1, 1), "block": (1, 1), "inner": (8, 8)}
    random, fixed = (rbgp4(256, 256, 0.75, construction=c, **sizes) for c in ("random", "hadamard"))
    assert fixed == rbgp4(256, 256, 0.75, construction="hadamard", seed=7, **sizes)
    assert fixed.sparsity == random.sparsity
    assert float(fixed.spectrum()[1]) < 0.8 * float(random.spectrum()[1])


def test_factors_by_hand_make_the_same_pattern():
    outer, inner = ramanujan(8, 16, 0.5, seed=3), ramanujan(8, 8, 0.5, seed=4)
    pattern = from_factors(outer, (2, 1), inner, (2, 2 * 9))
    assert pattern.shape == (8 * 2 * 8 * 2, 16 * 8 * 18)
    assert pattern.sparsity == 0.75
    assert torch.equal(torch.from_numpy(pattern.factors[0].mask()), outer.biadjacency)


def test_factors_by_hand_must_be_connected_and_ramanujan():
    good = ramanujan(16, 16, 0.5)
    apart = BipartiteGraph.from_biadjacency(np.kron(np.eye(2), np.ones((8, 8))).astype(bool))
    band = np.zeros((16, 16), bool)
    for i in range(16):
        band[i, [(i + j) % 16 for j in range(4)]] = True
    with pytest.raises(ValueError, match="G_o is not connected"):
        from_factors(apart, (1, 1), good, (4, 4))
    with pytest.raises(
        ValueError, match=r"G_i has the second singular value 3.* at most √.4 − 1. .* = 3.4641"
    ):
        from_factors(good, (1, 1), BipartiteGraph.from_biadjacency(band), (4, 4))


def test_a_saved_pattern_comes_back_another_version_is_refused(tmp_path: Path):
    pattern = rbgp4(128, 64, 0.75, kernel=(3, 3), seed=5)
    pattern.save(tmp_path / "p.safetensors")
    assert Pattern.load(tmp_path / "p.safetensors") == pattern
    content = (tmp_path / "p.safetensors").read_bytes()
    version = f'\\"version\\": {storage.VERSION}'.encode()
    assert version in content
    other = content.replace(version, version[:-1] + b"9")
    (tmp_path / "other.safetensors").write_bytes(other)
    with pytest.raises(LeandnnError, match=f"format version 9, this leandnn reads version {storage.VERSION}"):
        Pattern.load(tmp_path / "other.safetensors")


def test_a_weight_of_another_shape_is_refused_with_both_shapes():
    pattern = rbgp4(64, 64, 0.75)
    with pytest.raises(ValueError, match=r"\(64, 32\).*64×64"):
        convert(torch.nn.Linear(32, 64), {"": pattern})
    with pytest.raises(ValueError, match=r"\(32, 64\).*64×64"):
        pattern.gather(torch.zeros(32, 64))
