"""MobileNetV1: depthwise-separable convolutions."""

from __future__ import annotations

from torch import Tensor, nn

# (output channels at width 1, stride) of each depthwise-separable block: Howard et al. 2017, table 1.
BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


class MobileNetV1(nn.Module):
    """Thirteen blocks of a depthwise 3×3 and a 1×1 convolution (Howard et al. 2017, arXiv 1704.04861, table 1).

    - classes: outputs.
    - width: multiplies all channels (rounded to multiples of 8).
    - strides: of the stem and of the blocks that halve the side; how often each halves it from the first on. With
      small images the first ones are 1, so that the last blocks still see 4×4.
    - blocks: output channels at width 1, and strides, of the blocks.

    Shapes: (N, 3, H, W) float32 → logits (N, classes).
    """

    def __init__(
        self,
        classes: int = 1000,
        *,
        width: float = 1.0,
        stem_stride: int = 2,
        blocks: tuple[tuple[int, int], ...] = BLOCKS,
    ) -> None:
        super().__init__()

        def scaled(channels: int) -> int:
            return max(8, round(channels * width / 8) * 8)

        channels = scaled(32)
        layers = _normed(nn.Conv2d(3, channels, 3, stem_stride, padding=1, bias=False))
        for base, stride in blocks:
            outputs = scaled(base)
            depthwise = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
            layers += _normed(depthwise) + _normed(nn.Conv2d(channels, outputs, 1, bias=False))
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of normalised images."""
        logits: Tensor = self.classifier(self.features(x).mean(dim=(2, 3)))
        return logits


def _normed(convolution: nn.Conv2d) -> list[nn.Module]:
    """A convolution with BatchNorm and ReLU."""
    return [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True)]


def mobilenet_v1(classes: int = 1000, *, width: float = 1.0) -> MobileNetV1:
    """The net for 224×224 images: 569 M multiply-adds and 4.2 M parameters at width 1 and 1000 classes."""
    return MobileNetV1(classes, width=width)


def small_mobilenet(classes: int = 10, *, width: float = 0.5) -> MobileNetV1:
    """For 32×32 images: a stem of stride 1 and the four halvings of the blocks, of which the last is left out.

    The blocks see 32, 16, 8 and 4 pixels a side; four of the five blocks of 512 channels are left out too, so
    that it trains in minutes on one core.
    """
    blocks = ((64, 2), (128, 1), (128, 2), (256, 1), (256, 2), (512, 1), (512, 1))
    return MobileNetV1(classes, width=width, stem_stride=1, blocks=blocks)
