"""The studies that there are: each wing's study.py says its own, as `COMPARISONS` (name to Comparison)."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.studies.comparison import Comparison


def wings() -> tuple[str, ...]:
    """The rooms with a study.py; nothing is imported."""
    return tuple(sorted(path.parent.name for path in paths.PACKAGE.glob("*/study.py")))


def comparisons(wing: str) -> dict[str, Comparison]:
    """The comparisons of a wing, by name."""
    found: dict[str, Comparison] = importlib.import_module(f"leandnn.{wing}.study").COMPARISONS
    return found


def find(study: str) -> Comparison:
    """The study called `study`, e.g. "bf16-vision"; LeandnnError names what there is."""
    wing, _, name = study.partition("-")
    if wing not in wings():
        raise LeandnnError(f"study {study!r} is of no wing, expected one of {', '.join(wings())}, then -NAME")
    known = comparisons(wing)
    if name not in known:
        raise LeandnnError(f"study {study!r} is unknown, expected {wing}- and one of {', '.join(known)}")
    return known[name]


def matching(names: Sequence[str]) -> list[Comparison]:
    """Studies by name ("bf16-vision"), by wing ("bf16") or "all"; LeandnnError names what there is."""
    chosen: dict[str, Comparison] = {}
    for name in names:
        if name == "all" or name in wings():
            for wing in wings() if name == "all" else (name,):
                chosen |= {c.study: c for c in comparisons(wing).values()}
        else:
            chosen[name] = find(name)
    return list(chosen.values())
