"""The rounding bench: bits are checked, peers that compute something else are left out."""

from __future__ import annotations

import pytest
import torch

from leandnn.bench.kernels import rounding, rounding_peers
from leandnn.errors import LeandnnError
from leandnn.kernels import Format, round_to


def test_the_rounding_bench_refuses_to_measure_wrong_bits(monkeypatch: pytest.MonkeyPatch):
    x = rounding._values(1)
    for fmt, mode in rounding.CASES:
        rounding._check(x, fmt, mode)
    monkeypatch.setattr(rounding, "round_to", lambda x, fmt, mode, **rest: round_to(x, (8, 8), mode, **rest))
    with pytest.raises(
        LeandnnError, match=r"leandnn \(preallocated\) rounds to bf16 .* unlike the reference"
    ):
        rounding._check(x, "bf16", "nearest_even")


def test_a_peer_that_rounds_otherwise_is_left_out(
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
