"""AutoSparse on a model: what is parametrised, targets, floors, and in the loop resuming to the same bits."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from tests.autosparse.problems import SETTINGS, Killed, Shapes, killed_at
from torch import nn

from leandnn.autosparse import AutoSparse, Options, layers, target
from leandnn.autosparse.accounting import Accounting
from leandnn.autosparse.hooks import Learned
from leandnn.errors import LeandnnError
from leandnn.train.loop import train

EXCLUDE = ("0", "12")
IMAGE = (3, 8, 8)
GENTLE = dataclasses.replace(SETTINGS, lr=0.02)


def model() -> nn.Module:
    torch.manual_seed(0)
    return Shapes().build()


def learned(**changes: object) -> tuple[Learned, Accounting]:
    hook = Learned(Options(exclude=EXCLUDE, **changes))  # type: ignore[arg-type]
    return hook, Accounting(hook, batch_size=16, input_shape=IMAGE)


def test_weights_are_thresholded_on_the_optimizers_parameters():
    net = model()
    before = dict(net.named_parameters())
    plain = net[3].weight.detach().clone()
    sparse = AutoSparse(net, exclude=EXCLUDE, init=-3.0)
    assert list(sparse.layers) == ["3", "7"]
    assert sparse.original("3") is before["3.weight"]
    cut = torch.sigmoid(torch.tensor(-3.0))
    assert torch.equal(net[3].weight, plain - plain.clamp(-cut, cut))
    assert net[0].weight is before["0.weight"]
    zeros = sum(int((net[i].weight == 0).sum()) for i in (3, 7))
    assert sparse.sparsity() == pytest.approx(zeros / (net[3].weight.numel() + net[7].weight.numel()))


def test_remove_leaves_the_sparse_weights_in_a_plain_model():
    net = model().eval()
    sparse = AutoSparse(net, exclude=EXCLUDE, init=-3.0)
    x = torch.randn(2, 3, 8, 8)
    before, sparsity = net(x), sparse.sparsity()
    assert sparse.remove() is net
    assert set(net.state_dict()) == set(model().state_dict())
    assert torch.equal(net(x), before)
    assert 0.2 < float((net[7].weight == 0).double().mean()) < 1
    assert sparsity > 0.2


@pytest.mark.parametrize("per", ["layer", "channel"])
def test_scores_have_the_granularity_asked_for_and_learn(per: str):
    hook, record = learned(per=per, init=-3.0)
    result = train(Shapes(), SETTINGS, (hook, record))
    scores = {name: gate.score for name, gate in hook.sparse.gates.items()}
    assert {tuple(s.shape) for s in scores.values()} == {(1,)} if per == "layer" else {(16, 1, 1, 1)}
    assert all(float((s.detach() + 3).abs().min()) > 1e-4 for s in scores.values())
    assert result.metrics["test_accuracy"] > 0.5


@pytest.mark.parametrize("threshold", ["soft", "step"])
@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.95])
def test_a_requested_sparsity_is_met_within_a_point_at_the_end(wanted: float, threshold: str):
    hook, record = learned(target=wanted, threshold=threshold, every=2)
    result = train(Shapes(), GENTLE, (hook, record))
    assert result.metrics["sparsity"] == pytest.approx(wanted, abs=0.01)
    counted = sum(int((result.model[i].weight == 0).sum()) for i in (3, 7))
    assert counted / (16 * 8 * 9 + 16 * 16 * 9) == pytest.approx(wanted, abs=0.01)


def test_a_target_leaves_layers_differences_to_the_training():
    hook, record = learned(target=0.8)
    result = train(Shapes(), SETTINGS, (hook, record))
    assert abs(result.metrics["density:3"] - result.metrics["density:7"]) > 0.01
    shifts = {float(gate.shift) for gate in hook.sparse.gates.values()}
    assert len(shifts) == 1


def test_left_free_decay_on_s_is_what_brings_sparsity():
    def final(decay: float) -> float:
        hook, record = learned(alpha=0.0, schedule="zero", decay=decay, init=-5.0)
        return train(Shapes(), GENTLE, (hook, record)).metrics["sparsity"]

    assert final(0.2) > final(0.0) + 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"target": 0.8}, {"per": "channel", "threshold": "step", "penalty": 1e-3}]
)
@pytest.mark.parametrize("kill_at", [7, 40, 95])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, changes: dict[str, object], kill_at: int):
    unbroken = train(Shapes(), SETTINGS, learned(**changes))
    path = tmp_path / "run.ckpt"
    with pytest.raises(Killed):
        train(
            Shapes(), SETTINGS, learned(**changes), checkpoint_path=path, checkpoint_every_s=-1.0,
            progress=killed_at(kill_at),
        )  # fmt: skip
    torch.manual_seed(1)
    resumed = train(Shapes(), SETTINGS, learned(**changes), checkpoint_path=path)
    assert resumed.weights_sha256 == unbroken.weights_sha256
    assert resumed.history == unbroken.history


def test_alpha_decides_what_masked_weights_receive():
    def masked_share(**changes: object) -> float:
        hook, record = learned(target=0.8, reached=0.3, every=2, zero_from=None, **changes)
        return train(Shapes(), GENTLE, (hook, record)).history[0]["masked_gradient"]

    assert masked_share(alpha=0.0) == 0
    assert masked_share(alpha=1.0, schedule="constant") > masked_share(alpha=0.3, schedule="constant") > 0.01


def test_weights_return_only_while_gradients_reach_them():
    def returned(schedule: str) -> float:
        options = Options(exclude=EXCLUDE, alpha=1.0, schedule=schedule, init=-3.0, zero_from=None, every=5)
        settings = dataclasses.replace(GENTLE, momentum=0.0)
        return train(Shapes(), settings, (Learned(options),)).history[0]["returned"]

    assert returned("zero") == 0, "though thresholds move, too"
    assert returned("constant") > 0


def test_a_layer_under_its_threshold_is_reported_and_held():
    net = model()
    sparse = AutoSparse(net, exclude=EXCLUDE, every=1)
    with torch.no_grad():
        sparse.gates["7"].score.fill_(20.0)  # T almost 1, far above every weight
    assert sparse.densities()["7"] == 0
    with pytest.warns(
        UserWarning, match="0 weights of layer 7 are above its threshold: it is held at 2 of 2304"
    ):
        sparse.update(0.1)
    assert round(sparse.densities()["7"] * 2304) == target.kept_at_least(2304) == 2
    kept, sizes = net[7].weight != 0, sparse.original("7").abs()
    assert sizes[kept].min() >= sizes[~kept].max()
    assert sparse.at_floor == {"7"}
    sparse.update(0.2)  # reported once


def test_a_target_out_of_reach_of_grown_weights_stops_the_run():
    sparse = AutoSparse(model(), exclude=EXCLUDE, every=1, target=0.9)
    with torch.no_grad():
        sparse.original("7").fill_(2.0)
    with pytest.raises(
        LeandnnError, match=r"sparsity of 90\.0000% cannot be reached after 1 updates.*1 or larger"
    ):
        sparse.update(1.0)


def test_a_threshold_that_is_not_finite_stops_the_run_by_name():
    sparse = AutoSparse(model(), exclude=EXCLUDE, every=1)
    with torch.no_grad():
        sparse.gates["3"].score.fill_(float("nan"))
    with pytest.raises(LeandnnError, match="threshold of layer 3 is not finite after 1 updates"):
        sparse.update(0.1)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"target": 0.9999}, r"99\.9900% cannot be reached.*at least one.*allows 99\.9"),
        ({"target": 1.5}, "target sparsity is 1.5"),
        ({"target": float("nan")}, "target sparsity is nan"),
        ({"alpha": -0.1}, "alpha is -0.1"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"schedule": "steps"}, "'steps' is unknown"),
        ({"init": float("inf")}, "init inf"),
        ({"every": 0}, "every is 0"),
        ({"backward_sparsity": 1.0}, "backward_sparsity is 1.0"),
        ({"backward_sparsity": 0.5, "threshold": "step"}, "expected soft"),
        ({"annealed": False}, "that is STR"),
        ({"exclude": ("0", "13")}, "no layer '13' to exclude; near it: .*12"),
        ({"exclude": ("*",)}, "no layer is left"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], match: str):
    net = model()
    with pytest.raises(ValueError, match=match):
        AutoSparse(net, **{"exclude": EXCLUDE, **changes})
    assert set(net.state_dict()) == set(model().state_dict()), "the model is as it was"


def test_layers_are_excluded_by_name_pattern_and_parent():
    net = nn.ModuleDict({"a": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "b": nn.Linear(2, 2)})
    assert list(layers.choose(net)) == ["a.0", "a.1", "b"]
    assert list(layers.choose(net, ("a",))) == ["b"]
    assert list(layers.choose(net, ("*.1",))) == ["a.0", "b"]
    assert layers.ends(net) == ("a.0", "b")


def test_tied_weights_are_refused_unless_they_are_excluded():
    net = nn.ModuleDict({"a": nn.Embedding(5, 4), "b": nn.Linear(4, 5, bias=False), "c": nn.Linear(4, 4)})
    net["b"].weight = net["a"].weight
    with pytest.raises(ValueError, match="a and b share a weight"):
        layers.choose(net)
    assert list(layers.choose(net, ("b",))) == ["c"]


def test_ramp_starts_and_ends_where_it_should():
    assert target.ramp(0.0, 0.1, 0.8, 0.5) == pytest.approx(0.1)
    assert target.ramp(0.25, 0.0, 0.8, 0.5) == pytest.approx(0.8 * 7 / 8)
    assert target.ramp(0.5, 0.1, 0.8, 0.5) == target.ramp(1.0, 0.1, 0.8, 0.5) == 0.8
    assert target.ramp(0.0, 0.1, 0.8, 0.0) == 0.8


def test_shift_masks_exactly_the_share_asked_for():
    weight = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 0.1
    score = torch.tensor([-2.0])
    distances = target.distances(weight, score, soft=True)
    for share in (0.0, 0.001, 0.5, 0.999):
        cut = torch.sigmoid(score + target.shift_for([distances], share))
        assert int((weight.abs() <= cut).sum()) == pytest.approx(1000 * share, abs=1)


def test_a_loop_of_ones_own_needs_only_three_calls():
    task, net = Shapes(), model()
    before = copy.deepcopy(net.state_dict())
    sparse = AutoSparse(net, exclude=EXCLUDE, target=0.7)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)  # the scores are among them
    for i, batch in enumerate(task.batches(0, 0)):
        optimizer.zero_grad()
        task.loss(net, batch).backward()
        optimizer.step()
        sparse.update((i + 1) / 40)
    sparse.remove()
    zeros = sum(int((net[i].weight == 0).sum()) for i in (3, 7))
    assert zeros / (16 * 8 * 9 + 16 * 16 * 9) == pytest.approx(0.7, abs=0.01)
    assert set(net.state_dict()) == set(before)
