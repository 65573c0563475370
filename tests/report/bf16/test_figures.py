"""Paper 1's figures and tables: which runs are taken, what is a pair, what bounds the log loss."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tests.report.bf16.made import domain, runs_of
from torch import nn

from leandnn.bf16 import Policy, rounding_sites
from leandnn.report import runs
from leandnn.report.bf16 import figures, frames

pytestmark = pytest.mark.usefixtures("drawn")


def test_the_scale_with_more_pairs_is_taken(monkeypatch: pytest.MonkeyPatch):
    found = {"bf16-vision": runs_of(4, 2), "bf16-speech": None, "bf16-alexnet": runs_of(3, 3)}
    monkeypatch.setattr(runs, "load_records", lambda root, study, profile: found.get(study))
    taken = frames.widest({"vision": domain(3, 3)}, Path())
    # Two pairs at the desk, four seeds or not, are fewer than the laptop's three.
    assert {name: (d.scale, d.pairs) for name, d in taken.items()} == {
        "vision": ("laptop", 3),
        "alexnet": ("desk", 3),
    }
    found["bf16-vision"] = runs_of(3, 3)
    assert frames.widest({"vision": domain(3, 3)}, Path())["vision"].scale == "desk"


def test_a_desk_study_without_a_pair_is_not_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runs, "load_records", lambda root, study, profile: runs_of(2, 0))
    assert frames.widest({}, Path()) == {}


def test_the_table_of_results_is_of_pairs():
    row = frames.results([domain(4, 2, "desk")]).loc[("SmallResNet, CIFAR-10", "test_accuracy")]
    assert row.to_dict() == {
        "FP32": "0.805 ± 0.0071",
        "BF16, emulated": "0.815 ± 0.0071",
        "pairs": 2,
        "scale": "desk",
    }


def test_contrasts_are_compared_with_fp32_of_the_same_seeds():
    final = pd.concat(
        [runs_of(3, 2)[0].assign(failure=None), runs_of(0, 1)[0].assign(arm="fp16", failure="the loss")]
    )
    table = frames.contrasts("Net", "test_accuracy", final, ("fp32", "bf16", "stochastic", "fp16")).loc["Net"]
    assert table.index.tolist() == ["fp32", "bf16", "fp16"]
    assert table["minus FP32"].tolist() == ["", "+0.01 [+0.01, +0.01], n = 2", "+0.01, n = 1"]
    assert table["failed"].tolist() == ["0 of 3", "0 of 2", "1 of 1: the loss"]
    assert table["updates lost"].tolist() == ["", "", ""]
    lost = frames.contrasts("Net", "test_accuracy", final.assign(lost_updates=0.25), ("bf16",))
    assert lost["updates lost"].tolist() == ["25%"]


def test_the_best_log_loss_is_read_off_the_line_of_all_runs():
    gaps = np.array([0.1, 0.12, 0.3])
    final = pd.DataFrame({"test_gap": gaps, "test_log_loss": 0.45 + gaps * (0.58 - 0.45)})
    assert frames.click_bounds(final) == pytest.approx((0.45, 0.58))
    with pytest.raises(ValueError, match="1 different gaps, expected at least 2"):
        frames.click_bounds(final[:1])


def test_a_seed_of_one_arm_alone_is_no_difference_at_fixed_steps():
    figure = figures.at_fixed_steps([domain(4, 2)], [0.05])
    lines = figure.axes[0].get_lines()
    assert len(lines) == 1 + 2 + 1  # zero, two pairs, their mean
    assert lines[-1].get_ydata() == pytest.approx([0.1, 0.0])
    assert figure.axes[0].get_title(loc="left") == "SmallResNet, CIFAR-10 (n = 2)"


def test_places_of_two_formats_stand_in_the_steps_order():
    net, x = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), 1e-6 * torch.randn(2, 4)
    policies = {"bf16": Policy.paper(), "fp16": Policy.fp16()}
    reports = {fmt: rounding_sites(net, x, policy) for fmt, policy in policies.items()}
    figure = figures.places({"net": {fmt: pd.DataFrame(report) for fmt, report in reports.items()}})
    left, right = figure.axes
    assert left.get_title(loc="left") == f"net, {len(reports['bf16'])} places"
    bf16, fp16 = (line.get_ydata() for line in right.get_lines())
    assert max(bf16) == 0
    assert fp16[0] == 100  # x lies below FP16's smallest normal number


def test_a_records_file_that_lacks_an_arm_is_left_out(tmp_path: Path):
    folder = tmp_path / "reference" / "m"
    folder.mkdir(parents=True)
    (folder / "bf16-vision.json").write_text(
        json.dumps({"format": 1, "machine": {}, "study": "x", "runs": {}})
    )
    assert frames.widest({}, tmp_path) == {}
