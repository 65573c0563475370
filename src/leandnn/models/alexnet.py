"""AlexNet for 32×32 images."""

from __future__ import annotations

from torch import Tensor, nn


class SmallAlexNet(nn.Module):
    """A net of AlexNet's form (Krizhevsky et al. 2012) that trains in about a minute on one core.

    Kept from AlexNet: five convolutions, the first two with 5×5 windows, overlapping 3×3 max-pools of stride 2
    behind the first, second and fifth, two hidden linear layers with dropout before each, ReLU throughout, biases,
    and no normalisation by batch. Left out: its two local response normalisations and its split over two GPUs.

    - channels: of the five convolutions.
    - hidden: width of the two hidden linear layers.
    - dropout: share of a linear layer's inputs that is zeroed in training; AlexNet's 0.5 is for many more epochs.
    - classes: outputs.

    Shapes: (N, 3, 32, 32) float32 → logits (N, classes). With the defaults 452,794 parameters.
    """

    def __init__(
        self,
        channels: tuple[int, int, int, int, int] = (16, 48, 64, 64, 64),
        hidden: int = 256,
        *,
        dropout: float = 0.1,
        classes: int = 10,
    ) -> None:
        super().__init__()
        a, b, c, d, e = channels
        self.features = nn.Sequential(
            *(nn.Conv2d(3, a, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1)),
            *(nn.Conv2d(a, b, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1)),
            *(nn.Conv2d(b, c, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(c, d, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(d, e, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1)),
        )
        self.classifier = nn.Sequential(
            *(nn.Dropout(dropout), nn.Linear(e * 4 * 4, hidden), nn.ReLU(inplace=True)),
            *(nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU(inplace=True)),
            nn.Linear(hidden, classes),
        )
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            else:
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of normalised images."""
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits
