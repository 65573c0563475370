"""Image generation as a `Task`: two players in one model, judged in the features of our own classifier."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.data import cifar
from leandnn.data.image_batches import Batches
from leandnn.data.prepared import SIDE
from leandnn.errors import LeandnnError
from leandnn.models.generative import Adversaries, Verdicts
from leandnn.tasks.image_judge import ImageFeatures
from leandnn.tasks.image_metrics import Gaussian, frechet_distance, inception_style_score, plain_fp32

HALF: cifar.Triple = (0.5, 0.5, 0.5)  # mean and scale that bring pixels to [-1, 1]
_PART = 500  # images at a time in evaluation
_TRAINING, _EVALUATION = 0, 1  # what noise is drawn for


def noise(count: int, latent: int, seed: int, *place: int) -> Tensor:
    """Standard normal float32 (count, latent) on the CPU that depends on the arguments alone."""
    mixed = np.random.SeedSequence(seed, spawn_key=place).generate_state(1, np.uint64)
    return torch.randn(count, latent, generator=torch.Generator().manual_seed(int(mixed[0])))


def players_losses(verdicts: Verdicts) -> tuple[Tensor, Tensor]:
    """The discriminator's loss and the generator's, in nats, scalars computed in FP32.

    L_D is the mean of -log D(real) plus that of -log(1 - D(made)); L_G that of -log D(made), the form that does not
    saturate (Goodfellow et al. 2014, arXiv 1406.2661, section 3).
    """
    real, made, through = verdicts.on_real.float(), verdicts.on_made.float(), verdicts.through.float()
    return F.softplus(-real).mean() + F.softplus(made).mean(), F.softplus(-through).mean()


def keep_score(players: Adversaries, discriminator: Tensor, generator: Tensor) -> None:
    """Add one round's losses to the players' score."""
    losses = torch.stack((discriminator.detach(), generator.detach())).double()
    players.score += torch.cat((losses.new_ones(1), losses))


def read_score(players: Adversaries) -> dict[str, float]:
    """Both players' mean training losses since the last reading, for the history; the score starts afresh."""
    rounds, discriminator, generator = players.score.tolist()
    players.score.zero_()
    if not rounds:
        return {}
    return {"discriminator_loss": discriminator / rounds, "generator_loss": generator / rounds}


class Generation:
    """DC-GAN on images, in simultaneous gradient descent (see models.generative.Adversaries).

    - build_model: makes the players, whose generator turns noise (N, latent) into images in [-1, 1] (torch is seeded
      by the loop).
    - train, test: images in memory; see cifar.load and cifar.synthetic. Labels are not looked at.
    - features: see features.load; it is the same for every arm.
    - latent, batch_size, seed, device: of the training batches.

    Metrics: test_frechet_distance between as many made images as there are test images and those, in pooled
    features; test_inception_style_score of the made ones; both are those of `features`, no Inception net's, and
    computed in FP32 whatever arithmetic the generator runs in. Both players' mean training losses stand beside.
    """

    def __init__(
        self,
        build_model: Callable[[], Adversaries],
        train: cifar.Images,
        test: cifar.Images,
        *,
        features: ImageFeatures,
        latent: int,
        batch_size: int,
        seed: int,
        device: str,
    ) -> None:
        if len(test) < 2:
            raise LeandnnError(f"there are {len(test)} test images, expected at least 2 for a distance")

        def batches(images: cifar.Images, size: int) -> Batches:
            return Batches(images, size, augment=None, mean=HALF, std=HALF, seed=seed, device=device)

        self.build_model = build_model
        self.train_batches = batches(train, batch_size)
        self.test_batches = batches(test, 1)
        self.features = features.to(device)
        self.latent, self.batch_size, self.seed = latent, batch_size, seed
        self.device, self.test_count = torch.device(device), len(test)

    def build(self) -> nn.Module:
        """New players."""
        return self.build_model()

    def steps_per_epoch(self) -> int:
        """Whole batches in the training images."""
        return len(self.train_batches)

    def batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(noise float32 (B, latent), images float32 (B, 3, 32, 32) in [-1, 1]) of an epoch from batch `start` on."""
        for step, (images, _) in enumerate(self.train_batches.epoch(epoch, start), start):
            source = noise(len(images), self.latent, self.seed, _TRAINING, epoch, step)
            yield source.to(self.device), images

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """L_D + L_G of one round, in nats."""
        assert isinstance(model, Adversaries)
        discriminator, generator = players_losses(model(*batch))
        keep_score(model, discriminator, generator)
        return discriminator + generator

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Distance and score of images from noise that is the same at every evaluation."""
        assert isinstance(model, Adversaries)
        source = noise(self.test_count, self.latent, self.seed, _EVALUATION).to(self.device)
        made = torch.cat([model.generator(part).float() for part in source.split(_PART)])
        score = read_score(model)
        if not bool(torch.isfinite(made).all()):  # the loop names the metric that is not finite
            return {**score, "test_frechet_distance": math.nan}
        return {**score, **self.judge((made + 1) / 2)}

    def judge(self, images: Tensor) -> dict[str, float]:
        """The metrics of images in [0, 1], float32 (N, 3, 32, 32) on the task's device."""
        with torch.no_grad(), plain_fp32(self.device):
            seen = [self.features(part) for part in images.split(_PART)]
        pooled, logits = (torch.cat(parts) for parts in zip(*seen, strict=True))
        return {
            "test_frechet_distance": frechet_distance(Gaussian.of(pooled), self.truth),
            "test_inception_style_score": inception_style_score(logits),
        }

    @functools.cached_property
    def truth(self) -> Gaussian:
        """The test images' features."""
        with torch.no_grad(), plain_fp32(self.device):
            seen = [self.features((part + 1) / 2)[0] for part, _ in self.test_batches.evaluation(_PART)]
        return Gaussian.of(torch.cat(seen))

    def worst(self) -> dict[str, float]:
        """Those of a generator that makes one image alone, all grey."""
        return self.judge(torch.full((2, 3, SIDE, SIDE), 0.5, device=self.device))
