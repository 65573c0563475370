"""The figure of the tour: what was found of each claim at each scale, in words on a background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from leandnn.claims import words
from leandnn.claims.verdicts import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Word → background, text: at least 4.5 : 1. The site's chips have the same ones. Hues of Okabe and Ito.
COLOURS = {
    words.REPRODUCED: ("#d3efe5", "#00513b"),
    words.BETTER: ("#d6e8f7", "#004a77"),
    words.PARTLY: ("#fbe7bd", "#5f4100"),
    words.UNDECIDED: ("#dcdfe5", "#3c4450"),
    words.NOT_REPRODUCED: ("#fbdccb", "#7d2c00"),
    words.EXPLORATORY: ("#e9e4f3", "#43327a"),
    words.NOT_TESTED: ("#f0ede4", "#5c5340"),
    words.NOT_MEASURED: ("#f6f7f8", "#5f656e"),
}


def verdicts(results: Sequence[Result]) -> Figure:
    """A row a claim, a column a scale: the word, the effect with its interval, and the number of pairs behind it."""
    import matplotlib.pyplot as plt

    scales = list(dict.fromkeys(scale for result in results for scale in result.verdicts))
    figure, ax = plt.subplots(figsize=(2.6 + 3.4 * len(scales), 0.27 * len(results) + 0.6))
    for row, result in enumerate(results):
        for scale, finding in result.verdicts.items():
            column = scales.index(scale)
            background, colour = COLOURS[finding.verdict]
            ax.barh(row, 0.98, left=column + 0.01, color=background, height=0.86)
            said = f"{finding.verdict}: {finding.effect}, n = {finding.n}" if finding.n else finding.verdict
            ax.text(column + 0.5, row, said, color=colour, ha="center", va="center", fontsize=8)
    ax.set_yticks(range(len(results)), [result.claim.id for result in results], fontsize=9)
    ax.set_ylim(len(results) - 0.4, -0.6)
    ax.xaxis.tick_top()
    ax.set_xticks([column + 0.5 for column in range(len(scales))], scales, fontsize=9)
    ax.tick_params(length=0)
    ax.set_xlim(0, max(1, len(scales)))
    ax.grid(visible=False)
    for side in ax.spines.values():
        side.set_visible(False)
    return figure
