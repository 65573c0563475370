"""Image classifiers."""

from __future__ import annotations

import torch

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
