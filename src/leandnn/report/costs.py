"""Tables of what a newcomer and a training run pay: minutes, disk and memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from leandnn.bench.benchfile import BenchFile, Row, by_machine, machine_in_words, parse
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


Paper = tuple[str, str, list[dict[str, Any]]]  # its machine's number, its name, and what each run cost
PRICES: list[Column[Paper]] = [
    ("runs of", lambda paper: paper[1]),
    ("on", lambda paper: paper[0]),
    ("n", lambda paper: str(len(paper[2]))),
    ("all, one thread", lambda paper: _minutes(sum(run["seconds"] for run in paper[2]))),
    ("peak memory", lambda paper: f"{max(run['peak_mib'] for run in paper[2]):,} MiB"),
]
FILES = ["bench-training.json", "cost.json"]
MADE_BY = "leandnn bench training --reference"


def _minutes(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def commands(bench: BenchFile) -> str:
    """Minutes, disk and memory of `make repro` and of the lanes of tests."""
    return f"**{bench.where}.**\n\n{tables.table(COMMANDS, bench.rows)}"


def _runs(content: Any) -> dict[str, Any]:
    """Machine, day, and what each run cost, by title; until 2026-11 that was the file itself, cost.json."""
    if "runs" in content:
        return dict(content)
    bench = parse(content)
    runs = {row["case"]["run"]: row["case"] for row in bench.rows}
    return {"machine": bench.machine, "date": bench.date, "runs": runs}


def _grouped(content: dict[str, Any], name: Callable[[str], str]) -> list[Arm]:
    """The runs of which `name` gives the same."""
    arms: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for title, cost in content["runs"].items():
        arms[name(title)].append(cost)
    return sorted(arms.items())


def _where(content: dict[str, Any]) -> str:
    """Machine and day. Runs of one machine may have met processors of several generations: all of them are named."""
    met = {cost.get("cpu_generation", "") for cost in content["runs"].values()}
    generation = " and ".join(sorted(met)) if all(met) else ""
    where = [machine_in_words({**content["machine"], "cpu_generation": generation}), content.get("date", "")]
    return ", ".join(filter(None, where))


def training(content: dict[str, Any]) -> str:
    """Median time and peak memory of one training run, by comparison and arm."""
    arms = _grouped(content, lambda title: title.rpartition("-s")[0])
    return f"**{_where(content)}.**\n\n{tables.table(TRAINING, arms, 'run')}"


def prices(root: Path) -> str:
    """What all runs of a paper take together, in one table for all machines."""
    found, refused = by_machine(root, FILES, _runs)
    rows = [
        (str(at), *paper)
        for at, content in enumerate(found, 1)
        for paper in _grouped(content, lambda title: title.partition("/")[0])
    ]
    head = "; ".join(f"{at}: {_where(content)}" for at, content in enumerate(found, 1))
    text = f"**{head}.**\n\n{tables.table(PRICES, rows)}" if rows else f"Not measured yet (`{MADE_BY}`)."
    return "\n\n".join([text, *refused])


TABLES = tables.named(
    tables.of_bench("commands", "commands", "Commands", commands),
    Table("training", "Training", FILES, training, MADE_BY, _runs),
)
README: dict[str, Callable[[Path], str]] = {"commands": TABLES["commands"].markdown, "prices": prices}
"""What README.md has of them."""
