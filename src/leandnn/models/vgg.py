"""VGG19 for 32×32 images."""

from __future__ import annotations

import itertools

from torch import Tensor, nn


class VGG19(nn.Module):
    """Sixteen 3×3 convolutions with BatchNorm and ReLU, five 2×2 max-pools, a linear classifier.

    The CIFAR form of Simonyan and Zisserman's net E (arXiv 1409.1556), in which RBGP (arXiv 2006.13486)
    measures: the three wide linear layers are one, and every convolution has a BatchNorm.

    - stages: channels and number of convolutions between two max-pools, which halve the side.
    - classes: outputs.

    Shapes: (N, 3, 32, 32) float32 → logits (N, classes). With the default stages and 10 classes 20,035,018
    parameters.
    """

    def __init__(
        self,
        stages: tuple[tuple[int, int], ...] = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)),
        classes: int = 10,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for channels, count in stages:
            widths = [inputs, *[channels] * count]
            for before, after in itertools.pairwise(widths):
                layers += [
                    nn.Conv2d(before, after, 3, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(inplace=True),
                ]
            layers.append(nn.MaxPool2d(2))
            inputs = channels
        self.features = nn.Sequential(*layers)
        side = 32 >> len(stages)
        self.classifier = nn.Linear(inputs * side * side, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of normalised images."""
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits
