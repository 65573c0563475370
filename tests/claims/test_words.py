"""Numbers as a person reads them."""

from __future__ import annotations

import pytest

from leandnn.claims import words


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.0123, "fraction", "+1.23 pp"),
        (-0.5, "fraction", "-50.00 pp"),
        (2.345, "×", "2.35×"),
        (-0.25, "dB", "-0.25 dB"),
    ],
)
def test_a_difference_has_a_sign_and_its_unit(value: float, unit: str, shown: str):
    assert words.quantity(value, unit) == shown


def test_an_effect_has_its_interval_in_the_unit_of_the_estimate():
    assert words.effect(0.0123, -0.004, 0.0286, "fraction") == "+1.23 pp [-0.40, +2.86]"
    assert words.effect(5.5, 4.96, 6.1, "×") == "5.5× [4.96, 6.1]"
    assert words.effect(0.1, None, None, "dB") == "+0.1 dB"
    assert words.effect(None, None, None, "dB") == ""


def test_a_metrics_own_value_is_a_percentage_without_a_sign():
    assert words.level(0.8766, "fraction") == "87.7 %"
    assert words.level(2.0, "×") == "2"
    assert words.level(31.25, "dB") == "31.25 dB"
