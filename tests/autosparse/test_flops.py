"""The ledger: published counts, the three products' own densities, integration over training, the formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leandnn.autosparse import AutoSparse, flops
from leandnn.autosparse.flops import Macs, StepDensities
from leandnn.autosparse.published import DENSE_MACS, STR_RESNET50_MACS, str_densities
from leandnn.blocksparse import Pattern, convert
from leandnn.models.mobilenet import mobilenet_v1
from leandnn.models.resnet_bottleneck import resnet50


@pytest.fixture(scope="module")
def of_resnet50() -> flops.Ledger:
    return flops.ledger(resnet50(), (3, 224, 224))


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


def test_dense_totals_are_the_published_ones(of_resnet50: flops.Ledger):
    assert of_resnet50.forward_macs == 4_089_184_256
    assert of_resnet50.forward_macs == pytest.approx(DENSE_MACS["ResNet50"], rel=0.002)
    assert of_resnet50.training_macs == 3 * of_resnet50.forward_macs
    mobilenet = flops.ledger(mobilenet_v1(), (3, 224, 224))
    assert mobilenet.forward_macs == pytest.approx(DENSE_MACS["MobileNetV1"], rel=0.002)
    depthwise = [layer for layer in mobilenet.layers if layer.numel and layer.macs == layer.numel * 112 * 112]
    assert depthwise[1].numel == 32 * 9, "a depthwise convolution has one input channel per output"


@pytest.mark.parametrize("sparsity", STR_RESNET50_MACS)
def test_strs_layer_budgets_give_its_published_flops(of_resnet50: flops.Ledger, sparsity: str):
    densities = str_densities(sparsity)
    assert set(densities) == {layer.name for layer in of_resnet50.layers}
    assert of_resnet50.forward(densities) == pytest.approx(STR_RESNET50_MACS[sparsity], rel=0.02)
    numbers = sum(layer.numel for layer in of_resnet50.layers)
    kept = sum(densities[layer.name] * layer.numel for layer in of_resnet50.layers)
    assert 100 * (1 - kept / numbers) == pytest.approx(float(sparsity), abs=0.05)


def test_a_budget_that_is_not_public_is_refused():
    with pytest.raises(ValueError, match=r"no STR budget for 80 %, expected one of 81\.27"):
        str_densities("80")


def test_each_product_has_its_own_density():
    ledger = flops.ledger(small(), (3, 8, 8))
    conv1, conv2, linear = (layer.macs for layer in ledger.layers)
    assert (conv1, conv2, linear) == (216 * 64, 576 * 64, 5120)
    step = StepDensities({"2": 0.25, "4": 0.5}, {"2": 0.75})
    forward = conv1 + 0.25 * conv2 + 0.5 * linear
    assert ledger.step(step) == Macs(forward, forward, conv1 + 0.75 * conv2 + linear)
    assert ledger.step(StepDensities({"2": 0.25})).weight_gradient == ledger.forward_macs
    assert ledger.step(StepDensities({})).total == ledger.training_macs


def test_training_is_the_mean_over_its_steps():
    ledger = flops.ledger(small(), (3, 8, 8))
    dense, thin = StepDensities({}), StepDensities({"2": 0.1}, {"2": 0.1})
    mean = ledger.training([(dense, 1), (thin, 3)])
    assert mean.total == pytest.approx((ledger.step(dense).total + 3 * ledger.step(thin).total) / 4)
    with pytest.raises(ValueError, match="the training has 0 steps"):
        ledger.training([])


def test_rows_are_fractions_of_dense_and_end_with_the_total():
    ledger = flops.ledger(small(), (3, 8, 8))
    rows = ledger.rows(StepDensities({"2": 0.25}))
    assert [row["layer"] for row in rows] == ["0", "2", "4", "total"]
    assert (rows[1]["forward"], rows[1]["weight_gradient"], rows[1]["training"]) == (0.25, 1.0, 0.5)
    total = ledger.step(StepDensities({"2": 0.25}))
    assert rows[-1]["dense_macs"] == ledger.forward_macs
    assert rows[-1]["training"] == pytest.approx(total.total / ledger.training_macs)


def test_zeros_of_every_method_are_counted_alike():
    net = small()
    mask = torch.rand(8, 72, generator=torch.Generator().manual_seed(1)) < 0.3
    with torch.no_grad():
        net[2].weight.mul_(mask.view_as(net[2].weight))
    masked = flops.ledger(net, (3, 8, 8))
    block_sparse = flops.ledger(convert(net, {"2": Pattern.unstructured(mask)}), (3, 8, 8))
    density = int(mask.sum()) / mask.numel()
    assert masked.densities["2"] == block_sparse.densities["2"] == pytest.approx(density)
    assert masked.inference_macs == block_sparse.inference_macs == masked.forward({"2": density})
    assert masked.forward_macs == block_sparse.forward_macs
    with torch.no_grad():
        net[2].values.zero_()
    assert flops.ledger(net, (3, 8, 8)).densities["2"] == pytest.approx(density), "stored, so multiplied"
    learned = small()
    sparse = AutoSparse(learned, exclude=("0", "4"), init=-2.5)
    assert flops.ledger(learned, (3, 8, 8)).densities["2"] == sparse.densities()["2"] < 1


def test_unknown_layers_are_refused_by_name():
    ledger = flops.ledger(small(), (3, 8, 8))
    with pytest.raises(ValueError, match="no layer conv9"):
        ledger.forward({"conv9": 0.5})
    with pytest.raises(ValueError, match="no layer 1"):
        ledger.step(StepDensities({}, {"1": 0.5}))


def test_the_published_formulas():
    assert flops.dense(100.0) == 300
    assert flops.static(20.0) == 60
    assert flops.rigl(20.0, 100.0, 100) == pytest.approx((60 * 100 + 40 + 100) / 101)
    assert flops.dense_gradient(14.0, 100.0) == 128


def test_rigls_published_fractions_follow_from_its_formula(of_resnet50: flops.Ledger):
    # Uniform 80 %, first layer dense: 0.23 of dense, for training and for inference.
    densities = {layer.name: 0.2 for layer in of_resnet50.layers if layer.name != "conv1"}
    f_s, f_d = of_resnet50.forward(densities), float(of_resnet50.forward_macs)
    assert f_s / f_d == pytest.approx(0.23, abs=0.01)
    assert flops.rigl(f_s, f_d, 100) / flops.dense(f_d) == pytest.approx(0.23, abs=0.01)


def test_the_papers_two_and_sevenfold_fit_in_the_formula():
    # At a seventh of the inference FLOPs from the first step on, 2 f_S + f_D is 0.43 of dense; it reached a half.
    assert flops.dense_gradient(1 / 7, 1.0) / 3 == pytest.approx(0.43, abs=0.005)
