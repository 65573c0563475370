"""The loop's hook: master weights, lost updates, and resumed runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.bf16 import Policy
from leandnn.bf16.hook import Emulation
from leandnn.bf16.policy import Rounding
from leandnn.bf16.update import MasterWeights
from leandnn.kernels import round_to
from leandnn.train import loop
from leandnn.train.task import Settings

BATCHES = 12


class Regression:
    """A net of two layers learns a linear function; every batch is a function of epoch and number."""

    def build(self) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))

    def steps_per_epoch(self) -> int:
        return BATCHES

    def batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        for i in range(start, BATCHES):
            x = torch.randn(16, 6, generator=torch.Generator().manual_seed(100 * epoch + i))
            yield x, x.sum(1, keepdim=True)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return F.mse_loss(model(x), y)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {"error": float(self.loss(model, next(self.batches(9, 0))))}


def settings(lr: float = 0.02, **changes: object) -> Settings:
    return Settings(epochs=2, lr=lr, schedule="constant", **changes)


def train(policy: Policy, path: Path | None = None, **changes: object) -> tuple[loop.Result, Emulation]:
    hook = Emulation(policy, seed=5)
    return loop.train(Regression(), settings(**changes), (hook,), checkpoint_path=path), hook


def test_weights_without_master_copies_are_bf16_at_every_step():
    hook = Emulation(Policy.no_master())
    model = Regression().build()
    hook.attach(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert all(torch.equal(p, round_to(p.detach(), "bf16")) for p in model.parameters())
    result, _ = train(Policy.no_master())
    assert all(torch.equal(p, round_to(p.detach(), "bf16")) for p in result.model.parameters())


def test_master_weights_stay_fp32_under_the_papers_policy():
    result, hook = train(Policy.paper())
    assert not any(torch.equal(p, round_to(p.detach(), "bf16")) for p in result.model.parameters())
    assert hook.master is None
    assert "lost_updates" not in result.history[-1]


def test_small_updates_are_lost_and_counted_by_parameter():
    result, hook = train(Policy.no_master(), lr=1e-5)
    assert result.history[-1]["lost_updates"] > 0.9
    assert set(hook.master.shares()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    stochastic, _ = train(Policy.no_master("stochastic"), lr=1e-5)
    assert not torch.equal(
        torch.cat([p.flatten() for p in stochastic.model.parameters()]),
        torch.cat([p.flatten() for p in result.model.parameters()]),
    )


def test_a_lost_update_is_a_change_that_rounding_takes_back():
    weight = nn.Parameter(torch.tensor([1.0, 1.0, 1.0, 2.0]))
    master = MasterWeights({"w": weight}, Rounding("bf16"), seed=0)
    master.keep()
    with torch.no_grad():
        weight += torch.tensor([2.0**-9, 2.0**-7, 0.0, -(2.0**-9)])  # lost, kept, no change, lost
    master.round(0)
    assert weight.tolist() == [1.0, 1 + 2.0**-7, 1.0, 2.0]
    assert (master.lost["w"], master.changed["w"]) == (2, 3)
    assert master.shares() == {"w": pytest.approx(2 / 3)}


def test_stochastic_rounding_of_weights_is_right_on_average():
    weight = nn.Parameter(torch.ones(10_000))
    master = MasterWeights({"w": weight}, Rounding("bf16", "stochastic"), seed=0)
    for update in range(64):
        master.keep()
        with torch.no_grad():
            weight += 2.0**-13
        master.round(update)
    assert float(weight.detach().mean()) == pytest.approx(1 + 64 * 2.0**-13, abs=5e-4)
    assert master.shares()["w"] == pytest.approx(1 - 2.0**-6, abs=0.01)


def test_another_dtype_of_master_weights_is_refused():
    with pytest.raises(ValueError, match=r"float64, expected torch.float32"):
        MasterWeights({"w": nn.Parameter(torch.ones(2, dtype=torch.float64))}, Rounding("bf16"), seed=0)


def test_exempt_and_frozen_parameters_keep_their_fp32_masters():
    model = Regression().build()
    model[0].bias.requires_grad_(False)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    policy = Policy(master_weights="bf16", exempt=("2",))
    hook = Emulation(policy)
    hook.attach(model, torch.optim.SGD(model.parameters(), lr=0.1))
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {"0.weight"}


class Interrupted(Exception):
    pass


@pytest.mark.parametrize(
    "policy", [Policy.stochastic(), Policy.no_master("stochastic")], ids=["flow", "master"]
)
def test_a_resumed_run_under_stochastic_rounding_is_bit_equal(policy: Policy, tmp_path: Path):
    whole, hook = train(policy)
    path = tmp_path / "run.pt"

    def stop(done: int, total: int, text: str) -> None:
        if done == BATCHES + 5:
            raise Interrupted

    first = Emulation(policy, seed=5)
    with pytest.raises(Interrupted):
        loop.train(
            Regression(), settings(), (first,), checkpoint_path=path, checkpoint_every_s=0.0, progress=stop
        )
    resumed, later = train(policy, path)
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.history == whole.history
    assert later.state_dict() == hook.state_dict()


def test_two_seeds_round_differently():
    runs = []
    for seed in (0, 1):
        runs.append(loop.train(Regression(), settings(), (Emulation(Policy.stochastic(), seed=seed),)))
    assert runs[0].weights_sha256 != runs[1].weights_sha256


def test_loss_scaling_rescues_gradients_too_small_for_fp16():
    class Faint(Regression):
        def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
            return super().loss(model, batch) * 1e-8

    weights = {}
    for name, policy in (
        ("fp32", Policy.fp32()),
        ("fp16", Policy.fp16()),
        ("scaled", Policy.fp16_loss_scaling()),
    ):
        used = settings(lr=1e6, momentum=0.0, loss_scaling=policy.loss_scaling)
        result = loop.train(Faint(), used, (Emulation(policy),))
        weights[name] = torch.cat([p.detach().flatten() for p in result.model.parameters()])
    start = torch.cat([p.detach().flatten() for p in fresh().parameters()])
    assert torch.equal(weights["fp16"], start), "every gradient became zero"
    assert float((weights["fp32"] - start).norm()) > 0.1
    assert torch.allclose(weights["scaled"], weights["fp32"], atol=0.05)


def fresh() -> nn.Module:
    torch.manual_seed(0)
    return Regression().build()
