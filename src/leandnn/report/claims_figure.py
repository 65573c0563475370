"""The figure of the tour: the verdict on each claim at each scale, as words on a background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from leandnn.claims import verdicts as claims
from leandnn.claims.verdicts import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Verdict → background, text: at least 4.5 : 1. The site's chips have the same ones. Hues of Okabe and Ito.
COLOURS = {
    claims.REPRODUCED: ("#d3efe5", "#00513b"),
    claims.BETTER: ("#d6e8f7", "#004a77"),
    claims.PARTLY: ("#fbe7bd", "#5f4100"),
    claims.UNDECIDED: ("#dcdfe5", "#3c4450"),
    claims.NOT_REPRODUCED: ("#fbdccb", "#7d2c00"),
    claims.NOT_MEASURED: ("#f6f7f8", "#5f656e"),
}


def verdicts(results: Sequence[Result]) -> Figure:
    """A row a claim, a column a scale: the verdict in words, and the number of pairs behind it."""
    import matplotlib.pyplot as plt

    scales = list(dict.fromkeys(scale for result in results for scale in result.verdicts))
    figure, ax = plt.subplots(figsize=(2.6 + 2.3 * len(scales), 0.27 * len(results) + 0.6))
    for row, result in enumerate(results):
        for scale, finding in result.verdicts.items():
            column = scales.index(scale)
            background, colour = COLOURS[finding.verdict]
            ax.barh(row, 0.98, left=column + 0.01, color=background, height=0.86)
            words = finding.verdict + (f", n = {finding.n}" if finding.n else "")
            weight = "normal" if finding.verdict == claims.NOT_MEASURED else "bold"
            ax.text(
                column + 0.5, row, words, color=colour, weight=weight, ha="center", va="center", fontsize=9
            )
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
