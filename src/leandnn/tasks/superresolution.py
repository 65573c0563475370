"""Super-resolution as a `Task`: SR-GAN's losses, judged by PSNR and SSIM."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.data import cifar
from leandnn.data.image_batches import Batches
from leandnn.models.generative import Adversaries
from leandnn.tasks.generation import HALF, keep_score, players_losses, read_score
from leandnn.tasks.image_judge import ImageFeatures
from leandnn.tasks.image_metrics import plain_fp32, psnr, ssim

_PART = 500  # images at a time in evaluation


def shrink(images: Tensor) -> Tensor:
    """Images of half the side: bicubic with antialiasing, then rounded to 8 bits, as a file would hold them.

    - images: float32 (N, 3, H, W) in [-1, 1]; so is the result, (N, 3, H/2, W/2).
    """
    small = F.interpolate(images, scale_factor=0.5, mode="bicubic", antialias=True)
    return ((small + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


def bicubic(images: Tensor) -> Tensor:
    """Images of twice the side by bicubic interpolation: what a net has to beat. Shapes as in `shrink`."""
    return F.interpolate(images, scale_factor=2.0, mode="bicubic").clamp(-1, 1)


class SuperResolution:
    """SR-GAN (Ledig et al. 2017, arXiv 1609.04802, section 2.2): from 16×16 to 32×32 on CIFAR images.

    The generator's loss is that of the pixels, plus that of the content, plus a little of the adversarial one; the
    paper's content loss is taken in features of VGG-19, ours in the first block's feature maps of `features`, and
    it replaces the pixel loss there.

    - build_model: makes the players, whose generator doubles the side of images in [-1, 1] (torch is seeded by the
      loop).
    - train, test: images in memory; see cifar.load and cifar.synthetic. Labels are not looked at.
    - features: see features.load; it runs in the arm's arithmetic, being a part of the loss.
    - content, adversarial: weights of these two terms; that of the pixels' mean squared error is 1.
    - batch_size, seed, device: of the training batches.

    Metrics over the test images, on all three channels clipped to [0, 1], in FP32 whatever arithmetic the generator
    runs in: test_psnr (dB), test_ssim, and, the same for every run, test_bicubic_psnr. Both players' mean training
    losses stand beside.
    """

    def __init__(
        self,
        build_model: Callable[[], Adversaries],
        train: cifar.Images,
        test: cifar.Images,
        *,
        features: ImageFeatures,
        content: float,
        adversarial: float,
        batch_size: int,
        seed: int,
        device: str,
    ) -> None:
        def batches(images: cifar.Images, size: int) -> Batches:
            return Batches(images, size, augment=None, mean=HALF, std=HALF, seed=seed, device=device)

        self.build_model = build_model
        self.train_batches = batches(train, batch_size)
        self.test_batches = batches(test, 1)
        self.features = features.to(device)
        self.content, self.adversarial, self.device = content, adversarial, torch.device(device)

    def build(self) -> nn.Module:
        """New players."""
        return self.build_model()

    def steps_per_epoch(self) -> int:
        """Whole batches in the training images."""
        return len(self.train_batches)

    def batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(small float32 (B, 3, 16, 16), images float32 (B, 3, 32, 32)) in [-1, 1], from batch `start` on."""
        return ((shrink(images), images) for images, _ in self.train_batches.epoch(epoch, start))

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """L_D + L_G of one round; L_G is the sum of the three terms."""
        assert isinstance(model, Adversaries)
        small, images = batch
        verdicts = model(small, images)
        discriminator, adversarial = players_losses(verdicts)
        made = verdicts.made.float()
        with torch.no_grad():
            target = self.features.maps((images + 1) / 2)
        seen = self.features.maps((made + 1) / 2)
        generator = (
            F.mse_loss(made, images)
            + self.content * F.mse_loss(seen.float(), target.float())
            + self.adversarial * adversarial
        )
        keep_score(model, discriminator, generator)
        return discriminator + generator

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """PSNR and SSIM over the test images."""
        assert isinstance(model, Adversaries)
        smalls = shrink(self.truth * 2 - 1)
        made = torch.cat([model.generator(part).float() for part in smalls.split(_PART)])
        score = read_score(model)
        if not bool(torch.isfinite(made).all()):  # the loop names the metric that is not finite
            return {**score, "test_psnr": math.nan}
        return {**score, **self.judge(made)}

    def judge(self, images: Tensor) -> dict[str, float]:
        """The metrics of images that stand for the test images: float32 (N, 3, 32, 32), clipped to [-1, 1]."""
        with torch.no_grad(), plain_fp32(self.device):
            found = ((images + 1) / 2).clamp(0, 1)
            return {
                "test_psnr": psnr(found, self.truth),
                "test_ssim": ssim(found, self.truth),
                "test_bicubic_psnr": self.bicubic_psnr,
            }

    @functools.cached_property
    def truth(self) -> Tensor:
        """The test images, float32 (N, 3, 32, 32) in [0, 1]."""
        return torch.cat([(part + 1) / 2 for part, _ in self.test_batches.evaluation(_PART)])

    @functools.cached_property
    def bicubic_psnr(self) -> float:
        """PSNR of bicubic interpolation, dB."""
        return psnr((bicubic(shrink(self.truth * 2 - 1)) + 1) / 2, self.truth)

    def worst(self) -> dict[str, float]:
        """Those of images that are all grey."""
        return self.judge(torch.zeros_like(self.truth))
