"""The loop: resuming gives the same bits, bad losses stop it by name, options do what they say."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.errors import LeandnnError
from leandnn.machine import card
from leandnn.train import checkpoint, loop
from leandnn.train.loop import NonFiniteError, train
from leandnn.train.optimizer import make_optimizer
from leandnn.train.task import Hook, Settings


class Regression:
    """A small net with dropout (so that torch's own generator matters) on fixed random data."""

    def __init__(self, steps: int = 6, poison: int | None = None) -> None:
        generator = torch.Generator().manual_seed(7)
        self.x = torch.randn(steps, 16, 8, generator=generator)
        self.y = self.x.sum(dim=2, keepdim=True)
        self.poison, self.served = poison, 0

    def build(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1)
        )

    def steps_per_epoch(self) -> int:
        return len(self.x)

    def batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        for i in range(start, len(self.x)):
            self.served += 1
            x = self.x[(i + epoch) % len(self.x)]
            if self.poison is not None and epoch * len(self.x) + i == self.poison:
                x = x * float("inf")
            yield x, self.y[(i + epoch) % len(self.x)]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.mse_loss(model(batch[0]), batch[1])

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {"mse": float(F.mse_loss(model(self.x[0]), self.y[0]))}


SETTINGS = Settings(epochs=3, lr=0.05, weight_decay=1e-3, channels_last=False)


class Killed(Exception):
    """Stands for a SIGKILL: the loop is left at once, nothing is cleaned up."""


def killed_at(update: int):
    def progress(done: int, total: int, text: str) -> None:
        if done == update:
            raise Killed

    return progress


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("kill_at", [1, 5, 6, 7, 17])
def test_a_run_killed_at_any_update_resumes_to_the_same_bits(tmp_path: Path, kill_at: int, optimizer: str):
    settings = dataclasses.replace(SETTINGS, optimizer=optimizer, lr=0.01)
    unbroken = train(Regression(), settings)
    path = tmp_path / "run.ckpt"
    with pytest.raises(Killed):
        # Every update writes a checkpoint; the one of the killed update itself is lost.
        train(
            Regression(), settings, checkpoint_path=path, checkpoint_every_s=-1.0, progress=killed_at(kill_at)
        )
    torch.manual_seed(999)  # whatever the new process's generator holds must not matter
    task = Regression()
    resumed = train(task, settings, checkpoint_path=path, checkpoint_every_s=-1.0)
    assert resumed.weights_sha256 == unbroken.weights_sha256
    assert resumed.history == unbroken.history
    assert task.served == 18 - (kill_at - 1), "updates before the last checkpoint are not repeated"


def test_two_runs_give_equal_bits_and_another_seed_gives_others():
    first, second = train(Regression(), SETTINGS), train(Regression(), SETTINGS)
    assert first.weights_sha256 == second.weights_sha256
    other = train(Regression(), dataclasses.replace(SETTINGS, seed=1))
    assert other.weights_sha256 != first.weights_sha256


def test_a_non_finite_loss_stops_the_run_by_step_and_tensor(tmp_path: Path):
    path = tmp_path / "run.ckpt"
    with pytest.raises(NonFiniteError, match="step 8 is not finite.*input 0 of the batch"):
        train(Regression(poison=8), SETTINGS, checkpoint_path=path, checkpoint_every_s=-1.0)
    state = checkpoint.load(path)
    assert (state["epoch"], state["update"]) == (1, 2), "the last checkpoint is from before the bad step"
    assert all(torch.isfinite(t).all() for t in state["model"].values() if t.is_floating_point())


def test_a_diverging_run_names_a_weight_or_gradient():
    with pytest.raises(NonFiniteError, match=r"step \d+ is not finite; .* (weight|gradient|buffer)"):
        train(Regression(), dataclasses.replace(SETTINGS, lr=1e30, epochs=30))


def test_accumulated_batches_equal_one_large_batch():
    class Plain(Regression):
        def build(self) -> nn.Module:
            return nn.Linear(8, 1)

    class Doubled(Plain):
        """Two of Plain's batches as one."""

        def __init__(self) -> None:
            super().__init__()
            self.x, self.y = self.x.view(3, 32, 8), self.y.view(3, 32, 1)

    settings = dataclasses.replace(SETTINGS, epochs=1, momentum=0.0)
    accumulated = train(Plain(), dataclasses.replace(settings, accumulate=2))
    at_once = train(Doubled(), settings)
    assert accumulated.steps == at_once.steps == 3
    for a, b in zip(accumulated.model.parameters(), at_once.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_weight_decay_spares_biases_and_norms():
    class Still(Regression):
        """No gradient at all: only weight decay moves the weights."""

        def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
            return 0.0 * model(batch[0]).sum()

    settings = dataclasses.replace(SETTINGS, epochs=1, weight_decay=0.5)
    torch.manual_seed(settings.seed)
    before = {k: v.clone() for k, v in Still().build().named_parameters()}
    after = dict(train(Still(), settings).model.named_parameters())
    for name, value in before.items():
        assert torch.equal(after[name], value) == (value.dim() == 1), name


def test_factors_speed_up_their_parameters_but_not_the_decay():
    settings = dataclasses.replace(SETTINGS, lr_factors={"1.*": 2.0, "*.bias": 0.5}, decay_vectors=True)
    model = Regression().build()
    of = {id(p): g for g in make_optimizer(model, settings).param_groups for p in g["params"]}
    found = {
        name: (of[id(p)]["lr_factor"], of[id(p)]["weight_decay"]) for name, p in model.named_parameters()
    }
    plain, fast, slow = (1.0, 1e-3), (2.0, 5e-4), (0.5, 2e-3)
    assert found == {
        "0.weight": plain, "0.bias": slow, "1.weight": fast, "1.bias": fast, "4.weight": plain, "4.bias": slow,
    }  # fmt: skip

    class Rates(Hook):
        def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
            self.optimizer, self.rates = optimizer, []

        def before_update(self, progress: float) -> None:
            self.rates.append([group["lr"] for group in self.optimizer.param_groups if group["params"]])

    hook = Rates()
    history = train(Regression(), settings, (hook,)).history
    assert all(sorted(rates) == [rates[0] / 2, rates[0], 2 * rates[0]] for rates in hook.rates)
    assert [row["lr"] for row in history] == [hook.rates[at][0] for at in (5, 11, 17)], "the peak rate itself"


def test_a_factor_for_no_parameter_is_refused():
    settings = dataclasses.replace(SETTINGS, lr_factors={"norm.bias": 64.0})
    with pytest.raises(
        LeandnnError, match=r"^lr_factors names 'norm.bias', but the trained parameters are 0.weight,"
    ):
        train(Regression(), settings)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"evaluate_every": 0}, "^evaluate_every is 0 epochs, expected 1 or more$"),
        ({"lr_factors": {"*": 0.0}}, r"^the learning rate of \* has factor 0.0, expected more than 0$"),
    ],
)
def test_settings_that_cannot_be_are_told_in_a_sentence(change: dict[str, object], complaint: str):
    with pytest.raises(LeandnnError, match=complaint):
        dataclasses.replace(SETTINGS, **change)


def test_frozen_parameters_are_not_in_the_optimizer():
    class Half(Regression):
        def build(self) -> nn.Module:
            model = super().build()
            model[0].weight.requires_grad_(False)
            return model

    torch.manual_seed(SETTINGS.seed)
    before = Half().build()[0].weight.clone()
    assert torch.equal(train(Half(), SETTINGS).model[0].weight, before)


def test_evaluations_are_as_rare_as_asked_for_but_for_the_last():
    every = train(Regression(), dataclasses.replace(SETTINGS, epochs=5))
    rare = train(Regression(), dataclasses.replace(SETTINGS, epochs=5, evaluate_every=2))
    assert ["mse" in row for row in rare.history] == [False, True, False, True, True]
    assert rare.metrics == every.metrics and rare.weights_sha256 == every.weights_sha256
    assert [row["train_loss"] for row in rare.history] == [row["train_loss"] for row in every.history]


def test_hooks_hear_that_an_epoch_is_trained_before_evaluation():
    class Shift(Hook):
        def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
            self.model = model

        def epoch_trained(self) -> None:
            with torch.no_grad():
                self.model[4].bias.add_(100.0)

    assert train(Regression(), dataclasses.replace(SETTINGS, epochs=1), (Shift(),)).metrics["mse"] > 5000


def test_native_bf16_on_a_cpu_without_it_says_so_once(monkeypatch: pytest.MonkeyPatch):
    loop._warn_once.cache_clear()
    monkeypatch.setattr(card, "instruction_sets", lambda: ["avx2", "fma"])
    settings = dataclasses.replace(SETTINGS, amp="bf16")
    with pytest.warns(RuntimeWarning, match="has no BF16 products.*no faster than FP32") as said:
        first, second = train(Regression(), settings), train(Regression(), settings)
    assert len(said) == 1 and first.weights_sha256 == second.weights_sha256
    loop._warn_once.cache_clear()
    train(Regression(), SETTINGS)  # FP32 has nothing to say


@pytest.fixture
def any_cpu():
    """For tests that use autocast on whatever CPU they run on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* has no BF16 products")
        yield


@pytest.mark.usefixtures("any_cpu")
@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_autocast_changes_the_result_but_still_learns(amp: str):
    mixed = train(Regression(), dataclasses.replace(SETTINGS, amp=amp))
    plain = train(Regression(), SETTINGS)
    assert mixed.weights_sha256 != plain.weights_sha256
    assert mixed.history[-1]["train_loss"] < mixed.history[0]["train_loss"]


def test_gradients_are_clipped_to_the_norm():
    class Norm(Hook):
        def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
            self.model, self.norms = model, []

        def before_update(self, progress: float) -> None:
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            self.norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))

    hook = Norm()
    train(Regression(), dataclasses.replace(SETTINGS, clip_norm=0.01), (hook,))
    assert max(hook.norms) <= 0.01 * (1 + 1e-5)


def test_hooks_are_called_in_order_and_their_state_is_resumed(tmp_path: Path):
    class Counter(Hook):
        count = 0

        def after_update(self, progress: float) -> None:
            assert 0 <= progress < 1
            self.count += 1

        def epoch_end(self, epoch: int) -> dict[str, float]:
            return {"count": self.count}

        def state_dict(self) -> dict[str, int]:
            return {"count": self.count}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.count = state["count"]

    path = tmp_path / "run.ckpt"
    with pytest.raises(Killed):
        train(
            Regression(),
            SETTINGS,
            (Counter(),),
            checkpoint_path=path,
            checkpoint_every_s=-1.0,
            progress=killed_at(8),
        )
    resumed = train(Regression(), SETTINGS, (Counter(),), checkpoint_path=path)
    assert [row["count"] for row in resumed.history] == [6, 12, 18]


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path):
    path = tmp_path / "run.ckpt"
    train(Regression(), SETTINGS, checkpoint_path=path)
    with pytest.raises(LeandnnError, match="other settings.*0.05.*0.06"):
        train(Regression(), dataclasses.replace(SETTINGS, lr=0.06), checkpoint_path=path)


def test_an_epoch_too_short_for_one_update_is_refused():
    with pytest.raises(LeandnnError, match="1 batches, expected at least 4"):
        train(Regression(steps=1), dataclasses.replace(SETTINGS, accumulate=4))


def test_evaluation_runs_in_eval_mode_inside_every_hooks_context():
    seen = []

    class Inside(Hook):
        depth = 0

        @contextmanager
        def forward(self, model: nn.Module) -> Iterator[None]:
            self.depth += 1
            yield
            self.depth -= 1

    hook = Inside()

    class Watched(Regression):
        def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
            seen.append(("train", model.training, hook.depth))
            return super().loss(model, batch)

        def evaluate(self, model: nn.Module) -> dict[str, float]:
            seen.append(("evaluate", model.training, hook.depth))
            assert not torch.is_grad_enabled()
            return super().evaluate(model)

    train(Watched(), SETTINGS, (hook,))
    assert set(seen) == {("train", True, 1), ("evaluate", False, 1)}


def test_hooks_see_unscaled_gradients_under_fp16_loss_scaling():
    class Largest(Hook):
        def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
            self.model, self.largest = model, 0.0

        def before_update(self, progress: float) -> None:
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            norms = [float(g.abs().max()) for g in gradients]
            if all(map(math.isfinite, norms)):  # the first scale overflows, and the scaler skips that update
                self.largest = max(self.largest, *norms)

    hook = Largest()
    train(Regression(), dataclasses.replace(SETTINGS, amp="fp16", epochs=1), (hook,))
    assert 0 < hook.largest < 1000, "a loss scale of 65536 would show"


def test_weights_that_a_hook_spoils_are_never_saved(tmp_path: Path):
    class Spoil(Hook):
        def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
            self.model = model

        def after_update(self, progress: float) -> None:
            if progress > 0.4:
                with torch.no_grad():
                    next(self.model.parameters()).fill_(float("nan"))

    path = tmp_path / "run.ckpt"
    with pytest.raises(NonFiniteError, match="weight 0.weight is not finite"):
        train(Regression(), SETTINGS, (Spoil(),), checkpoint_path=path, checkpoint_every_s=-1.0)
    assert all(
        torch.isfinite(t).all() for t in checkpoint.load(path)["model"].values() if t.is_floating_point()
    )


def test_the_trace_has_the_mean_loss_between_fixed_steps(tmp_path: Path):
    losses = []

    class Noted(Regression):
        def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
            losses.append(super().loss(model, batch))
            return losses[-1]

    settings = dataclasses.replace(SETTINGS, trace=4)
    unbroken = train(Noted(), settings)
    values = [loss.item() for loss in losses]
    assert [row["step"] for row in unbroken.trace] == [5, 9, 14, 18]
    parts = (values[0:5], values[5:9], values[9:14], values[14:18])
    assert [row["train_loss"] for row in unbroken.trace] == pytest.approx([sum(p) / len(p) for p in parts])

    path = tmp_path / "run.ckpt"
    with pytest.raises(Killed):
        train(Noted(), settings, checkpoint_path=path, checkpoint_every_s=-1.0, progress=killed_at(8))
    resumed = train(Noted(), settings, checkpoint_path=path)
    assert resumed.trace == unbroken.trace


def test_a_trace_finer_than_the_steps_has_a_row_a_step():
    assert [row["step"] for row in train(Regression(), dataclasses.replace(SETTINGS, trace=99)).trace] == [
        *range(1, 19)
    ]


def test_a_failed_run_has_the_worst_metrics_and_the_reason():
    class Guessing(Regression):
        def worst(self) -> dict[str, float]:
            return {"mse": 8.0}

    settings = dataclasses.replace(SETTINGS, on_failure="record")
    failed = train(Guessing(poison=8), settings)
    assert failed.metrics == {"mse": 8.0} and failed.steps == 18
    assert failed.failure is not None
    assert "step 8 is not finite; the first tensor at fault is input 0 of the batch" in failed.failure
    assert len(failed.history) == 1, "the epochs before the failure stay"
    assert train(Guessing(), settings).failure is None


def test_a_scaled_loss_shows_hooks_the_gradients_themselves():
    scaled = train(Regression(), dataclasses.replace(SETTINGS, loss_scaling=True))
    plain = train(Regression(), SETTINGS)
    # A power of two changes no bit of a gradient that neither overflows nor underflows.
    assert scaled.weights_sha256 == plain.weights_sha256
    assert [row["loss_scale"] for row in scaled.history] == [65536.0] * 3


def test_a_hooks_wrapper_of_the_model_computes_the_loss():
    class Doubled(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module, self.calls = module, 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.module(x)

    class Wrap(Hook):
        def wrap(self, model: nn.Module) -> nn.Module:
            self.wrapped = Doubled(model)
            return self.wrapped

    hook = Wrap()
    found = train(Regression(), SETTINGS, (hook,))
    assert hook.wrapped.calls == 18
    assert found.weights_sha256 == train(Regression(), SETTINGS).weights_sha256


def test_the_first_process_alone_writes_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "1")
    train(Regression(), SETTINGS, checkpoint_path=tmp_path / "run.ckpt", checkpoint_every_s=-1.0)
    assert not (tmp_path / "run.ckpt").exists()


def test_adam_takes_its_betas_from_the_settings():
    settings = dataclasses.replace(SETTINGS, optimizer="adam", lr=0.01)
    other = dataclasses.replace(settings, betas=(0.5, 0.999))
    assert train(Regression(), settings).weights_sha256 != train(Regression(), other).weights_sha256
