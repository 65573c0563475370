"""Figures of paper 3's results show the numbers they are given, and say what follows from them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from leandnn.bench.benchfile import BenchFile
from leandnn.rbgp import study
from leandnn.report import pattern_runs
from leandnn.report.rbgp import figures

pytestmark = pytest.mark.usefixtures("drawn")


def titles(figure) -> list[str]:
    return [ax.get_title(loc=where) for ax in figure.axes for where in ("left", "center")]


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
    figure = figures.accuracy({"SmallVGG": table}, "SMOKE: tiny")
    (ax,) = figure.axes
    line = next(one for one in ax.lines if one.get_label().startswith("random single weights"))
    np.testing.assert_allclose(line.get_xdata(), [1, 2])
    np.testing.assert_allclose(line.get_ydata(), [65, 65])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["dense", "RBGP4", "random single weights"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["50 %", "75 %", "87.5 %"]  # what was run
    assert figure.get_suptitle() == "SMOKE: tiny"


def test_another_net_has_a_panel_and_a_taught_net_a_point():
    taught = runs("rbgp/distillation/distilled", 0.875, [0.72, 0.74])
    wide = runs("rbgp/wide_resnet/rbgp4_87", 0.875, [0.8])
    figure = figures.accuracy({"SmallVGG": taught, "WRN-10-2": wide})
    assert [t for t in titles(figure) if t] == ["SmallVGG", "WRN-10-2"]
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert labels == ["RBGP4", "RBGP4, taught by the dense net"]
    (point,) = [line for line in figure.axes[0].lines if line.get_marker() == "*"]
    assert point.get_ydata() == pytest.approx([73])


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


def test_gaps_show_every_run_and_the_means():
    final = pd.DataFrame(
        {
            "arm": ["rbgp4", "rbgp4", "not-ramanujan"],
            "test_accuracy": [0.7, 0.72, 0.68],
            "spectral_gap": [0.3, 0.32, 0.01],
            "path_spread": [0.1, 0.1, 2.0],
        }
    )
    figure = figures.gaps({"87.5 % zeros": final})
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert sorted(x for line in dots for x in line.get_xdata()) == [0.01, 0.3, 0.32]
    means = [line for line in figure.axes[0].lines if line.get_marker() == "D"]
    assert sorted(float(line.get_ydata()[0]) for line in means) == pytest.approx([68, 71])


def test_gap_and_accuracy_of_every_pattern_by_sparsity():
    kinds = {"rbgp4": 0.1, "random": 0.5, "random4x4": 0.4, "unstructured": 0.3}
    table = pd.concat([
        runs(f"rbgp/sparsities/{name}_75", 0.75, [0.5 + gap, 0.52 + gap]).assign(spectral_gap=gap)
        for name, gap in kinds.items()
    ])  # fmt: skip
    other = runs("blocksparse/baselines/unstructured", 0.875, [0.9])  # whose gap was not measured
    figure = figures.connectivity({"a": pd.concat([table, other]), "b": table, "none": other})
    assert [t for t in titles(figure) if t] == ["a, 75 %", "b, 75 %"]
    points = sorted((*line.get_xdata(), *line.get_ydata()) for line in figure.axes[0].lines)
    assert points[-1] == pytest.approx((0.5, 0.5, 100, 102)) and len(points) == 4
    assert "75 % zeros +1.00 (4 kinds)" in figures.gap_in_words(table)
    assert figures.gap_in_words(table[table.family != "random"]) == ""
    assert figures.connectivity({"a": other}) is None and figures.gap_in_words(other) == ""


def bench_row(impl: str, unit: str, batch: int, seconds: float, sparsity: float = 87.5) -> dict:
    case = {"net": "VGG19", "batch": batch, "sparsity": sparsity}
    if unit == "MiB":
        case["peak_mib"] = 40.0 * batch
    return {"impl": impl, "threads": 1, "case": case, "median_s": seconds, "unit": unit}


def test_costs_have_a_bar_for_what_was_measured_alone():
    rows = [
        bench_row("torch.dense", "images", 16, 0.16),
        bench_row("leandnn", "images", 16, 0.032),
        bench_row("leandnn", "images", 1, 0.003),
        bench_row("leandnn", "images", 16, 9.0, sparsity=75.0),
        bench_row("leandnn", "MiB", 16, 1.0),
        {**bench_row("leandnn", "Gflop", 16, 1.0), "case": {"layer": "a", "sparsity": 87.5, "batch": 16}},
    ]
    figure = figures.costs(BenchFile({}, rows), 87.5)
    assert [t for t in titles(figure) if t] == [
        "batch 1: ms an image",
        "batch 16: ms an image",
        "batch 16: peak MiB",
    ]
    heights = [[bar.get_height() for bar in ax.patches] for ax in figure.axes]
    assert heights == [pytest.approx([3]), pytest.approx([10, 2]), [640]]  # and no gap for what was not
