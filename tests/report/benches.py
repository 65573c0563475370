"""Bench files for tests of tables: rows as a bench writes them, and the cells of a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from leandnn.bench import timing
from leandnn.machine import card
from leandnn.report import pages

CARD = {**card.read(), "fma_peak_gflops": 200.0, "copy_gbytes": 50.0}


def row(
    case: dict[str, Any],
    impl: str,
    seconds: float,
    unit: str = "Gflop",
    *,
    threads: int = 1,
    work: float = 1.0,
) -> dict[str, Any]:
    """A row of 20 times the same seconds, or of one where it holds memory or bytes."""
    n = 1 if unit in ("MiB", "bytes") else 20
    return dict(timing.row("b", case, impl, threads, [seconds] * n, work, unit))


def write(root: Path, bench: str, rows: object, box: str = "box", card: object = CARD) -> None:
    """The file of a bench of a machine; text stays as it is."""
    path = root / "reference" / box / f"bench-{bench}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(rows if isinstance(rows, str) else json.dumps({"machine": card, "rows": rows}))


def shown(root: Path, name: str) -> str:
    """A table's Markdown."""
    return pages.every_table()[name].markdown(root)


def cells(text: str, holding: str) -> dict[str, str]:
    """The first row that holds a text, by the heads of its own table."""
    for table in text.split("\n\n"):
        lines = [
            [c.strip() for c in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"
        ]
        for line in lines[2:]:
            if holding in line:
                return dict(zip(lines[0], line, strict=True))
    raise AssertionError(f"no row holds {holding!r}")
