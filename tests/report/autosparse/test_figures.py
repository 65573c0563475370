"""Figures of paper 2: what is drawn is what the runs hold."""

from __future__ import annotations

import pandas as pd
import pytest
from tests.report.autosparse import made

from leandnn.report.autosparse import figures

pytestmark = pytest.mark.usefixtures("drawn")


def test_over_time_takes_the_trace_and_else_epochs():
    traced = figures.over_time(made.final(), made.history(), "masked_gradient")
    assert sorted(traced.share.unique()) == [0.25, 1.0]
    assert set(traced[traced.share == 0.25].value) == {0.2}
    by_epoch = figures.over_time(made.final(), made.history(), "returned")
    assert sorted(by_epoch.share.unique()) == [0.5, 1.0]
    assert figures.over_time(made.final(), made.history(), "nothing").empty


def test_an_arm_far_below_dense_stands_at_the_edge():
    final = made.final()
    lost = final[final.arm == "str"].assign(arm="dst", test_accuracy=0.4)
    training, _ = figures.tradeoff(pd.concat([final, lost]), {}).axes
    assert [text.get_text() for text in training.texts] == ["↓ 40 %"]
    low = training.get_ylim()[0]
    assert low > 45
    (edge,) = [line for line in training.lines if line.get_label() == "DST"]
    assert edge.get_ydata()[0] == pytest.approx(low)
