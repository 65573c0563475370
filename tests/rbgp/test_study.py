"""The study's arms: equal in all but their patterns, with the metrics that the claims need."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from leandnn.blocksparse import baselines
from leandnn.blocksparse.connectivity import connectivity, sparse_layers
from leandnn.blocksparse.layers import BlockSparse
from leandnn.blocksparse.study import COMPARISONS as SHARED
from leandnn.data import cifar
from leandnn.models.vgg_small import SmallVGG
from leandnn.models.wide_resnet import WideResNet
from leandnn.params import TrainBudget
from leandnn.rbgp import nets, study
from leandnn.tasks.distillation import Distillation
from leandnn.train import loop
from leandnn.train.optimizer import make_optimizer


@pytest.fixture(scope="module")
def images() -> tuple[cifar.Images, cifar.Images]:
    return cifar.synthetic("train", 256), cifar.synthetic("test", 100)


def test_an_rbgp4_net_differs_from_the_shared_one_in_its_patterns_alone(images):
    ours, shared = study.trial("rbgp4", 3, *images, epochs=2), baselines.trial(3, *images, epochs=2)
    assert ours.settings == shared.settings
    torch.manual_seed(3)
    sparse = ours.task.build()
    torch.manual_seed(3)
    dense = shared.task.build()
    for name, module in sparse.named_modules():
        if isinstance(module, BlockSparse):
            weight = dense.get_submodule(name).weight
            torch.testing.assert_close(module.values, 8**0.5 * module.pattern.gather(weight))
    names = {name for name, _ in dense.named_parameters() if name in dict(sparse.named_parameters())}
    assert {"features.0.weight", "classifier.weight", "features.1.weight"} <= names
    for name in names:
        assert torch.equal(sparse.get_parameter(name), dense.get_parameter(name))
    mine, theirs = (next(iter(trial.task.batches(1, 0))) for trial in (ours, shared))
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_a_run_has_the_metrics_that_claims_and_figures_need(images):
    trial = study.trial("rbgp4", 0, *images, epochs=1)
    result = loop.train(trial.task, trial.settings, trial.hooks)
    wanted = {
        "test_accuracy", "sparsity", "index_bytes", "total_bytes", "inference_macs", "train_macs",
        "spectral_gap", "smallest_gap", "path_share", "path_spread",
    }  # fmt: skip
    assert wanted <= set(result.metrics)
    assert result.metrics["sparsity"] == 0.875
    assert result.metrics["index_bytes"] == sum(p.index_nbytes for p, _ in sparse_layers(result.model))
    control = SHARED["baselines"]
    assert {"unstructured", "block4x4"} <= set(control.arms)


def test_every_arm_of_the_sweep_has_its_sparsity_in_the_same_layers():
    torch.manual_seed(0)
    own = dict(nets.fixed_net(SmallVGG, 0.75, 0).named_modules())
    for name, block in nets.RANDOM.items():
        model = nets.fixed_net(SmallVGG, 0.75, 0, nets.random_blocks(name))
        for layer, module in model.named_modules():
            assert isinstance(module, BlockSparse) == isinstance(own[layer], BlockSparse)
            if isinstance(module, BlockSparse):
                assert module.pattern.block == block
                assert module.pattern.sparsity == pytest.approx(0.75, abs=0.04)


def test_arms_of_the_graph_ablation_have_one_degree_and_ascending_gaps():
    gaps = []
    for name in ("disconnected", "not-ramanujan", "rbgp4", "hadamard"):
        layers = sparse_layers(nets.fixed_net(SmallVGG, 0.875, 0, nets.single_graph(name)))
        assert len(layers) == 5
        for pattern, window in layers:
            assert window == 9 and pattern.block == (1, 9)
            mask = pattern.mask()
            assert set(mask.sum(1).tolist()) == {pattern.shape[1] // 8}
            assert set(mask.sum(0).tolist()) == {pattern.shape[0] // 8}
        gaps.append(connectivity(layers)["spectral_gap"])
    assert gaps == sorted(gaps)
    assert gaps[0] == pytest.approx(0, abs=1e-6) and gaps[1] < 0.02 < 0.3 < gaps[2] < gaps[3]


def test_values_decay_as_dense_weights_do_and_nothing_else_changes_its_group(images):
    trial = study.trial("rbgp4", 0, *images, epochs=1)
    model = trial.task.build()
    optimizer = make_optimizer(model, trial.settings)
    before = [{id(p) for p in group["params"]} for group in optimizer.param_groups]
    nets.DecayedValues().attach(model, optimizer)
    after = [{id(p) for p in group["params"]} for group in optimizer.param_groups]
    values = {id(m.values) for m in model.modules() if isinstance(m, BlockSparse)}
    assert len(values) == 5
    assert after == [before[0] | values, before[1] - values]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [5e-4, 0.0]


def test_pruned_arms_are_gradual_pruning_with_connectivity_measured(images):
    trial = study.trial("block4x4_87", 0, *images, epochs=2, build=lambda: WideResNet(10, 1))
    result = loop.train(trial.task, trial.settings, trial.hooks)
    assert result.metrics["sparsity"] == pytest.approx(0.875, abs=0.01)
    assert 0 <= result.metrics["smallest_gap"] < result.metrics["spectral_gap"] < 1
    assert "path_share" not in result.metrics, "a net with shortcuts is no chain"


def test_a_distilled_student_learns_from_a_dense_net_of_its_own_seed(monkeypatch: pytest.MonkeyPatch, images):
    monkeypatch.setattr(baselines, "images", lambda budget: images)
    budget = TrainBudget(1, 256, 100, (0,))
    make = study.COMPARISONS["distillation"].make
    plain, taught = study.trial("rbgp4", 5, *images, epochs=1), make("distilled", 5, budget, 1, "cpu")
    assert isinstance(taught.task, Distillation)
    assert taught.settings == plain.settings
    dense = study.trial("dense", 5, *images, epochs=1)
    teacher = loop.train(dense.task, dense.settings, dense.hooks).model.state_dict()
    assert all(torch.equal(value, teacher[name]) for name, value in taught.task.teacher.state_dict().items())
    terms = dataclasses.make_dataclass(
        "Terms", [("temperature", float, 2.0), ("weight", float, 0.0)], bases=(TrainBudget,), frozen=True
    )
    alone = make("distilled", 5, terms(1, 256, 100, (0,)), 1, "cpu")
    assert (alone.task.temperature, alone.task.weight) == (2.0, 0.0)
    results = [loop.train(t.task, t.settings, t.hooks) for t in (plain, taught, alone)]
    assert results[2].weights_sha256 == results[0].weights_sha256 != results[1].weights_sha256
    assert results[1].metrics["sparsity"] == 0.875


def test_the_papers_nets_are_built_at_full_size(images):
    for name, parameters in (("vgg19", 20_035_018), ("wrn40_4", 8_949_210)):
        comparison = study.COMPARISONS[name]
        assert comparison.arms == ("dense", "unstructured_87", "block4x4_87", "rbgp4_87")
        build = comparison.make.keywords["build"]
        dense, sparse = build(), nets.fixed_net(build, 0.875, 0)
        assert sum(p.numel() for p in dense.parameters()) == parameters
        pruned = sum(
            m.pattern.shape[0] * m.pattern.shape[1] for m in sparse.modules() if isinstance(m, BlockSparse)
        )
        assert pruned > 0.99 * parameters
        assert sum(p.numel() for p in sparse.parameters()) == parameters - pruned * 7 // 8


def test_comparisons_name_what_exists():
    from leandnn import paths

    assert study.COMPARISONS["patterns"].arms == ("rbgp4",)
    assert {"rbgp4", "not-ramanujan"} <= set(study.COMPARISONS["connectivity"].arms)
    for comparison in study.COMPARISONS.values():
        assert comparison.code == study.CODE, "one stage, one list"
        for entry in comparison.code:
            assert (paths.PACKAGE / entry).exists(), entry


def test_an_unknown_pattern_is_refused(images):
    with pytest.raises(ValueError, match="pattern 'spirals' is unknown, expected one of random, random4x4"):
        study.trial("spirals", 0, *images, epochs=1)
    with pytest.raises(ValueError, match="graph 'moore' is unknown, expected one of rbgp4, hadamard"):
        study.graph_trial("moore", 0, *images, epochs=1)
