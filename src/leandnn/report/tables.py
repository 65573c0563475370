"""Markdown tables of what things cost and how fast they are, from the files in reference/."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from leandnn.errors import LeandnnError
from leandnn.paths import relative


def _read(path: Path) -> Any:
    def refuse(constant: str) -> float:
        raise ValueError(f"it holds {constant}")

    try:
        return json.loads(path.read_text(), parse_constant=refuse)
    except (OSError, ValueError) as error:
        raise LeandnnError(
            f"{relative(path)} cannot be used: {error}, expected a JSON file without NaN"
        ) from error


def machine(card: dict[str, Any]) -> str:
    """A machine in a few words, with the torch version."""
    gpus = f", {card['gpus'][0]}" if card["gpus"] else ""
    avx512 = ", AVX-512" if "avx512f" in card["isa"] else ""
    return (
        f"{card['cpu']}, {card['cores']} cores{avx512}, {card['memory_gib']:.0f} GiB{gpus}, "
        f"torch {card['versions']['torch']}"
    )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def commands(root: Path) -> str:
    """Minutes, disk and memory of `make repro` and `make test`, per machine that measured them."""
    rows = []
    for path in sorted((root / "reference").glob("*/bench-commands.json")):
        content = _read(path)
        for row in content["rows"]:
            case = row["case"]
            rows.append(
                [
                    f"`{case['command']}`",
                    case["state"],
                    _minutes(row["median_s"]),
                    f"{case['disk_mib'] / 1024:.1f} GiB",
                    f"{case['peak_mib'] / 1024:.1f} GiB",
                    machine(content["machine"]),
                ]
            )
    if not rows:
        return "Not measured yet (`leandnn bench commands --reference`)."
    return _markdown(["command", "starting from", "time", "disk", "peak memory", "machine"], rows)


def training(root: Path) -> str:
    """Median time and peak memory of one training run, by comparison and arm, per machine."""
    rows = []
    for path in sorted((root / "reference").glob("*/cost.json")):
        content = _read(path)
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for title, cost in content["runs"].items():
            groups[title.rsplit("-s", 1)[0]].append(cost)
        for title, costs in sorted(groups.items()):
            seconds = median(c["seconds"] for c in costs)
            step = median(c["seconds_per_step"] for c in costs)
            rows.append(
                [
                    f"`{title}`",
                    str(len(costs)),
                    _minutes(seconds),
                    f"{step * 1e3:.0f} ms",
                    f"{max(c['peak_mib'] for c in costs):,} MiB",
                    machine(content["machine"]),
                ]
            )
    if not rows:
        return "Not measured yet (`dvc repro` writes it)."
    return _markdown(
        [
            "runs",
            "n",
            "time of one, median, one thread",
            "step, evaluation included",
            "peak memory",
            "machine",
        ],
        rows,
    )


def train_step(root: Path) -> str:
    """What emulation costs, from bench-train-step.json, peers included."""
    rows = []
    for path in sorted((root / "reference").glob("*/bench-train-step.json")):
        content = _read(path)
        fp32 = next(r["median_s"] for r in content["rows"] if r["impl"] == "torch.fp32")
        for r in content["rows"]:
            quartiles = f"{r['p25_s'] * 1e3:.1f} to {r['p75_s'] * 1e3:.1f}"
            name = "**leandnn, BF16 emulated**" if r["impl"] == "leandnn" else f"`{r['impl']}`"
            rows.append(
                [
                    name,
                    f"{r['median_s'] * 1e3:.1f} ms ({quartiles})",
                    f"{r['median_s'] / fp32:.2f}",
                    f"{math.floor(r['rate']):,}",
                    str(r["n"]),
                    machine(content["machine"]),
                ]
            )
    if not rows:
        return "Not measured yet (`leandnn bench train-step --reference`)."
    head = [
        "one training step, batch 128, one thread",
        "median (quartiles)",
        "to FP32",
        "images/s",
        "n",
        "machine",
    ]
    return _markdown(head, rows)
