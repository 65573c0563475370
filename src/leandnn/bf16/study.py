"""What is run for paper 1: the comparisons of every domain."""

from __future__ import annotations

from leandnn.bf16.domains import language, recommendation, speech, vision
from leandnn.train.study import Comparison

COMPARISONS: dict[str, Comparison] = {
    **vision.COMPARISONS,
    **speech.COMPARISONS,
    **language.COMPARISONS,
    **recommendation.COMPARISONS,
}
