"""Whole nets: which layers become sparse, what is reported of the others, variance, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leandnn.blocksparse import BlockSparseConv2d, BlockSparseLinear
from leandnn.models.vgg import VGG19
from leandnn.models.vgg_small import SmallVGG
from leandnn.rbgp import BipartiteGraph, plan, rbgp4, sparsify


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 64, 3),
        nn.Conv2d(64, 64, 3),
        nn.Conv2d(64, 64, 3, groups=4),
        nn.Conv2d(64, 67, 3),
        nn.Conv2d(67, 32, 1),
        nn.Flatten(),
        nn.Linear(32, 64),
        nn.Linear(64, 10),
    )


def test_the_report_names_every_layer_and_why_one_stays_dense():
    found = {layer.name: layer for layer in plan(net(), 0.75).layers}
    assert list(found) == ["0", "1", "2", "3", "4", "6", "7"]
    assert found["0"].note == found["7"].note == "kept"
    assert found["2"].note == "4 groups"
    assert "67 × 64 RBGP4 pattern of sparsity 0.75" in found["3"].note
    assert all(found[name].pattern is None for name in "02347")
    assert found["1"].pattern == rbgp4(64, 64, 0.75, kernel=(3, 3), seed=2)
    assert found["6"].pattern is not None and found["6"].pattern.shape == (64, 32)
    text = str(plan(net(), 0.75))
    assert len(text.splitlines()) == 8
    assert "dense: 4 groups" in text and "nearest reachable" in text


def test_sparsify_converts_by_plan_and_keeps_the_variance():
    model = net()
    dense = model[1].weight.detach().clone()
    found = sparsify(model, 0.75)
    assert isinstance(model[1], BlockSparseConv2d) and isinstance(model[6], BlockSparseLinear)
    assert type(model[3]) is nn.Conv2d
    pattern = found.patterns["1"]
    torch.testing.assert_close(model[1].values.detach(), 2 * pattern.gather(dense))
    plain = net()
    sparsify(plain, 0.75, rescale=False)
    assert torch.equal(plain[1].values, pattern.gather(dense))


def test_sparsity_and_index_are_those_of_the_sparse_layers():
    found = plan(VGG19(), 0.875)
    assert found.sparsity == 0.875
    assert len(found.patterns) == 15
    assert found.index_nbytes == sum(pattern.index_nbytes for pattern in found.patterns.values())
    assert found.index_nbytes < 2000, "17.5 million weights have patterns of less than 2 KB"
    assert plan(nn.Sequential(nn.Linear(4, 4)), 0.5).sparsity == 0


def test_every_pattern_has_ramanujan_factors_of_its_own():
    patterns = plan(SmallVGG(), 0.875, seed=3).patterns
    for pattern in patterns.values():
        outer, _, inner, _ = (BipartiteGraph(factor) for factor in pattern.factors)
        assert outer.is_ramanujan() and inner.is_ramanujan()
    same_shape = list(plan(VGG19(), 0.875).patterns.values())[-2:]
    assert same_shape[0] != same_shape[1], "layers of one shape draw different graphs"
    assert plan(SmallVGG(), 0.875, seed=4).patterns != patterns
    assert plan(SmallVGG(), 0.875, seed=3).patterns == patterns


def test_other_lifts_are_taken_and_noted_where_even_ones_fail():
    layers = {layer.name: layer for layer in plan(SmallVGG(), 0.875).layers}
    thin = layers["features.4"]
    assert thin.pattern is not None and thin.note == "lifts (3, 0)"
    assert thin.pattern.sparsity == 0.875
    assert layers["features.18"].note == ""


def test_wanted_sizes_come_first_others_where_they_do_not_fit():
    model = nn.Sequential(nn.Linear(3, 96), nn.Linear(96, 128), nn.Linear(128, 200), nn.Linear(200, 4))
    found = {layer.name: layer for layer in plan(model, 0.5, sizes=[((1, 1), (16, 16))]).layers}
    assert found["1"].pattern is not None and found["1"].pattern.block == (16, 16)
    assert found["1"].note == ""
    assert found["2"].pattern is not None and found["2"].pattern.block != (16, 16)
    assert found["2"].note == "sizes as fit"


def test_lifts_are_random_where_fixed_ones_miss_the_bound():
    sizes = [((1, 1), (1, 1))]
    found = {n.name: n for n in plan(SmallVGG(), 0.875, sizes=sizes, construction="hadamard").layers}
    assert "random lifts" in found["features.8"].note  # G_o there has degree 2
    wide = plan(
        nn.Sequential(nn.Linear(3, 3), nn.Linear(256, 256), nn.Linear(3, 3)), 0.75, construction="hadamard"
    )
    assert wide.layers[1].note == ""


def test_layers_to_keep_can_be_named():
    found = {layer.name: layer for layer in plan(net(), 0.75, dense=["1"]).layers}
    assert found["1"].note == "kept"
    assert found["7"].pattern is None and found["7"].note != "kept"
    with pytest.raises(ValueError, match="no linear or convolution layer 5, nine"):
        plan(net(), 0.75, dense=["nine", "5"])


@pytest.mark.parametrize(
    ("sparsity", "words"),
    [
        (0.7, "sparsity is 0.7, expected 1 − 2.−k such as 0.75"),
        (1.0, "sparsity is 1.0"),
        (-1.0, "sparsity is -1.0"),
    ],
)
def test_other_sparsities_are_refused_and_the_model_stays(sparsity: float, words: str):
    model = net()
    with pytest.raises(ValueError, match=words):
        sparsify(model, sparsity)
    assert type(model[1]) is nn.Conv2d


def test_a_model_without_layers_has_an_empty_plan():
    assert plan(nn.ReLU(), 0.5).layers == ()
    assert plan(nn.ReLU(), 0.5).patterns == {}
