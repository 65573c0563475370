"""Ramanujan graphs: degrees, spectra against the bound, connection, the product's identities, refusals."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leandnn.kernels.panels.format import Graph
from leandnn.rbgp import BipartiteGraph, product, ramanujan
from leandnn.rbgp import graphs as module
from leandnn.rbgp.graphs import connected, largest_singular_value
from leandnn.rbgp.lifts import lift

sizes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 3))


def union(*masks: np.ndarray) -> np.ndarray:
    """The biadjacency matrix of graphs side by side."""
    rows, columns = (sum(m.shape[i] for m in masks) for i in (0, 1))
    found = np.zeros((rows, columns), bool)
    top = left = 0
    for mask in masks:
        found[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
        top, left = top + mask.shape[0], left + mask.shape[1]
    return found


@given(sizes=sizes, seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_lifted_graphs_are_biregular_connected_and_ramanujan(sizes: tuple[int, int, int], seed: int):
    left, right, k = 2 * sizes[0], 2 * sizes[1], sizes[2]
    graph = ramanujan(left << k, right << k, 1 - 2.0**-k, seed)
    assert graph.biadjacency.shape == (left << k, right << k)
    assert (graph.left_degree, graph.right_degree) == (right, left)
    assert (graph.biadjacency.sum(1) == right).all()
    assert (graph.biadjacency.sum(0) == left).all()
    assert graph.sparsity == pytest.approx(1 - 2.0**-k)
    values = graph.singular_values()
    assert values.dtype == torch.float64
    assert float(values[0]) == pytest.approx(math.sqrt(left * right))
    assert float(values[1]) <= math.sqrt(left - 1) + math.sqrt(right - 1) + 1e-6
    assert float(values[1]) < float(values[0]) - 1e-6, "one component"
    assert graph.is_ramanujan()


def test_a_seed_gives_one_graph_and_another_seed_another():
    graph = ramanujan(32, 64, 0.75, 5)
    assert torch.equal(graph.biadjacency, ramanujan(32, 64, 0.75, 5).biadjacency)
    assert not torch.equal(graph.biadjacency, ramanujan(32, 64, 0.75, 6).biadjacency)
    assert graph.edges.idx[: graph.left_degree].tolist() == [
        1,
        3,
        9,
        11,
        21,
        24,
        29,
        32,
        36,
        38,
        46,
        47,
        50,
        55,
        58,
        60,
    ]


@given(seed=st.integers(0, 1000), left=st.integers(1, 6), right=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_a_lifts_spectrum_is_the_old_and_the_signed_matrixs(seed: int, left: int, right: int):
    rng = np.random.default_rng(seed)
    mask, signs = rng.random((left, right)) < 0.7, rng.random((left, right)) < 0.5
    signed = np.where(signs, 1.0, -1.0) * mask
    lifted = np.linalg.svd(lift(mask, signs).astype(float), compute_uv=False)
    parts = [np.linalg.svd(m, compute_uv=False) for m in (mask.astype(float), signed)]
    np.testing.assert_allclose(lifted, np.sort(np.concatenate(parts))[::-1], atol=1e-9)
    assert largest_singular_value(signed) == pytest.approx(parts[1][0], abs=1e-7)


def test_lanczos_agrees_with_the_whole_spectrum(monkeypatch: pytest.MonkeyPatch):
    signed = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], (60, 90))
    exact = largest_singular_value(signed)
    monkeypatch.setattr(module, "DENSE", 10)
    assert largest_singular_value(signed) == pytest.approx(exact, rel=1e-8)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_second_singular_value_by_lanczos_is_the_spectrums(seed: int):
    exact = ramanujan(32, 48, 0.75, seed)
    again = BipartiteGraph(exact.edges)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "DENSE", 10)
        assert again.second_singular_value == pytest.approx(float(exact.singular_values()[1]), rel=1e-8)
        assert again.is_ramanujan()
        square = np.ones((16, 16), bool)
        apart = BipartiteGraph.from_biadjacency(union(square, square))
        assert apart.second_singular_value == pytest.approx(16, rel=1e-8)


def test_a_graph_of_one_column_has_no_second_value():
    star = BipartiteGraph.complete(5, 1)
    assert star.second_singular_value == 0
    assert star.is_ramanujan()


def test_a_graph_of_1024_vertices_a_side_takes_under_two_seconds():
    start = time.process_time()
    graph = ramanujan(1024, 1024, 0.875)
    assert time.process_time() - start < 2
    assert graph.is_ramanujan()


@given(seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_product_is_kroneckers_and_multiplies_spectra(seed: int):
    a, b = ramanujan(4, 8, 0.5, seed), ramanujan(8, 4, 0.5, seed + 1)
    both = product(a, b)
    assert torch.equal(both.biadjacency, torch.kron(a.biadjacency.int(), b.biadjacency.int()).bool())
    assert both.left_degree == a.left_degree * b.left_degree
    assert 1 - both.sparsity == pytest.approx((1 - a.sparsity) * (1 - b.sparsity))
    products = torch.outer(a.singular_values(), b.singular_values()).flatten().sort(descending=True).values
    found = both.singular_values()
    torch.testing.assert_close(found[: products.numel()], products, atol=1e-9, rtol=0)
    assert (found[products.numel() :] < 1e-6).all()


def test_a_disconnected_graph_that_meets_the_bound_is_none():
    square = np.ones((2, 2), bool)
    pair = BipartiteGraph.from_biadjacency(union(square, square))
    assert float(pair.singular_values()[1]) <= pair.bound + 1e-9
    assert not pair.is_connected()
    assert not pair.is_ramanujan()
    for seed in range(20):
        assert ramanujan(8, 8, 0.75, seed).is_connected()


def test_connected_counts_isolated_vertices():
    assert connected(Graph.complete(3, 2))
    assert not connected(Graph.from_mask(np.array([[1, 0], [1, 0]], bool)))
    path = np.eye(40, dtype=bool) | np.eye(40, k=1, dtype=bool)
    assert connected(Graph.from_mask(path))
    path[20, 21] = False
    assert not connected(Graph.from_mask(path))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((7, 8, 0.5), "7 × 8 graph of sparsity 0.5, the nearest are 0"),
        ((64, 64, 0.7), "sparsity 0.7, the nearest are 0.75 and 0.875"),
        ((64, 64, 0.99), "the nearest are 0.9375 and 0.96875"),
        ((8, 4, 0.75), "sparsity 0.75, the nearest are 0 and 0.5"),
        ((8, 8, 1.0), "sparsity is 1.0, expected"),
        ((8, 8, -0.5), "sparsity is -0.5, expected"),
        ((0, 8, 0.5), "0 × 8 vertices"),
        ((127, 131, 0.5), "127 × 131 graph of sparsity 0.5, the nearest are 0"),
    ],
)
def test_what_cannot_be_reached_is_named_with_what_can(arguments: tuple[int, int, float], words: str):
    with pytest.raises(ValueError, match=words):
        ramanujan(*arguments)


def test_a_graph_of_several_degrees_is_refused():
    with pytest.raises(ValueError, match="left vertices have degrees from 1 to 2"):
        BipartiteGraph.from_biadjacency(np.array([[1, 1], [1, 0]], bool))
