"""What a comparison says that its results depend on."""

from __future__ import annotations

import importlib

import pytest

from leandnn.blocksparse import baselines
from leandnn.data import cifar
from leandnn.kernels.panels import plan
from leandnn.params import TrainBudget
from leandnn.studies import comparison as study
from leandnn.train import loop

BUDGET = TrainBudget(1, 256, 50, (0,))
ARMS = [
    (paper, name, arm)
    for paper in study.MASKED
    for name, comparison in importlib.import_module(f"leandnn.{paper}.study").COMPARISONS.items()
    for arm in comparison.arms
    if name != "resnet50" and not name.endswith("_90")  # too large for a test; the same at another sparsity
]


@pytest.fixture
def without_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """The panel products are out of order, and studies get a few images."""

    def out_of_order(*arguments: object) -> None:
        raise AssertionError("a panel product was called")

    for method in ("native", "native_transposed", "product", "transposed_product", "sampled_product"):
        monkeypatch.setattr(plan.Plan, method, property(out_of_order))
    monkeypatch.setattr(plan.Prepared, "__init__", out_of_order)
    images = cifar.synthetic("train", 256), cifar.synthetic("test", 50)
    monkeypatch.setattr(baselines, "images", lambda budget: images)


def train(paper: str, name: str, arm: str) -> dict[str, float]:
    comparison = importlib.import_module(f"leandnn.{paper}.study").COMPARISONS[name]
    made = comparison.make(arm, 0, BUDGET, 1, "cpu")
    return loop.train(made.task, made.settings, made.hooks).metrics


@pytest.mark.usefixtures("without_products")
@pytest.mark.parametrize(("paper", "name", "arm"), ARMS)
def test_runs_of_masked_nets_reach_no_panel_product(paper: str, name: str, arm: str):
    assert train(paper, name, arm)["test_accuracy"] >= 0


@pytest.mark.usefixtures("without_products")
def test_runs_of_nets_that_are_built_sparse_do():
    with pytest.raises(AssertionError, match="a panel product was called"):
        train("rbgp", "patterns", "rbgp4")


def test_the_code_of_a_comparison_names_what_its_runs_reach():
    for paper, reached in (
        *((paper, "kernels/panels/format.py") for paper in study.MASKED),
        ("rbgp", "kernels/panels"),
    ):
        for comparison in importlib.import_module(f"leandnn.{paper}.study").COMPARISONS.values():
            assert [entry for entry in comparison.code if entry.startswith("kernels/panels")] == [reached]
