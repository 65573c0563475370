"""Figures of paper 2: what is drawn is what the runs hold."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("agg")
import matplotlib.pyplot as plt

from leandnn.report.autosparse import figures

ARMS = ("dense", "autosparse", "str")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def final() -> pd.DataFrame:
    rows = []
    for arm, macs in zip(ARMS, (100.0, 50.0, 40.0), strict=True):
        for seed in (0, 1):
            rows.append({
                "arm": arm, "seed": seed, "steps": 40, "test_accuracy": 0.7 + 0.01 * seed, "train_macs": macs,
                "inference_macs": macs / 2, "sparsity": 0.8, "density:f.11": 0.1, "density:f.4": 0.3 + 0.1 * seed,
                "masked_gradient@10": 0.2, "masked_gradient@40": 0.1,
            })  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def history() -> pd.DataFrame:
    rows = [
        {"arm": arm, "seed": seed, "epoch": epoch, "sparsity": 0.4 * epoch, "returned": 0.05}
        for arm in ARMS[1:]
        for seed in (0, 1)
        for epoch in (1, 2)
    ]
    return pd.DataFrame(rows)


def test_over_time_takes_the_trace_and_else_epochs(final: pd.DataFrame, history: pd.DataFrame):
    traced = figures.over_time(final, history, "masked_gradient")
    assert sorted(traced.share.unique()) == [0.25, 1.0]
    assert set(traced[traced.share == 0.25].value) == {0.2}
    by_epoch = figures.over_time(final, history, "returned")
    assert sorted(by_epoch.share.unique()) == [0.5, 1.0]
    assert figures.over_time(final, history, "nothing").empty


def test_annealing_has_three_panels_in_percent(final: pd.DataFrame, history: pd.DataFrame):
    figure = figures.annealing_over_time(final, history, ("autosparse", "str"))
    gradient, returned, sparsity = figure.axes
    means = [line for line in gradient.lines if line.get_linewidth() > 2]
    assert [line.get_label() for line in means] == ["AutoSparse", "STR (no annealing)"]
    assert np.allclose(means[0].get_ydata(), [20, 10])
    assert np.allclose(next(line for line in returned.lines if line.get_linewidth() > 2).get_ydata(), 5)
    assert np.allclose(
        next(line for line in sparsity.lines if line.get_linewidth() > 2).get_ydata(), [40, 80]
    )


def test_bars_are_the_means_of_the_zeros_by_layer(final: pd.DataFrame):
    (ax,) = figures.per_layer(final, ("autosparse", "str")).axes
    assert [text.get_text() for text in ax.get_xticklabels()] == ["f.4", "f.11"]
    heights = [bar.get_height() for container in ax.containers for bar in container]
    assert np.allclose(heights, [65, 90, 65, 90])


def test_the_trade_off_is_in_shares_of_dense(final: pd.DataFrame):
    marks = {"train_macs": [(0.5, "paper", "autosparse")]}
    training, inference = figures.tradeoff(final, marks).axes
    large = {line.get_label(): line for line in training.lines if line.get_markersize() == 9}
    assert list(large) == ["dense", "AutoSparse", "STR (no annealing)"]
    assert large["AutoSparse"].get_xdata()[0] == pytest.approx(0.5)
    assert large["AutoSparse"].get_ydata()[0] == pytest.approx(70.5)
    assert [text.get_text() for text in training.texts] == ["paper"]
    assert not inference.texts


def test_an_arm_far_below_dense_stands_at_the_edge(final: pd.DataFrame):
    lost = final[final.arm == "str"].assign(arm="dst", test_accuracy=0.4)
    training, _ = figures.tradeoff(pd.concat([final, lost]), {}).axes
    assert [text.get_text() for text in training.texts] == ["↓ 40 %"]
    low = training.get_ylim()[0]
    assert low > 45
    (edge,) = [line for line in training.lines if line.get_label() == "DST"]
    assert edge.get_ydata()[0] == pytest.approx(low)


def test_schedules_stand_alone_or_beside_their_accuracies(final: pd.DataFrame):
    shapes = {"sigmoid_cosine": [1.0, 0.5, 0.0], "constant": [1.0, 1.0, 1.0]}
    (alone,) = figures.schedules(shapes, None).axes
    assert [line.get_label() for line in alone.lines] == ["sigmoid-cosine (the paper's)", "constant"]
    measured = pd.concat([final, final[final.arm == "str"].assign(arm="constant", test_accuracy=0.6)])
    _, right = figures.schedules(shapes, measured).axes
    assert [text.get_text() for text in right.get_yticklabels()] == ["constant", "sigmoid-cosine"]


def test_requested_leaves_free_runs_apart(final: pd.DataFrame):
    asked = pd.concat([
        final[final.arm == "str"].assign(arm="autosparse_50", sparsity=0.5),
        final[final.arm == "str"].assign(arm="autosparse_90", sparsity=0.9),
        final[final.arm == "str"].assign(arm="free", sparsity=0.66),
    ])  # fmt: skip
    (ax,) = figures.requested(asked, final[final.arm == "dense"].test_accuracy).axes
    line = next(line for line in ax.lines if line.get_label() == "AutoSparse, asked for")
    assert np.allclose(line.get_xdata(), [50, 90])
    assert "AutoSparse, left free" in [text.get_text() for text in ax.get_legend().get_texts()]
