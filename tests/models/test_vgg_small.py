"""The small VGG-type net: its sizes by hand, and that it is stable under its widths."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leandnn.models.vgg_small import SmallVGG


def test_parameters_and_places_by_hand():
    model = SmallVGG()
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    pairs = [(3, 16), (16, 32), (32, 64), (64, 64), (64, 128), (128, 128)]
    assert [m.weight.shape for m in convolutions] == [(out, inputs, 3, 3) for inputs, out in pairs]
    norms = 2 * sum(out for _, out in pairs)
    weights = 9 * sum(inputs * out for inputs, out in pairs)
    assert sum(p.numel() for p in model.parameters()) == weights + norms + 128 * 10 + 10 == 283_674
    sides = []
    for module in convolutions:
        module.register_forward_hook(lambda m, x, y: sides.append(y.shape[-1]))
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert sides == [32, 16, 8, 8, 4, 4]


@pytest.mark.parametrize("classes", [2, 100])
def test_other_widths_pools_and_classes(classes: int):
    model = SmallVGG(widths=(8, 8), pools=(1,), classes=classes)
    assert model(torch.randn(3, 3, 32, 32)).shape == (3, classes)
    assert sum(isinstance(m, nn.MaxPool2d) for m in model.modules()) == 1
