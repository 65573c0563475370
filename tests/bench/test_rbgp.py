"""The RBGP bench: real shapes, right results, peers that compute the same, rows and words."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leandnn.bench.rbgp import memory as rbgp_memory
from leandnn.bench.rbgp import nets as rbgp
from leandnn.bench.rbgp import peers as rbgp_peers
from leandnn.bench.rbgp.nets import Shape
from leandnn.errors import LeandnnError
from leandnn.models.vgg import VGG19
from leandnn.models.wide_resnet import WideResNet


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture
def small_nets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rbgp.NETS, "VGG19", lambda: VGG19(((32, 1), (64, 2))))
    monkeypatch.setitem(rbgp.NETS, "WRN-40-4", lambda: WideResNet(10, 2))


def test_shapes_are_those_of_the_published_nets():
    vgg, wide = rbgp.shapes("VGG19"), rbgp.shapes("WRN-40-4")
    assert sum(map(len, vgg.values())) == 15
    assert vgg[Shape(512, 512, 3, 1, 2)] == ["features.40", "features.43", "features.46", "features.49"]
    assert sum(map(len, wide.values())) == 40 - 4 + 3
    assert len(wide[Shape(256, 256, 3, 1, 8)]) == 11
    assert len(wide[Shape(64, 128, 3, 2, 32)]) == 1
    assert Shape(16, 64, 1, 1, 32) in wide
    assert str(Shape(64, 128, 3, 2, 32)) == "64→128 3×3/2 on 32×32"


def test_every_real_shape_has_an_rbgp4_pattern():
    for net in rbgp.NETS:
        for sparsity in rbgp.SPARSITIES:
            for shape in rbgp.shapes(net):
                (pattern,) = rbgp.patterns(shape.module(), "rbgp4", sparsity).values()
                assert pattern.sparsity == sparsity / 100, shape


@pytest.mark.parametrize("shape", [Shape(32, 64, 3, 1, 6), Shape(32, 64, 3, 2, 7), Shape(32, 32, 1, 2, 6)])
def test_every_implementation_of_a_layer_computes_its_convolution(shape: Shape):
    x = torch.randn(2, shape.inputs, shape.side, shape.side)
    calls = rbgp._layer_calls(shape, 75.0, x)
    assert list(calls) == [
        "torch.conv2d", "torch.conv2d (channels last)", "onednn (prepacked)",
        "leandnn", "leandnn.block4x4", "torch.bsr4x4", "leandnn.unstructured", "torch.csr",
    ]  # fmt: skip
    expected = shape.module()(x)
    for name in ("torch.conv2d", "torch.conv2d (channels last)", "onednn (prepacked)"):
        torch.testing.assert_close(calls[name](), expected, rtol=1e-4, atol=1e-5)
    for ours, theirs in (("leandnn.unstructured", "torch.csr"), ("leandnn.block4x4", "torch.bsr4x4")):
        torch.testing.assert_close(calls[theirs](), calls[ours](), rtol=1e-4, atol=1e-5)
    zeros = (
        shape.module().weight.numel() - calls["leandnn"].func.pattern.nnz
    ) / shape.module().weight.numel()
    assert zeros == 0.75


def test_a_wrong_layer_is_not_measured(monkeypatch: pytest.MonkeyPatch):
    right = F.conv2d
    monkeypatch.setattr(rbgp.F, "conv2d", lambda *args: right(*args) * 1.0001)
    with pytest.raises(LeandnnError, match=r"leandnn is wrong in 32→64 3×3 on 6×6: 0.0001 away"):
        rbgp._layer_calls(Shape(32, 64, 3, 1, 6), 75.0, torch.randn(2, 32, 6, 6))


@pytest.mark.parametrize("net", ["VGG19", "WRN-40-4"])
def test_dense_peers_of_a_net_compute_the_same(small_nets: None, net: str):
    model, x = rbgp.dense(net), torch.randn(2, 3, 32, 32)
    expected = model(x)
    for name, call in rbgp_peers.dense_nets(model, x).items():
        loose = "bf16" in name
        torch.testing.assert_close(
            call().float(), expected, rtol=0.1 if loose else 1e-4, atol=0.1 if loose else 1e-5
        )


def test_the_packed_net_has_no_norms_and_its_relus_are_the_convolutions(small_nets: None):
    packed = rbgp_peers.onednn(rbgp.dense("VGG19"), torch.randn(1, 3, 32, 32))
    layers = [m for m in packed.modules() if isinstance(m, rbgp_peers.OneDnnConv2d)]
    assert len(layers) == 3 and all(layer.relu for layer in layers)
    called = [type(packed.get_submodule(str(n.target))) for n in packed.graph.nodes if n.op == "call_module"]
    assert nn.ReLU not in called and nn.BatchNorm2d not in called and nn.Conv2d not in called


def test_quick_rows_have_every_implementation_and_the_summary_its_targets(
    small_nets: None, monkeypatch: pytest.MonkeyPatch
):
    layers = rbgp._layers({Shape(128, 128, 3, 1, 2): {"VGG19": 2, "WRN-40-4": 0}}, 87.5, 2)
    nets = rbgp.net_rows("VGG19", 2, 87.5, 2)
    assert {r["impl"] for r in nets} >= {
        "leandnn", "leandnn (not folded)", "leandnn (bf16)", "leandnn.block4x4", "leandnn.unstructured",
        "torch.dense", "torch.dense (channels last)", "onednn (folded, prepacked)", "torch.autocast (bf16)",
    }  # fmt: skip
    flops = 2 * rbgp.LAYER_BATCH * 4 * 128 * 128 * 9 / 8 / 1e9
    assert all(r["work"] == pytest.approx(flops) and r["n"] == 2 for r in layers)
    measured = {"weights_mib": 1.23, "peak_mib": 4.56}
    monkeypatch.setattr(rbgp_memory, "measure", lambda impl, batch, sparsity: measured)
    memory = rbgp._memory(87.5, 2)
    assert [r["impl"] for r in memory][2:] == ["leandnn", "leandnn.block4x4", "leandnn.unstructured"]
    words = rbgp.summary([*layers, *nets, *memory])
    assert "128→128 3×3 on 2×2, batch 16, 87.5 % (" in words and "5.5 × torch dense)" in words
    assert "VGG19, batch 2, 87.5 %: torch.dense × " in words
    assert "memory, batch 2, 87.5 %, leandnn: weights 1.2 MiB, peak 4.6 MiB" in words
    json.dumps([*layers, *nets, *memory])


def test_a_target_that_is_missed_is_called_so():
    case = {"layer": "a", "channels": 128, "batch": 16, "sparsity": 75.0}

    def row(impl: str, seconds: float) -> dict:
        return {"case": case, "impl": impl, "median_s": seconds, "unit": "Gflop"}

    assert "(reaches 3.0 ×" in rbgp.summary([row("leandnn", 1.0), row("torch.conv2d", 3.1)])
    assert "(MISSES 3.0 ×" in rbgp.summary([row("leandnn", 1.0), row("torch.conv2d", 2.9)])


def test_rounds_have_every_arm_of_the_speed_claims(small_nets: None):
    found = rbgp.rounds(quick=True)
    assert set(found) == {"rbgp4", "block4x4", "unstructured", "block4x4_library", "unstructured_library"}
    assert {len(times) for times in found.values()} == {rbgp.QUICK_REPEATS}
    assert all(t > 0 for times in found.values() for t in times)


def test_memory_is_measured_in_a_process_of_its_own():
    sparse = rbgp_memory.measure("rbgp4", 1, 87.5)
    # An eighth of the 20.02 million weights between first convolution and classifier, FP32, and a little more.
    assert 9.5 < sparse["weights_mib"] < 10.0
    assert 12 < sparse["peak_mib"] < 40, "less than the dense weights"


def test_a_failure_to_measure_memory_is_told():
    with pytest.raises(LeandnnError, match="the memory of nonsense cannot be measured: .*nonsense"):
        rbgp_memory.measure("nonsense", 1, 87.5)
