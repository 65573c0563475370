"""Benches: one schema, correctness checked inside, quartiles in order."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch

from leandnn import bench
from leandnn.bench import timing
from leandnn.bench.bf16 import train_step
from leandnn.bench.kernels import rounding, rounding_peers
from leandnn.bf16.domains import vision
from leandnn.data import cifar
from leandnn.errors import LeandnnError
from leandnn.kernels import Format, round_to


def test_calls_are_interleaved_after_their_warm_up_in_orders_that_change_but_are_always_the_same():
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
    row = timing.row("x", {"n": 8}, "leandnn", 1, [0.1, 0.2, 0.3, 0.4, 0.5], work=6.0, unit="images")
    assert set(row) == set(timing.Row.__annotations__)
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
    assert set(written) == {"machine", "rows"}
    assert {"name", "cpu", "cores", "isa", "versions"} <= set(written["machine"])
    assert written["rows"] == [dict(r) for r in rows]


def test_the_bench_refuses_to_measure_an_unrounded_step(monkeypatch: pytest.MonkeyPatch):
    images = cifar.synthetic("train", 256), cifar.synthetic("test", 20)
    monkeypatch.setattr(train_step, "trial", lambda name, arm: vision.trial(arm, 0, *images, epochs=1))
    train_step.check("vision")
    monkeypatch.setattr(train_step, "trial", lambda name, arm: vision.trial("fp32", 0, *images, epochs=1))
    with pytest.raises(LeandnnError, match="vision: .* nothing was rounded"):
        train_step.check("vision")


def test_a_peers_step_must_round_as_ours_does(monkeypatch: pytest.MonkeyPatch):
    images = cifar.synthetic("train", 256), cifar.synthetic("test", 20)
    monkeypatch.setattr(train_step, "trial", lambda name, arm: vision.trial(arm, 0, *images, epochs=1))
    train_step.check_peer("vision", "exact", lambda x: x.bfloat16().float())
    for name, peer in (("idle", lambda x: x.clone()), ("coarse", lambda x: round_to(x, Format(8, 1)))):
        with pytest.raises(LeandnnError, match=f"vision: {name} does not round to the nearest BF16 number"):
            train_step.check_peer("vision", name, peer)
    monkeypatch.setattr(train_step, "trial", lambda name, arm: vision.trial("fp32", 0, *images, epochs=1))
    with pytest.raises(LeandnnError, match="vision: exact was not called by the emulated step"):
        train_step.check_peer("vision", "exact", lambda x: x.bfloat16().float())


def test_the_rounding_bench_refuses_to_measure_wrong_bits(monkeypatch: pytest.MonkeyPatch):
    x = rounding._values(1)
    for fmt, mode in rounding.CASES:
        rounding._check(x, fmt, mode)
    monkeypatch.setattr(rounding, "round_to", lambda x, fmt, mode, **rest: round_to(x, (8, 8), mode, **rest))
    with pytest.raises(
        LeandnnError, match=r"leandnn \(preallocated\) rounds to bf16 .* unlike the reference"
    ):
        rounding._check(x, "bf16", "nearest_even")


def test_the_rounding_bench_measures_every_output_and_leaves_out_peers_that_compute_something_else(
    monkeypatch: pytest.MonkeyPatch,
):
    peers = {"right": lambda x: x.to(torch.bfloat16), "wrong": lambda x: x}
    monkeypatch.setattr(
        rounding_peers, "installed", lambda fmt, mode: peers if mode == "nearest_even" else {}
    )
    monkeypatch.setattr(rounding, "CASES", [("bf16", "nearest_even"), ("bf16", "stochastic")])
    rows = rounding.rows(quick=True)
    nearest = {(r["case"]["output"], r["impl"]) for r in rows if r["case"]["mode"] == "nearest_even"}
    assert nearest == {
        ("preallocated", "leandnn"),
        ("preallocated", "torch.copy"),
        ("preallocated", "torch.casts"),
        ("in place", "leandnn"),
        ("new", "leandnn"),
        ("new", "torch.casts"),
        ("new", "right"),
    }
    assert all(r["n"] >= 20 for r in rows)
    words = rounding.summary(rows)
    assert "1 MiB bf16 nearest_even" in words
    assert "ns a value" in words


def test_a_peer_that_cannot_be_imported_is_named_and_skipped(monkeypatch: pytest.MonkeyPatch):
    def absent(name: str):
        raise ImportError(name)

    monkeypatch.setattr(rounding_peers.importlib, "import_module", absent)
    assert rounding_peers.installed(Format(8, 7), "nearest_even") == {}
    assert rounding_peers.missing() == list(rounding_peers.NAMES)


def test_an_unknown_bench_is_refused_with_the_known_ones():
    with pytest.raises(LeandnnError, match="'x' is unknown, expected one of train-step"):
        bench.run("x")
