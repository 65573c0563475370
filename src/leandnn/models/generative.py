"""Generative nets for 32×32 images: DC-GAN, SR-GAN's generator, and the pair of players that is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SPREAD = 0.02  # standard deviation of DC-GAN's first weights (Radford et al. 2016, section 4)
SLOPE = 0.2  # of every leaky ReLU, for negative values (likewise)


def start(net: nn.Module) -> None:
    """DC-GAN's first weights, in place: normal, with mean 0 (1 for a norm's scale) and standard deviation SPREAD."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, SPREAD)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, SPREAD)


class Generator(nn.Module):
    """DC-GAN's generator (Radford et al. 2016, arXiv 1511.06434, section 3 and figure 1) for 32×32 images.

    Transposed convolutions alone, from 1×1 by 4×4 and 8×8 and 16×16 to 32×32, each but the last followed by batch
    normalisation and ReLU, the last by tanh. Three times narrower than the paper's by default, and a layer shorter.

    - latent: numbers per noise vector.
    - width: channels at 16×16; twice and four times as many at 8×8 and 4×4.

    Shapes: noise float32 (N, latent) → images float32 (N, 3, 32, 32) in [-1, 1].
    """

    def __init__(self, latent: int = 64, width: int = 40) -> None:
        super().__init__()
        self.latent = latent
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(latent, 4 * width, 4, 1, 0, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.ReLU(inplace=True),
        ]
        for inputs, outputs in ((4 * width, 2 * width), (2 * width, width)):
            layers += [
                nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1))
        start(self)

    def forward(self, noise: Tensor) -> Tensor:
        """Images of a batch of noise vectors."""
        return torch.tanh(self.layers(noise[:, :, None, None]))


class Discriminator(nn.Module):
    """DC-GAN's discriminator (Radford et al. 2016, section 3): strided convolutions and leaky ReLU, no pooling.

    Batch normalisation in all but the first layer, as there. SR-GAN's (Ledig et al. 2017, figure 4) is of the same
    kind; it has a second convolution at each size, which is left out here.

    - width: channels at 16×16; twice and four times as many at 8×8 and 4×4.

    Shapes: images float32 (N, 3, 32, 32) → log-odds of being real float32 (N,).
    """

    def __init__(self, width: int = 40) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(SLOPE, inplace=True)]
        for inputs, outputs in ((width, 2 * width), (2 * width, 4 * width)):
            layers += [
                nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(SLOPE, inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 4))
        start(self)

    def forward(self, images: Tensor) -> Tensor:
        """Log-odds of a batch of images."""
        odds: Tensor = self.layers(images)
        return odds.flatten()


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with batch normalisation around a sum (Ledig et al. 2017, figure 4).

    Shapes: (N, channels, H, W) → the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.slope = nn.Parameter(torch.full((channels,), 0.25))
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """x + norm(conv(prelu(norm(conv(x)))))."""
        y: Tensor = self.norm2(self.conv2(F.prelu(self.norm1(self.conv1(x)), self.slope)))
        return x + y


class SuperResolver(nn.Module):
    """SR-GAN's generator (Ledig et al. 2017, arXiv 1609.04802, figure 4), doubling the side of an image once.

    A convolution, residual blocks at the low resolution with a long sum around them, a sub-pixel convolution (pixel
    shuffle), a convolution to colours. The paper's has 16 blocks of 64 channels, 9×9 kernels at both ends and two
    shuffles, for a factor of four. Unlike there, the net makes what is to be added to bicubic interpolation, and
    nothing at first (as in Kim et al. 2016, arXiv 1511.04587, section 3.1): so a minute's training is enough.

    - channels, blocks: of the residual part.

    Shapes: images float32 (N, 3, H, W) in [-1, 1] → float32 (N, 3, 2H, 2W), about [-1, 1].
    """

    def __init__(self, channels: int = 24, blocks: int = 3) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, channels, 5, padding=2)
        self.slope = nn.Parameter(torch.full((channels,), 0.25))
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.join = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.widen = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.wide_slope = nn.Parameter(torch.full((channels,), 0.25))
        self.leave = nn.Conv2d(channels, 3, 5, padding=2)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Images of twice the side."""
        x = F.prelu(self.enter(images), self.slope)
        y = x + self.norm(self.join(self.blocks(x)))
        y = F.prelu(F.pixel_shuffle(self.widen(y), 2), self.wide_slope)
        smooth = F.interpolate(images, scale_factor=2.0, mode="bicubic")
        added: Tensor = self.leave(y)
        return smooth + added


class Verdicts(NamedTuple):
    """What one round between the players gives: the images made, and the discriminator's log-odds (N,).

    - made: images float32 (N, 3, H, W).
    - on_real: of real images.
    - on_made: of the images made, with no way back to the generator: for the discriminator's loss.
    - through: of the same images, with no way into the discriminator's weights: for the generator's loss.
    """

    made: Tensor
    on_real: Tensor
    on_made: Tensor
    through: Tensor


class Adversaries(nn.Module):
    """A generator and a discriminator as one model, for one optimizer and one backward pass.

    Of the sum L_D + L_G, with L_D computed from `on_real` and `on_made` and L_G from `made` and `through`, no path
    leads from L_D to the generator (its images are detached there), and none from L_G to the discriminator's
    weights (they are constants there). The two share no weight. So the gradient of the sum is the generator's
    gradient of L_G beside the discriminator's gradient of L_D, exactly: no number of one is ever added to one of
    the other, and a backward pass through the sum gives the bits of two separate ones. That is simultaneous
    gradient descent (both players move at once), where Goodfellow et al. (2014, algorithm 1) take turns.

    - generator: source → images, e.g. Generator or SuperResolver.
    - discriminator: images → log-odds (N,).

    `score` (float64: rounds, sum of L_D, sum of L_G since it was read) belongs to the task that trains the model; as
    a buffer it is in every checkpoint.
    """

    score: Tensor

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.register_buffer("score", torch.zeros(3, dtype=torch.float64))

    def forward(self, source: Tensor, real: Tensor) -> Verdicts:
        """One round.

        - source: what the generator gets, e.g. noise.
        - real: images float32 (N, 3, H, W), as the generator's.
        """
        made = self.generator(source)
        on_real, on_made = self.discriminator(real), self.discriminator(made.detach())
        with constant(self.discriminator):
            through = self.discriminator(made)
        return Verdicts(made, on_real, on_made, through)


@contextmanager
def constant(net: nn.Module) -> Iterator[None]:
    """Treat the weights of `net` as constants in the forward passes of the block; afterwards all is as before."""
    learned = [weight for weight in net.parameters() if weight.requires_grad]
    try:
        for weight in learned:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in learned:
            weight.requires_grad_(True)
