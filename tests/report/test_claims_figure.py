"""The tour's figure says every verdict, in colours that can be read."""

from __future__ import annotations

import matplotlib.colors
import pytest

from leandnn import paths
from leandnn.claims import verdicts, words
from leandnn.report import claims_figure

pytestmark = pytest.mark.usefixtures("drawn")


def luminance(colour: str) -> float:
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in matplotlib.colors.to_rgb(colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_words_stand_out_from_their_backgrounds():
    assert set(claims_figure.COLOURS) == set(words.WORDS)
    for background, text in claims_figure.COLOURS.values():
        assert (luminance(background) + 0.05) / (luminance(text) + 0.05) >= 4.5


def test_every_verdict_is_said_with_its_pairs():
    results = verdicts.compute(paths.ROOT)
    (ax,) = claims_figure.verdicts(results).axes
    found = [finding for result in results for finding in result.verdicts.values()]
    expected = [f"{one.verdict}: {one.effect}, n = {one.n}" if one.n else one.verdict for one in found]
    assert [text.get_text() for text in ax.texts] == expected
    assert [label.get_text() for label in ax.get_yticklabels()] == [result.claim.id for result in results]
