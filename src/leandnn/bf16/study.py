"""What is run for paper 1: the comparisons of every domain."""

from __future__ import annotations

from leandnn.bf16.domains import (
    alexnet,
    generative,
    language,
    recommendation,
    speech,
    super_resolution,
    transformer,
    vision,
)
from leandnn.studies.comparison import Comparison

COMPARISONS: dict[str, Comparison] = {
    name: comparison
    for domain in (
        vision,
        speech,
        language,
        generative,
        recommendation,
        alexnet,
        transformer,
        super_resolution,
    )
    for name, comparison in domain.COMPARISONS.items()
}
