"""Image generation: a DC-GAN on CIFAR-10, judged in the features of our own classifier."""

from __future__ import annotations

from leandnn.bf16 import arms
from leandnn.bf16.arms import Arm
from leandnn.data import cifar
from leandnn.models.generative import Adversaries, Discriminator, Generator
from leandnn.params import Budget
from leandnn.studies.comparison import Comparison, Scale, Trial, by_name
from leandnn.tasks import image_judge
from leandnn.tasks.generation import Generation
from leandnn.train.task import Settings

LATENT = 64


def _players() -> Adversaries:
    return Adversaries(Generator(LATENT, width=32), Discriminator(width=24))


def _make(arm: Arm, budget: Budget, scale: Scale) -> Trial:
    task = Generation(
        _players,
        cifar.load("cifar10", "train", count=budget.train_examples),
        cifar.load("cifar10", "test", count=budget.test_examples),
        features=image_judge.load(),
        latent=LATENT,
        batch_size=16,
        seed=scale.seed,
        device=scale.device,
    )
    settings = Settings(
        epochs=budget.epochs,
        lr=3e-4,
        optimizer="adam",
        betas=(0.5, 0.999),
        schedule="linear",
        seed=scale.seed,
        threads=scale.threads,
        device=scale.device,
    )
    return arms.trial(arm, task, settings)


COMPARISONS = by_name(
    Comparison("bf16", "generative", arms.all_of(_make, arms.PAIR), inputs=(image_judge.INPUT,))
)
