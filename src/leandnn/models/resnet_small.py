"""A small residual net for CIFAR images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut (He et al. 2016, arXiv 1512.03385, figure 2).

    - in_channels, out_channels, stride: a 1×1 convolution adapts the shortcut where they change the shape.

    Shapes: (N, in_channels, H, W) → (N, out_channels, H/stride, W/stride).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Relu(norm(conv(relu(norm(conv(x))))) + shortcut(x))."""
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return F.relu(y + self.shortcut(x))


class SmallResNet(nn.Module):
    """An eight-layer residual net for 32×32 images that trains in about a minute a core on the CPU.

    A 3×3 stem at full resolution, a 2×2 max-pool, one basic block per width (the first at 16×16, each later
    one halves the side), global average, a linear classifier.

    - widths: channels of the blocks.
    - stem: channels of the first convolution.
    - classes: outputs.

    Shapes: (N, 3, 32, 32) float32 → logits (N, classes). With the default widths 304,154 parameters.
    """

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128), stem: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(stem)
        channels = (stem, *widths)
        self.blocks = nn.Sequential(
            *(BasicBlock(channels[i], channels[i + 1], 1 if i == 0 else 2) for i in range(len(widths)))
        )
        self.classifier = nn.Linear(widths[-1], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of normalised images."""
        y = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
        logits: Tensor = self.classifier(self.blocks(y).mean(dim=(2, 3)))
        return logits
