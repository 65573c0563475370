"""Markdown tables from reference/: a table is a list of columns, and where its rows come from.

A table of times stands for one machine, with a line above it that says which and when, and how. In all of them
`× peer` is the peer's time over ours, so that below 1 the peer is faster; "–" was not measured, and a column of which
nothing was measured is left out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from leandnn.bench import benchfile
from leandnn.bench.benchfile import BenchFile, Row
from leandnn.bench.targets import HEAD, Target

R = TypeVar("R")
ABSENT = "–"
Column = tuple[str, Callable[[R], str | None]]  # head, and the cell of a row; None where it was not measured


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows))


def table(columns: Sequence[Column[R]], rows: Iterable[R], what: str = "row") -> str:
    """The rows as a Markdown table; ValueError without any, which names what they are."""
    found = [[cell(row) for _, cell in columns] for row in rows]
    cells = [[ABSENT if text is None else text for text in line] for line in found]
    if not cells:
        raise ValueError(f"it has no {what}")
    kept = [i for i in range(len(columns)) if any(line[i] != ABSENT for line in cells)]
    return markdown([columns[i][0] for i in kept], [[line[i] for i in kept] for line in cells])


def each(names: Mapping[str, str], cell: Callable[[Any, str], str | None]) -> list[Column[Any]]:
    """A column for every key of `names`, whose value is its head."""
    return [(words, functools.partial(_of_key, cell, key)) for key, words in names.items()]


def _of_key(cell: Callable[[Any, str], str | None], key: str, row: Any) -> str | None:
    return cell(row, key)


def targets(asked: Sequence[Target], bench: BenchFile) -> str:
    """What was asked, and whether it is reached."""
    return markdown(HEAD, [target.cells(bench) for target in asked])


def ms(row: Row | None) -> str | None:
    """A median in milliseconds."""
    return None if row is None else f"{1e3 * row['median_s']:.2f}"


def spread(row: Row, form: str = ",.0f") -> str:
    """A median in milliseconds with its quartiles."""
    median, low, high = (format(1e3 * row[name], form) for name in ("median_s", "p25_s", "p75_s"))
    return f"{median} ms ({low} to {high})"


def times(value: float | None) -> str | None:
    """A ratio to three digits or so."""
    return None if value is None else f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def share(value: float | None) -> str | None:
    """A ratio in percent."""
    return None if value is None else f"{100 * value:.0f} %"


def rate(value: float | None) -> str | None:
    """Work per second."""
    return None if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def zeros(case: Mapping[str, Any]) -> str:
    """A case's sparsity, which is in percent."""
    return f"{case['sparsity']:g} %"


def provenance(bench: BenchFile, about: str) -> str:
    """A line above a table: where and when it was measured, what it holds and how; rows measured once are no times."""
    card = bench.machine
    peak = f", FMA peak {rate(card['fma_peak_gflops'])} Gflop/s a core" if card.get("fma_peak_gflops") else ""
    copy = f", copies {card['copy_gbytes']:.0f} GB/s" if card.get("copy_gbytes") else ""
    n = min((row["n"] for row in bench.rows if row["n"] > 1), default=1)
    return f"**{bench.where}{peak}{copy}.** {about} Medians, n ≥ {n}."


@dataclass(frozen=True)
class Table(Generic[R]):
    """What is shown of one kind of file in reference/<machine>/.

    - name: by which it is found. title: its heading. files: in reference/<machine>/.
    - text: the Markdown of one machine's file; raises ValueError, KeyError or TypeError for one it cannot use.
    - made_by: the command that measures. read: a file's JSON → what `text` takes.
    """

    name: str
    title: str
    files: Sequence[str]
    text: Callable[[R], str]
    made_by: str
    read: Callable[[Any], R]

    def markdown(self, root: Path) -> str:
        """The text of every machine's file, then what was refused; how to measure it where nothing was."""
        texts, refused = benchfile.by_machine(root, self.files, lambda content: self.text(self.read(content)))
        texts = texts or [f"Not measured yet (`{self.made_by}`)."]
        return "\n\n".join([*texts, *(["\n".join(refused)] if refused else [])])


def of_bench(bench: str, name: str, title: str, text: Callable[[BenchFile], str]) -> Table[BenchFile]:
    """A table of what `leandnn bench` wrote."""
    return Table(
        name, title, [f"bench-{bench}.json"], text, f"leandnn bench {bench} --reference", benchfile.parse
    )


def named(*tables: Table[Any]) -> dict[str, Table[Any]]:
    """Tables by their names."""
    return {table.name: table for table in tables}
