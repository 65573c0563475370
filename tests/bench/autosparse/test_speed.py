"""The AutoSparse bench: compares the same nets, stops at a wrong gradient or function, and says what it found."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leandnn.autosparse import method, study
from leandnn.bench.autosparse import speed
from leandnn.errors import LeandnnError
from leandnn.machine import determinism
from leandnn.models.vgg_small import SmallVGG


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch):
    """One step net of four images, one repeat."""
    monkeypatch.setattr(speed, "NETS", {"SmallVGG": (SmallVGG, study.VGG.ends, 4)})
    monkeypatch.setattr(speed, "_pquant", lambda: None)
    determinism.configure(seed=0, threads=1)


def test_steps_have_the_dense_net_and_plain_autograd_beside_ours():
    rows = speed._steps("SmallVGG", 2)
    assert [r["impl"] for r in rows] == ["leandnn", "torch.dense", "torch.autograd"]
    assert all(r["case"] == {"what": "step", "net": "SmallVGG", "batch": 4} for r in rows)
    assert all(r["n"] == 2 and r["median_s"] > 0 for r in rows)


def test_a_wrong_gradient_stops_the_bench(monkeypatch: pytest.MonkeyPatch):
    real = method.soft_threshold
    monkeypatch.setattr(method, "soft_threshold", lambda w, s, alpha, share: real(w, s, alpha / 2, share))
    with pytest.raises(LeandnnError, match=r"gradient of features\.\d+\.weight in SmallVGG is wrong"):
        speed._check("SmallVGG")


def test_a_peer_with_another_gradient_stops_the_bench(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speed, "_pquant", lambda: lambda weight: speed.PlainThreshold(0.2))
    with pytest.raises(LeandnnError, match=r"pquant-ml: the gradient of features\.\d+\.weight in SmallVGG"):
        speed._check("SmallVGG")


def test_a_peer_that_is_installed_has_a_row(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speed, "_pquant", lambda: lambda weight: speed.PlainThreshold(0.5))
    rows = speed._steps("SmallVGG", 1)
    assert [r["impl"] for r in rows] == ["leandnn", "torch.dense", "torch.autograd", "pquant-ml"]


def sparse_net() -> nn.Module:
    torch.manual_seed(0)
    net = SmallVGG()
    with torch.no_grad():
        for name in ("features.8", "features.15"):
            weight = net.get_submodule(name).weight
            weight.mul_(torch.rand(weight.shape) < 0.2)
    return net.eval()


def test_exported_nets_are_measured_with_what_their_zeros_leave():
    rows = speed._inference("SmallVGG", sparse_net(), sparse_net(), (2,), 2)
    found = {r["impl"]: r["case"] for r in rows}
    assert list(found) == ["torch.dense", "leandnn.csr", "leandnn"]
    assert found["torch.dense"]["macs"] == 1
    assert 0.5 < found["leandnn"]["macs"] < 0.95
    assert found["leandnn.csr"]["macs"] == pytest.approx(found["leandnn"]["macs"], abs=0.001)
    assert (
        found["leandnn"]["weight_bytes"]
        < found["leandnn.csr"]["weight_bytes"]
        < found["torch.dense"]["weight_bytes"]
    )


def test_a_net_that_computes_something_else_stops_the_bench(monkeypatch: pytest.MonkeyPatch):
    real = speed.fold

    def broken(model: nn.Module) -> nn.Module:
        return nn.Sequential(real(model), nn.Softmax(1))

    monkeypatch.setattr(speed, "fold", broken)
    with pytest.raises(LeandnnError, match="torch.dense computes another function"):
        speed._inference("SmallVGG", sparse_net(), sparse_net(), (2,), 1)


def test_the_ledger_is_checked_and_the_summary_has_every_number():
    rows = speed._steps("SmallVGG", 2) + speed._ledger(1)
    rows += speed._inference("SmallVGG", sparse_net(), sparse_net(), (2,), 2)
    text = speed.summary(rows)
    assert "SmallVGG: AutoSparse step / dense step = " in text
    assert "torch.autograd" in text
    assert "ledger of ResNet50: " in text
    assert "SmallVGG inference, batch 2, leandnn.csr: " in text
    assert "× as fast as dense where the MACs promise" in text
