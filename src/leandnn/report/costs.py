"""Tables of what a newcomer and a training run pay: minutes, disk and memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any

from leandnn.bench.benchfile import BenchFile, Row, machine_in_words, parse
from leandnn.report import tables
from leandnn.report.tables import Column, Table

COMMANDS: list[Column[Row]] = [
    ("command", lambda row: f"`{row['case']['command']}`"),
    ("starting from", lambda row: row["case"]["state"]),
    ("time", lambda row: _minutes(row["median_s"])),
    ("disk", lambda row: f"{row['case']['disk_mib'] / 1024:.1f} GiB"),
    ("peak memory", lambda row: f"{row['case']['peak_mib'] / 1024:.1f} GiB"),
]
Arm = tuple[str, list[dict[str, Any]]]  # its name, and what each run cost
TRAINING: list[Column[Arm]] = [
    ("runs", lambda arm: f"`{arm[0]}`"),
    ("n", lambda arm: str(len(arm[1]))),
    ("time of one, median, one thread", lambda arm: _minutes(median(run["seconds"] for run in arm[1]))),
    (
        "step, evaluation included",
        lambda arm: f"{median(run['seconds_per_step'] for run in arm[1]) * 1e3:.0f} ms",
    ),
    ("peak memory", lambda arm: f"{max(run['peak_mib'] for run in arm[1]):,} MiB"),
]


PRICES: list[Column[Arm]] = [
    ("runs of", lambda arm: arm[0]),
    ("n", lambda arm: str(len(arm[1]))),
    ("all, one thread", lambda arm: _minutes(sum(run["seconds"] for run in arm[1]))),
    ("peak memory", lambda arm: f"{max(run['peak_mib'] for run in arm[1]):,} MiB"),
]


def _minutes(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def commands(bench: BenchFile) -> str:
    """Minutes, disk and memory of `make repro` and `make test`."""
    return f"**{bench.where}.**\n\n{tables.table(COMMANDS, bench.rows)}"


def _runs(content: Any) -> dict[str, Any]:
    """Machine, day, and what each run cost, by title; until 2026-11 that was the file itself, cost.json."""
    if "runs" in content:
        return dict(content)
    bench = parse(content)
    runs = {row["case"]["run"]: row["case"] for row in bench.rows}
    return {"machine": bench.machine, "date": bench.date, "runs": runs}


def training(content: dict[str, Any]) -> str:
    """Median time and peak memory of one training run, by comparison and arm."""
    return _priced(content, lambda title: title.rpartition("-s")[0], TRAINING)


def prices(content: dict[str, Any]) -> str:
    """The same by paper, and what all of its runs take together."""
    return _priced(content, lambda title: title.partition("/")[0], PRICES)


def _priced(content: dict[str, Any], row: Callable[[str], str], columns: list[Column[Arm]]) -> str:
    """The runs of which `row` gives the same name, in a row.

    Runs of one machine may have met processors of several generations: all of them are named.
    """
    arms: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for title, cost in content["runs"].items():
        arms[row(title)].append(cost)
    met = {cost.get("cpu_generation", "") for cost in content["runs"].values()}
    generation = " and ".join(sorted(met)) if all(met) else ""
    where = [machine_in_words({**content["machine"], "cpu_generation": generation}), content.get("date", "")]
    return f"**{', '.join(filter(None, where))}.**\n\n{tables.table(columns, sorted(arms.items()), 'run')}"


def _of_runs(name: str, title: str, text: Callable[[dict[str, Any]], str]) -> Table[dict[str, Any]]:
    files, made_by = ["bench-training.json", "cost.json"], "leandnn bench training --reference"
    return Table(name, title, files, text, made_by, _runs)


TABLES = tables.named(
    tables.of_bench("commands", "commands", "The two commands", commands),
    _of_runs("training", "Training", training),
)
README = tables.named(TABLES["commands"], _of_runs("prices", "Prices", prices))
"""What README.md has of them."""
