"""Image classifiers."""

from __future__ import annotations

import pytest
import torch

from leandnn.autosparse import flops
from leandnn.models import vision
from leandnn.models.vision import SmallResNet


def test_small_resnet_has_its_stated_size_and_gives_logits():
    model = SmallResNet()
    assert sum(p.numel() for p in model.parameters()) == 304_154
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert SmallResNet((8, 16), stem=4, classes=100)(torch.randn(1, 3, 32, 32)).shape == (1, 100)


def test_blocks_halve_the_side_after_the_first():
    model = SmallResNet().eval()
    sides = []
    for block in model.blocks:
        block.register_forward_hook(lambda m, i, out: sides.append(out.shape[-1]))
    model(torch.randn(1, 3, 32, 32))
    assert sides == [16, 8, 4]


@pytest.mark.parametrize(
    ("make", "side", "parameters", "macs"),
    [
        (vision.resnet50, 224, 25_557_032, 4.09e9),
        (vision.mobilenet_v1, 224, 4_231_976, 569e6),
        (vision.vgg19, 32, 20_035_018, 398e6),
        (vision.wide_resnet40_4, 32, 8_949_210, 1.3e9),
    ],
)
def test_nets_have_their_published_sizes_and_the_asked_classes(make, side: int, parameters: int, macs: float):
    model = make()
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert flops.ledger(model, (3, side, side)).forward_macs == pytest.approx(macs, rel=0.01)
    with torch.inference_mode():
        assert make(num_classes=7).eval()(torch.zeros(1, 3, side, side)).shape == (1, 7)
