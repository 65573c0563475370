"""Wide residual nets against the published architecture."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leandnn.models import macs
from leandnn.models.wide_resnet import WideBlock, WideResNet


def test_wrn_40_4_has_the_published_parameters_and_layers():
    model = WideResNet(40, 4)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == 8_949_210
    assert round(parameters / 1e6, 1) == 8.9  # arXiv 1605.07146's table of depths and widths
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    three = [m for m in convolutions if m.kernel_size == (3, 3)]
    assert len(three) == 40 - 3, "the depth counts 3×3 convolutions, shortcuts and classifier"
    assert len(convolutions) - len(three) == 3
    assert {m.out_channels for m in three} == {16, 64, 128, 256}


@pytest.mark.parametrize(("depth", "widen", "millions"), [(16, 8, 11.0), (28, 10, 36.5), (40, 1, 0.6)])
def test_other_published_sizes(depth: int, widen: int, millions: float):
    parameters = sum(p.numel() for p in WideResNet(depth, widen).parameters())
    assert round(parameters / 1e6, 1) == millions


def test_multiply_adds_are_those_of_the_layers_by_hand():
    """9·c_in·c_out a pixel for 3×3, c_in·c_out for shortcuts, and the classifier."""
    counted = macs.forward_macs(macs.count(WideResNet(), (3, 32, 32)))
    total, inputs = 9 * 3 * 16 * 1024, 16
    for width, side in ((64, 32), (128, 16), (256, 8)):
        total += (9 * inputs * width + inputs * width + 11 * 9 * width * width) * side * side
        inputs = width
    assert counted == total + 2560


def test_the_shortcut_is_a_convolution_where_the_shape_changes():
    assert WideBlock(8, 8, 1).shortcut is None
    block = WideBlock(8, 16, 2).eval()
    assert block(torch.randn(2, 8, 8, 8)).shape == (2, 16, 4, 4)
    same = WideBlock(8, 8, 1).eval()
    nn.init.zeros_(same.conv2.weight)
    x = torch.randn(2, 8, 8, 8)
    assert torch.equal(same(x), x), "the identity passes untouched"


def test_small_forms_give_logits_and_other_depths_are_refused():
    assert WideResNet(10, 1, classes=100)(torch.randn(2, 3, 32, 32)).shape == (2, 100)
    with pytest.raises(ValueError, match="depth is 20, expected 6·n \\+ 4"):
        WideResNet(20)
