"""Benches: found in their folders, one schema, quartiles in order, written with the machine."""

from __future__ import annotations

import datetime
import functools
import importlib
import json
from pathlib import Path

import pytest

from leandnn import bench
from leandnn.bench import benchfile, timing
from leandnn.bench.bf16 import train_step
from leandnn.errors import LeandnnError


def test_calls_are_interleaved_in_orders_that_repeat():
    def order() -> list[str]:
        seen: list[str] = []
        calls = {name: functools.partial(seen.append, name) for name in "abc"}
        times = timing.interleave(calls, repeats=14, warmup=2)
        assert {name: len(t) for name, t in times.items()} == dict.fromkeys("abc", 14)
        return seen

    rounds = ["".join(order()[i : i + 3]) for i in range(0, 48, 3)]
    assert {"".join(sorted(one)) for one in rounds} == {"abc"}
    assert len(set(rounds)) > 3
    assert order() == list("".join(rounds))


def test_a_row_has_the_schema_and_its_rate_is_at_the_median():
    row = timing.row("x", {"n": 8}, "leandnn", 1, [0.1, 0.2, 0.3, 0.4, 0.9], work=6.0, unit="images")
    assert set(row) == set(benchfile.Row.__annotations__)
    assert row["median_s"] == pytest.approx(0.3)
    assert row["p25_s"] <= row["median_s"] <= row["p75_s"]
    assert row["rate"] == pytest.approx(20.0)


def test_results_are_written_with_the_machine_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [
        timing.row("train-step", {"net": "a", "batch": 1}, impl, 1, [0.1] * 20, 1.0, "images")
        for impl in ("leandnn", "torch.fp32")
    ]
    monkeypatch.setattr(train_step, "rows", lambda quick: rows)
    target = tmp_path / "bench.json"
    bench.run("train-step", file=target)
    written = json.loads(target.read_text())
    assert set(written) == {"date", "machine", "rows"}
    assert datetime.date.fromisoformat(written["date"])
    assert {"name", "cpu", "cores", "isa", "versions"} <= set(written["machine"])
    assert written["rows"] == [dict(r) for r in rows]


def test_benches_are_found_in_their_folders_and_can_be_run():
    found = bench.benches()
    assert {"commands", "huffman", "rounding", "sparse-step", "train-step"} <= set(found)
    for module in map(importlib.import_module, found.values()):
        assert callable(module.rows) and callable(module.summary), module.__name__


def test_targets_are_of_benches_that_exist():
    folders = {name.rpartition(".")[0] for name in bench.benches().values()} - {"leandnn.bench"}
    asked = [importlib.import_module(f"{folder}.targets").TARGETS for folder in folders]
    assert {name for own in asked for name in own} <= set(bench.benches())


def test_an_unknown_bench_is_refused_with_the_known_ones():
    with pytest.raises(LeandnnError, match="'x' is unknown, expected one of autosparse"):
        bench.run("x")
