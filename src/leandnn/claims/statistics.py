"""Statistics of paired runs: equivalence, difference, ratio, and how many pairs a verdict needs.

Runs come in pairs that share a seed, so everything here works on one number per pair. Nothing is decided
from a single pair: with n = 1 there is an estimate, no standard deviation and no interval (None).

Only scipy.special is used: its Student and normal functions are the ones that scipy.stats calls, and it
loads in a third of the time, which `leandnn claims` feels. The tests compare with scipy.stats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, gammaln, ndtr, stdtr, stdtrit

Vector = NDArray[np.float64]
BOOTSTRAP_MIN = 6
"""Fewest pairs for a bootstrap: the n values of a sample span their median with probability 1 - 2^(1-n),
the most that resampling them can reach, and that passes 95 % at n = 6."""


@dataclass(frozen=True)
class Difference:
    """A mean of paired differences, in the units of the metric.

    `sd` (standard deviation of the differences), `low` and `high` (ends of the two-sided interval of
    level `confidence`) are None when n = 1.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None
    confidence: float


@dataclass(frozen=True)
class Equivalence:
    """The outcome of two one-sided tests (TOST) against ±`margin` at level `alpha`.

    `difference` carries the interval of confidence 1 - 2 alpha; `p` is the larger of the two one-sided
    p values; `equivalent` says p < alpha, which is the same as that interval lying strictly inside
    (-margin, margin). Both are None when n = 1.
    """

    difference: Difference
    margin: float
    alpha: float
    p: float | None
    equivalent: bool | None


@dataclass(frozen=True)
class Ratio:
    """A geometric mean of paired ratios (no unit); `sd` is that of their natural logarithms.

    `method` names the interval: "bootstrap", "log-t" (too few pairs for a bootstrap) or "none" (n = 1).
    """

    n: int
    ratio: float
    sd: float | None
    low: float | None
    high: float | None
    confidence: float
    method: str


def _pairs(
    first: Sequence[float], second: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both samples as vectors; ValueError when they are no pairs of finite numbers."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or a.size == 0:
        raise ValueError(f"paired samples need equal lengths above 0, not shapes {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("paired samples need finite values, not NaN or infinity")
    return a, b


def _check_level(name: str, value: float, top: float = 1.0) -> None:
    if not 0.0 < value < top:
        raise ValueError(f"{name} is {value}, outside (0, {top:g})")


def _mean_interval(x: Vector, confidence: float) -> Difference:
    """Student's interval of the mean: mean ± t(n-1, (1+c)/2) sd / sqrt(n)."""
    n, mean = x.size, float(x.mean())
    if n == 1:
        return Difference(1, mean, None, None, None, confidence)
    sd = float(x.std(ddof=1))
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * sd / math.sqrt(n)
    return Difference(n, mean, sd, mean - half, mean + half, confidence)


def paired_difference(
    treatment: Sequence[float], control: Sequence[float], confidence: float = 0.95
) -> Difference:
    """Mean of treatment - control over the pairs, with Student's interval of level `confidence`.

    ValueError for lengths that differ, no pairs, values that are not finite, a level outside (0, 1).
    """
    _check_level("confidence", confidence)
    a, b = _pairs(treatment, control)
    return _mean_interval(a - b, confidence)


def tost(
    treatment: Sequence[float], control: Sequence[float], margin: float, alpha: float = 0.05
) -> Equivalence:
    """Paired equivalence test: is the mean of treatment - control inside (-margin, margin)?

    `margin` is absolute, in the metric's units. Two one-sided t tests at level `alpha` each; when the true
    difference is at or outside the margin, "equivalent" is wrong at most in a share `alpha` of all
    experiments. Source: Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987). ValueError as in
    `paired_difference`, and for a margin that is not above 0 or an alpha outside (0, 0.5).
    """
    _check_level("alpha", alpha, 0.5)
    if not 0.0 < margin < math.inf:
        raise ValueError(f"margin is {margin}, not a finite number above 0")
    a, b = _pairs(treatment, control)
    d = _mean_interval(a - b, 1 - 2 * alpha)
    if d.sd is None or d.low is None or d.high is None:
        return Equivalence(d, margin, alpha, None, None)
    distance = margin - abs(d.mean)  # to the nearer margin, whose test has the larger p
    if d.sd == 0.0:
        p = 0.0 if distance > 0 else 1.0
    else:
        p = float(stdtr(d.n - 1, -distance / (d.sd / math.sqrt(d.n))))
    # Judged by the interval, so that a verdict can be read off the numbers that are shown.
    return Equivalence(d, margin, alpha, p, -margin < d.low and d.high < margin)


def paired_ratio(
    numerator: Sequence[float],
    denominator: Sequence[float],
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Ratio:
    """Geometric mean of numerator / denominator over the pairs, with an interval of level `confidence`.

    From `BOOTSTRAP_MIN` pairs on a percentile bootstrap over pairs, deterministic for a `seed`, with the
    percentiles widened to Phi(-sqrt(n/(n-1)) t(n-1)): the plain ones cover 80 % instead of 90 % at n = 6.
    Source: Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69
    (2015), section on expanded percentile intervals. With 2 to 5 pairs Student's interval of the log
    ratios. ValueError as in `paired_difference`, and for values that are not above 0.
    """
    _check_level("confidence", confidence)
    a, b = _pairs(numerator, denominator)
    if a.min() <= 0.0 or b.min() <= 0.0:
        raise ValueError(f"a ratio needs values above 0, not {min(a.min(), b.min()):g}")
    logs = np.log(a) - np.log(b)
    d = _mean_interval(logs, confidence)
    if d.low is None or d.high is None:
        return Ratio(1, math.exp(d.mean), None, None, None, confidence, "none")
    low, high, method = d.low, d.high, "log-t"
    if d.n >= BOOTSTRAP_MIN:
        method = "bootstrap"
        t = float(stdtrit(d.n - 1, (1 + confidence) / 2))
        tail = float(ndtr(-math.sqrt(d.n / (d.n - 1)) * t))
        picks = np.random.default_rng(seed).integers(0, d.n, size=(resamples, d.n))
        # Rounding may put the mean of equal values a hair outside their range: the estimate stays inside.
        ends = np.quantile(logs[picks].mean(axis=1), (tail, 1 - tail))
        low, high = min(float(ends[0]), d.mean), max(float(ends[1]), d.mean)
    # Two pairs that disagree wildly have an interval beyond the range of float: its end is cut there.
    low, high = math.exp(max(low, -700.0)), math.exp(min(high, 700.0))
    return Ratio(d.n, math.exp(d.mean), d.sd, low, high, confidence, method)


@cache
def _quadrature() -> tuple[Vector, Vector]:
    """Nodes and weights of Gauss and Legendre on [-1, 1]; they take longer to find than to use."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    return nodes, weights


def tost_power(n: int, sd: float, margin: float, alpha: float = 0.05, true_difference: float = 0.0) -> float:
    """Chance that `tost` of n pairs says "equivalent" when differences are normal(true_difference, sd).

    Exact up to quadrature: with x = s / sd, where x^2 (n-1) is chi-square, the mean must fall inside
    ±(margin - t(n-1) s / sqrt(n)), and this is integrated over x. Source: Phillips, J. Pharmacokinet.
    Biopharm. 18 (1990). ValueError for n < 2, sd < 0, a margin not above 0, an alpha outside (0, 0.5).
    """
    _check_level("alpha", alpha, 0.5)
    if n < 2 or not 0.0 <= sd < math.inf or not 0.0 < margin < math.inf:
        raise ValueError(f"power needs n >= 2, sd >= 0 and margin > 0, not {n}, {sd} and {margin}")
    if sd == 0.0:
        return float(abs(true_difference) < margin)
    nu, error = n - 1, sd / math.sqrt(n)
    t = float(stdtrit(nu, 1 - alpha))
    # x has all but 1e-12 of its mass between these ends; beyond margin / (t error) nothing passes.
    start = math.sqrt(2 * float(gammaincinv(nu / 2, 1e-12)) / nu)
    end = min(math.sqrt(2 * float(gammaincinv(nu / 2, 1 - 1e-12)) / nu), margin / (t * error))
    if end <= start:
        return 0.0
    nodes, weights = _quadrature()
    x = start + (nodes + 1) * (end - start) / 2
    log_density = math.log(2) + nu / 2 * math.log(nu / 2) - float(gammaln(nu / 2))
    density = np.exp(log_density + (nu - 1) * np.log(x) - nu * x**2 / 2)
    reach = margin / error - t * x
    shift = true_difference / error
    inside = ndtr(reach - shift) - ndtr(-reach - shift)
    return float(np.sum(weights * density * inside) * (end - start) / 2)


def required_n(
    sd: float, margin: float, alpha: float = 0.05, power: float = 0.8, true_difference: float = 0.0
) -> int:
    """Fewest pairs with which `tost` says "equivalent" with probability `power`.

    `sd` is a pilot's standard deviation of the paired differences, in the units of `margin`. ValueError
    for a true difference at or beyond the margin (no n is enough), and as in `tost_power`.
    """
    _check_level("power", power)
    if not abs(true_difference) < margin:
        raise ValueError(f"a true difference of {true_difference} is not inside the margin of {margin}")
    enough = 2
    while tost_power(enough, sd, margin, alpha, true_difference) < power:
        enough *= 2
    few = enough // 2  # too few, or 1
    while enough - few > 1:
        middle = (few + enough) // 2
        if tost_power(middle, sd, margin, alpha, true_difference) < power:
            few = middle
        else:
            enough = middle
    return enough
