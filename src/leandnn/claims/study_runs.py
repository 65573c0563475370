"""What studies outside the pipeline recorded: reference/<machine>/<study>.json (format: studies/records.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leandnn.claims.evidence import Run, finite
from leandnn.errors import LeandnnError
from leandnn.studies import records
from leandnn.studies.standing import CURRENT, standing

OTHERS = ("bench-", "cost", "fuzz-")  # files beside the studies'


def read(root: Path) -> tuple[list[tuple[str, Run]], list[str]]:
    """(scale, run) of every trusted record, older ones of a run first, and a sentence for each that is refused."""
    found: list[tuple[str, Run]] = []
    refused: list[str] = []
    plans = _plans(root)
    for path in sorted((root / "reference").glob("*/*.json")):
        if path.name.startswith(OTHERS):
            continue
        try:
            document, bad_records = records.read(path)
        except LeandnnError as error:
            refused.append(str(error))
            continue
        refused += bad_records
        for entry in document["runs"]:
            where = f"{path.relative_to(root).as_posix()}#{records.name(entry)}"
            try:
                run = _run(entry, where, plans)
            except LeandnnError as error:
                refused.append(str(error))
            else:
                found.append((f"{entry['profile']}@{path.parent.name}", run))
    return found, refused


def _run(entry: Mapping[str, Any], where: str, plans: frozenset[str]) -> Run:
    now = standing(entry)
    return Run(
        f"{entry['paper']}/{entry['comparison']}/{entry['arm']}",
        entry["seed"],
        {**entry["budget"], "torch": entry["versions"].get("torch")},
        finite(where, entry["metrics"]),
        where,
        # Arms differ in what they do: of code that is gone, equal is what was made at one commit.
        code=CURRENT[0] if now in CURRENT else str(entry["commit"] if "behaviour" in entry else entry["code"]),
        standing=now,
        planned=entry.get("plan") in plans,
    )


def _plans(root: Path) -> frozenset[str]:
    """SHA-256 of each plan, studies/*.yaml: what a record made by it names as its `plan`."""
    return frozenset(
        hashlib.sha256(path.read_bytes()).hexdigest() for path in (root / "studies").glob("*.yaml")
    )
