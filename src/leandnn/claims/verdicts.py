"""The claims and what was found of them at each scale: `compute` is the door, table.py prints what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from leandnn.claims import claimfile, measured
from leandnn.claims.claimfile import Claim
from leandnn.claims.judge import Finding, combine, judge
from leandnn.claims.words import EXPLORATORY, NOT_MEASURED, NOT_TESTED


@dataclass(frozen=True)
class Result:
    """A claim, its finding by scale (`laptop` always there), and each rule's own, in the rules' order."""

    claim: Claim
    verdicts: Mapping[str, Finding]
    rules: Mapping[str, tuple[Finding, ...]]


def compute(root: Path, found: measured.Measured | None = None) -> list[Result]:
    """What was found of all claims in `root`/claims.yaml, in the file's order.

    - found: what was measured, if it is read already.

    LeandnnError for a claims file or a metrics file that is wrong, naming the key or the file.
    """
    claims = claimfile.read(root / "claims.yaml")
    scales = (found or measured.read(root)).scales
    results = []
    for claim in claims:
        rules = {
            scale: tuple(judge(rule, evidence) for rule in claim.rules) for scale, evidence in scales.items()
        }
        results.append(Result(claim, {scale: _of(claim, one) for scale, one in rules.items()}, rules))
    return results


def _of(claim: Claim, findings: Sequence[Finding]) -> Finding:
    """The claim's finding; "not tested" where it needs what no plan has asked for yet, numbers or not."""
    whole = combine(findings)
    if claim.needs and whole.verdict in (EXPLORATORY, NOT_MEASURED):
        return replace(whole, verdict=NOT_TESTED)
    return whole


def as_json(results: Sequence[Result]) -> dict[str, object]:
    """The results as plain data for `json.dumps`: no NaN, intervals that do not exist are null."""
    return {
        "claims": [
            {
                "id": result.claim.id,
                "paper": result.claim.paper,
                "statement": result.claim.statement,
                "published": result.claim.published,
                "net": result.claim.net,
                "needs": result.claim.needs,
                "caveat": result.claim.caveat,
                "verdicts": {
                    scale: {**asdict(finding), "rules": [asdict(one) for one in result.rules[scale]]}
                    for scale, finding in result.verdicts.items()
                },
            }
            for result in results
        ]
    }
