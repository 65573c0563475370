"""Super-resolution: a net of SR-GAN's form on CIFAR-10, from 16×16 to 32×32."""

from __future__ import annotations

from leandnn.bf16 import arms
from leandnn.data import cifar
from leandnn.models.generative import Adversaries, Discriminator, SuperResolver
from leandnn.params import TrainBudget
from leandnn.studies.comparison import Comparison, Trial
from leandnn.tasks import image_judge
from leandnn.tasks.superresolution import SuperResolution
from leandnn.train.task import Settings


def _players() -> Adversaries:
    return Adversaries(SuperResolver(), Discriminator(width=16))


def _make(arm: str, seed: int, budget: TrainBudget, threads: int, device: str) -> Trial:
    task = SuperResolution(
        _players,
        cifar.load("cifar10", "train", count=budget.train_examples),
        cifar.load("cifar10", "test", count=budget.test_examples),
        features=image_judge.load(),
        content=0.01,
        adversarial=1e-4,
        batch_size=16,
        seed=seed,
        device=device,
    )
    settings = Settings(
        epochs=budget.epochs,
        lr=1e-3,
        optimizer="adam",
        betas=(0.5, 0.999),
        schedule="linear",
        seed=seed,
        threads=threads,
        device=device,
    )
    return arms.trial(arm, task, settings)


COMPARISONS = {
    "super_resolution": Comparison(
        "bf16",
        "super_resolution",
        arms.PAIR,
        _make,
        data=("cifar10",),
        code=(
            *arms.CODE,
            "bf16/domains/super_resolution.py",
            "data/cifar.py",
            "models/generative.py",
            "models/resnet_small.py",
            "tasks/image_judge.py",
            "tasks/image_metrics.py",
            "tasks/generation.py",
            "tasks/superresolution.py",
        ),
        inputs=("runs/features/cifar10/model.safetensors",),
    )
}
