"""Machine translation: a net of GNMT's form on two Bibles, Spanish to English."""

from __future__ import annotations

from leandnn.bf16 import arms
from leandnn.data import text
from leandnn.models.language import GNMT
from leandnn.params import TrainBudget
from leandnn.studies.comparison import Comparison, Trial
from leandnn.tasks.translation import Translation
from leandnn.train.task import Settings

LONGEST = 32  # tokens of a verse; longer ones are left out


def _make(arm: str, seed: int, budget: TrainBudget, threads: int, device: str) -> Trial:
    train = text.load("train", count=budget.train_examples, longest=LONGEST)
    test = text.load("test", count=budget.test_examples, longest=LONGEST)
    task = Translation(
        lambda: GNMT(len(train.vocabulary)), train, test, batch_size=32, seed=seed, device=device
    )
    settings = Settings(
        epochs=budget.epochs,
        lr=1e-2,
        optimizer="adam",
        betas=(0.9, 0.98),
        schedule="one_cycle",
        clip_norm=1.0,
        channels_last=False,
        seed=seed,
        threads=threads,
        device=device,
    )
    return arms.trial(arm, task, settings)


COMPARISONS = {
    "language": Comparison(
        "bf16",
        "language",
        arms.PAIR,
        _make,
        data=("text",),
        code=(
            *arms.CODE,
            "bf16/domains/language.py",
            "data/text.py",
            "data/text_source.py",
            "data/text_vocabulary.py",
            "models/language.py",
            "tasks/translation.py",
        ),
    )
}
