"""The kernels' figures: where their points lie, labels that do not touch, equal bytes from equal files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import pytest
from tests.report.benches import CARD
from tests.report.kernels.made import SHAPE, bench, case

matplotlib.use("agg")

import itertools

import matplotlib.pyplot as plt

from leandnn.bench.benchfile import BenchFile
from leandnn.report import style
from leandnn.report.kernels import figures


@pytest.fixture(autouse=True)
def styled():
    style.use_style()
    yield
    plt.close("all")


def test_intensity_counts_values_x_and_y_once():
    # 2 · 8 · 4 operations; 8 values, 4 · 4 of X and 4 · 4 of Y, 4 bytes each
    assert figures.intensity({"M": 4, "K": 4, "N": 4, "sparsity": 50.0}) == 64 / (4 * (8 + 16 + 16))


def test_a_shape_is_one_that_was_measured_at_several_sparsities():
    assert figures.shapes(bench()) == [SHAPE]


@pytest.mark.parametrize("card", [CARD, {**CARD, "fma_peak_gflops": None}], ids=["peak", "no peak"])
def test_every_implementation_is_named_and_no_names_touch(card: dict[str, Any]):
    figure = figures.roofline(bench(card), SHAPE)
    _, close = figure.axes
    words = [entry[0] for entry in figures.IMPLEMENTATIONS.values()]
    figure.canvas.draw()
    labels = [text for text in close.texts if text.get_text() in words]
    assert sorted(text.get_text() for text in labels) == sorted(words)
    boxes = sorted((text.get_window_extent() for text in labels), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 1 for low, high in itertools.pairwise(boxes))
    edge = close.get_window_extent().x1
    assert all(box.x1 <= edge for box in boxes)
    ours = next(line for line in close.lines if line.get_linewidth() == 2.4)
    assert ours.get_ydata() == pytest.approx([100.0] * 3)
    assert list(ours.get_xdata()) == sorted(figures.intensity(case(s)) for s in (50.0, 75.0, 93.75))


def test_the_roof_is_the_lower_of_bandwidth_and_peak():
    whole, _ = figures.roofline(bench(), SHAPE).axes
    roof = next(line for line in whole.lines if list(line.get_ydata())[-2:] == [200.0, 200.0])
    x, y = roof.get_xdata(), roof.get_ydata()
    assert x[1] == 4.0 and y[0] == pytest.approx(50 * x[0])
    assert {"N = 1", "N = 8"} <= {text.get_text() for text in whole.texts}


def test_a_bench_without_peers_is_drawn_under_its_note():
    found = bench()
    alone = BenchFile({**CARD, "copy_gbytes": None}, [r for r in found.rows if r["impl"] == "leandnn"])
    assert "SMOKE" in str(figures.roofline(alone, SHAPE, "SMOKE: tiny").get_suptitle())


def test_equal_files_give_equal_bytes(tmp_path: Path):
    for name in ("a", "b"):
        style.save(figures.roofline(bench(), SHAPE), "kernels", "A caption.", tmp_path / name)
    for file in ("kernels.svg", "kernels.png", "kernels.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
