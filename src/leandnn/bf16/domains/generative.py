"""Image generation: a DC-GAN on CIFAR-10, judged in the features of our own classifier."""

from __future__ import annotations

from leandnn.bf16 import arms
from leandnn.data import cifar
from leandnn.models.generative import Adversaries, Discriminator, Generator
from leandnn.params import TrainBudget
from leandnn.studies.comparison import Comparison, Trial
from leandnn.tasks import image_judge
from leandnn.tasks.generation import Generation
from leandnn.train.task import Settings

LATENT = 64


def _players() -> Adversaries:
    return Adversaries(Generator(LATENT, width=32), Discriminator(width=24))


def _make(arm: str, seed: int, budget: TrainBudget, threads: int, device: str) -> Trial:
    task = Generation(
        _players,
        cifar.load("cifar10", "train", count=budget.train_examples),
        cifar.load("cifar10", "test", count=budget.test_examples),
        features=image_judge.load(),
        latent=LATENT,
        batch_size=16,
        seed=seed,
        device=device,
    )
    settings = Settings(
        epochs=budget.epochs,
        lr=3e-4,
        optimizer="adam",
        betas=(0.5, 0.999),
        schedule="linear",
        seed=seed,
        threads=threads,
        device=device,
    )
    return arms.trial(arm, task, settings)


COMPARISONS = {
    "generative": Comparison(
        "bf16",
        "generative",
        arms.PAIR,
        _make,
        data=("cifar10",),
        code=(
            *arms.CODE,
            "bf16/domains/generative.py",
            "data/cifar.py",
            "models/generative.py",
            "models/resnet_small.py",
            "tasks/image_judge.py",
            "tasks/image_metrics.py",
            "tasks/generation.py",
        ),
        inputs=("runs/features/cifar10/model.safetensors",),
    )
}
