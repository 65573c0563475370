"""What `leandnn bench` wrote: the machine's card and the measured rows, found by case and implementation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]  # see bench/timing.py


@dataclass(frozen=True)
class BenchFile:
    """A bench's rows and the card of the machine that measured them."""

    machine: dict[str, Any]
    rows: list[Row]

    def row(self, impl: str, threads: int = 1, **case: object) -> Row | None:
        """The first row of an implementation whose case has these values; None where it was not measured."""
        return next(
            (
                row
                for row in self.rows
                if row["impl"] == impl and row["threads"] == threads and case.items() <= row["case"].items()
            ),
            None,
        )

    def rate(self, impl: str, threads: int = 1, **case: object) -> float | None:
        """Work per second of that row."""
        found = self.row(impl, threads, **case)
        return None if found is None else float(found["rate"])

    def cases(self, **case: object) -> list[dict[str, Any]]:
        """The measured cases that have these values, each once, in the file's order."""
        found: list[dict[str, Any]] = []
        for row in self.rows:
            if case.items() <= row["case"].items() and row["case"] not in found:
                found.append(row["case"])
        return found


def parse(content: Any) -> BenchFile:
    """A file's JSON; raises ValueError, KeyError or TypeError for what no bench writes."""
    for row in content["rows"]:
        if missing := sorted(
            {"case", "impl", "threads", "median_s", "p25_s", "p75_s", "n", "rate"} - set(row)
        ):
            raise KeyError(f"a row has no {', '.join(missing)}")
        if not (isinstance(row["case"], dict) and row["rate"] > 0 and row["median_s"] > 0):
            raise ValueError(f"the row of {row['impl']} has no case, or no positive time and rate")
    return BenchFile(content["machine"], content["rows"])


def read_json(path: Path) -> Any:
    """A file's JSON; raises OSError, or ValueError for what is none (NaN and infinity are none either)."""

    def refuse(constant: str) -> float:
        raise ValueError(f"it holds {constant}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def read(path: Path) -> BenchFile:
    """A bench file; raises OSError, ValueError, KeyError or TypeError for one that cannot be used."""
    return parse(read_json(path))
