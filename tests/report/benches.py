"""Bench files for tests of tables: rows as a bench writes them, and the cells of a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from leandnn.bench import timing
from leandnn.report import pages

DAY = "2026-11-21"
# Of no machine that there is, so that none can change what is shown.
CARD = {
    "cpu": "A CPU", "cores": 2, "isa": ["avx2", "avx512f"], "memory_gib": 16.0, "gpus": [],
    "versions": {"torch": "2.13.0"}, "fma_peak_gflops": 200.0, "copy_gbytes": 50.0,
}  # fmt: skip


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
    path.write_text(
        rows if isinstance(rows, str) else json.dumps({"machine": card, "date": DAY, "rows": rows})
    )


def shown(root: Path, name: str) -> str:
    """A table's Markdown."""
    return pages.every_table()[name].markdown(root)
