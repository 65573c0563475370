"""The table of rounding sites: complete, counted right, and without a trace on the model."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.bf16 import Policy, Rounding, emulate, rounding_sites
from leandnn.bf16.site_report import Place, SiteReport, Tally
from leandnn.errors import LeandnnError
from leandnn.kernels import Format, round_to
from leandnn.models.vision import SmallResNet

BF16 = Rounding("bf16")


class Attentive(nn.Module):
    """A table, a product of activations in no module of its own, dropout, and a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 6)
        self.norm = nn.BatchNorm1d(6)
        self.cell = nn.GRU(6, 5)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        read = self.norm(self.table(x).flatten(0, 1)).view(*x.shape, 6)
        mixed = torch.softmax(read @ read.transpose(1, 2), -1) @ read
        return self.head(self.cell(mixed)[0])


def places(report: SiteReport) -> list[tuple[str, str, str, str]]:
    return [(s.stage, s.module, s.operation, s.tensor) for s in report]


def test_every_place_of_a_step_is_listed_in_order():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    assert places(rounding_sites(net, torch.randn(2, 3, 4, 4))) == [
        ("forward", "0", "conv2d", "x"),
        ("forward", "0", "conv2d", "w"),
        ("forward", "0", "conv2d", "y"),
        ("forward", "3", "linear", "x"),
        ("forward", "3", "linear", "w"),
        ("forward", "3", "linear", "y"),
        ("backward", "3", "linear", "dy"),
        ("backward", "3", "linear", "dx"),
        ("backward", "0", "conv2d", "dy"),
    ]


def test_counts_are_those_of_the_tensors():
    net = nn.Linear(6, 5)
    rows = {s.tensor: s for s in rounding_sites(net, torch.randn(4, 6, requires_grad=True))}
    assert {t: (s.tensors, s.values) for t, s in rows.items()} == {
        "x": (1, 24),
        "w": (1, 30),
        "y": (1, 20),
        "dy": (1, 20),
        "dx": (1, 24),
    }
    assert all((s.role, s.format, s.mode) != ("", "", "") for s in rows.values())


def test_products_of_every_kind_find_their_modules():
    policy = Policy(
        activations_in="bf16",
        activations_out="bf16",
        weights="bf16",
        embeddings="bf16",
        weight_gradients="bf16",
    )
    report = rounding_sites(Attentive(), torch.randint(10, (4, 3)), policy)
    rows = {(s.module, s.operation, s.tensor): s for s in report}
    assert ("table", "embedding", "w") in rows
    assert ("(model)", "matmul", "x") in rows
    assert rows["(model)", "matmul", "y"].tensors == 2
    assert rows["cell", "linear", "y"].tensors == 1 + 4, "one product for the inputs, one a step"
    assert rows["cell", "linear", "w"].tensors == 2, "each weight's working copy is made once"
    assert rows["cell", "linear", "dw"].tensors == 1 + 4
    assert ("head.1", "linear", "x") in rows


def test_an_exempt_layer_has_no_rows():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    report = rounding_sites(net, torch.randn(2, 4), Policy(activations_in="bf16", exempt=("1",)))
    assert {s.module for s in report} == {"0"}


def test_the_control_rounds_nowhere():
    report = rounding_sites(nn.Linear(4, 4), torch.randn(2, 4), Policy.fp32())
    assert len(report) == 0
    assert report.first_non_finite is None


def test_neither_model_nor_inputs_nor_random_numbers_are_touched():
    model = Attentive()
    inputs = torch.randint(10, (4, 3))
    model(inputs).sum().backward()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters()]
    random = torch.get_rng_state()
    rounding_sites(model, inputs, Policy.no_master())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert all(torch.equal(g, p.grad) for g, p in zip(gradients, model.parameters(), strict=True))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert model.training


@pytest.mark.parametrize("policy", [Policy.paper(), Policy.stochastic(seed=3)], ids=["paper", "stochastic"])
def test_the_counted_step_is_the_emulated_step(policy: Policy, monkeypatch: pytest.MonkeyPatch):
    model, x, target = SmallResNet(), torch.randn(2, 3, 32, 32), torch.tensor([1, 2])
    with emulate(model, policy, step=7):
        expected = F.cross_entropy(model(x), target)
    found = []

    def loss(y: Tensor) -> Tensor:
        found.append(F.cross_entropy(y, target))
        return found[0]

    rounding_sites(model, x, policy, loss=loss, step=7)
    assert torch.equal(found[0].detach(), expected.detach())


def test_updates_without_master_weights_list_what_was_lost():
    net = nn.Linear(4, 3)
    report = rounding_sites(
        net, torch.randn(2, 4), Policy.no_master(), optimizer=lambda p: torch.optim.SGD(p, lr=1e-6)
    )
    updates = [s for s in report if s.stage == "update"]
    assert [(s.module, s.operation, s.values) for s in updates] == [
        ("(model)", "weight", 12),
        ("(model)", "bias", 3),
    ]
    assert all(s.lost > 0 for s in updates)
    assert all(s.lost is None for s in report if s.stage != "update")
    assert "updates lost" in report.to_markdown()


def test_the_first_infinity_is_named():
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[1].weight.fill_(100.0)
    report = rounding_sites(net, torch.full((1, 4), 1000.0), Policy.fp16())
    first = report.first_non_finite
    assert (first.stage, first.module, first.tensor) == ("forward", "1", "y")
    assert first.overflows == 4
    assert rounding_sites(net, torch.full((1, 4), 1000.0), Policy.paper()).first_non_finite is None


def tallied(values: list[float], rounding: Rounding) -> Tally:
    x, tally = torch.tensor(values), Tally()
    tally.add(x, round_to(x, rounding.format, rounding.mode), rounding, None)
    return tally


@pytest.mark.parametrize(
    "values, mode, expected",
    [
        ([1.0, 2.0, 0.0], "nearest_even", {}),
        ([1 + 2.0**-12], "nearest_even", {"changed": 1}),
        ([65519.0], "nearest_even", {"changed": 1}),
        ([65520.0, -1e9], "nearest_even", {"changed": 2, "overflows": 2, "non_finite": 2}),
        ([65520.0, 65536.0, -1e9], "toward_zero", {"changed": 3, "overflows": 2}),
        ([2.0**-26, -(2.0**-30)], "nearest_even", {"changed": 2, "zeros": 2}),
        ([2.0**-24, 2.0**-14], "nearest_even", {"subnormals": 1}),
        ([math.inf, math.nan], "nearest_even", {"non_finite": 2}),
    ],
)
def test_what_happens_to_values_is_counted(values, mode, expected):
    tally = tallied(values, Rounding("fp16", mode))
    counts = ("changed", "overflows", "zeros", "subnormals", "non_finite")
    assert {name: getattr(tally, name) for name in counts} == dict.fromkeys(counts, 0) | expected
    assert tally.values == len(values)


def test_relative_errors_are_of_normal_results_alone():
    tally = tallied([1 + 2.0**-9, 4.0, 1e-9, 1e9], Rounding("fp16", "toward_zero"))
    assert tally.normals == 3, "1e9 stops at the largest value"
    tally = tallied([1 + 2.0**-12, 4.0, 2.0**-24 * 1.3], Rounding("fp16"))
    assert tally.normals == 2
    assert tally.error_max == pytest.approx(2.0**-12 / (1 + 2.0**-12))
    assert tally.error_sum == tally.error_max


def test_rows_are_summed_over_the_fields_left_out():
    report = rounding_sites(Attentive(), torch.randint(10, (4, 3)))
    total = report.by("stage")
    assert [s.stage for s in total] == ["forward", "backward"]
    for stage in total:
        rows = [s for s in report if s.stage == stage.stage]
        assert stage.values == sum(s.values for s in rows)
        assert stage.max_error == max(s.max_error for s in rows if not math.isnan(s.max_error))
        assert min(s.mean_error for s in rows) <= stage.mean_error <= max(s.mean_error for s in rows)
        assert stage.module == stage.role == ""
    again = report.by("stage", "role").by("stage")
    assert [s.values for s in again] == [s.values for s in total]
    assert [s.mean_error for s in again] == [pytest.approx(s.mean_error) for s in total]
    with pytest.raises(ValueError, match="'layer' is unknown, expected one of stage, module"):
        report.by("layer")


def test_an_empty_batch_is_refused():
    with pytest.raises(
        ValueError, match=r"the batch is empty: an input has shape \(0, 4\), expected at least one"
    ):
        rounding_sites(nn.Linear(4, 4), torch.empty(0, 4))


def test_the_table_leaves_out_empty_columns():
    report = rounding_sites(nn.Linear(4, 3), torch.randn(2, 4), Policy(weights=Format(4, 3)))
    head, _, row = report.to_markdown().splitlines()
    assert "updates lost" not in head
    assert "| forward | (model) | linear | w | weights | e4m3 | nearest_even | 1 | 12 |" in row
    assert "stage" not in report.by("role").to_markdown().splitlines()[0]


def test_a_place_without_normal_results_has_no_error():
    tallies = {Place("forward", "a", "linear", "x", "activations_in", BF16): tallied([0.0], BF16)}
    report = SiteReport.of(tallies, None)
    assert math.isnan(report.sites[0].mean_error)
    assert "–" in report.to_markdown()


@pytest.mark.parametrize(
    "loss, words", [(lambda y: y, r"the loss is \(2, 4\)"), (lambda y: 1.0, "the loss is float")]
)
def test_a_loss_that_is_no_scalar_is_refused(loss, words: str):
    with pytest.raises(ValueError, match=words):
        rounding_sites(nn.Linear(4, 4), torch.randn(2, 4), loss=loss)


def test_inside_an_emulation_it_is_refused():
    layer = nn.Linear(4, 4)
    with emulate(layer, Policy.paper()), pytest.raises(LeandnnError, match="inside another"):
        rounding_sites(layer, torch.randn(2, 4))


class Summed(nn.Module):
    """A layer whose input comes inside something that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Any) -> Tensor:
        return self.layer(x["x"] if isinstance(x, dict) else x.x if hasattr(x, "_fields") else x[0])


class Pair(NamedTuple):
    x: Tensor
    n: int


@pytest.mark.parametrize("wrap", [lambda x: {"x": x}, lambda x: Pair(x, 1), lambda x: [x]])
def test_inputs_of_every_kind_are_copied(wrap):
    x = torch.randn(2, 4, requires_grad=True)
    rows = list(rounding_sites(Summed(), wrap(x)))
    assert [(s.tensor, s.values) for s in rows] == [("x", 8), ("w", 12), ("y", 6), ("dy", 6), ("dx", 8)]
    assert x.grad is None


def test_a_packed_sequence_is_one_argument():
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(5, 3, 4), [5, 3, 2])
    rows = rounding_sites(nn.GRU(4, 6), packed, loss=lambda result: result[0].data.sum())
    assert next(iter(rows)).values == 10 * (4 + 6)  # inputs and states of the ten rows


def test_what_has_no_gradient_is_refused():
    with pytest.raises(ValueError, match="the loss needs no gradient"):
        rounding_sites(nn.Linear(4, 4).requires_grad_(False), torch.randn(2, 4))


def test_what_is_no_policy_is_refused():
    with pytest.raises(ValueError, match=r"policy is 'bf16', expected a Policy such as Policy.paper\(\)"):
        rounding_sites(nn.Linear(4, 4), torch.randn(2, 4), "bf16")  # type: ignore[arg-type]


def test_a_compiled_part_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        compiled = torch.jit.trace(nn.Linear(4, 4), torch.randn(2, 4))
    with pytest.raises(ValueError, match="module 1 is compiled by torch.jit, expected Python code"):
        rounding_sites(nn.Sequential(nn.Linear(4, 4), compiled), torch.randn(2, 4))


def test_the_worst_row_is_that_of_the_largest_share():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        net[0].weight.mul_(1e-9)  # below FP16's smallest number
        net[1].weight[0].mul_(1e-9)
    report = rounding_sites(net, torch.randn(2, 4), Policy(weights="fp16"))
    worst = report.worst("zeros")
    assert worst is not None
    assert (worst.module, worst.tensor, worst.zeros) == ("0", "w", 16)
    assert report.worst("overflows") is None
    assert report.worst("lost") is None
    with pytest.raises(ValueError, match="count 'values' is unknown, expected one of changed, overflows"):
        report.worst("values")
