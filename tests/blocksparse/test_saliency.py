"""Scores and top shares: against brute force, with ties, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leandnn.blocksparse.saliency import SALIENCIES, keep_top, weight_scores

tables = st.tuples(st.integers(1, 6), st.integers(1, 9)).flatmap(
    lambda s: st.lists(
        st.lists(st.integers(-1, 3), min_size=s[1], max_size=s[1]), min_size=s[0], max_size=s[0]
    )
)


@settings(deadline=None)
@given(tables, st.data())
def test_a_rows_highest_are_kept_and_of_equal_ones_the_first(table: list[list[int]], data: st.DataObject):
    scores = np.array(table, np.float32)
    members = st.integers(0, scores.shape[1])
    counts = np.array(data.draw(st.lists(members, min_size=len(table), max_size=len(table))))
    expected = np.zeros(scores.shape, bool)
    for row, count in enumerate(counts):
        order = sorted(range(scores.shape[1]), key=lambda i: (-scores[row, i], i))
        expected[row, order[:count]] = True
    assert np.array_equal(keep_top(scores, counts), expected)
    assert np.array_equal(keep_top(scores, int(counts[0]))[0], expected[0])


def test_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="5 of 4 members"):
        keep_top(np.zeros((2, 4), np.float32), 5)


def test_scores_by_hand():
    weight = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    gradient = torch.tensor([[-4.0, 1.0], [9.0, 0.5]])
    assert torch.equal(weight_scores(weight, "l1"), torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
    assert torch.equal(weight_scores(weight, "l2"), torch.tensor([[1.0, 4.0], [0.0, 9.0]]))
    assert torch.equal(
        weight_scores(weight, "gradient", gradient=gradient), torch.tensor([[4.0, 2.0], [0.0, 1.5]])
    )
    first, again, other = (weight_scores(weight, "random", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert ((first >= 0) & (first < 1)).all()


def test_the_gradient_score_is_the_loss_change_at_first_order():
    torch.manual_seed(0)
    weight = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    x = torch.randn(5, 4, dtype=torch.float64)

    def loss(w: torch.Tensor) -> torch.Tensor:
        return (x @ w.t()).tanh().sum()

    (gradient,) = torch.autograd.grad(loss(weight), weight)
    scores = weight_scores(weight, "gradient", gradient=gradient)
    step = 1e-6  # of the way to zero
    for i, j in ((0, 0), (1, 3), (2, 2)):
        changed = weight.detach().clone()
        changed[i, j] *= 1 - step
        change = float((loss(changed) - loss(weight.detach())).abs()) / step
        assert float(scores[i, j]) == pytest.approx(change, rel=1e-4)


def test_convolutions_are_scored_as_matrices():
    weight = torch.randn(4, 3, 2, 2)
    for saliency in SALIENCIES:
        scores = weight_scores(weight, saliency, gradient=torch.ones_like(weight))
        assert scores.shape == (4, 12) and scores.dtype == torch.float32 and bool((scores >= 0).all())


NAN = torch.tensor([[1.0, float("nan")], [float("inf"), 1.0]])
BAD = {
    "unknown": (lambda: weight_scores(torch.ones(2, 2), "l3"), "saliency 'l3' is unknown.*l1, l2"),
    "vector": (lambda: weight_scores(torch.ones(4)), r"weight has shape \(4,\), expected two dimensions"),
    "NaN": (lambda: weight_scores(NAN), "weight has 2 of 4 entries that are not finite"),
    "zero": (lambda: weight_scores(torch.zeros(3, 5)), r"\(3, 5\) layer are all zero"),
    "no gradient": (lambda: weight_scores(torch.ones(2, 3), "gradient"), r"shape None, expected \(2, 3\)"),
    "other gradient": (
        lambda: weight_scores(torch.ones(2, 3), "gradient", gradient=torch.ones(3, 2)),
        r"shape \(3, 2\), expected \(2, 3\)",
    ),
    "NaN gradient": (
        lambda: weight_scores(torch.ones(2, 2), "gradient", gradient=NAN),
        "gradient has 2 of 4 entries",
    ),
    "zero gradient": (
        lambda: weight_scores(torch.ones(2, 2), "gradient", gradient=torch.zeros(2, 2)),
        r"scores \(gradient\).*all zero",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_by_name(name: str):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_large_finite_weights_whose_sum_overflows_are_no_error():
    weight = torch.full((4, 4), 3e38)
    assert torch.isinf(weight.sum())
    assert torch.equal(weight_scores(weight), weight)
