"""Learning-rate schedules."""

from __future__ import annotations

import math

import pytest
import torch

from leandnn.errors import LeandnnError
from leandnn.train.schedules import SCHEDULES, decoupled, factor

STEPS = [i / 1000 for i in range(1000)]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0])
def test_factors_lie_between_zero_and_the_peak(schedule: str, warmup: float):
    values = [factor(schedule, p, warmup) for p in STEPS]
    assert all(0.0 <= v <= 1.0 for v in values)
    assert max(values) > 0.99


@pytest.mark.parametrize("schedule", ["cosine", "linear", "one_cycle"])
def test_falling_schedules_rise_in_the_warmup_and_end_near_zero(schedule: str):
    values = [factor(schedule, p, 0.25) for p in STEPS]
    peak = values.index(max(values))
    assert 249 <= peak <= 251
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert values[-1] < 0.01


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="'steps' is unknown, expected one of constant"):
        factor("steps", 0.5)


def test_a_triangle_starts_peaks_and_ends_where_it_is_told():
    def triangle(progress: float) -> float:
        return factor("linear", progress, 0.23, start=0.2, end=0.07)

    assert triangle(0.0) == pytest.approx(0.2)
    assert triangle(0.115) == pytest.approx(0.6)
    assert triangle(0.23) == pytest.approx(1.0)
    assert triangle(0.615) == pytest.approx(0.535)
    assert triangle(1.0) == pytest.approx(0.07)
    assert factor("cosine", 1.0, end=0.1) == pytest.approx(0.1)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_start_and_end_at_zero_change_no_bit(schedule: str):
    for progress in STEPS:
        rest = (progress - 0.2) / (1.0 - 0.2)
        expected = {
            "constant": 1.0,
            "cosine": 0.5 * (1.0 + math.cos(math.pi * rest)),
        }.get(schedule, 1.0 - rest)
        assert factor(schedule, progress, 0.2) == (progress / 0.2 if progress < 0.2 else expected)


def test_decoupled_values_shrink_alike_at_any_momentum_and_batch():
    """Constant gradient 1, no decay: 1024 examples move a weight by lr; decay alone shrinks it by its share."""

    def after(examples: int, batch: int, momentum: float, gradient: float, weight_decay: float) -> float:
        lr, decay = decoupled(0.01, weight_decay, momentum, batch)
        weight = torch.tensor([0.0 if gradient else 1.0])
        optimizer = torch.optim.SGD([weight], lr, momentum, weight_decay=decay, nesterov=True)
        for _ in range(examples // batch):
            weight.grad = torch.tensor([gradient])
            optimizer.step()
        return float(weight)

    # Steady steps are 1 / (1 - m) long, and the source divides by 1 + 1 / (1 - m).
    for batch, momentum in ((64, 0.5), (256, 0.85), (1024, 0.85)):
        share = (1 / (1 - momentum)) / (1 + 1 / (1 - momentum))
        examples = 1024 * 400
        assert after(examples, batch, momentum, 1.0, 0.0) == pytest.approx(-0.01 * 400 * share, rel=0.03)
        assert after(examples, batch, momentum, 0.0, 1e-4) == pytest.approx(
            math.exp(-1e-4 * 400 * share), rel=1e-3
        )


@pytest.mark.parametrize(("lr", "momentum"), [(0.0, 0.9), (-1.0, 0.9), (1.0, 1.0), (1.0, -0.1)])
def test_a_rate_or_momentum_that_cannot_be_decoupled_is_refused(lr: float, momentum: float):
    with pytest.raises(
        LeandnnError, match=f"^the learning rate is {lr} and the momentum {momentum}, expected more"
    ):
        decoupled(lr, 0.01, momentum, 256)
