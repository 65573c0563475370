"""What is run for paper 5: a net of AlexNet's form, trained, pruned, its weights shared, and Huffman-coded."""

from __future__ import annotations

import functools

from leandnn.data import cifar
from leandnn.huffman.stages import Phase, Recipe, Stages
from leandnn.models.alexnet import SmallAlexNet
from leandnn.params import Budget
from leandnn.studies.comparison import Comparison, Make, Scale, Trial, by_name
from leandnn.tasks.classification import Classification
from leandnn.train.task import Settings

BATCH = 128
# Linear layers hold 95 % of the weights, as in AlexNet (96 %).
CHANNELS, HIDDEN = (16, 32, 64, 64, 64), 1024
CONVOLUTIONS = tuple(f"features.{number}" for number in (0, 3, 6, 8, 10))
LINEAR = tuple(f"classifier.{number}" for number in (1, 4, 6))
# Linear layers as in Deep Compression (9 %). Convolutions hold 5 % of the weights: in a pilot, pruning them as far as
# there (38 %) cost more accuracy than it saved bytes.
DENSITY = {
    **dict(zip(CONVOLUTIONS, (1.0, 0.7, 0.7, 0.7, 0.7), strict=True)),
    **dict(zip(LINEAR, (0.09, 0.09, 0.4), strict=True)),
}
# Fewer than Deep Compression's 8 and 5, which leaves bytes for more weights: in the pilot sharing cost no accuracy.
BITS = {**dict.fromkeys(CONVOLUTIONS, 5), **dict.fromkeys(LINEAR, 3)}
# The control is trained on by the schedule of retraining, for as long as retraining and fine-tuning take together.
PHASES = (
    Phase("dense", 0.40, 0.1, "one_cycle"),
    Phase("control", 0.30, 0.08, "linear"),
    Phase("retrained", 0.24, 0.08, "linear"),
    Phase("fine_tuned", 0.06, 0.001, "linear"),
)
RECIPE = Recipe(PHASES, DENSITY, BITS)


def _compressed(
    recipe: Recipe,
    hidden: int,
    budget: Budget,
    scale: Scale,
    images: cifar.Pair | None = None,
) -> Trial:
    """The net, compressed by a recipe."""
    train, test = images or cifar.pair(budget.train_examples, budget.test_examples)
    build = functools.partial(SmallAlexNet, CHANNELS, hidden)
    task = Classification(build, train, test, batch_size=BATCH, seed=scale.seed, device=scale.device)
    settings = Settings(
        epochs=budget.epochs,
        lr=0.1,  # a place holder: each phase has its own
        momentum=0.9,
        weight_decay=5e-4,
        schedule="constant",
        clip_norm=1.0,
        seed=scale.seed,
        threads=scale.threads,
        device=scale.device,
    )
    stages = Stages(recipe, budget.epochs * task.steps_per_epoch(), task.evaluate)
    return Trial(task, settings, (stages,))


def arm(recipe: Recipe = RECIPE, hidden: int = HIDDEN) -> Make:
    """The one arm, or a smaller net for a trial of one's own."""
    return functools.partial(_compressed, recipe, hidden)


COMPARISONS = by_name(
    # One arm: its control is the dense net of the same run, trained on for as many updates.
    Comparison("huffman", "compression", {"huffman": arm()}),
)
