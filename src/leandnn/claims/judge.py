"""What a rule says of the pairs that were measured, and a claim's finding from those of its rules.

A rule compares pairs of runs that share a seed. Its estimate is signed so that larger is better for the
treatment, whatever the direction of the metric:

- equivalence, difference: d = mean of (treatment - control), or of (control - treatment) where lower is
  better;
- ratio: r = geometric mean of treatment / control, or of control / treatment where lower is better.

Let alpha = 1 - confidence and [low, high] the two-sided interval of confidence 1 - 2 alpha (90 % for a
confidence of 95 %).

Runs that no plan asked for are exploratory: they give estimate, interval and n, and no verdict. Runs made by a
committed plan decide, in this order; the interval's ends are two one-sided tests at level alpha each, so each of
"reproduced", "better" and "not reproduced" is wrong in at most a share alpha of experiments:

=============  =============================  ==========================  ========================
verdict        equivalence, margin m          difference, at_least a      ratio, at_least a
=============  =============================  ==========================  ========================
better         low > 0 and high >= m          low > up_to, if given       low > up_to, if given
reproduced     -m < low and high < m (TOST)   low > a                     low >= a
not repr.      high <= -m                     high <= a                   high < a
undecided      else                           else                        else
=============  =============================  ==========================  ========================

So an equivalence whose interval reaches beyond m on the good side only, without excluding 0, is undecided.
With fewer pairs than the rule's n the verdict is at most "undecided", whatever the interval says; with
one pair there is no interval; with none it is "not measured".

A claim of several rules: "not measured" when no rule is measured; "exploratory" when one is; "partly" when some
hold (reproduced or better) and some are not reproduced; "not reproduced" when some are not and none holds; "better"
when all are, "reproduced" when all hold; "undecided" otherwise. Its estimate, interval and n are the first rule's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from leandnn.claims.claimfile import Difference, Equivalence, Ratio, Rule
from leandnn.claims.evidence import Evidence, Pairs
from leandnn.claims.words import (
    BETTER,
    EXPLORATORY,
    NOT_MEASURED,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    UNDECIDED,
    effect,
    quantity,
)
from leandnn.errors import LeandnnError


@dataclass(frozen=True)
class Finding:
    """What was found of one rule, or of a claim.

    `verdict` is one of words.WORDS. `n` pairs of `needed`; `estimate`, `low`, `high` in `unit` ("×" for ratios),
    None where there is none; `metric` names what was compared, `control` is the control's mean of it; `standings`
    says how many records behind it are of which standing; `detail` says more in words; `evidence` lists files and
    folders.
    """

    verdict: str
    n: int
    needed: int
    estimate: float | None
    low: float | None
    high: float | None
    unit: str
    detail: str
    evidence: tuple[str, ...]
    control: float | None = None
    metric: str = ""
    standings: Mapping[str, int] = field(default_factory=dict)

    @property
    def effect(self) -> str:
        """Estimate and interval in words, empty where nothing was measured."""
        return effect(self.estimate, self.low, self.high, self.unit)


def judge(rule: Rule, evidence: Evidence) -> Finding:
    """The finding of one rule at one scale; LeandnnError for a ratio of values that are not above 0.

    A metric that ends in "@*", e.g. train_loss@*, stands for all its fixed steps: the rule must hold at each of
    them, so no correction for their number is needed (an intersection-union test). Estimate, interval and n are
    those of the step that is worst for the claim.
    """
    if not rule.metric.endswith("@*"):
        return _judge(rule, evidence)
    steps = evidence.steps((rule.control, rule.treatment), rule.metric.removesuffix("*"))
    found = [_judge(rule.model_copy(update={"metric": step}), evidence) for step in steps]
    if not found:
        return _judge(rule, evidence)
    order = (NOT_MEASURED, EXPLORATORY, NOT_REPRODUCED, UNDECIDED, REPRODUCED, BETTER)

    def goodness(one: Finding) -> tuple[int, float]:
        low, high = one.low or 0.0, one.high or 0.0
        return order.index(one.verdict), -max(-low, high) if isinstance(rule, Equivalence) else low

    worst = min(found, key=goodness)
    if worst.verdict == EXPLORATORY:
        return replace(worst, metric=f"{worst.metric} (the worst of {len(found)} fixed steps)")
    held = sum(one.verdict in (REPRODUCED, BETTER) for one in found)
    return replace(
        worst, detail=f"it holds at {held} of {len(found)} fixed steps; the worst is {worst.detail}"
    )


def _judge(rule: Rule, evidence: Evidence) -> Finding:
    pairs = evidence.pairs(rule.control, rule.treatment, rule.metric, rule.control_metric)
    n = len(pairs.seeds)
    estimate, low, high = _measure(rule, pairs) if n else (None, None, None)
    metrics = " against ".join(dict.fromkeys((rule.metric, rule.control_metric or rule.metric)))
    if not n:
        verdict, why = NOT_MEASURED, f"{metrics}: no pair of runs of {_arms(rule, ' and ')}"
    elif not pairs.planned:
        verdict, why = EXPLORATORY, ""
    else:
        verdict, why = _verdict(rule, pairs, low, high)
        why = f"{metrics}: {why}"
    left_out = f"not counted: {', '.join(pairs.left_out)}" if pairs.left_out else ""
    return Finding(
        verdict,
        n,
        rule.n,
        estimate,
        low,
        high,
        _unit(rule),
        "; ".join(filter(None, (why, left_out))),
        pairs.sources,
        control=fmean(pairs.control) if n else None,
        metric=metrics,
        standings=pairs.standings,
    )


def _arms(rule: Rule, word: str) -> str:
    """Control and treatment, which may be one arm."""
    return word.join(dict.fromkeys((rule.control, rule.treatment)))


def _measure(rule: Rule, pairs: Pairs) -> tuple[float, float | None, float | None]:
    """Estimate and ends of the interval, signed so that larger is better for the treatment."""
    from leandnn.claims import statistics

    higher = rule.better == "higher"
    good, bad = (pairs.treatment, pairs.control) if higher else (pairs.control, pairs.treatment)
    level = 1 - 2 * (1 - rule.confidence)
    if isinstance(rule, Ratio):
        if min(good + bad) <= 0:
            values = f"{rule.metric} = {min(good + bad):g} in {_arms(rule, ' or ')}"
            raise LeandnnError(f"claims.yaml asks for a ratio of {values}, expected values above 0")
        ratio = statistics.paired_ratio(good, bad, level)
        return ratio.ratio, ratio.low, ratio.high
    difference = statistics.paired_difference(good, bad, level)
    return difference.mean, difference.low, difference.high


def _verdict(rule: Rule, pairs: Pairs, low: float | None, high: float | None) -> tuple[str, str]:
    """The verdict of planned pairs, and why."""
    n = len(pairs.seeds)
    if n < rule.n:
        return UNDECIDED, f"{n} pair{'s' * (n > 1)} where {rule.n} are needed"
    if low is None or high is None:
        return UNDECIDED, "no interval from one pair"
    verdict, why = _decide(rule, low, high)
    if verdict == UNDECIDED and isinstance(rule, Equivalence):
        why += f"; {_power(rule, pairs)}"
    return verdict, why


def _power(rule: Equivalence, pairs: Pairs) -> str:
    """What this study could have shown, had there been no difference at all, and what would be enough."""
    from leandnn.claims import statistics

    sd = statistics.paired_difference(pairs.treatment, pairs.control).sd or 0.0
    alpha, n = 1 - rule.confidence, len(pairs.seeds)
    power = statistics.tost_power(n, sd, rule.margin, alpha)
    enough = statistics.required_n(sd, rule.margin, alpha)
    return f"at this spread {n} pairs show equality with {power:.0%} power, {enough} would with 80%".replace(
        "%", " %"
    )


def _decide(rule: Rule, low: float, high: float) -> tuple[str, str]:
    """The verdict of enough pairs, and why; the table in this module's docstring."""
    unit = _unit(rule)
    if isinstance(rule, Equivalence):
        margin = f"±{quantity(rule.margin, unit, signed=False)}"
        if low > 0 and high >= rule.margin:
            return BETTER, f"the interval lies above 0 and reaches beyond {margin}"
        if -rule.margin < low and high < rule.margin:
            return REPRODUCED, f"the interval lies within {margin}"
        if high <= -rule.margin:
            return NOT_REPRODUCED, f"the interval lies below {margin}"
        if low > -rule.margin:
            return UNDECIDED, f"not worse by {margin}, but the interval reaches beyond it on the better side"
        return UNDECIDED, f"the interval crosses the margin of {margin}"
    if not isinstance(rule, Difference | Ratio):
        raise TypeError(f"no verdict is defined for a rule of type {type(rule).__name__}")
    bound = quantity(rule.at_least, unit, signed=False)
    if rule.up_to is not None and low > rule.up_to:
        return BETTER, f"the interval lies above {quantity(rule.up_to, unit, signed=False)}"
    # A difference "of more than 0" excludes 0; "at least 5 times" includes 5, which comes back from its
    # logarithm a rounding error off.
    least = math.nextafter(rule.at_least, math.inf)
    if isinstance(rule, Ratio):
        least = rule.at_least * (1 - 1e-12)
    if low >= least:
        return REPRODUCED, f"the interval lies above {bound}"
    if high < least:
        return NOT_REPRODUCED, f"the interval lies below {bound}"
    return UNDECIDED, f"the interval crosses {bound}"


def combine(findings: Sequence[Finding]) -> Finding:
    """A claim's finding from those of its rules, as this module's docstring defines it."""
    first, words = findings[0], [finding.verdict for finding in findings]
    holds = [word in (REPRODUCED, BETTER) for word in words]
    if EXPLORATORY in words:
        verdict = EXPLORATORY
    elif all(word == NOT_MEASURED for word in words):
        verdict = NOT_MEASURED
    elif NOT_REPRODUCED in words:
        verdict = PARTLY if any(holds) else NOT_REPRODUCED
    elif all(holds):
        verdict = REPRODUCED if REPRODUCED in words else BETTER
    else:
        verdict = UNDECIDED
    # Rules may share runs; each is named once, in order.
    evidence = tuple(dict.fromkeys(folder for finding in findings for folder in finding.evidence))
    return replace(first, verdict=verdict, detail=_details(findings), evidence=evidence)


def _details(findings: Sequence[Finding]) -> str:
    if len(findings) == 1:
        return findings[0].detail
    if not any(finding.verdict == EXPLORATORY for finding in findings):
        return "; ".join(f"{finding.verdict}: {finding.detail}" for finding in findings)
    further = [f"{one.metric} {one.effect}, n = {one.n}" for one in findings[1:] if one.n]
    return "; ".join(filter(None, [*further, *dict.fromkeys(finding.detail for finding in findings)]))


def _unit(rule: Rule) -> str:
    return rule.unit if isinstance(rule, Equivalence | Difference) else "×"
