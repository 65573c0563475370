"""Speech recognition: a net of DeepSpeech2's form, trained with CTC on spoken digit strings."""

from __future__ import annotations

from leandnn.bf16 import arms
from leandnn.data import speech
from leandnn.models.speech import DeepSpeech
from leandnn.params import TrainBudget
from leandnn.studies.comparison import Comparison, Trial
from leandnn.tasks.transcription import Transcription
from leandnn.train.task import Settings


def _make(arm: str, seed: int, budget: TrainBudget, threads: int, device: str) -> Trial:
    task = Transcription(
        DeepSpeech,
        speech.load("train", count=budget.train_examples),
        speech.load("test", count=budget.test_examples),
        batch_size=64,
        seed=seed,
        device=device,
    )
    settings = Settings(
        epochs=budget.epochs,
        lr=4e-3,
        optimizer="adam",
        schedule="one_cycle",
        clip_norm=5.0,
        channels_last=False,
        seed=seed,
        threads=threads,
        device=device,
    )
    return arms.trial(arm, task, settings)


COMPARISONS = {
    "speech": Comparison(
        "bf16",
        "speech",
        arms.PAIR,
        _make,
        data=("digits",),
        code=(
            *arms.CODE,
            "bf16/domains/speech.py",
            "data/speech.py",
            "data/speech_features.py",
            "models/speech.py",
            "tasks/transcription.py",
        ),
    )
}
