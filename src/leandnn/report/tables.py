"""Markdown tables of what things cost and how fast they are, from the files in reference/."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from leandnn.report import benchfile

T = TypeVar("T")


def by_machine(root: Path, file: str, of: Callable[[Any], T]) -> tuple[list[T], list[str]]:
    """`of` the content of every machine's `file`, and a sentence for each file that cannot be used."""
    found, refused = [], []
    for path in sorted((root / "reference").glob(f"*/{file}")):
        try:
            found.append(of(benchfile.read_json(path)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            refused.append(
                f"`{path.relative_to(root).as_posix()}` is refused ({type(error).__name__}: {error})."
            )
    return found, refused


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows))


def _table(
    root: Path, file: str, head: list[str], rows_of: Callable[[Any], list[list[str]]], otherwise: str
) -> str:
    """The rows of every machine's `file` under one head; a file that cannot be used is named below."""
    found, refused = by_machine(root, file, rows_of)
    rows = [row for of_machine in found for row in of_machine]
    return "\n".join([markdown(head, rows) if rows else otherwise, *(["", *refused] if refused else [])])


def machine(card: dict[str, Any]) -> str:
    """A machine in a few words, with the torch version."""
    gpus = f", {card['gpus'][0]}" if card["gpus"] else ""
    avx512 = ", AVX-512" if "avx512f" in card["isa"] else ""
    # Older files do not say which.
    generation = f" ({card['cpu_generation']})" if card.get("cpu_generation") else ""
    return (
        f"{card['cpu']}{generation}, {card['cores']} cores{avx512}, {card['memory_gib']:.0f} GiB{gpus}, "
        f"torch {card['versions']['torch']}"
    )


def _minutes(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def commands(root: Path) -> str:
    """Minutes, disk and memory of `make repro` and `make test`, per machine that measured them."""

    def rows_of(content: Any) -> list[list[str]]:
        return [
            [
                f"`{row['case']['command']}`",
                row["case"]["state"],
                _minutes(row["median_s"]),
                f"{row['case']['disk_mib'] / 1024:.1f} GiB",
                f"{row['case']['peak_mib'] / 1024:.1f} GiB",
                machine(content["machine"]),
            ]
            for row in content["rows"]
        ]

    head = ["command", "starting from", "time", "disk", "peak memory", "machine"]
    return _table(
        root, "bench-commands.json", head, rows_of, "Not measured yet (`leandnn bench commands --reference`)."
    )


def training(root: Path) -> str:
    """Median time and peak memory of one training run, by comparison and arm, per machine."""

    def rows_of(content: Any) -> list[list[str]]:
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for title, cost in content["runs"].items():
            groups[title.rsplit("-s", 1)[0]].append(cost)
        return [
            [
                f"`{title}`",
                str(len(costs)),
                _minutes(median(c["seconds"] for c in costs)),
                f"{median(c['seconds_per_step'] for c in costs) * 1e3:.0f} ms",
                f"{max(c['peak_mib'] for c in costs):,} MiB",
                machine({**content["machine"], "cpu_generation": _generation(costs)}),
            ]
            for title, costs in sorted(groups.items())
        ]

    head = [
        "runs",
        "n",
        "time of one, median, one thread",
        "step, evaluation included",
        "peak memory",
        "machine",
    ]
    return _table(root, "cost.json", head, rows_of, "Not measured yet (`dvc repro` writes it).")


def _generation(costs: list[dict[str, Any]]) -> str:
    """The generation of the processors that runs were measured on; empty where one of them does not say it."""
    found = sorted({c.get("cpu_generation", "") for c in costs})
    return " and ".join(found) if all(found) else ""


def _step_by(impl: str) -> str:
    """What made a training step: ours, ours with another library's rounding, or torch."""
    if impl == "leandnn":
        return "**leandnn, BF16 emulated**"
    return f"`{impl}`" if impl.startswith("torch") else f"the same, rounding by `{impl}`"


def train_step(root: Path) -> str:
    """What emulation costs, from bench-train-step.json, peers included."""

    def rows_of(content: Any) -> list[list[str]]:
        fp32 = {r["case"]["net"]: r["median_s"] for r in content["rows"] if r["impl"] == "torch.fp32"}
        return [
            [
                f"{r['case']['net']}, {r['case']['batch']} {r['unit']}",
                _step_by(r["impl"]),
                f"{r['median_s'] * 1e3:.1f} ms ({r['p25_s'] * 1e3:.1f} to {r['p75_s'] * 1e3:.1f})",
                f"{r['median_s'] / fp32[r['case']['net']]:.2f}",
                f"{math.floor(r['rate']):,}",
                str(r["n"]),
                machine(content["machine"]),
            ]
            for r in content["rows"]
        ]

    head = [
        "one training step, one thread",
        "",
        "median (quartiles)",
        "to FP32",
        "examples/s",
        "n",
        "machine",
    ]
    return _table(
        root,
        "bench-train-step.json",
        head,
        rows_of,
        "Not measured yet (`leandnn bench train-step --reference`).",
    )
