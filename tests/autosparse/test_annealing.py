"""The schedules of α against their closed forms."""

from __future__ import annotations

import math

import pytest

from leandnn.autosparse import annealing
from leandnn.autosparse.annealing import factor


def cosine(p: float) -> float:
    return (1 + math.cos(math.pi * p)) / 2


def sigmoid(p: float) -> float:
    return 1 - 1 / (1 + math.exp(-(-6 + 12 * p)))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.3, 0.5, 0.7, 0.95, 1.0])
def test_each_schedule_is_its_formula(p: float):
    assert factor("cosine", p) == pytest.approx(cosine(p))
    assert factor("sigmoid", p) == pytest.approx(sigmoid(p))
    assert factor("sigmoid_cosine", p) == max(cosine(p), sigmoid(p))
    assert factor("linear", p) == pytest.approx(1 - p)
    assert factor("constant", p) == 1
    assert factor("zero", p) == 0


def test_the_papers_schedule_is_sigmoid_first_cosine_last():
    assert factor("sigmoid_cosine", 0.25) == pytest.approx(sigmoid(0.25))
    assert factor("sigmoid_cosine", 0.75) == pytest.approx(cosine(0.75))
    assert factor("sigmoid_cosine", 0.5) == pytest.approx(0.5)
    values = [factor("sigmoid_cosine", i / 100) for i in range(101)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("schedule", annealing.SCHEDULES)
def test_alpha_is_zero_from_where_it_is_asked_to_be(schedule: str):
    assert factor(schedule, 0.9, 0.9) == 0
    assert factor(schedule, 0.89, 0.9) == factor(schedule, 0.89)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("cosin", 0.5), "'cosin' is unknown.*sigmoid_cosine"),
        (("cosine", 1.5), "progress is 1.5"),
        (("cosine", math.nan), "progress is nan"),
        (("cosine", 0.5, -1.0), "zero_from is -1.0"),
    ],
)
def test_nonsense_is_refused(arguments: tuple[object, ...], match: str):
    with pytest.raises(ValueError, match=match):
        factor(*arguments)  # type: ignore[arg-type]
