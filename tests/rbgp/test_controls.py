"""Graphs that are not Ramanujan: degrees, connection, spectra."""

from __future__ import annotations

import pytest
import torch

from leandnn.rbgp import ramanujan
from leandnn.rbgp.controls import disconnected, nearly_disconnected


@pytest.mark.parametrize(
    ("left", "right", "sparsity"), [(64, 32, 0.875), (32, 32, 0.5), (64, 64, 0.75), (128, 64, 0.9375)]
)
def test_degrees_are_a_ramanujan_graphs_and_the_gap_is_not(left: int, right: int, sparsity: float):
    good = ramanujan(left, right, sparsity)
    for graph in (nearly_disconnected(left, right, sparsity), disconnected(left, right, sparsity)):
        assert graph.biadjacency.shape == good.biadjacency.shape
        assert (graph.left_degree, graph.right_degree) == (good.left_degree, good.right_degree)
        assert not graph.is_ramanujan()
        assert graph.second_singular_value > graph.bound + 0.01
    near = nearly_disconnected(left, right, sparsity)
    largest = float(near.singular_values()[0])
    assert near.is_connected()
    assert 0.9 * largest < near.second_singular_value < largest


def test_a_disconnected_graph_is_complete_graphs_side_by_side():
    graph = disconnected(8, 16, 0.75)
    assert torch.equal(graph.biadjacency, torch.block_diag(*[torch.ones(2, 4)] * 4).bool())
    assert not graph.is_connected()
    assert disconnected(4, 4, 0.0).is_connected()


def test_the_seed_moves_the_crossed_edges():
    first, again, other = (nearly_disconnected(64, 64, 0.875, seed).biadjacency for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_there_is_no_control_where_every_graph_is_ramanujan():
    with pytest.raises(
        ValueError, match=r"every connected 8 × 8 graph like this is Ramanujan: degrees 2 and 2, σ₂ = 1.848"
    ):
        nearly_disconnected(8, 8, 0.75)
    with pytest.raises(ValueError, match="the nearest are 0 and 0.5"):
        nearly_disconnected(8, 4, 0.75)
