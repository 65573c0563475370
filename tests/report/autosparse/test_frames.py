"""Tables of paper 2: each number against one worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from leandnn.bench.benchfile import BenchFile
from leandnn.machine import card
from leandnn.report import pages
from leandnn.report.autosparse import frames


def row(impl: str, seconds: float, **case: object) -> dict[str, object]:
    return {"impl": impl, "case": case, "threads": 1, "median_s": seconds}


MEASURED = BenchFile({}, [
    row("leandnn", 0.11, what="step", net="VGG19", batch=32),
    row("torch.dense", 0.10, what="step", net="VGG19", batch=32),
    row("pquant-ml", 0.15, what="step", net="VGG19", batch=32),
    row("leandnn", 0.07, what="ledger", net="ResNet50"),
    row("torch.dense", 0.02, what="inference", net="VGG19", batch=1, macs=1.0, weight_bytes=8000),
    row("leandnn.csr", 0.04, what="inference", net="VGG19", batch=1, macs=0.25, weight_bytes=3000),
    row("leandnn", 0.005, what="inference", net="VGG19", batch=1, macs=0.25, weight_bytes=2000),
    row("torch.dense", 0.08, what="inference", net="VGG19", batch=32, macs=1.0, weight_bytes=8000),
])  # fmt: skip
LONE = MEASURED.rows[-1]["case"]  # of a batch that only the dense net was timed with


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


def test_readme_has_targets_steps_and_exports_of_every_machine(tmp_path: Path):
    assert "Not measured yet" in pages.every_table()["autosparse"].markdown(tmp_path)
    path = tmp_path / "reference/box/bench-autosparse.json"
    path.parent.mkdir(parents=True)
    rows = [
        {**row, "p25_s": 1.0, "p75_s": 1.0, "n": 20, "rate": 1.0}
        for row in MEASURED.rows
        if row["case"] != LONE
    ]
    path.write_text(json.dumps({"machine": card.read(), "rows": rows}))
    lines = pages.every_table()["autosparse"].markdown(tmp_path).splitlines()
    assert "| a step with thresholds: ≤ 1.1 × dense | 1 of 1 | 1.10 × | reached |" in lines
    assert "| the ledger of ResNet50: ≤ 1 s | 1 of 1 | 0.07 s | reached |" in lines
    assert "| VGG19, batch 32 | 100.0 | 1.10 × | 1.50 × |" in lines
    assert "| VGG19, batch 1 | 20.00 | 40.00 | 5.00 | 4.00 × | 4.00 × | 25 % |" in lines
