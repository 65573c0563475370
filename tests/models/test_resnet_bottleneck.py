"""Bottleneck nets: torchvision's ResNet50, and ours for small images."""

from __future__ import annotations

import torch

from leandnn.models import macs
from leandnn.models.resnet_bottleneck import Bottleneck, BottleneckResNet, cifar_resnet50, resnet50


def test_resnet50_has_the_published_size():
    net = resnet50()
    assert sum(p.numel() for p in net.parameters()) == 25_557_032
    assert sum(layer.macs for layer in macs.count(net, (3, 224, 224))) == 4_089_184_256
    assert resnet50(classes=7).fc.out_features == 7


def test_ours_is_torchvisions_block_for_block():
    # The same blocks and widths: all weights of torchvision's stages, but for stem and classifier.
    def stages(named) -> list[tuple[int, ...]]:
        return [tuple(p.shape) for name, p in named if name.startswith(("layer", "stages"))]

    assert stages(cifar_resnet50().named_parameters()) == stages(resnet50().named_parameters())
    ours, theirs = Bottleneck(8, 2, 1).eval(), resnet50().layer1[1].eval()
    wide = Bottleneck(256, 64, 1).eval()
    wide.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 256, 5, 5)
    assert torch.allclose(wide(x), theirs(x), atol=1e-6)
    assert ours(torch.zeros(1, 8, 4, 4)).shape == (1, 8, 4, 4)


def test_stages_halve_the_side_and_double_the_channels():
    net = BottleneckResNet((1, 2, 1), 16)
    shapes = []
    x = net.pool(net.bn1(net.conv1(torch.zeros(2, 3, 32, 32))))
    for block in net.stages:
        x = block(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(64, 16, 16), (128, 8, 8), (128, 8, 8), (256, 4, 4)]
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
