"""Machine translation: a net of GNMT's form on two Bibles, Spanish to English."""

from __future__ import annotations

from leandnn.bf16 import arms
from leandnn.bf16.arms import Arm
from leandnn.data import text
from leandnn.models.language import GNMT
from leandnn.params import Budget
from leandnn.studies.comparison import Comparison, Scale, Trial, by_name
from leandnn.tasks.translation import Translation
from leandnn.train.task import Settings

LONGEST = 32  # tokens of a verse; longer ones are left out


def _make(arm: Arm, budget: Budget, scale: Scale) -> Trial:
    train = text.load("train", count=budget.train_examples, longest=LONGEST)
    test = text.load("test", count=budget.test_examples, longest=LONGEST)
    task = Translation(
        lambda: GNMT(len(train.vocabulary)), train, test, batch_size=32, seed=scale.seed, device=scale.device
    )
    settings = Settings(
        epochs=budget.epochs,
        lr=1e-2,
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


COMPARISONS = by_name(Comparison("bf16", "language", arms.all_of(_make, arms.PAIR), data=("text",)))
