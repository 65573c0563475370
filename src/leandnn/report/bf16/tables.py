"""What emulating BF16 costs a training step."""

from __future__ import annotations

import math

from leandnn.bench.benchfile import BenchFile, Row, ratio
from leandnn.bench.bf16.targets import TARGETS
from leandnn.report import tables
from leandnn.report.tables import Column, of_bench, provenance, spread, times


def train_step(bench: BenchFile) -> str:
    """The emulated step of every net beside the FP32 one, peers included."""

    def to_fp32(row: Row) -> str | None:
        fp32 = bench.row("torch.fp32", row["threads"], **row["case"])
        return times(ratio(row["median_s"], None if fp32 is None else fp32["median_s"]))

    columns: list[Column[Row]] = [
        ("one training step", lambda row: f"{row['case']['net']}, {row['case']['batch']} {row['unit']}"),
        ("", lambda row: _made_by(row["impl"])),
        ("median (quartiles)", lambda row: spread(row, ".1f")),
        ("to FP32", to_fp32),
        ("examples/s", lambda row: f"{math.floor(row['rate']):,}"),
    ]
    table, asked = tables.table(columns, bench.rows), tables.targets(TARGETS["train-step"], bench)
    return f"{provenance(bench, 'One thread.')}\n\n{table}\n\n{asked}"


def _made_by(impl: str) -> str:
    """What made a training step: ours, ours with another library's rounding, or torch."""
    if impl == "leandnn":
        return "**leandnn, BF16 emulated**"
    return f"`{impl}`" if impl.startswith("torch") else f"the same, rounding by `{impl}`"


TABLES = tables.named(
    of_bench("train-step", "train-step", "A training step with emulated BF16", train_step),
)
