"""The study's arms: each prunes every layer of the shared net to exactly its sparsity."""

from __future__ import annotations

import pytest
import torch

from leandnn.blocksparse import prune
from leandnn.data import cifar
from leandnn.hbsnn import study
from leandnn.models.vgg_small import SmallVGG
from leandnn.params import Budget
from leandnn.studies.comparison import Scale
from leandnn.train import loop


@pytest.mark.parametrize("arm", study.FORMS)
def test_every_layer_has_exactly_the_sparsity_of_the_arm(arm: str):
    percent = arm.rpartition("_")[2]
    wanted = {"75": 0.75, "93": 0.9375}.get(percent, 0.875)
    torch.manual_seed(0)
    form = study.FORMS[arm]
    for name, layer in prune.prunable(SmallVGG()).items():
        weight = layer.get_parameter("weight")
        weight.grad = torch.randn_like(weight)
        pattern = form.select(0)(weight, 1.0)
        assert pattern.sparsity == wanted, name
        assert tuple(level.block for level in pattern.levels) == form.blocks
        if form.share == "parent":
            assert [level.density for level in pattern.levels] == pytest.approx(form.densities)


def test_comparisons_hold_every_arm_once():
    arms = [arm for comparison in study.COMPARISONS.values() for arm in comparison.arms]
    assert sorted(arms) == sorted(study.FORMS)
    assert list(study.COMPARISONS["patterns"].arms) == ["hierarchical"]
    assert len(study.COMPARISONS) <= 8


def test_a_run_ends_with_the_pattern_and_what_it_costs():
    images = cifar.synthetic("train", 256), cifar.synthetic("test", 50)
    made = study.COMPARISONS["sparsities"].arms["three_levels_87"](Budget(4, 256, 50), Scale(1), images)
    result = loop.train(made.task, made.settings, made.hooks)
    assert result.metrics["sparsity"] == 0.875
    patterns = made.hooks[0].patterns
    assert result.metrics["index_bytes"] == sum(p.index_nbytes for p in patterns.values())
    for name, pattern in patterns.items():
        weight = result.model.get_parameter(f"{name}.weight").flatten(1)
        assert not weight[~pattern.mask()].any() and bool(weight[pattern.mask()].all())
