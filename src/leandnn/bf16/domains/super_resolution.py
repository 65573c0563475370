"""Super-resolution: a net of SR-GAN's form on CIFAR-10, from 16×16 to 32×32."""

from __future__ import annotations

from leandnn.bf16 import arms
from leandnn.bf16.arms import Arm
from leandnn.data import cifar
from leandnn.models.generative import Adversaries, Discriminator, SuperResolver
from leandnn.params import Budget
from leandnn.studies.comparison import Comparison, Scale, Trial, by_name
from leandnn.tasks import image_judge
from leandnn.tasks.superresolution import SuperResolution
from leandnn.train.task import Settings


def _players() -> Adversaries:
    return Adversaries(SuperResolver(), Discriminator(width=16))


def _make(arm: Arm, budget: Budget, scale: Scale) -> Trial:
    task = SuperResolution(
        _players,
        cifar.load("cifar10", "train", count=budget.train_examples),
        cifar.load("cifar10", "test", count=budget.test_examples),
        features=image_judge.load(),
        content=0.01,
        adversarial=1e-4,
        batch_size=16,
        seed=scale.seed,
        device=scale.device,
    )
    settings = Settings(
        epochs=budget.epochs,
        lr=1e-3,
        optimizer="adam",
        betas=(0.5, 0.999),
        schedule="linear",
        seed=scale.seed,
        threads=scale.threads,
        device=scale.device,
    )
    return arms.trial(arm, task, settings)


COMPARISONS = by_name(
    Comparison("bf16", "super_resolution", arms.all_of(_make, arms.PAIR), inputs=(image_judge.INPUT,))
)
