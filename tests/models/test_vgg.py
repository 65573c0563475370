"""VGG19."""

from __future__ import annotations

import torch
from torch import nn

from leandnn.models import macs
from leandnn.models.vgg import VGG19


def test_vgg19_has_its_stated_size_and_layers():
    model = VGG19()
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == 20_035_018
    assert (
        round(parameters / 1e6, 2) == 20.04
    )  # CIFAR's VGGNet of network slimming, arXiv 1708.06519, table 1
    multiply_adds = macs.forward_macs(macs.count(model, (3, 32, 32)))
    assert multiply_adds == 398_136_320
    assert round(2 * multiply_adds / 1e9, 1) == 0.8  # as published for this net, e.g. arXiv 1905.11533
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == 16
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_each_stage_halves_the_side():
    model = VGG19(((4, 1), (8, 2)), classes=100)
    assert model.features(torch.randn(2, 3, 32, 32)).shape == (2, 8, 8, 8)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 100)
