"""Learning-rate schedules."""

from __future__ import annotations

import pytest

from leandnn.train.schedules import SCHEDULES, factor

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
