"""The prices of runs: grouped by arm, and a broken file does not stop the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leandnn import bench
from leandnn.errors import LeandnnError
from leandnn.machine import card
from leandnn.report import pages
from leandnn.studies import pipeline

CARD = card.read()


def cost(seconds: float) -> dict:
    return {
        "seconds": seconds,
        "seconds_per_step": seconds / 100,
        "peak_mib": 700,
        "budget": {},
        "threads": 1,
    }


def write(root: Path, name: str, content: object) -> None:
    path = root / "reference" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_runs_are_grouped_by_arm_with_their_median(tmp_path: Path):
    runs = {f"bf16/vision/fp32-s{i}": cost(60.0 * 2**i) for i in range(3)}
    write(tmp_path, "box/cost.json", {"machine": CARD, "runs": runs})
    (line,) = [x for x in pages.every_table()["training"].markdown(tmp_path).splitlines() if "fp32" in x]
    assert [c.strip() for c in line.strip("|").split("|")][:5] == [
        "`bf16/vision/fp32`",
        "3",
        "2.0 min",
        "1200 ms",
        "700 MiB",
    ]


def test_a_broken_file_is_named_and_the_others_are_shown(tmp_path: Path):
    write(tmp_path, "a/cost.json", {"machine": CARD, "runs": {"bf16/vision/fp32-s0": cost(60.0)}})
    for name, content in (("b", "{"), ("c", '{"runs": NaN}'), ("d", "[]"), ("e", {"runs": {"x-s0": {}}})):
        write(tmp_path, f"{name}/cost.json", content)
    text = pages.every_table()["training"].markdown(tmp_path)
    assert "1.0 min" in text
    for name in "bcde":
        assert f"`reference/{name}/cost.json` is refused" in text


def test_costs_of_the_pipeline_become_evidence_by_a_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pipeline, "costs_file", lambda: tmp_path / "costs.json")
    with pytest.raises(LeandnnError, match=r"costs\.json: No such file .* train some"):
        bench.run("training")
    (tmp_path / "costs.json").write_text('{"bf16/vision/fp32-s0": 3}')
    with pytest.raises(LeandnnError, match=r"costs\.json is no file of costs"):
        bench.run("training")
    made = {f"bf16/vision/fp32-s{i}": cost(60.0 * 2**i) for i in range(3)}
    (tmp_path / "costs.json").write_text(json.dumps(made))
    file = tmp_path / "reference" / "box" / "bench-training.json"
    bench.run("training", file=file)
    text = pages.every_table()["training"].markdown(tmp_path)
    assert "| `bf16/vision/fp32` | 3 | 2.0 min | 1200 ms | 700 MiB |" in text
