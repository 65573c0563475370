"""The RBGP bench: real shapes, right results, peers that compute the same, rows and words."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leandnn.bench.rbgp import inference, memory, nets, peers
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
    monkeypatch.setitem(nets.NETS, "VGG19", lambda: VGG19(((32, 1), (64, 2))))
    monkeypatch.setitem(nets.NETS, "WRN-40-4", lambda: WideResNet(10, 2))


def test_shapes_are_those_of_the_published_nets():
    vgg, wide = nets.shapes("VGG19"), nets.shapes("WRN-40-4")
    assert sum(map(len, vgg.values())) == 15
    assert vgg[Shape(512, 512, 3, 1, 2)] == ["features.40", "features.43", "features.46", "features.49"]
    assert sum(map(len, wide.values())) == 40 - 4 + 3
    assert len(wide[Shape(256, 256, 3, 1, 8)]) == 11
    assert len(wide[Shape(64, 128, 3, 2, 32)]) == 1
    assert Shape(16, 64, 1, 1, 32) in wide
    assert str(Shape(64, 128, 3, 2, 32)) == "64→128 3×3/2 on 32×32"


def test_every_real_shape_has_an_rbgp4_pattern():
    for net in nets.NETS:
        for sparsity in inference.SPARSITIES:
            for shape in nets.shapes(net):
                (pattern,) = nets.patterns(shape.module(), "rbgp4", sparsity).values()
                assert pattern.sparsity == sparsity / 100, shape


@pytest.mark.parametrize("shape", [Shape(32, 64, 3, 1, 6), Shape(32, 64, 3, 2, 7), Shape(32, 32, 1, 2, 6)])
def test_all_implementations_compute_the_convolution(shape: Shape):
    x = torch.randn(2, shape.inputs, shape.side, shape.side)
    calls = inference._layer_calls(shape, 75.0, x)
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
    monkeypatch.setattr(inference.F, "conv2d", lambda *args: right(*args) * 1.0001)
    with pytest.raises(LeandnnError, match=r"leandnn is wrong in 32→64 3×3 on 6×6: 0.0001 away"):
        inference._layer_calls(Shape(32, 64, 3, 1, 6), 75.0, torch.randn(2, 32, 6, 6))


@pytest.mark.parametrize("net", ["VGG19", "WRN-40-4"])
def test_dense_peers_of_a_net_compute_the_same(small_nets: None, net: str):
    model, x = nets.dense(net), torch.randn(2, 3, 32, 32)
    expected = model(x)
    for name, call in peers.dense_nets(model, x).items():
        loose = "bf16" in name
        torch.testing.assert_close(
            call().float(), expected, rtol=0.1 if loose else 1e-4, atol=0.1 if loose else 1e-5
        )


def test_the_packed_net_has_no_norms_and_fuses_its_relus(small_nets: None):
    packed = peers.onednn(nets.dense("VGG19"), torch.randn(1, 3, 32, 32))
    layers = [m for m in packed.modules() if isinstance(m, peers.OneDnnConv2d)]
    assert len(layers) == 3 and all(layer.relu for layer in layers)
    called = [type(packed.get_submodule(str(n.target))) for n in packed.graph.nodes if n.op == "call_module"]
    assert nn.ReLU not in called and nn.BatchNorm2d not in called and nn.Conv2d not in called


def test_rows_have_every_implementation(small_nets: None, monkeypatch: pytest.MonkeyPatch):
    layers = inference._layers({Shape(128, 128, 3, 1, 2): {"VGG19": 2, "WRN-40-4": 0}}, 87.5, 2)
    whole = inference.net_rows("VGG19", 2, 87.5, 2)
    assert {r["impl"] for r in whole} >= {
        "leandnn", "leandnn (not folded)", "leandnn (bf16)", "leandnn.block4x4", "leandnn.unstructured",
        "torch.dense", "torch.dense (channels last)", "onednn (folded, prepacked)", "torch.autocast (bf16)",
    }  # fmt: skip
    flops = 2 * inference.LAYER_BATCH * 4 * 128 * 128 * 9 / 8 / 1e9
    assert all(r["work"] == pytest.approx(flops) and r["n"] == 2 for r in layers)
    measured = {"weights_mib": 1.23, "peak_mib": 4.56}
    monkeypatch.setattr(memory, "measure", lambda impl, batch, sparsity: measured)
    peaks = inference._memory(87.5, 2)
    assert [r["impl"] for r in peaks][2:] == ["leandnn", "leandnn.block4x4", "leandnn.unstructured"]
    words = inference.summary([*layers, *whole, *peaks])
    assert "128→128 3×3 on 2×2, batch 16, 87.5 %: torch.conv2d × " in words
    assert "VGG19, batch 2, 87.5 %: torch.dense × " in words
    assert "memory, batch 2, 87.5 %, leandnn: weights 1.2 MiB, peak 4.6 MiB" in words
    json.dumps([*layers, *whole, *peaks])


def test_rounds_have_every_arm_of_the_speed_claims(small_nets: None):
    found = inference.rounds(quick=True)
    assert set(found) == {"rbgp4", "block4x4", "unstructured", "block4x4_library", "unstructured_library"}
    assert {len(times) for times in found.values()} == {inference.QUICK_REPEATS}
    assert all(t > 0 for times in found.values() for t in times)


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own():
    sparse = memory.measure("rbgp4", 1, 87.5)
    # An eighth of the 20.02 million weights between first convolution and classifier, FP32, and a little more.
    assert 9.5 < sparse["weights_mib"] < 10.0
    assert 12 < sparse["peak_mib"] < 40, "less than the dense weights"


@pytest.mark.slow
def test_a_failure_to_measure_memory_is_told():
    with pytest.raises(LeandnnError, match="the memory of nonsense cannot be measured: .*nonsense"):
        memory.measure("nonsense", 1, 87.5)
