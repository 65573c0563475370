"""VGG19."""

from __future__ import annotations

import torch
from torch import nn

from leandnn.models.vgg import VGG19


def test_vgg19_has_its_stated_size_and_layers():
    model = VGG19()
    assert sum(p.numel() for p in model.parameters()) == 20_035_018
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == 16
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_each_stage_halves_the_side():
    model = VGG19(((4, 1), (8, 2)), classes=100)
    assert model.features(torch.randn(2, 3, 32, 32)).shape == (2, 8, 8, 8)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 100)
