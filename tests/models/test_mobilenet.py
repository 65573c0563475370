"""MobileNetV1's shapes and published sizes."""

from __future__ import annotations

import torch
from torch import nn

from leandnn.models import macs
from leandnn.models.mobilenet import MobileNetV1, mobilenet_v1, small_mobilenet


def test_the_net_has_the_published_size():
    net = mobilenet_v1()
    assert sum(p.numel() for p in net.parameters()) == 4_231_976  # 4.2 M
    assert sum(layer.macs for layer in macs.count(net, (3, 224, 224))) == 568_740_352  # 569 M
    assert len([m for m in net.modules() if isinstance(m, nn.Conv2d)]) == 27


def test_width_scales_channels_to_multiples_of_eight():
    net = MobileNetV1(width=0.3)
    widths = {m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)}
    assert all(width % 8 == 0 for width in widths)
    assert max(widths) == 304
    depthwise = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert all(m.groups == m.in_channels == m.out_channels for m in depthwise)


def test_the_small_net_sees_small_images_to_the_end():
    net = small_mobilenet().eval()
    assert net.features(torch.zeros(2, 3, 32, 32)).shape == (2, 256, 4, 4)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert 100_000 < sum(p.numel() for p in net.parameters()) < 200_000
