"""Statistics against hand calculations, scipy.stats, and simulations with known truth."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from leandnn.claims.statistics import (
    BOOTSTRAP_MIN,
    paired_difference,
    paired_ratio,
    required_n,
    tost,
    tost_power,
)

# Four times the standard error of a share of 5 % or 90 % over so many trials: one false alarm in 16,000.
TRIALS = 4000
SLACK_5 = 4 * math.sqrt(0.05 * 0.95 / TRIALS)
SLACK_90 = 4 * math.sqrt(0.9 * 0.1 / TRIALS)

values = st.floats(-1e6, 1e6)
samples = st.lists(st.tuples(values, values), min_size=2, max_size=20)
positive = st.floats(1e-3, 1e3)
ratios = st.lists(st.tuples(positive, positive), min_size=2, max_size=12)


def columns(pairs: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [a for a, _ in pairs], [b for _, b in pairs]


def test_difference_and_tost_match_a_calculation_by_hand():
    # Differences 1, 2, 3: mean 2, sd 1, standard error 1/sqrt(3); t(0.95, 2) = 0.9 sqrt(2 / 0.19)
    result = tost([11, 12, 13], [10, 10, 10], margin=5, alpha=0.05)
    assert result.difference.mean == pytest.approx(2)
    assert result.difference.sd == pytest.approx(1)
    assert result.difference.low == pytest.approx(2 - 2.9199856 / math.sqrt(3), abs=1e-6)
    assert result.difference.high == pytest.approx(2 + 2.9199856 / math.sqrt(3), abs=1e-6)
    # The nearer margin gives t = (2 - 5) sqrt(3) = -5.19615; for 2 degrees of freedom the distribution is
    # P(T < t) = 1/2 + t / (2 sqrt(2 + t^2)) = 1/2 - 5.19615 / (2 sqrt(29)) = 0.0175507
    assert result.p == pytest.approx(0.5 - 27**0.5 / (2 * 29**0.5), abs=1e-12)
    assert result.equivalent is True
    assert result.difference.confidence == pytest.approx(0.9)
    # At alpha = 1 % the interval (t = 6.96456) reaches 6.02 and the same data are not equivalent.
    assert tost([11, 12, 13], [10, 10, 10], margin=5, alpha=0.01).equivalent is False


@given(samples, st.floats(0.5, 0.99))
def test_difference_agrees_with_scipy_stats(pairs: list[tuple[float, float]], confidence: float):
    a, b = columns(pairs)
    ours = paired_difference(a, b, confidence)
    d = np.array(a) - np.array(b)
    assert ours.n == len(pairs)
    assert ours.mean == pytest.approx(d.mean(), abs=1e-9)
    assert ours.sd is not None and ours.low is not None and ours.high is not None
    if d.std() > 1e-9 * (1 + abs(d).max()):  # scipy warns of precision loss below
        theirs = stats.ttest_rel(a, b).confidence_interval(confidence)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-6, abs=1e-6)


@given(samples, st.floats(0.01, 1e6))
def test_tost_says_equivalent_exactly_when_p_is_below_alpha(pairs: list[tuple[float, float]], margin: float):
    a, b = columns(pairs)
    result = tost(a, b, margin, alpha=0.05)
    assert result.p is not None
    if abs(result.p - 0.05) > 1e-6:  # rounding may decide a tie either way
        assert result.equivalent == (result.p < 0.05)
    assert tost(b, a, margin, alpha=0.05).equivalent == result.equivalent


@given(samples)
def test_a_wider_margin_never_unmakes_equivalence(pairs: list[tuple[float, float]]):
    a, b = columns(pairs)
    verdicts = [tost(a, b, margin).equivalent for margin in (0.1, 1, 10, 100, 1e4, 1e8)]
    assert verdicts == sorted(verdicts, key=bool)


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("truth", [0.01, -0.01])
def test_a_difference_at_the_margin_is_equal_at_most_alpha(n: int, truth: float):
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(TRIALS):
        control = rng.normal(0.8, 0.02, n)
        treatment = control + rng.normal(truth, 0.004, n)
        wrong += bool(tost(treatment.tolist(), control.tolist(), margin=0.01, alpha=0.05).equivalent)
    assert wrong / TRIALS <= 0.05 + SLACK_5


@pytest.mark.parametrize("n", [2, 3, 10])
def test_intervals_of_differences_cover_the_truth(n: int):
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(TRIALS):
        d = paired_difference(rng.normal(3, 2, n).tolist(), [0.0] * n, confidence=0.9)
        assert d.low is not None and d.high is not None
        hits += d.low <= 3 <= d.high
    assert abs(hits / TRIALS - 0.9) <= SLACK_90


@pytest.mark.parametrize("n", [3, BOOTSTRAP_MIN, 10, 30])
def test_intervals_of_ratios_cover_the_truth(n: int):
    rng = np.random.default_rng(3)
    trials = 1000
    hits = 0
    for _ in range(trials):
        a, b = 5 * rng.lognormal(0, 0.1, n), rng.lognormal(0, 0.1, n)
        r = paired_ratio(a.tolist(), b.tolist(), confidence=0.9, resamples=999)
        assert r.low is not None and r.high is not None
        hits += r.low <= 5 <= r.high
    # A bootstrap is approximate: 2 points of its own beside the simulation's error.
    assert abs(hits / trials - 0.9) <= 0.02 + 4 * math.sqrt(0.9 * 0.1 / trials)


@given(ratios)
@settings(deadline=None)
def test_a_ratio_interval_holds_its_estimate_and_repeats_exactly(pairs: list[tuple[float, float]]):
    a, b = columns(pairs)
    first = paired_ratio(a, b, resamples=199)
    assert first == paired_ratio(a, b, resamples=199)
    assert first.low is not None and first.high is not None
    assert first.low <= first.ratio * (1 + 1e-12) and first.ratio <= first.high * (1 + 1e-12)
    assert first.method == ("bootstrap" if len(pairs) >= BOOTSTRAP_MIN else "log-t")


@given(ratios)
@settings(deadline=None)
def test_the_inverse_ratio_has_the_inverse_interval(pairs: list[tuple[float, float]]):
    a, b = columns(pairs)
    there, back = paired_ratio(a, b, resamples=199), paired_ratio(b, a, resamples=199)
    assert there.ratio == pytest.approx(1 / back.ratio, rel=1e-9)
    assert there.low is not None and back.high is not None
    assert math.log(there.low) == pytest.approx(-math.log(back.high), rel=1e-6, abs=1e-9)


def test_seeds_change_only_the_bootstrap():
    a, b = [2.0, 2.2, 1.9, 2.1, 2.4, 2.0, 1.8], [1.0] * 7
    first, second = paired_ratio(a, b, seed=0), paired_ratio(a, b, seed=1)
    assert first.ratio == second.ratio
    assert first.low != second.low
    assert first.low == pytest.approx(second.low, rel=0.01)


def test_one_pair_has_an_estimate_and_no_interval():
    d = paired_difference([0.9], [0.8])
    assert (d.n, d.sd, d.low, d.high) == (1, None, None, None)
    assert d.mean == pytest.approx(0.1)
    e = tost([0.9], [0.9], margin=0.5)
    assert (e.p, e.equivalent) == (None, None)
    r = paired_ratio([3], [2])
    assert (r.ratio, r.low, r.high, r.method) == (pytest.approx(1.5), None, None, "none")


def test_equal_pairs_have_an_interval_without_width():
    d = tost([0.5, 0.75, 1.0], [0.25, 0.5, 0.75], margin=0.3)
    assert (d.difference.low, d.difference.high, d.p, d.equivalent) == (0.25, 0.25, 0.0, True)
    assert tost([0.5, 0.75], [0.25, 0.5], margin=0.25).equivalent is False  # at the margin is not inside
    r = paired_ratio([6.0] * 7, [2.0] * 7)
    assert (r.low, r.high) == (pytest.approx(3), pytest.approx(3))


@pytest.mark.parametrize("truth", [0.0, 0.003])
@pytest.mark.parametrize("sd", [0.003, 0.006, 0.012])
def test_required_n_reaches_its_power_and_one_fewer_does_not(sd: float, truth: float):
    n = required_n(sd, margin=0.01, alpha=0.05, power=0.8, true_difference=truth)
    rng = np.random.default_rng(4)
    trials = 20_000

    def share(size: int) -> float:
        d = rng.normal(truth, sd, (trials, size))
        half = stats.t.ppf(0.95, size - 1) * d.std(axis=1, ddof=1) / math.sqrt(size)
        return float(np.mean(np.abs(d.mean(axis=1)) + half < 0.01))

    slack = 4 * math.sqrt(0.8 * 0.2 / trials)
    assert share(n) >= 0.8 - slack
    assert n == 2 or share(n - 1) < 0.8 + slack
    assert tost_power(n, sd, 0.01, true_difference=truth) == pytest.approx(share(n), abs=slack)


def test_required_n_grows_with_spread_and_shrinks_with_margin():
    assert required_n(0.0, margin=0.01) == 2
    by_spread = [required_n(sd, margin=0.01) for sd in (0.001, 0.003, 0.01, 0.03, 0.1)]
    by_margin = [required_n(0.01, margin) for margin in (0.1, 0.03, 0.01, 0.003)]
    assert by_spread == sorted(by_spread) and by_margin == sorted(by_margin)
    # Far from small samples: n = (z(0.95) + z(0.9))^2 (sd / margin)^2 for a power of 0.8.
    assert required_n(1.0, margin=0.02) == pytest.approx((1.6449 + 1.2816) ** 2 * 50**2, rel=0.001)


@pytest.mark.parametrize(
    "call",
    [
        lambda: paired_difference([], []),
        lambda: paired_difference([1, 2], [1]),
        lambda: paired_difference([1, math.nan], [1, 2]),
        lambda: paired_difference([1, 2], [1, 2], confidence=1.0),
        lambda: tost([1, 2], [1, 2], margin=0.0),
        lambda: tost([1, 2], [1, 2], margin=math.inf),
        lambda: tost([1, 2], [1, 2], margin=1.0, alpha=0.5),
        lambda: paired_ratio([1, 0], [1, 1]),
        lambda: paired_ratio([1, 1], [1, -1]),
        lambda: tost_power(1, 0.1, 1.0),
        lambda: tost_power(3, -0.1, 1.0),
        lambda: required_n(0.1, margin=1.0, true_difference=1.0),
        lambda: required_n(math.nan, margin=1.0),
        lambda: required_n(0.1, margin=1.0, power=1.0),
    ],
)
def test_what_is_no_sample_or_no_level_is_refused(call: Callable[[], object]):
    with pytest.raises(ValueError):
        call()
