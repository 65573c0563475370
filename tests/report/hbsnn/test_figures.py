"""Paper 4's tables and figures: what is joined, the front by brute force, what each figure shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.report.hbsnn.made import BLOCK, OURS, two

from leandnn.bench.benchfile import BenchFile
from leandnn.hbsnn import hierarchical
from leandnn.report import pattern_runs, runs
from leandnn.report.hbsnn import figures

pytestmark = pytest.mark.usefixtures("drawn")


def test_an_arm_belongs_to_the_family_of_its_name():
    names = ("rbgp/sparsities/rbgp4_93", "blocksparse/sparsities/block16x16_75", "hbsnn/sizes/4x4_1x1", OURS)
    assert [pattern_runs.family(name) for name in names] == ["rbgp4", "block16x16", "4x4_1x1", "hierarchical"]


points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12)


@given(points)
def test_the_front_holds_what_nothing_beats(found: list[tuple[int, int]]):
    kept = pattern_runs.front(found)

    def beaten(point: tuple[int, int]) -> bool:
        return any((other[0] <= point[0] and other[1] >= point[1]) and other != point for other in found)

    assert {found[i] for i in kept} == {point for point in found if not beaten(point)}
    assert [found[i][0] for i in kept] == sorted(found[i][0] for i in kept)


def test_pairs_are_of_one_seed_and_means_of_one_arm():
    data = pd.concat([two(), two().iloc[[0]].assign(seed=7)])  # a seed that the control does not have
    pairs = runs.pairs(data, "test_accuracy", BLOCK, OURS)
    assert pairs.seed.tolist() == [0, 1] and pairs.difference.tolist() == pytest.approx([0.1, 0.1])
    means = pattern_runs.means(two()).set_index("arm")
    assert means.accuracy[OURS] == pytest.approx(0.705) and means.n[OURS] == 2
    assert means.sd[OURS] == pytest.approx(np.std([0.7, 0.71], ddof=1))


def write(runs: Path, arm: str, seed: int, accuracy: float) -> None:
    paper, comparison, name = arm.split("/")
    folder = runs / paper / comparison / f"{name}-s{seed}"
    folder.mkdir(parents=True)
    facts = {"arm": name, "seed": seed, "steps": 1, "parameters": 1, "failure": None}
    (folder / "metrics.json").write_text(json.dumps({**facts, "metrics": {"test_accuracy": accuracy}}))
    (folder / "history.csv").write_text("epoch\n1\n")


def test_runs_of_several_comparisons_come_in_one_table(tmp_path: Path):
    assert (
        pattern_runs.laptop(tmp_path, figures.COMPARISONS).empty
        and pattern_runs.recorded(tmp_path, figures.COMPARISONS).empty
    )
    write(tmp_path, OURS, 0, 0.7)
    write(tmp_path, BLOCK, 0, 0.6)
    write(tmp_path, "bf16/vision/fp32", 0, 0.8)
    found = pattern_runs.laptop(tmp_path, figures.COMPARISONS)
    assert dict(zip(found.arm, found.test_accuracy, strict=True)) == {OURS: 0.7, BLOCK: 0.6}


def test_an_arm_comes_from_the_scale_with_more_seeds():
    own = two().assign(steps=10)
    desk = pd.concat([own.assign(test_accuracy=0.5), own.assign(seed=own.seed + 2, test_accuracy=0.5)])
    only_ours = desk[desk.arm == OURS]
    table, words = pattern_runs.joined(own, only_ours, (OURS, BLOCK))
    assert table.groupby("arm").seed.nunique().to_dict() == {OURS: 4, BLOCK: 2}
    assert words == "desk scale, and the pipeline's runs where those are more"
    table, words = pattern_runs.joined(own, desk, (OURS, BLOCK))
    assert words == "desk scale" and (table.test_accuracy == 0.5).all() and len(table) == 8
    fewer = only_ours[only_ours.seed == 0]
    for laptop, recorded in ((own, desk.iloc[:0]), (own, fewer), (own.assign(steps=3), only_ours)):
        table, words = pattern_runs.joined(laptop, recorded, (OURS, BLOCK))
        assert words == "the pipeline's runs" and table.equals(laptop)
    assert runs.seeds_in_words(desk) == "n = 4"
    assert runs.seeds_in_words(pd.concat([own, only_ours])) == "n = 2 to 4"


def test_a_difference_is_said_with_its_seeds():
    own = pd.DataFrame({
        "arm": ["x", "x", "y", "y", "y"], "seed": [0, 1, 0, 1, 2], "test_accuracy": [0.7, 0.72, 0.71, 0.72, 0.9]
    })  # fmt: skip
    said = pattern_runs.difference_in_words(own, "x", "y")
    assert said == "x minus y: -0.50 points of test accuracy, mean of 2 seeds (-1.00 to +0.00)"
    assert pattern_runs.difference_in_words(own, "x", "z") == ""


def net(arm: str, impl: str, seconds: float, what: str = "net") -> dict[str, object]:
    return {"case": {"what": what, "arm": arm, "batch": 8}, "impl": impl, "median_s": seconds}


def test_the_faster_layout_of_a_net_counts():
    rows = [net("a", "torch.dense", 2.0), net("a", "torch.dense (contiguous)", 3.0), net("b", "leandnn", 1.0)]
    rows += [net("a", "torch.dense", 0.5, "pruned layers"), {"case": {"what": "prune"}, "median_s": 9.0}]
    bench = BenchFile({}, rows)
    assert pattern_runs.seconds(bench, "net") == {"a": 2.0, "b": 1.0}
    assert pattern_runs.seconds(bench, "pruned layers") == {"a": 0.5}


def test_a_hierarchy_is_drawn_level_by_level():
    weight = torch.randn(32, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    steps = [hierarchical(weight, ((8, 12), (2, 2))[:n], (0.5, 0.5)[:n]) for n in (1, 2)]
    figure = figures.hierarchy(weight, list(zip(("one", "two"), steps, strict=True)), "NOTE")
    images = [image for ax in figure.axes for image in ax.images]
    shown = [np.asarray(image.get_array().filled(np.nan)) for image in images]
    assert len(shown) == 6  # three steps, whole and enlarged
    for whole, mask in zip(
        shown[::2], (np.ones((32, 72), bool), *(s.mask().numpy() for s in steps)), strict=True
    ):
        assert np.array_equal(np.isfinite(whole), mask)
        assert np.array_equal(whole[mask], weight.flatten(1).abs().numpy()[mask])
    assert shown[1].shape == (16, 24)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert "one: 50.00% of 2,304" in titles and "two: 25.00% of 2,304" in titles
    assert figure.get_suptitle() == "NOTE"


def test_a_matrix_of_one_large_block_is_drawn_too():
    weight = torch.randn(8, 8)
    figures.hierarchy(weight, [("one", hierarchical(weight, (8, 2), (1.0, 0.5)))])


def test_the_trained_layer_is_read_from_the_classifier(tmp_path: Path):
    folder = tmp_path / "features" / "cifar10"
    folder.mkdir(parents=True)
    weight = torch.randn(32, 32, 3, 3)
    safetensors.torch.save_file({figures.LAYER: weight}, folder / "model.safetensors")
    assert torch.equal(figures.trained_layer(tmp_path), weight)


def test_the_name_of_the_trained_layer_is_one_of_the_classifiers():
    from leandnn.models.resnet_small import SmallResNet

    assert SmallResNet().get_parameter(figures.LAYER).shape == (32, 32, 3, 3)
