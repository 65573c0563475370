"""Residual nets of bottleneck blocks: ResNet50 for ImageNet (torchvision's), and the same kind for 32×32 images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.machine import libraries

EXPANSION = 4  # a block's outputs over its inner channels


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions around a shortcut (He et al. 2016, arXiv 1512.03385, figure 5).

    - in_channels, channels (inner), stride (of the 3×3 convolution, as torchvision has it).

    Shapes: (N, in_channels, H, W) → (N, 4 · channels, H/stride, W/stride).
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = EXPANSION * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Relu of the three convolutions plus the shortcut."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class BottleneckResNet(nn.Module):
    """A bottleneck ResNet for 32×32 images: a 3×3 stem without pooling, stages that halve the side, a classifier.

    - blocks: per stage; (3, 4, 6, 3) with width 64 is ResNet50.
    - width: inner channels of the first stage; they double from stage to stage.
    - pool: a 2×2 max-pool after the stem, for the small studies.
    - classes: outputs.

    Shapes: (N, 3, 32, 32) float32 → logits (N, classes).
    """

    def __init__(
        self,
        blocks: tuple[int, ...] = (1, 1, 1),
        width: int = 16,
        *,
        pool: bool = True,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool: nn.Module = nn.MaxPool2d(2) if pool else nn.Identity()
        stages: list[nn.Module] = []
        inputs, channels = width, width
        for i, count in enumerate(blocks):
            for j in range(count):
                stages.append(Bottleneck(inputs, channels, 2 if i > 0 and j == 0 else 1))
                inputs = EXPANSION * channels
            channels *= 2
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of normalised images."""
        y = self.pool(F.relu(self.bn1(self.conv1(x))))
        logits: Tensor = self.fc(self.stages(y).mean(dim=(2, 3)))
        return logits


def resnet50(classes: int = 1000) -> nn.Module:
    """Torchvision's ResNet50 for 224×224 images, random weights: 4.09 G multiply-adds, 25.6 M parameters."""
    libraries.torchvision_operators()
    import torchvision

    net: nn.Module = torchvision.models.resnet50(num_classes=classes)
    return net


def cifar_resnet50(classes: int = 10) -> BottleneckResNet:
    """ResNet50's blocks and widths behind a 3×3 stem, for 32×32 images on a GPU."""
    return BottleneckResNet((3, 4, 6, 3), 64, pool=False, classes=classes)
