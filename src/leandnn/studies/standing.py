"""Which record of a run counts, where a study's file holds several of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from leandnn.studies import proofs, records

CURRENT = ("identical code", "proved equal")


def rank(standing: str) -> int:
    """The lower, the rather a record counts: identical code, proved equal, then everything else that stands."""
    return CURRENT.index(standing) if standing in CURRENT else len(CURRENT)


def counting(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of each run the record that counts: of the best standing, and among equals the newest (the last)."""
    best: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        name = records.name(entry)
        if name not in best or rank(proofs.standing(entry)) <= rank(proofs.standing(best[name])):
            best[name] = entry
    return list(best.values())
