"""Coded layers beside dense, narrower and sparse ones, and what was asked of them."""

from __future__ import annotations

from typing import Any

from leandnn.bench.benchfile import BenchFile
from leandnn.bench.huffman.targets import DENSE, TARGETS
from leandnn.report import tables
from leandnn.report.tables import Column, each, ms, of_bench, provenance, times

NAMES = {"fc6": "fc6, 9216 → 4096", "fc7": "fc7, 4096 → 4096", "fc8": "fc8, 4096 → 1000"}
PEERS = {
    "torch.bf16": "BF16",
    "torch.int8 (dynamic)": "int8",
    "torch.csr, already decoded": "CSR, decoded before",
    "decode → torch.csr": "decode, then CSR",
    "decode → torch.dense": "decode, then dense",
    "leandnn": "**coded, fused**",
}
BESIDE = {"torch.int8 (dynamic)": "× int8", "decode → torch.csr": "× decode, then CSR"}


def layers(bench: BenchFile) -> str:
    """Linear layers of the full AlexNet by batch, and how many targets are reached."""

    def dense(case: dict[str, Any]) -> str | None:
        rows = [row for impl in DENSE if (row := bench.row(impl, **case))]
        return ms(min(rows, key=lambda row: row["median_s"], default=None))

    columns: list[Column[dict[str, Any]]] = [
        ("layer, ms", lambda case: NAMES[case["layer"]]),
        ("batch", lambda case: str(case["batch"])),
        ("dense, FP32", dense),
        *each(PEERS, lambda case, impl: ms(bench.row(impl, **case))),
        ("× dense", lambda case: times(bench.times(DENSE, **case))),
        *each(BESIDE, lambda case, impl: times(bench.times(impl, **case))),
    ]
    table = tables.table(columns, bench.cases(what="layer"), "layer")
    about = (
        "AlexNet at full size with made-up weights of a stated structure, one thread; dense FP32 in its faster "
        "layout."
    )
    cells = [target.cells(bench) for target in TARGETS["huffman"]]
    reached = sum(line[-1] == "reached" for line in cells)
    missed = [f"{asked} ({measured})" for asked, _, measured, verdict in cells if "missed" in verdict]
    words = f"Of {reached + len(missed)} targets {reached} are reached"
    words += f"; missed: {'; '.join(missed)}." if missed else "."
    return f"{provenance(_timed(bench), about)}\n\n{table}\n\n{words}"


def _timed(bench: BenchFile) -> BenchFile:
    """Without sizes and memory, which are not times, and whole plans, which take long."""
    kept = [row for row in bench.rows if row["case"]["what"] in ("layer", "decode")]
    return BenchFile(bench.machine, kept, date=bench.date)


def met(bench: BenchFile) -> str:
    """Every target with what was measured."""
    if not any(target.measured(bench) for target in TARGETS["huffman"]):
        raise ValueError("it has nothing that a target asks for")
    about = "Ratios of medians of one run in which all implementations of a case take turns."
    return f"{provenance(_timed(bench), about)}\n\n{tables.targets(TARGETS['huffman'], bench)}"


TABLES = tables.named(
    of_bench("huffman", "huffman", "Coded weights: linear layers", layers),
    of_bench("huffman", "huffman-targets", "Coded weights: targets", met),
)
