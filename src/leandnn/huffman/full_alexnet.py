"""AlexNet at full size, to measure size and speed on: 224 × 224 images, 1000 classes, structured weights.

The net has the layers, names and shapes of torchvision's `alexnet` (Krizhevsky, arXiv 1404.5997), so that a checkpoint
of that format can be loaded into it. No trained weights come with this package; these are structured weights:
numbers of Student's t distribution, times an importance of their row and one of their column, each log-normal. Pruned
by magnitude, rows and columns then keep unequal numbers of weights, and what is kept has a long tail, as in
trained nets. Accuracy is measured elsewhere, on a net that was trained.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from leandnn.huffman.compress import prune_layers, share_layers
from leandnn.huffman.prune import layers

IMAGE = (3, 224, 224)
CLASSES = 1000

# Of the kind that Deep Compression reports for AlexNet (arXiv 1510.00149); of its numbers only the whole is verified.
DENSITIES = {
    "features.0": 0.84,
    "features.3": 0.38,
    "features.6": 0.35,
    "features.8": 0.37,
    "features.10": 0.37,
    "classifier.1": 0.09,
    "classifier.4": 0.09,
    "classifier.6": 0.25,
}
BITS = {name: 8 if name.startswith("features") else 5 for name in DENSITIES}
# The linear layers by their names in papers.
FC = {"fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"}
# Standard deviation of the logarithm of an importance. Of fc6's 4096 rows, of 829 weights on average, the
# fullest then keeps about twice as many.
SPREAD = 0.11
# Degrees of freedom: with 7 the entropy of the shared weights is within half a bit of the same table's in every
# layer (normal numbers: up to 1.1 bits above it).
TAIL = 7
_BLOCK = 1 << 20  # numbers made at a time


class AlexNet(nn.Module):
    """(N, 3, 224, 224) float32 → logits (N, 1000); 61,100,840 parameters.

    - shrink: divides the numbers of channels and hidden features, for a first look in seconds; up to 64.
    """

    def __init__(self, shrink: int = 1) -> None:
        super().__init__()
        self.shrink = shrink
        a, b, c, d, e, hidden = (n // shrink for n in (64, 192, 384, 256, 256, 4096))
        self.features = nn.Sequential(
            *(nn.Conv2d(3, a, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(a, b, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(b, c, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(c, d, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(d, e, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            *(nn.Dropout(), nn.Linear(e * 6 * 6, hidden), nn.ReLU(inplace=True)),
            *(nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(inplace=True)),
            nn.Linear(hidden, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of normalised images."""
        logits: Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return logits


def structured(seed: int = 0, shrink: int = 1) -> AlexNet:
    """AlexNet in eval mode with structured weights; the same for the same arguments.

    Weights have about the scale of He's initialisation; biases are normal with a standard deviation of 0.01.
    """
    with torch.device("meta"):
        net = AlexNet(shrink)  # its own initialisation would take as long as ours
    net = net.to_empty(device="cpu").eval().requires_grad_(False)
    random = np.random.default_rng(seed)
    for layer in layers(net).values():
        flat = layer.weight.flatten(1).numpy()  # the same memory
        rows, columns = (np.exp(SPREAD * random.standard_normal(side, np.float32)) for side in flat.shape)
        scale = math.sqrt(2 / flat.shape[1] * (TAIL - 2) / TAIL)
        step = max(1, _BLOCK // flat.shape[1])
        for begin in range(0, flat.shape[0], step):
            block = flat[begin : begin + step]
            random.standard_normal(dtype=np.float32, out=block)
            block /= np.sqrt(random.standard_gamma(TAIL / 2, block.shape, np.float32) * np.float32(2 / TAIL))
            block *= scale * rows[begin : begin + step, None] * columns
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(random.normal(0.0, 0.01, len(flat)).astype(np.float32)))
    return net


def shared(seed: int = 0, shrink: int = 1) -> AlexNet:
    """That net pruned to DENSITIES and shared to BITS, without retraining: ready for compress.encode."""
    net = structured(seed, shrink)
    prune_layers(net, density=DENSITIES)
    share_layers(net, BITS)
    return net
