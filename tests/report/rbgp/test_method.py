"""Figures of paper 3's method show the graphs they are given."""

from __future__ import annotations

import numpy as np
import pytest

from leandnn.blocksparse import Pattern
from leandnn.rbgp import controls, ramanujan
from leandnn.rbgp.nets import GRAPHS
from leandnn.report.rbgp import method

pytestmark = pytest.mark.usefixtures("drawn")


def titles(figure) -> list[str]:
    return [ax.get_title(loc=where) for ax in figure.axes for where in ("left", "center")]


def test_a_lift_is_drawn_with_its_signs_and_matrix():
    stages = [np.ones((2, 3), bool), ramanujan(4, 6, 0.5).biadjacency.numpy()]
    figure = method.lifting(stages, [np.array([[True, False, True], [True, True, True]])])
    assert {"after 1 lift: 4 + 6 vertices", "0% zeros", "50% zeros"} <= set(titles(figure))
    lines = figure.axes[0].lines
    assert [line.get_linestyle() for line in lines].count("--") == 1
    assert len(lines) == 6 and len(figure.axes[1].lines) == 12


def test_the_product_grows_from_the_inside():
    pattern = Pattern.rbgp4(ramanujan(4, 4, 0.5).edges, (2, 1), ramanujan(4, 4, 0.5).edges, (2, 2))
    figure = method.product(pattern)
    shown = [ax.images[0].get_array().shape for ax in figure.axes if ax.images]
    assert shown == [(2, 2), (8, 8), (16, 8), (64, 32)]
    assert (np.asarray(figure.axes[-1].images[0].get_array()) == pattern.mask().numpy()).all()


def test_masks_and_spectra_are_those_of_the_graphs():
    graphs = {"rbgp4": ramanujan(16, 16, 0.75), "disconnected": controls.disconnected(16, 16, 0.75)}
    figure = method.spectra(graphs)
    curve = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(curve, graphs["rbgp4"].singular_values().numpy() / 4)
    level = figure.axes[0].lines[-1].get_ydata()
    np.testing.assert_allclose(level, graphs["rbgp4"].bound / 4)
    masks = {"a": Pattern.unstructured(graphs["rbgp4"].biadjacency)}
    assert "a" in titles(method.masks(masks))
    assert set(method.GRAPHS) == set(GRAPHS)
