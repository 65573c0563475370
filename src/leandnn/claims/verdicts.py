"""The claims and their verdicts at each scale: one table for README, RESULTS.md, the tour and the site.

A rule compares pairs of runs that share a seed. Its estimate is signed so that larger is better for the
treatment, whatever the direction of the metric:

- equivalence, difference: d = mean of (treatment - control), or of (control - treatment) where lower is
  better;
- ratio: r = geometric mean of treatment / control, or of control / treatment where lower is better.

Let alpha = 1 - confidence and [low, high] the two-sided interval of confidence 1 - 2 alpha (90 % for a
confidence of 95 %): its ends are two one-sided tests at level alpha each, so each of "reproduced",
"better" and "not reproduced" is wrong in at most a share alpha of experiments. In this order:

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
one pair there is no interval; with none it is "not measured". Smoke runs are never evidence.

A claim of several rules: "not measured" when no rule is measured; "partly" when some hold (reproduced or
better) and some are not reproduced; "not reproduced" when some are not and none holds; "better" when all
are, "reproduced" when all hold; "undecided" otherwise. Its estimate, interval and n are the first rule's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from leandnn.claims import claimfile
from leandnn.claims.claimfile import Claim, Difference, Equivalence, Ratio, Rule
from leandnn.claims.evidence import Evidence, Pairs, evidence_by_scale
from leandnn.errors import LeandnnError

REPRODUCED = "reproduced"
BETTER = "better"
PARTLY = "partly"
UNDECIDED = "undecided"
NOT_REPRODUCED = "not reproduced"
NOT_MEASURED = "not measured"
WORDS = (REPRODUCED, BETTER, PARTLY, UNDECIDED, NOT_REPRODUCED, NOT_MEASURED)

NOT_COUNTED = "not counted"
STALE = "stale"


@dataclass(frozen=True)
class Finding:
    """A verdict of one rule, or of a claim, with the numbers that it rests on.

    `n` pairs of `needed`; `estimate`, `low`, `high` in `unit` ("×" for ratios), None where there is none;
    `detail` says why in words; `evidence` lists the run folders, relative to the repository.
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


@dataclass(frozen=True)
class Result:
    """A claim with its verdict by scale (`laptop` always there) and each rule's own, in the rules' order."""

    claim: Claim
    verdicts: Mapping[str, Finding]
    rules: Mapping[str, tuple[Finding, ...]]


def compute(root: Path) -> list[Result]:
    """The verdicts of all claims in `root`/claims.yaml, in the file's order.

    LeandnnError for a claims file or a metrics file that is wrong, naming the key or the file.
    """
    claims = claimfile.read(root / "claims.yaml")
    scales = evidence_by_scale(root)
    results = []
    for claim in claims:
        rules = {
            scale: tuple(judge(rule, evidence) for rule in claim.rules) for scale, evidence in scales.items()
        }
        results.append(Result(claim, {scale: combine(found) for scale, found in rules.items()}, rules))
    return results


def judge(rule: Rule, evidence: Evidence) -> Finding:
    """The verdict of one rule at one scale; LeandnnError for a ratio of values that are not above 0.

    A metric that ends in "@*", e.g. train_loss@*, stands for all its fixed steps: the rule must hold at each of
    them, so no correction for their number is needed (an intersection-union test). Estimate, interval and n are
    those of the step that is worst for the claim.
    """
    if not rule.metric.endswith("@*"):
        return _judge(rule, evidence)
    steps = evidence.steps((rule.control, rule.treatment), rule.metric.removesuffix("*"))
    found = [_judge(replace(rule, metric=step), evidence) for step in steps]
    if not found:
        return _judge(rule, evidence)
    order = (NOT_MEASURED, NOT_REPRODUCED, UNDECIDED, REPRODUCED, BETTER)

    def goodness(one: Finding) -> tuple[int, float]:
        low, high = one.low or 0.0, one.high or 0.0
        return order.index(one.verdict), -max(-low, high) if isinstance(rule, Equivalence) else low

    worst = min(found, key=goodness)
    held = sum(one.verdict in (REPRODUCED, BETTER) for one in found)
    return replace(
        worst, detail=f"it holds at {held} of {len(found)} fixed steps; the worst is {worst.detail}"
    )


def _judge(rule: Rule, evidence: Evidence) -> Finding:
    pairs = evidence.pairs(rule.control, rule.treatment, rule.metric, rule.control_metric)
    estimate, low, high = _measure(rule, pairs) if pairs.seeds else (None, None, None)
    n = len(pairs.seeds)
    if not n:
        verdict, why = NOT_MEASURED, f"no pair of runs of {_arms(rule, ' and ')}"
    elif n < rule.n:
        verdict, why = UNDECIDED, f"{n} pair{'s' * (n > 1)} where {rule.n} are needed"
    elif low is None or high is None:
        verdict, why = UNDECIDED, "no interval from one pair"
    else:
        verdict, why = _decide(rule, low, high)
        if verdict == UNDECIDED and isinstance(rule, Equivalence):
            why += f"; {_power(rule, pairs)}"
    if pairs.left_out:
        why += f" ({NOT_COUNTED}: {', '.join(pairs.left_out)})"
    if pairs.stale:
        why += f" ({STALE}: {'; '.join(pairs.stale)})"
    metrics = dict.fromkeys((rule.metric, rule.control_metric or rule.metric))
    detail = f"{' against '.join(metrics)}: {why}"
    return Finding(verdict, n, rule.n, estimate, low, high, _unit(rule), detail, pairs.folders)


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
    """A claim's verdict from those of its rules, as this module's docstring defines it."""
    first, words = findings[0], [finding.verdict for finding in findings]
    holds = [word in (REPRODUCED, BETTER) for word in words]
    if all(word == NOT_MEASURED for word in words):
        verdict = NOT_MEASURED
    elif NOT_REPRODUCED in words:
        verdict = PARTLY if any(holds) else NOT_REPRODUCED
    elif all(holds):
        verdict = REPRODUCED if REPRODUCED in words else BETTER
    else:
        verdict = UNDECIDED
    detail = first.detail
    if len(findings) > 1:
        detail = "; ".join(f"{finding.verdict}: {finding.detail}" for finding in findings)
    # Rules may share runs; each folder is named once, in order.
    evidence = tuple(dict.fromkeys(folder for finding in findings for folder in finding.evidence))
    return replace(first, verdict=verdict, detail=detail, evidence=evidence)


def as_json(results: Sequence[Result]) -> dict[str, object]:
    """The results as plain data for `json.dumps`: no NaN, intervals that do not exist are null."""
    return {
        "claims": [
            {
                "id": result.claim.id,
                "paper": result.claim.paper,
                "statement": result.claim.statement,
                "published": result.claim.published,
                "verdicts": {
                    scale: {**asdict(finding), "rules": [asdict(one) for one in result.rules[scale]]}
                    for scale, finding in result.verdicts.items()
                },
            }
            for result in results
        ]
    }


def table(results: Sequence[Result]) -> list[dict[str, str]]:
    """One row of ready strings per claim and scale, for terminal, Markdown, notebooks and site.

    Keys: claim, paper, statement, published, scale, verdict, estimate (with its interval), n, detail.
    """
    return [
        {
            "claim": result.claim.id,
            "paper": f"{result.claim.source.title} (arXiv {result.claim.source.arxiv})",
            "statement": result.claim.statement,
            "published": result.claim.published,
            "scale": scale,
            "verdict": finding.verdict,
            "estimate": _estimate(finding),
            "n": f"{finding.n} of {finding.needed}" if finding.n < finding.needed else str(finding.n),
            "detail": finding.detail,
        }
        for result in results
        for scale, finding in result.verdicts.items()
    ]


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


def _estimate(finding: Finding) -> str:
    """E.g. "+0.12 pp [-0.40, +0.64]"; without an interval the estimate alone; empty without evidence."""
    if finding.estimate is None:
        return ""
    text = quantity(finding.estimate, finding.unit, digits=2)
    if finding.low is None or finding.high is None:
        return text
    low, high = (
        quantity(end, finding.unit, digits=2).rstrip("×").split(" ")[0] for end in (finding.low, finding.high)
    )
    return f"{text} [{low}, {high}]"


def _unit(rule: Rule) -> str:
    return rule.unit if isinstance(rule, Equivalence | Difference) else "×"
