"""Deterministic lifts: the field, spectra below the bound, that they are 2-lifts, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from leandnn.rbgp import ramanujan
from leandnn.rbgp.hadamard import hadamard, multiply, voltages


@pytest.mark.parametrize("degree", range(1, 13))
def test_the_polynomials_make_fields(degree: int):
    """A commutative product in which every element but 0 permutes the others: there are no zero divisors."""
    size = 1 << degree
    rng = np.random.default_rng(degree)
    a = np.unique(rng.integers(1, size, 20))
    b, c = rng.integers(0, size, (2, 50))
    products = multiply(a[:, None], np.arange(size)[None, :], degree)
    assert (np.sort(products, axis=1) == np.arange(size)).all()
    assert (multiply(b, c, degree) == multiply(c, b, degree)).all()
    assert (
        multiply(b, multiply(c, a[:1], degree), degree) == multiply(multiply(b, c, degree), a[:1], degree)
    ).all()
    assert (multiply(b ^ c, a[:1], degree) == multiply(b, a[:1], degree) ^ multiply(c, a[:1], degree)).all()


@pytest.mark.parametrize(
    ("m", "n", "lifts"), [(8, 8, 1), (8, 8, 3), (16, 16, 2), (4, 8, 2), (6, 6, 1), (16, 4, 1)]
)
def test_the_graph_is_biregular_and_within_the_fields_root(m: int, n: int, lifts: int):
    graph = hadamard(m, n, lifts)
    assert graph.biadjacency.shape == (m << lifts, n << lifts)
    assert (graph.left_degree, graph.right_degree) == (n, m)
    assert graph.is_connected() and graph.is_ramanujan()
    field = 1 << max(lifts, math.ceil(math.log2(max(m, n))))
    assert graph.second_singular_value <= math.sqrt(field) + 1e-9


def test_no_lift_of_a_complete_graph_has_a_smaller_second_value():
    """At m = n = 2^t all new singular values are √m: their squares must add up to the edges less √(m·n)²."""
    graph = hadamard(8, 8, 3)
    values = graph.singular_values()
    torch.testing.assert_close(
        values[1:57], torch.full((56,), math.sqrt(8), dtype=torch.float64), rtol=1e-9, atol=0
    )
    assert graph.second_singular_value < 0.6 * ramanujan(64, 64, 0.875, 0).second_singular_value


def test_the_graph_is_a_2_lift_of_the_one_with_a_lift_less():
    """The highest bit of the voltage swaps two copies; without it both lie on the smaller graph."""
    m, n = 8, 8
    large, small = (hadamard(m, n, lifts).biadjacency for lifts in (2, 1))
    folded = large.view(m, 2, 2, n, 2, 2).any(4).any(1)  # both values of the highest bit of g and of h
    assert torch.equal(folded.reshape(2 * m, 2 * n), small)
    assert int(large.sum()) == 2 * int(small.sum())


def test_ramanujan_offers_it_for_every_seed_alike():
    graph = ramanujan(64, 64, 0.875, 1, construction="hadamard")
    assert torch.equal(graph.biadjacency, ramanujan(64, 64, 0.875, 2, construction="hadamard").biadjacency)
    assert torch.equal(graph.biadjacency, hadamard(8, 8, 3).biadjacency)
    assert ramanujan(4, 6, 0.0, construction="hadamard").biadjacency.all()


def test_voltages_are_the_products_lowest_bits():
    found = voltages(4, 4, 2)
    assert found.tolist() == [[0, 0, 0, 0], [0, 1, 2, 3], [0, 2, 3, 1], [0, 3, 1, 2]]
    assert (voltages(4, 4, 1) == found % 2).all()


@pytest.mark.parametrize(("m", "n", "lifts"), [(2, 2, 2), (2, 2, 3), (4, 4, 5)])
def test_a_missed_bound_is_refused_with_both_values(m: int, n: int, lifts: int):
    with pytest.raises(ValueError, match=rf"{lifts} lifts of K_{m},{n} .* singular value of \d.* at most \d"):
        hadamard(m, n, lifts)


def test_bad_names_and_sizes_are_refused():
    with pytest.raises(ValueError, match="construction is 'magic', expected 'random' or 'hadamard'"):
        ramanujan(8, 8, 0.5, construction="magic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2\\^13 elements, expected at most 2\\^12"):
        voltages(5000, 2, 1)
