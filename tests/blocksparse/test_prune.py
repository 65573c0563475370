"""Gradual pruning: the schedule, what is kept, that the pruned stays zero, resuming, and costs by hand."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from leandnn.blocksparse import BlockSparseConv2d, Pattern, convert, prune, study
from leandnn.blocksparse.baselines import selection
from leandnn.blocksparse.footprint import Footprint, dense_macs
from leandnn.blocksparse.prune import GradualPruning
from leandnn.data import cifar
from leandnn.models.vgg_small import SmallVGG
from leandnn.params import Budget
from leandnn.studies.comparison import Scale
from leandnn.train import loop


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(0)))


def net() -> nn.Module:
    return SmallVGG(widths=(8, 8, 16), pools=(0, 1))


def test_the_schedule_is_zhu_and_guptas():
    assert prune.cubic(0.8, 0.0) == 0.0
    assert prune.cubic(0.8, 1.0) == 0.8
    assert prune.cubic(0.8, 0.5) == pytest.approx(0.8 * (1 - 0.125))
    rises = [prune.cubic(0.8, i / 10) for i in range(11)]
    steps = [b - a for a, b in itertools.pairwise(rises)]
    assert steps == sorted(steps, reverse=True)  # most at first


def test_single_weights_of_the_largest_magnitude_stay():
    weight = parameter(8, 2, 3, 3)
    pattern = prune.unstructured(0.75)(weight, 1.0)
    assert pattern.nnz == 36 and pattern.kind == "unstructured"
    magnitudes, mask = weight.detach().abs().flatten(1), pattern.mask()
    assert magnitudes[mask].min() > magnitudes[~mask].max()
    half = prune.unstructured(0.75)(weight, 0.5)
    assert half.nnz == round((1 - 0.75 * 0.875) * 144)


def test_blocks_of_the_largest_sum_stay():
    weight = parameter(8, 2, 2, 4)
    pattern = prune.blocks((4, 2), 0.75)(weight, 1.0)
    sums = weight.detach().abs().flatten(1).view(2, 4, 8, 2).sum((1, 3))
    kept = pattern.mask()[::4, ::2]
    assert pattern.block == (4, 2) and int(kept.sum()) == 4
    assert sums[kept].min() > sums[~kept].max()


def test_blocks_that_do_not_divide_and_unknown_ones_are_refused():
    with pytest.raises(ValueError, match=r"blocks of \(4, 4\) do not divide the 8 × 18 weight"):
        prune.blocks((4, 4), 0.5)(parameter(8, 2, 3, 3), 1.0)
    for name in ("ring", "block4", "blockx4", "4x4"):
        with pytest.raises(ValueError, match=f"pattern '{name}' is unknown"):
            selection(name, 0.5)


@pytest.mark.parametrize(
    ("start", "end", "times"), [(0.5, 0.5, 3), (-0.1, 0.5, 3), (0.1, 1.0, 3), (0.1, 0.5, 0)]
)
def test_schedules_that_cannot_be_kept_are_refused(start: float, end: float, times: int):
    with pytest.raises(ValueError, match="expected at least once and 0 ≤ start < end < 1"):
        GradualPruning(prune.unstructured(0.5), start=start, end=end, times=times)


def test_a_layer_that_the_model_does_not_have_is_refused():
    hook = GradualPruning(prune.unstructured(0.5), layers=("features.0", "features.1", "nowhere"))
    model = net()
    with pytest.raises(ValueError, match=r"no dense layer features\.1, nowhere to prune"):
        hook.attach(model, torch.optim.SGD(model.parameters(), lr=0.1))


def test_first_and_last_layers_are_not_pruned():
    model = net()
    assert list(prune.prunable(model)) == ["features.4", "features.8"]
    pattern = Pattern.unstructured(torch.ones(8, 72, dtype=torch.bool))
    convert(model, {"features.4": pattern})
    assert isinstance(prune.prunable(model)["features.4"], BlockSparseConv2d)


class _Steps:
    """A pruned net that takes SGD steps by hand, with the loop's order of calls."""

    def __init__(self, select: prune.Select, total: int = 20, **schedule: float) -> None:
        torch.manual_seed(0)
        self.model, self.total = net(), total
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
        self.hook = GradualPruning(select, **schedule)  # type: ignore[arg-type]
        self.hook.attach(self.model, self.optimizer)

    def step(self, i: int) -> None:
        generator = torch.Generator().manual_seed(i)
        images = torch.randn(8, 3, 32, 32, generator=generator)
        loss = self.model(images).square().mean()
        gradients = torch.autograd.grad(loss, list(self.model.parameters()))
        for p, gradient in zip(self.model.parameters(), gradients, strict=True):
            p.grad = gradient
        self.hook.before_update(i / self.total)
        self.optimizer.step()
        self.hook.after_update(i / self.total)


@pytest.mark.parametrize("rule", ["unstructured", "block4x4", "random"])
def test_the_pruned_stays_zero_and_sparsity_follows_the_schedule(rule: str):
    select = prune.unstructured(0.75, "random") if rule == "random" else selection(rule, 0.75)
    run = _Steps(select, start=0.1, end=0.6, times=5)
    before: dict[str, torch.Tensor] = {}
    for i in range(20):
        run.step(i)
        done = min(5, max(0, (i - 2) // 2))
        assert run.hook.done == done
        for name, pattern in run.hook.patterns.items():
            weight = run.model.get_submodule(name).get_parameter("weight").detach().flatten(1)
            assert not weight[~pattern.mask()].any()
            assert pattern.sparsity == pytest.approx(
                prune.cubic(0.75, done / 5), abs=0.5 / pattern.nnz + 0.03
            )
            if rule != "random" and name in before:
                assert not (pattern.mask() & ~before[name]).any()  # no weight comes back
            before[name] = pattern.mask()
    assert {name: p.sparsity for name, p in run.hook.patterns.items()} == {
        "features.4": 0.75,
        "features.8": 0.75,
    }


def test_a_run_without_pruning_events_is_left_alone():
    run = _Steps(prune.unstructured(0.75), start=0.5, end=0.9)
    plain = _Steps(prune.unstructured(0.75), start=0.5, end=0.9)
    plain.hook = type(plain.hook)(prune.unstructured(0.75), layers=(), start=0.5, end=0.9)
    plain.hook.attach(plain.model, plain.optimizer)
    for i in range(10):
        run.step(i)
        plain.step(i)
    assert run.hook.patterns == {}
    for a, b in zip(run.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(a, b)


IMAGES = 256  # two batches an epoch


def trained(arm: str, path: Path | None = None, progress: loop.Progress | None = None) -> loop.Result:
    images = cifar.synthetic("train", IMAGES), cifar.synthetic("test", 50)
    trial = study.COMPARISONS["baselines"].arms[arm](Budget(4, IMAGES, 50), Scale(3), images)
    return loop.train(
        trial.task,
        trial.settings,
        trial.hooks,
        checkpoint_path=path,
        checkpoint_every_s=-1.0,
        progress=progress,
    )


class Killed(Exception):
    """Stands for a SIGKILL."""


def test_a_killed_run_resumes_to_the_same_bits_and_costs(tmp_path: Path):
    unbroken = trained("block4x4")

    def kill(done: int, total: int, text: str) -> None:
        if done == 4:
            raise Killed

    path = tmp_path / "run.ckpt"
    with pytest.raises(Killed):
        trained("block4x4", path, kill)
    resumed = trained("block4x4", path)
    assert resumed.weights_sha256 == unbroken.weights_sha256
    assert resumed.metrics == unbroken.metrics


def test_costs_of_the_shared_arms_by_hand():
    prunable = 9 * (16 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128)
    others = 9 * 3 * 16 + 2 * (16 + 32 + 64 + 64 + 128 + 128) + 128 * 10 + 10
    statistics = 2 * (16 + 32 + 64 + 64 + 128 + 128)
    macs = {"first": 432 * 1024, "last": 1280}
    inner = 9 * (512 * 256 + 2048 * 64 + 4096 * 64 + 8192 * 16 + 16384 * 16)

    dense = trained("dense").metrics
    assert dense["sparsity"] == 0 and dense["index_bytes"] == 0
    assert dense["total_bytes"] == 4 * (prunable + others + statistics)
    assert dense["inference_macs"] == sum(macs.values()) + inner
    assert dense["train_macs"] == 8 * 128 * 3 * dense["inference_macs"]  # updates, samples

    block = trained("block4x4").metrics
    assert block["sparsity"] == 0.875
    blocks = [
        (32 * 144) // 128,
        (64 * 288) // 128,
        (64 * 576) // 128,
        (128 * 576) // 128,
        (128 * 1152) // 128,
    ]
    rows = [8, 16, 16, 32, 32]
    assert block["index_bytes"] == sum(2 * (r + 1) + 2 * b for r, b in zip(rows, blocks, strict=True))
    assert block["total_bytes"] == 4 * (prunable // 8 + others + statistics) + block["index_bytes"]
    assert block["inference_macs"] == sum(macs.values()) + inner // 8
    # Eight updates, progress i/8; of 20 prunings from 0.1 to 0.6 these are done, each seen by its own update.
    done = [0, 1, 6, 11, 16, 20, 20, 20]
    densities = [1 - prune.cubic(0.875, d / 20) for d in done]
    expected = sum(3 * sum(macs.values()) + inner * (2 * d + 1) for d in densities) * 128
    assert block["train_macs"] == pytest.approx(expected, rel=0.002)  # counts of blocks are whole

    single = trained("unstructured").metrics
    assert single["sparsity"] == 0.875
    assert single["index_bytes"] == 2 * (32 + 64 + 64 + 128 + 128 + 5) + 2 * prunable // 8


def test_a_converted_net_costs_what_its_patterns_say():
    model = SmallVGG()
    generator = torch.Generator().manual_seed(0)
    patterns = {
        name: Pattern.random_blocks(*module.get_parameter("weight").flatten(1).shape, (4, 4), 0.75, generator)
        for name, module in prune.prunable(model).items()
    }
    dense = dense_macs(model)
    convert(model, patterns)
    assert dense_macs(model) == dense
    hook = Footprint(batch_size=1)
    hook.attach(model, torch.optim.SGD(model.parameters(), lr=0.1))
    hook.before_update(0.0)
    found = hook.epoch_end(0)
    assert found["sparsity"] == 0.75
    assert found["train_macs"] == 3 * found["inference_macs"]
    state = [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]
    assert found["total_bytes"] == 4 * sum(t.numel() for t in state) + found["index_bytes"]
    inner = sum(n for name, n in dense.items() if name in patterns)
    assert found["inference_macs"] == sum(dense.values()) - inner + inner // 4


def test_counting_leaves_the_model_as_it_was():
    model = net().train()
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    dense_macs(model)
    assert model.training and not norm.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_every_arm_of_every_comparison_can_be_made():
    images = cifar.synthetic("train", IMAGES), cifar.synthetic("test", 50)
    for comparison in study.COMPARISONS.values():
        assert comparison.paper == "blocksparse"
        for make in comparison.arms.values():
            assert make(Budget(1, IMAGES, 50), Scale(7), images).settings.seed == 7
    assert list(study.COMPARISONS["baselines"].arms) == ["dense", "unstructured", "block4x4"]
    assert len(set(study.SWEEP)) == len(study.SWEEP) == 10
