"""Rounds of interleaved timings as runs: reference/<machine>/bench-<name>.json, `rounds` of seconds by arm.

A round is a run of the arm `<name>/speed/<arm>` with the metric `seconds` and the round's number as its seed.
"""

from __future__ import annotations

import json
from pathlib import Path

from leandnn.claims.evidence import Run, finite
from leandnn.errors import LeandnnError


def read(root: Path) -> tuple[list[tuple[str, Run]], list[str]]:
    """(scale, run) of every round, and a sentence for each file that is refused."""
    found: list[tuple[str, Run]] = []
    refused: list[str] = []
    for path in sorted((root / "reference").glob("*/bench-*.json")):
        where = path.relative_to(root).as_posix()
        try:
            rounds = json.loads(path.read_text(encoding="utf-8")).get("rounds", {})
            for arm, seconds in rounds.items():
                name = f"{path.stem.removeprefix('bench-')}/speed/{arm}"
                found += [
                    (f"desk@{path.parent.name}", Run(name, i, {}, finite(where, {"seconds": value}), where))
                    for i, value in enumerate(seconds)
                ]
        except (OSError, ValueError, AttributeError, TypeError, LeandnnError) as error:
            refused.append(f"{where} has no rounds that can be read: {error}")
    return found, refused
