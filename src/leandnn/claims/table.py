"""The results as rows of ready strings, for terminal, Markdown, notebooks and site."""

from __future__ import annotations

from collections.abc import Sequence

from leandnn.claims.claimfile import Claim
from leandnn.claims.judge import Finding
from leandnn.claims.verdicts import Result
from leandnn.claims.words import NOT_MEASURED, NOT_TESTED, level


def rows(results: Sequence[Result]) -> list[dict[str, str]]:
    """One row per claim and scale.

    Keys: claim, paper, statement, published, net, caveat, scale, machine, verdict, estimate (with its interval), n,
    metric, control (its mean), records (how many are of which standing), detail, and about: all that a reader must
    know beside effect and n, in one phrase.
    """
    return [
        {
            "claim": result.claim.id,
            "paper": f"{result.claim.source.title} (arXiv {result.claim.source.arxiv})",
            "statement": result.claim.statement,
            "published": result.claim.published,
            "net": result.claim.net,
            "caveat": result.claim.caveat,
            "scale": scale,
            "machine": scale.partition("@")[2] or "not recorded",
            "verdict": finding.verdict,
            "estimate": finding.effect,
            "n": f"{finding.n} of {finding.needed}" if _short(finding) else str(finding.n),
            "metric": finding.metric,
            "control": "" if finding.control is None else level(finding.control, finding.unit),
            "records": _records(finding),
            "detail": finding.detail,
            "about": _about(result.claim, finding),
        }
        for result in results
        for scale, finding in result.verdicts.items()
    ]


def _short(finding: Finding) -> bool:
    """Whether a planned study has fewer pairs than its rule needs."""
    return 0 < finding.n < finding.needed and finding.verdict == "undecided"


def _records(finding: Finding) -> str:
    return ", ".join(f"{count} {standing}" for standing, count in finding.standings.items())


def _about(claim: Claim, finding: Finding) -> str:
    parts = [f"the paper's is for {claim.needs}"] if finding.verdict == NOT_TESTED else []
    if finding.control is not None:
        control = level(finding.control, finding.unit)
        parts += [claim.net, f"{finding.metric}, {control} in the control", finding.detail]
        parts += [f"records: {_records(finding)}"] if finding.standings else []
    elif finding.verdict == NOT_MEASURED:
        parts.append(finding.detail)
    return "; ".join(filter(None, parts))
