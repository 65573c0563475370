"""The study's arms: equal in all but their patterns, with the metrics that the claims need."""

from __future__ import annotations

import functools

import pytest
import torch

from leandnn.blocksparse import baselines
from leandnn.blocksparse.connectivity import connectivity, sparse_layers
from leandnn.blocksparse.layers import BlockSparse
from leandnn.blocksparse.study import COMPARISONS as SHARED
from leandnn.data import cifar
from leandnn.models.vgg_small import SmallVGG
from leandnn.models.wide_resnet import WideResNet
from leandnn.params import Budget
from leandnn.rbgp import nets, study
from leandnn.studies.comparison import Make, Scale, Trial
from leandnn.tasks.distillation import Distillation
from leandnn.train import loop
from leandnn.train.optimizer import make_optimizer
from leandnn.train.task import Result


@pytest.fixture(scope="module")
def images() -> cifar.Pair:
    return cifar.synthetic("train", 256), cifar.synthetic("test", 100)


def trial(arm: str | Make, images: cifar.Pair, seed: int = 0, epochs: int = 1) -> Trial:
    make = study.arm(arm) if isinstance(arm, str) else arm
    return make(Budget(epochs, 256, 100), Scale(seed), images)


def trained(made: Trial) -> Result:
    return loop.train(made.task, made.settings, made.hooks)


def test_an_rbgp4_net_differs_in_its_patterns_alone(images):
    ours, shared = trial("rbgp4", images, 3), trial(baselines.trial, images, 3)
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
    result = trained(trial("rbgp4", images))
    wanted = {
        "test_accuracy", "sparsity", "index_bytes", "total_bytes", "inference_macs", "train_macs",
        "spectral_gap", "smallest_gap", "path_share", "path_spread",
    }  # fmt: skip
    assert wanted <= set(result.metrics)
    assert result.metrics["sparsity"] == 0.875
    assert result.metrics["index_bytes"] == sum(p.index_nbytes for p, _ in sparse_layers(result.model))
    control = SHARED["baselines"]
    assert {"unstructured", "block4x4"} <= set(control.arms)


def test_every_arm_of_the_sweep_has_its_sparsity_in_its_layers():
    torch.manual_seed(0)
    own = dict(nets.fixed_net(SmallVGG, 0.75, 0).named_modules())
    for block in nets.RANDOM.values():
        model = nets.fixed_net(SmallVGG, 0.75, 0, functools.partial(nets.random_blocks, block))
        for layer, module in model.named_modules():
            assert isinstance(module, BlockSparse) == isinstance(own[layer], BlockSparse)
            if isinstance(module, BlockSparse):
                assert module.pattern.block == block
                assert module.pattern.sparsity == pytest.approx(0.75, abs=0.04)


def test_arms_of_the_graph_ablation_have_ascending_gaps():
    gaps = []
    for name in ("disconnected", "not-ramanujan", "rbgp4", "hadamard"):
        layers = sparse_layers(nets.fixed_net(SmallVGG, 0.875, 0, functools.partial(nets.single_graph, name)))
        assert len(layers) == 5
        for pattern, window in layers:
            assert window == 9 and pattern.block == (1, 9)
            mask = pattern.mask()
            assert set(mask.sum(1).tolist()) == {pattern.shape[1] // 8}
            assert set(mask.sum(0).tolist()) == {pattern.shape[0] // 8}
        gaps.append(connectivity(layers)["spectral_gap"])
    assert gaps == sorted(gaps)
    assert gaps[0] == pytest.approx(0, abs=1e-6) and gaps[1] < 0.02 < 0.3 < gaps[2] < gaps[3]


def test_values_decay_as_dense_weights_do(images):
    made = trial("rbgp4", images)
    model = made.task.build()
    optimizer = make_optimizer(model, made.settings)
    before = [{id(p) for p in group["params"]} for group in optimizer.param_groups]
    nets.DecayedValues().attach(model, optimizer)
    after = [{id(p) for p in group["params"]} for group in optimizer.param_groups]
    values = {id(m.values) for m in model.modules() if isinstance(m, BlockSparse)}
    assert len(values) == 5
    assert after == [before[0] | values, before[1] - values]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [5e-4, 0.0]


def test_pruned_arms_are_gradual_with_connectivity_measured(images):
    small = functools.partial(WideResNet, 10, 1)
    result = trained(trial(study.arm("block4x4_87", small), images, epochs=2))
    assert result.metrics["sparsity"] == pytest.approx(0.875, abs=0.01)
    assert 0 <= result.metrics["smallest_gap"] < result.metrics["spectral_gap"] < 1
    assert "path_share" not in result.metrics, "a net with shortcuts is no chain"


def test_a_student_learns_from_a_dense_net_of_its_seed(images):
    make, scale = study.COMPARISONS["distillation"].arms["distilled"], Scale(5)
    plain, taught = trial("rbgp4", images, 5), make(study.Distilled(1, 256, 100, 4.0, 0.9), scale, images)
    assert isinstance(taught.task, Distillation)
    assert taught.settings == plain.settings
    teacher = trained(trial("dense", images, 5)).model.state_dict()
    assert all(torch.equal(value, teacher[name]) for name, value in taught.task.teacher.state_dict().items())
    alone = make(study.Distilled(1, 256, 100, 2.0, 0.0), scale, images)
    assert (alone.task.temperature, alone.task.weight) == (2.0, 0.0)
    results = [trained(one) for one in (plain, taught, alone)]
    assert results[2].weights_sha256 == results[0].weights_sha256 != results[1].weights_sha256
    assert results[1].metrics["sparsity"] == 0.875


def test_the_papers_nets_are_built_at_full_size():
    for name, parameters in (("vgg19", 20_035_018), ("wrn40_4", 8_949_210)):
        comparison = study.COMPARISONS[name]
        assert list(comparison.arms) == ["dense", "unstructured_87", "block4x4_87", "rbgp4_87"]
        (build,) = comparison.arms["dense"].args
        dense, sparse = build(), nets.fixed_net(build, 0.875, 0)
        assert sum(p.numel() for p in dense.parameters()) == parameters
        pruned = sum(
            m.pattern.shape[0] * m.pattern.shape[1] for m in sparse.modules() if isinstance(m, BlockSparse)
        )
        assert pruned > 0.99 * parameters
        assert sum(p.numel() for p in sparse.parameters()) == parameters - pruned * 7 // 8


def test_an_unknown_pattern_or_graph_is_refused(images):
    with pytest.raises(ValueError, match="pattern 'spirals' is unknown, expected one of random, random4x4"):
        study.arm("spirals")
    with pytest.raises(ValueError, match="graph 'moore' is unknown, expected one of rbgp4, hadamard"):
        trained(trial(study.graph_arm("moore"), images))
