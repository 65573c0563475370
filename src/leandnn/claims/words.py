"""The words that a claim may get, and numbers as a person reads them."""

from __future__ import annotations

REPRODUCED = "reproduced"
BETTER = "better"
PARTLY = "partly"
UNDECIDED = "undecided"
NOT_REPRODUCED = "not reproduced"
EXPLORATORY = "exploratory"
NOT_TESTED = "not tested"
NOT_MEASURED = "not measured"
WORDS = (
    REPRODUCED, BETTER, PARTLY, UNDECIDED, NOT_REPRODUCED, EXPLORATORY, NOT_TESTED, NOT_MEASURED,
)  # fmt: skip
VERDICTS = WORDS[:5]


def quantity(value: float, unit: str, signed: bool = True, digits: int = 3) -> str:
    """A number with its unit as a person reads it: fractions in percentage points, ratios with ×.

    - digits: significant ones, of other units.
    """
    if unit == "×":
        return f"{value:.3g}×"
    sign = "+" if signed else ""
    if unit == "fraction":
        return f"{100 * value:{sign}.2f} pp"
    return f"{value:{sign}.{digits}g} {unit}"


def level(value: float, unit: str) -> str:
    """A metric's own value, not a difference: fractions in percent; without a unit where `unit` is of a ratio."""
    if unit == "fraction":
        return f"{100 * value:.1f} %"
    return f"{value:.4g}" if unit == "×" else f"{value:.4g} {unit}"


def effect(estimate: float | None, low: float | None, high: float | None, unit: str) -> str:
    """E.g. "+0.12 pp [-0.40, +0.64]"; without an interval the estimate alone; empty without one."""
    if estimate is None:
        return ""
    text = quantity(estimate, unit, digits=2)
    if low is None or high is None:
        return text
    ends = (quantity(end, unit, digits=2).rstrip("×").split(" ")[0] for end in (low, high))
    return f"{text} [{', '.join(ends)}]"
