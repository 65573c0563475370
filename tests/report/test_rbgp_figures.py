"""Figures of paper 3 show the numbers they are given."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from leandnn.blocksparse import Pattern
from leandnn.rbgp import controls, ramanujan
from leandnn.rbgp.nets import GRAPHS
from leandnn.report import figures, rbgp_figures
from leandnn.report.benchfile import BenchFile


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    mpl.use("agg")
    figures.use_style()
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def titles(figure) -> list[str]:
    return [ax.get_title(loc=where) for ax in figure.axes for where in ("left", "center")]


def test_a_lift_is_drawn_with_its_signs_and_matrix():
    stages = [np.ones((2, 3), bool), ramanujan(4, 6, 0.5).biadjacency.numpy()]
    figure = rbgp_figures.lifting(stages, [np.array([[True, False, True], [True, True, True]])])
    assert {"after 1 lift: 4 + 6 vertices", "0% zeros", "50% zeros"} <= set(titles(figure))
    lines = figure.axes[0].lines
    assert [line.get_linestyle() for line in lines].count("--") == 1
    assert len(lines) == 6 and len(figure.axes[1].lines) == 12


def test_the_product_grows_from_the_inside():
    pattern = Pattern.rbgp4(ramanujan(4, 4, 0.5).edges, (2, 1), ramanujan(4, 4, 0.5).edges, (2, 2))
    figure = rbgp_figures.product(pattern)
    shown = [ax.images[0].get_array().shape for ax in figure.axes if ax.images]
    assert shown == [(2, 2), (8, 8), (16, 8), (64, 32)]
    assert (np.asarray(figure.axes[-1].images[0].get_array()) == pattern.mask().numpy()).all()


def test_masks_and_spectra_are_those_of_the_graphs():
    graphs = {"rbgp4": ramanujan(16, 16, 0.75), "disconnected": controls.disconnected(16, 16, 0.75)}
    figure = rbgp_figures.spectra(graphs)
    curve = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(curve, graphs["rbgp4"].singular_values().numpy() / 4)
    level = figure.axes[0].lines[-1].get_ydata()
    np.testing.assert_allclose(level, graphs["rbgp4"].bound / 4)
    masks = {"a": Pattern.unstructured(graphs["rbgp4"].biadjacency)}
    assert "a" in titles(rbgp_figures.masks(masks))
    assert set(rbgp_figures.GRAPHS) == set(GRAPHS)


def runs(arm: str, sparsity: float, accuracies: list[float]) -> pd.DataFrame:
    family = arm.rpartition("/")[2].partition("_")[0]
    facts = {"arm": arm, "family": family, "sparsity": sparsity, "test_accuracy": accuracies}
    return pd.DataFrame({**facts, "seed": range(len(accuracies))})


def test_accuracy_has_bands_over_a_sweep_and_bars_at_one_point():
    sweep = [runs(f"rbgp/sparsities/random_{i}", s, [0.6, 0.7]) for i, s in enumerate((0.5, 0.75))]
    table = pd.concat(
        [
            runs("blocksparse/baselines/dense", 0, [0.8, 0.82]),
            *sweep,
            runs("rbgp/patterns/rbgp4", 0.875, [0.7, 0.72]),
        ]
    )
    figure = rbgp_figures.accuracy(table, "SMOKE: tiny")
    (ax,) = figure.axes
    line = next(one for one in ax.lines if one.get_label().startswith("single weights at random"))
    np.testing.assert_allclose(line.get_xdata(), [1, 2])
    np.testing.assert_allclose(line.get_ydata(), [65, 65])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["dense", "RBGP4", "single weights at random, fixed"]
    assert figure.get_suptitle() == "SMOKE: tiny"


def test_gaps_show_every_run_and_the_means():
    final = pd.DataFrame(
        {
            "arm": ["rbgp4", "rbgp4", "not-ramanujan"],
            "test_accuracy": [0.7, 0.72, 0.68],
            "spectral_gap": [0.3, 0.32, 0.01],
            "path_spread": [0.1, 0.1, 2.0],
        }
    )
    figure = rbgp_figures.gaps(final)
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert sorted(x for line in dots for x in line.get_xdata()) == [0.01, 0.3, 0.32]
    means = [line for line in figure.axes[0].lines if line.get_marker() == "D"]
    assert sorted(float(line.get_ydata()[0]) for line in means) == pytest.approx([68, 71])


def bench_row(impl: str, unit: str, batch: int, seconds: float, sparsity: float = 87.5) -> dict:
    case = {"net": "VGG19", "batch": batch, "sparsity": sparsity}
    if unit == "MiB":
        case["peak_mib"] = 40.0 * batch
    return {"impl": impl, "threads": 1, "case": case, "median_s": seconds, "unit": unit}


def test_costs_have_a_bar_for_every_implementation_that_was_measured():
    rows = [
        bench_row("torch.dense", "images", 16, 0.16),
        bench_row("leandnn", "images", 16, 0.032),
        bench_row("leandnn", "images", 1, 0.003),
        bench_row("leandnn", "images", 16, 9.0, sparsity=75.0),
        bench_row("leandnn", "MiB", 16, 1.0),
        {**bench_row("leandnn", "Gflop", 16, 1.0), "case": {"layer": "a", "sparsity": 87.5, "batch": 16}},
    ]
    figure = rbgp_figures.costs(BenchFile({}, rows), 87.5)
    assert [t for t in titles(figure) if t] == [
        "batch 1: ms an image",
        "batch 16: ms an image",
        "batch 16: peak MiB",
    ]
    heights = [[bar.get_height() for bar in ax.patches] for ax in figure.axes]
    names = list(rbgp_figures.IMPLS)
    ours, dense = names.index("leandnn"), names.index("torch.dense")
    assert heights[0][ours] == pytest.approx(3) and heights[0][dense] == 0
    assert (heights[1][ours], heights[1][dense]) == (pytest.approx(2), pytest.approx(10))
    assert heights[2][ours] == 640
