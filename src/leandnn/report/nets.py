"""The table of the nets near convergence: what they reach, what a run of them costs, and the published line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from leandnn.bench.benchfile import machine_in_words
from leandnn.dense import recipe
from leandnn.errors import LeandnnError
from leandnn.report import tables
from leandnn.report.tables import Column
from leandnn.studies import records, standing

Runs = tuple[str, str, Sequence[Mapping[str, Any]]]  # machine's number, net with its arm, records

COLUMNS: list[Column[Runs]] = [
    ("net", lambda runs: runs[1]),
    ("on", lambda runs: runs[0]),
    ("epochs", lambda runs: str(runs[2][0]["budget"]["epochs"])),
    ("n", lambda runs: str(len(runs[2]))),
    ("accuracy, one view", lambda runs: _accuracy(runs[2], "accuracy")),
    ("with the mirror image", lambda runs: _accuracy(runs[2], "mirror_accuracy")),
    ("PFLOP a run", lambda runs: f"{_petaflop(runs[2][0]):.3f}"),
    ("time a run, median, one thread", lambda runs: f"{median(r['seconds'] for r in runs[2]) / 60:.1f} min"),
    ("peak memory", lambda runs: f"{max(r['peak_mib'] for r in runs[2]):,} MiB"),
]
# Jordan 2024, the program that the main net follows: airbench93, widths 64/128/128, 11 epochs, six views at test time.
PUBLISHED = "Published for the main net: 93.00 % with test-time averaging of six views, 11 epochs, n = 50 (airbench93)."


def nets(root: Path) -> str:
    """The table, from reference/<machine>/dense-*.json; a sentence for each file or record that is refused."""
    found: list[Runs] = []
    where, refused = [], []
    for path in sorted((root / "reference").glob("*/dense-*.json")):
        try:
            document, problems = records.read(path)
        except LeandnnError as error:
            refused.append(f"{error}.")
            continue
        refused += [f"{problem}." for problem in problems]
        words = machine_in_words(document["machine"])
        where += [] if words in where else [words]
        arms: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for record in standing.counting(document["runs"]):
            arms[f"{record['comparison']}, {record['arm']}"].append(record)
        found += [(str(where.index(words) + 1), name, runs) for name, runs in arms.items()]
    if not found:
        return "\n\n".join(["Not measured yet (`leandnn studies run dense`).", *refused])
    head = "; ".join(f"{at}: {words}" for at, words in enumerate(where, 1))
    judged = (
        "Mean ± standard deviation over seeds. `pilots` trained on 45,000 images and are judged on the other 5,000 "
        "(validation), which is what the recipe was chosen by; the other nets on the test set."
    )
    return "\n\n".join([f"**{head}.**", tables.table(COLUMNS, found), f"{judged} {PUBLISHED}", *refused])


def _accuracy(runs: Sequence[Mapping[str, Any]], metric: str) -> str | None:
    """Mean and standard deviation in percent; None where no run has the metric."""
    values = [100 * v for run in runs for k, v in run["metrics"].items() if k.partition("_")[2] == metric]
    if not values:
        return None
    return f"{mean(values):.2f} %" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def _petaflop(record: Mapping[str, Any]) -> float:
    """Of the products of a run's training, forward and backward."""
    size = record["comparison"] if record["comparison"] in recipe.RECIPES else "main"
    return recipe.petaflop(recipe.RECIPES[size], record["steps"])
