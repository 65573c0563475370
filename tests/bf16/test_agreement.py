"""Agreement of emulated products with the machine's own BF16 and with exact sums."""

from __future__ import annotations

import math

import pytest
import torch

from leandnn.bf16 import Policy
from leandnn.bf16 import agreement as module
from leandnn.bf16.agreement import CASES, Agreement, to_markdown


@pytest.fixture(scope="module")
def rows() -> list[Agreement]:
    return module.agreement()


def find(rows: list[Agreement], operation: str, tensor: str, compared: str) -> Agreement:
    return next(r for r in rows if (r.operation, r.tensor, r.compared) == (operation, tensor, compared))


def test_each_operation_and_tensor_is_compared_three_ways(rows):
    assert len(rows) == len(CASES) * 3 * 3
    assert all(r.values > 0 and 0 <= r.equal <= 1 for r in rows)


def test_emulated_results_are_exact_but_for_the_order_of_sums(rows):
    for r in rows:
        if r.compared == "emulated, exact":
            assert r.equal > 0.99, r
            assert r.equal == 1 or r.explained == 1, r


@pytest.mark.parametrize("operation", ["linear", "linear, BF16 bias", "conv2d", "conv_transpose2d", "matmul"])
def test_emulated_and_native_agree_where_both_round_the_same(rows, operation: str):
    for tensor in ("y", "dx"):
        r = find(rows, operation, tensor, "emulated, native")
        assert r.equal > 0.99, r
        assert r.mean_ulp < 0.01, r


def test_autocast_rounds_the_bias_which_the_papers_flow_does_not(rows):
    fp32 = find(rows, "linear, FP32 bias", "y", "emulated, native")
    assert fp32.equal < 0.9
    assert fp32.explained < 0.6, "the order of summation is not why"
    assert find(rows, "linear, BF16 bias", "y", "emulated, native").equal > 0.99


def test_another_rounding_would_not_agree(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Policy, "paper", classmethod(lambda cls: cls.truncate()))
    r = find(module.agreement(), "linear", "y", "emulated, exact")
    assert r.equal < 0.6
    assert r.explained < 0.6


def test_distances_are_in_units_of_the_last_place():
    a = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    b = torch.tensor([1.0, 1 + 2.0**-7, 1 - 2.0**-8, 0.0], dtype=torch.float64)
    r = module._compare("x", "y", "a, b", a, b, exact=a, slack=torch.zeros(4, dtype=torch.float64))
    assert (r.equal, r.max_ulp, r.explained) == (0.5, 1.0, 0.0)
    assert r.mean_ulp == pytest.approx((1 + 0.5) / 4)


def test_the_table_has_a_row_each(rows):
    lines = to_markdown(rows).splitlines()
    assert len(lines) == len(rows) + 2
    assert {line.count("|") for line in lines} == {9}
    assert any(math.isnan(r.explained) for r in rows) == any("| – |" in line for line in lines)
