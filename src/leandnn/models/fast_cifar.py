"""The net of the fast CIFAR-10 recipes ("airbench"), in which claims are judged near convergence."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Widths = tuple[int, int, int]

SIDE = 2  # of the whitening patches
LOGIT_SCALE = 1 / 9


class Group(nn.Module):
    """3×3 convolution, 2×2 max-pool, norm, GELU; 3×3 convolution, norm, GELU.

    The norms shift and do not scale; their running averages follow fast (momentum 0.6 in the terms of the
    source, torch's 0.4). Convolutions have no bias.

    Shapes: (N, inputs, H, W) → (N, outputs, H // 2, W // 2).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs, momentum=0.4)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs, momentum=0.4)
        for norm in (self.norm1, self.norm2):
            norm.weight.requires_grad_(False)
        for conv in (self.conv1, self.conv2):
            nn.init.dirac_(conv.weight.data[: conv.in_channels])

    def forward(self, x: Tensor) -> Tensor:
        """The group's features."""
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


class FastCifar(nn.Module):
    """A frozen whitening convolution, three groups, a max-pool over what is left, a linear classifier.

    As many filters of a convolution as it has inputs start as the identity, so that the net passes its images
    on from the first step; masks break that (see he_start).

    - filters: (2·C·2·2, C, 2, 2), see `whitening`; they stay as they are. Their bias trains.
    - widths: output channels of the groups; classes: outputs.

    Shapes: (N, 3, 32, 32) float32 → logits (N, classes). With widths (64, 128, 128) 568,728 trained numbers
    and 54.2 million multiply-adds an image.

    Source: Jordan 2024, 94% on CIFAR-10 in 3.29 seconds on a single GPU (arXiv 2404.00498), section 3.
    """

    def __init__(self, filters: Tensor, widths: Widths = (64, 128, 128), classes: int = 10) -> None:
        super().__init__()
        outputs, inputs, _, _ = filters.shape
        self.whiten = nn.Conv2d(inputs, outputs, SIDE)
        self.whiten.weight.requires_grad_(False).copy_(filters)
        assert self.whiten.bias is not None
        nn.init.zeros_(self.whiten.bias)
        channels = (outputs, *widths)
        self.groups = nn.Sequential(*map(Group, channels[:-1], channels[1:]))
        self.classifier = nn.Linear(widths[-1], classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of normalised images."""
        x = F.max_pool2d(self.groups(F.gelu(self.whiten(x))), 3).flatten(1)
        logits: Tensor = self.classifier(x) * LOGIT_SCALE
        return logits


def whitening(images: Tensor, eps: float = 5e-4) -> Tensor:
    """Filters that make the 2×2 patches of images uncorrelated, each with a copy of the other sign.

    Eigenvectors of the patches' second moments, largest eigenvalue first, divided by √(eigenvalue + eps); of
    each the largest component is positive, since an eigenvector's own sign is nobody's choice.

    Shapes: normalised (N, C, H, W) → (2·C·2·2, C, 2, 2), float32.
    """
    channels = images.shape[1]
    size = channels * SIDE**2
    moments, count = torch.zeros(size, size, dtype=torch.float64), 0
    for part in images.split(100):  # patches are as large as four times the images
        patches = F.unfold(part.double(), SIDE).transpose(1, 2).reshape(-1, size)
        moments += patches.T @ patches
        count += len(patches)
    values, vectors = torch.linalg.eigh(moments / count)
    vectors = vectors.T.flip(0)
    signs = vectors.gather(1, vectors.abs().argmax(1, keepdim=True)).sign()
    scaled = (signs * vectors / (values.flip(0)[:, None] + eps).sqrt()).float()
    return torch.cat([scaled, -scaled]).view(-1, channels, SIDE, SIDE)


@torch.no_grad()
def he_start(model: nn.Module, densities: Mapping[str, float]) -> nn.Module:
    """Give layers that a mask will thin out He's initial weights in place of the identity; returns the model.

    A mask removes most of the identity's ones, and with them whole channels: such a net stays at guessing.

    - densities: name of a convolution or linear layer → share of its weights that the mask keeps. The weights are
      scaled by 1/√density, so that the thinned layer puts out the variance of the dense one.

    Source: He et al. 2015 (arXiv 1502.01852). Raises AttributeError for a layer that the model does not have.
    """
    for name, density in densities.items():
        weight = model.get_submodule(name).get_parameter("weight")
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
        weight.mul_(density**-0.5)
    return model
