"""Machine translation with a Transformer, on the data of the domain language."""

from __future__ import annotations

from leandnn.bf16 import arms
from leandnn.bf16.arms import Arm
from leandnn.bf16.domains.language import LONGEST
from leandnn.data import text
from leandnn.models.language_transformer import Transformer
from leandnn.params import Budget
from leandnn.studies.comparison import Comparison, Scale, Trial, by_name
from leandnn.tasks.translation import Translation
from leandnn.train.task import Settings


def _make(arm: Arm, budget: Budget, scale: Scale) -> Trial:
    train = text.load("train", count=budget.train_examples, longest=LONGEST)
    test = text.load("test", count=budget.test_examples, longest=LONGEST)
    task = Translation(
        lambda: Transformer(len(train.vocabulary)),
        train,
        test,
        batch_size=16,
        seed=scale.seed,
        device=scale.device,
    )
    settings = Settings(
        epochs=budget.epochs,
        lr=3e-3,
        optimizer="adam",
        betas=(0.9, 0.98),
        schedule="one_cycle",
        clip_norm=1.0,
        channels_last=False,
        seed=scale.seed,
        threads=scale.threads,
        device=scale.device,
    )
    return arms.trial(arm, task, settings)


COMPARISONS = by_name(Comparison("bf16", "transformer", arms.all_of(_make, arms.PAIR), data=("text",)))
