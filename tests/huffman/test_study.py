"""Paper 5's study: the stages of a run, what is counted, and that a killed run goes on with the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from leandnn.data import cifar
from leandnn.errors import LeandnnError
from leandnn.huffman import study
from leandnn.huffman.prune import layers
from leandnn.huffman.stages import Stages, uncoded_bytes
from leandnn.params import Budget
from leandnn.studies.comparison import Scale
from leandnn.train import loop
from leandnn.train.task import Hook, Result

EPOCHS, HIDDEN = 5, 24
IMAGES = 256  # two updates an epoch, so ten in all


def trial(seed: int = 0):
    train, test = cifar.synthetic("train", IMAGES), cifar.synthetic("test", 60)
    return study.arm(hidden=HIDDEN)(Budget(EPOCHS, IMAGES, 60), Scale(seed), (train, test))


class Watch(Hook):
    """Notes learning rates and weights of the last layer, and stops after some updates as a kill would."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after, self.rates, self.weights = stop_after, list[float](), list[torch.Tensor]()

    def attach(self, model, optimizer) -> None:
        self.model, self.optimizer = model, optimizer

    def before_update(self, progress: float) -> None:
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        self.weights.append(layers(self.model)["classifier.6"].weight.detach().clone())

    def after_update(self, progress: float) -> None:
        if len(self.rates) == self.stop_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def finished() -> tuple[Result, Watch, Stages]:
    own, watch = trial(), Watch()
    (hook,) = own.hooks
    return loop.train(own.task, own.settings, (hook, watch)), watch, hook


def test_every_stage_is_measured_and_counted(finished):
    result, _, hook = finished
    metrics = result.metrics
    assert set(hook.columns()) <= set(metrics)
    for name in hook.columns():
        assert metrics[name] > 0 or name.endswith((".fillers", "padding_bits")), name
    sizes = [metrics[f"{stage}_bytes"] for stage in ("dense", "pruned", "shared", "coded")]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 8 * sizes[3]
    assert sizes[0] == 4 * sum(layer.weight.numel() for layer in layers(result.model).values())
    assert metrics["coded_bytes"] < metrics["file_bytes"] < metrics["coded_bytes"] + 30_000
    for stage in ("dense", "pruned", "shared", "coded"):
        parts = [metrics[f"{name}.{stage}_bytes"] for name in layers(result.model)]
        assert sum(parts) == pytest.approx(metrics[f"{stage}_bytes"])
    for name, layer in layers(result.model).items():
        split = ("weight_code", "advance_code", "table", "row", "padding")
        bits = sum(metrics[f"{name}.{part}_bits"] for part in split)
        assert bits == 8 * metrics[f"{name}.coded_bytes"]
        assert metrics[f"{name}.nonzeros"] == round(study.DENSITY[name] * layer.weight.numel())
        assert len(layer.weight.unique()) <= 1 << study.BITS[name]


def test_the_loaded_file_is_as_accurate_as_the_coded_net(finished):
    metrics = finished[0].metrics
    assert metrics["coded_accuracy"] == metrics["fine_tuned_accuracy"] == metrics["test_accuracy"]


def test_every_epoch_has_the_same_columns_zero_before_a_stage(finished):
    first, *_, last = finished[0].history
    assert list(first) == list(last)
    assert first["dense_accuracy"] == first["coded_bytes"] == 0
    assert finished[0].history[2]["dense_accuracy"] > 0 and finished[0].history[2]["coded_bytes"] == 0


def test_the_control_starts_and_trains_as_the_compressed_net(finished):
    _, watch, hook = finished
    dense, control, retrained, end = hook.ends
    assert control - dense == end - control
    weights = watch.weights
    assert not torch.equal(weights[control - 1], weights[dense])  # the control has been trained
    pruned = weights[control]
    assert torch.equal(pruned[pruned != 0], weights[dense][pruned != 0])
    assert (pruned != 0).sum() == round(study.DENSITY["classifier.6"] * pruned.numel())
    assert torch.equal(weights[retrained] == 0, pruned == 0)


def test_every_phase_has_its_own_schedule(finished):
    _, watch, hook = finished
    assert len(watch.rates) == hook.ends[-1]
    for phase, begin, end in zip(study.PHASES, [0, *hook.ends], hook.ends, strict=False):
        own = watch.rates[begin:end]
        assert 0 < min(own) <= max(own) <= phase.lr
        if phase.schedule == "linear":
            assert own == sorted(own, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("kill", [1, 4, 5, 7, 8, 9, 10])
def test_a_killed_run_goes_on_with_the_same_bits(finished, tmp_path: Path, kill: int):
    path = tmp_path / "run.ckpt"
    own = trial()
    arguments = {"checkpoint_path": path, "checkpoint_every_s": 0.0}
    with pytest.raises(KeyboardInterrupt):  # the last checkpoint is of the update before
        loop.train(own.task, own.settings, (*own.hooks, Watch(kill)), **arguments)
    own = trial()
    resumed = loop.train(own.task, own.settings, (*own.hooks, Watch()), **arguments)
    assert resumed.weights_sha256 == finished[0].weights_sha256
    assert resumed.history == finished[0].history


def test_too_few_updates_for_the_phases_are_refused():
    with pytest.raises(LeandnnError, match="a run of 2 updates cannot hold 4 phases that end at"):
        Stages(study.RECIPE, 2, lambda model: {"test_accuracy": 0.0})


def test_the_recipe_names_every_layer_of_the_net():
    net = study.SmallAlexNet(study.CHANNELS, study.HIDDEN)
    found = layers(net)
    assert set(study.DENSITY) == set(study.BITS) == set(found)
    linear = sum(found[name].weight.numel() for name in study.LINEAR)
    assert 0.94 < linear / sum(layer.weight.numel() for layer in found.values()) < 0.97


def plainly(kept: NDArray[np.bool_], value_bits: int) -> float:
    """Entry by entry, for every width."""
    best = float("inf")
    for width in range(1, 9):
        entries = 0
        for row in kept:
            last = -1
            for column in np.flatnonzero(row):
                gap = int(column) - last - 1
                while gap >= 1 << width:
                    gap -= 1 << width
                    entries += 1
                entries, last = entries + 1, int(column)
        best = min(best, entries * (value_bits + width) / 8)
    return best + 2 * len(kept)


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 700), st.sampled_from([1, 5, 32]))
@settings(max_examples=25, deadline=None)
def test_sizes_before_coding_are_those_of_a_count_by_entry(seed: int, rows: int, columns: int, bits: int):
    rng = np.random.default_rng(seed)
    kept = rng.random((rows, columns)) < rng.choice([0.0, 0.01, 0.2, 1.0])
    assert uncoded_bytes(kept, bits) == pytest.approx(plainly(kept, bits))
