"""Machine translation with a Transformer, on the data of the domain language."""

from __future__ import annotations

from leandnn.bf16 import arms
from leandnn.bf16.domains.language import LONGEST
from leandnn.data import text
from leandnn.models.language_transformer import Transformer
from leandnn.params import TrainBudget
from leandnn.studies.comparison import Comparison, Trial
from leandnn.tasks.translation import Translation
from leandnn.train.task import Settings


def _make(arm: str, seed: int, budget: TrainBudget, threads: int, device: str) -> Trial:
    train = text.load("train", count=budget.train_examples, longest=LONGEST)
    test = text.load("test", count=budget.test_examples, longest=LONGEST)
    task = Translation(
        lambda: Transformer(len(train.vocabulary)), train, test, batch_size=16, seed=seed, device=device
    )
    settings = Settings(
        epochs=budget.epochs,
        lr=3e-3,
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
    "transformer": Comparison(
        "bf16",
        "transformer",
        arms.PAIR,
        _make,
        data=("text",),
        code=(
            *arms.CODE,
            "bf16/domains/language.py",
            "bf16/domains/transformer.py",
            "data/text.py",
            "data/text_source.py",
            "data/text_vocabulary.py",
            "models/language.py",
            "models/language_transformer.py",
            "tasks/translation.py",
        ),
    )
}
