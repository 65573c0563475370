"""The panels bench: its cases, its check of every result, its peers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from leandnn.bench.kernels import panels, panels_peers
from leandnn.bench.kernels.panels import Bench, Case
from leandnn.errors import LeandnnError

SMALL = Case(64, 128, 20, 75.0, "rbgp4", "fp32", "forward")


@pytest.mark.parametrize("pattern", ["rbgp4", "block4x4", "block16x16", "hbs64-4x4", "unstructured"])
def test_patterns_have_the_sparsity_of_their_case(pattern: str):
    found = panels.pattern_of(pattern, 256, 512, 75.0)
    assert found.shape == (256, 512)
    assert found.sparsity == pytest.approx(0.75, abs=0.03 if pattern == "hbs64-4x4" else 1e-6)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("product", ["forward", "dX", "dW"])
def test_rows_carry_the_case_and_every_result_is_checked(dtype: str, product: str):
    bench = Bench(Case(64, 128, 20, 75.0, "rbgp4", dtype, product))
    rows = bench.rows({**bench.ours(), **bench.dense()}, 2)
    assert {r["impl"] for r in rows} >= {"leandnn", "torch.mm"}
    assert all(r["case"] == {**vars(bench.case)} and r["n"] == 2 for r in rows)
    assert rows[0]["work"] == pytest.approx(2 * 64 * 128 * 0.25 * 20 / 1e9)


def test_a_wrong_result_stops_the_bench():
    bench = Bench(SMALL)
    right = bench.ours()["leandnn"]()
    assert isinstance(right, torch.Tensor)
    wrong = right.clone()
    wrong[3, 7] += 1
    with pytest.raises(LeandnnError, match=r"liar is wrong in Case\(M=64"):
        bench.rows({"liar": lambda: wrong}, 2)


def test_peers_multiply_the_same_matrix():
    bench = Bench(SMALL)
    calls = panels_peers.sparse(bench.weight, bench.x, 75.0)
    assert {"onednn.linear (prepacked)", "torch.csr", "torch.bsr4x4", "torch.bsr16x16", "scipy.csr"} <= set(
        calls
    )
    for name, call in calls.items():
        if name not in panels_peers.UNCHECKED:
            bench.check(name, call)


FAKE = """
import sys, types
import numpy as np
class Engine:
    def __init__(self, model, batch_size, num_cores): self.weight = np.load(model.replace("product.onnx", "weight.npy"))
    def run(self, inputs, val_inp): return [inputs[0] @ self.weight.T]
class Anything:
    FLOAT = 1
    def __getattr__(self, name): return lambda *a, **k: Anything()
onnx = types.ModuleType("onnx")
onnx.save, onnx.TensorProto, onnx.helper, onnx.numpy_helper = (lambda *a: None), Anything(), Anything(), Anything()
deepsparse = types.ModuleType("deepsparse")
deepsparse.Engine = Engine
sys.modules.update(onnx=onnx, deepsparse=deepsparse)
"""


def test_deepsparse_is_served_by_another_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bench = Bench(SMALL)
    monkeypatch.delenv("LEANDNN_DEEPSPARSE", raising=False)
    assert panels_peers.deepsparse(bench.weight, bench.x) is None
    (tmp_path / "sitecustomize.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("LEANDNN_DEEPSPARSE", sys.executable)
    peer = panels_peers.deepsparse(bench.weight, bench.x)
    assert peer is not None
    bench.check("deepsparse", peer)
    peer.close()
    monkeypatch.setenv("PYTHONPATH", "")
    with pytest.raises(LeandnnError, match="cannot run the product: ModuleNotFoundError"):
        panels_peers.deepsparse(bench.weight, bench.x)


def test_the_whole_bench_runs_on_small_shapes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(panels, "SHAPES", ((128, 256, 32),))
    monkeypatch.setattr(panels, "SPARSITIES", (75.0,))
    monkeypatch.setattr(panels, "REPEATS", 2)
    monkeypatch.delenv("LEANDNN_DEEPSPARSE", raising=False)
    before = torch.get_num_threads()
    try:
        rows = panels.rows(quick=False)
    finally:
        torch.set_num_threads(before)
    kinds = {(r["case"]["pattern"], r["case"]["dtype"], r["case"]["product"], r["threads"]) for r in rows}
    assert ("rbgp4", "bf16", "forward", 1) in kinds
    assert ("rbgp4", "fp32", "forward", 2) in kinds
    assert ("hbs64-4x4", "fp32", "dW", 1) in kinds
    assert {r["case"]["N"] for r in rows} >= {1, 8, 32}
    assert "over leandnn (token-major) ×" in panels.summary(rows)
