"""A small VGG-type net for 32×32 images, the one in which sparse patterns and methods are compared."""

from __future__ import annotations

from torch import Tensor, nn


class SmallVGG(nn.Module):
    """3×3 convolutions with BatchNorm and ReLU, a few 2×2 max-pools, global average, a linear classifier.

    VGG19's kind (vgg.py) at a size that trains in a minute on one core: pools come early, so that most of the
    weights work at 8×8 and 4×4. All widths but the input are multiples of 16, as blocks and graphs want them.

    - widths: output channels of the convolutions.
    - pools: after which convolutions (from 0) a max-pool halves the side.
    - classes: outputs.

    Shapes: (N, 3, 32, 32) float32 → logits (N, classes). With the default widths and 10 classes 283,674
    parameters, 281,088 of them in the convolutions after the first.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (16, 32, 64, 64, 128, 128),
        pools: tuple[int, ...] = (0, 1, 3),
        classes: int = 10,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for i, outputs in enumerate(widths):
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            if i in pools:
                layers.append(nn.MaxPool2d(2))
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of normalised images."""
        logits: Tensor = self.classifier(self.features(x).mean(dim=(2, 3)))
        return logits
