"""Tables of paper 2: each number against one worked out by hand."""

from __future__ import annotations

import pandas as pd
import pytest
from tests.report.autosparse.made import MEASURED

from leandnn.report.autosparse import frames


def test_exported_nets_have_speed_and_memory_beside_the_macs():
    found = frames.exported(MEASURED)
    assert found["as"].tolist() == ["dense", "CSR", "hierarchical", "dense"]
    assert found.batch.tolist() == [1, 1, 1, 32]
    assert found["faster, times"].tolist() == pytest.approx([1, 0.5, 4, 1])
    assert found["fewer MACs, times"].tolist() == [1, 4, 4, 1]
    assert found["weights and indices, KB"].tolist() == [8, 3, 2, 8]
    assert found["of dense bytes"].tolist() == [1, 0.375, 0.25, 1]
    assert found.ms.tolist() == pytest.approx([20, 40, 5, 80])


def test_steps_are_multiples_of_the_dense_one():
    (found,) = frames.steps(MEASURED).to_dict("records")
    times = {"dense, ms": 100, "leandnn": 1.1, "pquant-ml": 1.5}
    assert found == {"net": "VGG19", "batch": 32} | {name: pytest.approx(t) for name, t in times.items()}


def test_the_cost_of_a_sparsity_is_against_the_same_seeds():
    rows = [("autosparse_90", 0, 0.70), ("autosparse_90", 1, 0.72), ("autosparse_50", 0, 0.79),
            ("autosparse_50", 1, 0.77), ("free", 0, 0.1)]  # fmt: skip
    final = pd.DataFrame(rows, columns=["arm", "seed", "test_accuracy"])
    dense = pd.DataFrame({"seed": [0, 1, 2], "test_accuracy": [0.80, 0.78, 0.10]})
    found = frames.cost_of_sparsity(final, dense)
    assert found.index.tolist() == [50, 90]
    assert found.tolist() == pytest.approx([-1, -8])


def test_the_first_point_is_the_mean_at_the_least_share():
    history = pd.DataFrame([
        {"arm": arm, "seed": seed, "epoch": epoch, "masked_gradient": value / epoch, "returned": 0.01}
        for arm, value in (("autosparse", 0.6), ("str", 0.0))
        for seed in (0, 1)
        for epoch in (1, 2, 3)
    ])  # fmt: skip
    final = pd.DataFrame({"arm": ["autosparse"], "seed": [0], "steps": [30]})
    share, found = frames.first(final, history, ("autosparse", "str"))
    assert share == pytest.approx(100 / 3)
    assert found["masked_gradient"] == {"autosparse": pytest.approx(60), "str": 0.0}
    assert found["returned"]["str"] == pytest.approx(1)
