"""Figures of paper 3's results show the numbers they are given, and say what follows from them."""

from __future__ import annotations

import pandas as pd
import pytest
from tests.report.rbgp.made import kinds, runs

from leandnn.rbgp import study
from leandnn.report import pattern_runs
from leandnn.report.rbgp import figures

pytestmark = pytest.mark.usefixtures("drawn")


def test_every_desk_study_of_small_nets_is_drawn():
    drawn = {*figures.COMPARISONS["rbgp"], *figures.WIDE["rbgp"], "connectivity", "connectivity_93"}
    assert drawn == set(study.COMPARISONS) - {"vgg19", "wrn40_4"}
    arms = [
        arm
        for name in ("patterns", "sparsities", "distillation", "wide_resnet")
        for arm in study.COMPARISONS[name].arms
    ]
    assert {pattern_runs.family(f"rbgp/x/{arm}") for arm in arms} <= set(figures.FAMILIES)


@pytest.mark.parametrize(("blocks", "words"), [(0.11, "have 90% of"), (0.19, "have 10% of")])
def test_whether_shared_rows_are_most_of_the_speed_is_computed(blocks: float, words: str):
    rounds = {"rbgp4": [0.1, 0.1, 0.5], "unstructured": [0.2], "block4x4": [blocks]}
    libraries = {"unstructured_library": [2.0], "block4x4_library": [1.0]}
    said = figures.speed_in_words(rounds | libraries)
    assert words in said and (": most of the speed" in said) == (blocks < 0.15)
    assert "takes 100 ms" in said and "2.00 times" in said and "20.0 times" in said and "n = 3" in said
    assert figures.speed_in_words(rounds) == ""
    slower = figures.speed_in_words(rounds | libraries | {"unstructured": [0.05]})
    assert "0.50 times" in slower and "save" not in slower  # nothing is saved that a share could be of


def test_gap_and_accuracy_of_every_pattern_by_sparsity():
    table = kinds()
    other = runs("blocksparse/baselines/unstructured", 0.875, [0.9])  # whose gap was not measured
    figure = figures.connectivity({"a": pd.concat([table, other]), "b": table, "none": other})
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["a, 75 %", "b, 75 %"]
    points = sorted((*line.get_xdata(), *line.get_ydata()) for line in figure.axes[0].lines)
    assert points[-1] == pytest.approx((0.5, 0.5, 100, 102)) and len(points) == 4
    assert "75 % zeros +1.00 (4 kinds)" in figures.gap_in_words(table)
    assert figures.gap_in_words(table[table.family != "random"]) == ""
    assert figures.connectivity({"a": other}) is None and figures.gap_in_words(other) == ""
