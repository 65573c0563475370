"""What today's code is to the code that made a record; and which record of a run counts, where there are several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from leandnn.studies import digests, proofs, records

CURRENT = ("identical code", "proved equal")


def rank(standing: str) -> int:
    """The lower, the rather a record counts: identical code, proved equal, then everything else that stands."""
    return CURRENT.index(standing) if standing in CURRENT else len(CURRENT)


def counting(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of each run the record that counts: of the best standing, and among equals the newest (the last)."""
    best: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        name = records.name(entry)
        if name not in best or rank(standing(entry)) <= rank(standing(best[name])):
            best[name] = entry
    return list(best.values())


def standing(entry: Mapping[str, Any]) -> str:
    """What a record's code is to today's: "identical code", "proved equal", "different since 1a2b3c4d" (its commit).

    "before digests, commit 1a2b3c4d" for a record that was made before behaviour had digests.
    """
    commit = str(entry["commit"])[:8]
    if "behaviour" not in entry:
        return f"before digests, commit {commit}"
    own, now = (
        str(entry["behaviour"]),
        digests.today().get(f"{entry['paper']}-{entry['comparison']}/{entry['arm']}"),
    )
    if own == now:
        return "identical code"
    equal = now is not None and proofs.canonical(own) == proofs.canonical(now)
    return "proved equal" if equal else f"different since {commit}"
