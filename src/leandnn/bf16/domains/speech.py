"""Speech recognition: a net of DeepSpeech2's form, trained with CTC on spoken digit strings."""

from __future__ import annotations

from leandnn.bf16 import arms
from leandnn.bf16.arms import Arm
from leandnn.data import speech
from leandnn.models.speech import DeepSpeech
from leandnn.params import Budget
from leandnn.studies.comparison import Comparison, Scale, Trial, by_name
from leandnn.tasks.transcription import Transcription
from leandnn.train.task import Settings


def _make(arm: Arm, budget: Budget, scale: Scale) -> Trial:
    task = Transcription(
        DeepSpeech,
        speech.load("train", count=budget.train_examples),
        speech.load("test", count=budget.test_examples),
        batch_size=64,
        seed=scale.seed,
        device=scale.device,
    )
    settings = Settings(
        epochs=budget.epochs,
        lr=4e-3,
        optimizer="adam",
        schedule="one_cycle",
        clip_norm=5.0,
        channels_last=False,
        seed=scale.seed,
        threads=scale.threads,
        device=scale.device,
    )
    return arms.trial(arm, task, settings)


COMPARISONS = by_name(Comparison("bf16", "speech", arms.all_of(_make, arms.PAIR), data=("digits",)))
