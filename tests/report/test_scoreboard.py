"""The scoreboard: what speaks for a claim."""

from __future__ import annotations

import dataclasses

from leandnn import paths
from leandnn.claims import judge, verdicts
from leandnn.report import scoreboard


def test_a_claim_is_shown_by_its_verdict_then_its_scale():
    first = verdicts.compute(paths.ROOT)[0]
    found = first.verdicts["laptop"]
    made = dataclasses.replace(
        found, verdict="exploratory", estimate=0.02, low=0.01, high=0.03, unit="fraction", n=8
    )

    def shown(**scales: judge.Finding) -> str:
        result = dataclasses.replace(
            first, verdicts={name.replace("_", "@"): one for name, one in scales.items()}
        )
        (_, _, line) = scoreboard.table([result], scoreboard.letters([result])).splitlines()
        return line

    judged = dataclasses.replace(made, verdict="better", n=3)
    none = dataclasses.replace(found, verdict="not measured", estimate=None, n=0)
    assert "| better | +2.00 pp [+1.00, +3.00] | 3 |" in shown(laptop=judged, desk_m=made)
    assert "| exploratory |" in shown(laptop=made, desk_m=made) and "| desk A |" in shown(
        laptop=made, desk_m=made
    )
    assert "| not measured |  |" in shown(laptop=none, desk_m=none)
    assert "| 9 |" in shown(laptop=made, desk_a=made, desk_b=dataclasses.replace(made, n=9))
