"""Wide residual networks for 32×32 images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class WideBlock(nn.Module):
    """BatchNorm, ReLU, 3×3 convolution, twice, around a shortcut ("basic" block, B(3,3)).

    - in_channels, out_channels, stride: where they change the shape, a 1×1 convolution of the activated input is the
      shortcut.

    Shapes: (N, in_channels, H, W) → (N, out_channels, H/stride, W/stride).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Conv(relu(norm(conv(relu(norm(x)))))) + x, or + shortcut(relu(norm(x)))."""
        active = F.relu(self.norm1(x))
        y: Tensor = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return y + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """WRN-depth-widen of Zagoruyko and Komodakis (arXiv 1605.07146, table 1), without dropout.

    A 3×3 convolution to 16 channels, three groups of (depth − 4)/6 blocks with 16, 32 and 64 times `widen`
    channels at sides 32, 16 and 8, global average, a linear classifier.

    - depth: 6·n + 4; widen: the factor k.
    - classes: outputs.

    Shapes: (N, 3, 32, 32) float32 → logits (N, classes). WRN-40-4 with 10 classes has 8,949,210 parameters
    (8.9 M in the paper's table).

    Raises ValueError for another depth.
    """

    def __init__(self, depth: int = 40, widen: int = 4, classes: int = 10) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth is {depth}, expected 6·n + 4 with n ≥ 1")
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        blocks, channels = [], 16
        for group, width in enumerate((16 * widen, 32 * widen, 64 * widen)):
            for number in range((depth - 4) // 6):
                blocks.append(WideBlock(channels, width, 2 if group and number == 0 else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(channels)
        self.classifier = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of normalised images."""
        y = F.relu(self.norm(self.blocks(self.conv(x))))
        logits: Tensor = self.classifier(y.mean(dim=(2, 3)))
        return logits
