"""Markdown tables of coded layers and of what reaches its target, from reference/<machine>/bench-huffman.json.

`× peer` is the peer's time over ours, so that below 1 the peer is faster; "–" was not measured.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from leandnn.report import tables
from leandnn.report.benchfile import BenchFile
from leandnn.report.huffman import targets as huffman_targets
from leandnn.report.huffman.numbers import DENSE
from leandnn.report.huffman.targets import Target
from leandnn.report.kernels.tables import provenance, times_faster, trimmed, written

NAMES = {"fc6": "fc6, 9216 → 4096", "fc7": "fc7, 4096 → 4096", "fc8": "fc8, 4096 → 1000"}
PEERS = {
    "torch.bf16": "BF16",
    "torch.int8 (dynamic)": "int8",
    "torch.csr, already decoded": "CSR, decoded before",
    "decode → torch.csr": "decode, then CSR",
    "decode → torch.dense": "decode, then dense",
}
# Peers with a target of their own.
BESIDE = {"torch.int8 (dynamic)": "int8", "decode → torch.csr": "decode, then CSR"}


def huffman(root: Path) -> str:
    """Linear layers of the full AlexNet by batch, and the targets that are missed: what README.md shows."""

    def text_of(bench: BenchFile) -> str:
        rows = []
        for case in bench.cases(what="layer"):
            seconds = {row["impl"]: row["median_s"] for row in bench.rows if row["case"] == case}
            dense, ours = min(seconds[impl] for impl in DENSE if impl in seconds), seconds["leandnn"]
            peers = [seconds.get(impl) for impl in PEERS]
            rows.append(
                [
                    NAMES[case["layer"]],
                    str(case["batch"]),
                    *("–" if s is None else f"{1e3 * s:.2f}" for s in (dense, *peers, ours)),
                    times_faster(1 / ours, 1 / dense),
                    *(times_faster(1 / ours, 1 / seconds[i]) if i in seconds else "–" for i in BESIDE),
                ]
            )
        if not rows:
            raise ValueError("it has no layer")
        head = ["layer, ms", "batch", "dense, FP32", *PEERS.values(), "**coded, fused**", "× dense"]
        about = (
            "AlexNet at full size with made-up weights of a stated structure, one thread; dense FP32 in its faster "
            "layout."
        )
        table = trimmed([*head, *(f"× {words}" for words in BESIDE.values())], rows)
        missed = _missed(huffman_targets.targets(bench.rows))
        return f"{table}\n\n{provenance(_timed(bench), about)}\n\n{missed}"

    return written(root, "huffman", text_of)


def _timed(bench: BenchFile) -> BenchFile:
    """Without sizes and memory, which are not times, and whole plans, which take long."""
    return BenchFile(bench.machine, [row for row in bench.rows if row["case"]["what"] in ("layer", "decode")])


def _missed(targets: list[Target]) -> str:
    """How many targets are reached, and those that are not."""
    measured = [own for own in targets if own.measured is not None]
    missed = [own for own in measured if own.met == "NO"]
    sentence = f"Of {len(measured)} targets {len(measured) - len(missed)} are reached"
    if not missed:
        return f"{sentence}."
    words = (
        f"{own.what}: {own.measured:.3g} ({'≤' if own.at_most else '≥'} {own.wanted:g})" for own in missed
    )
    return f"{sentence}; missed: {'; '.join(words)}."


def huffman_targets_table(root: Path) -> str:
    """Every target with what was measured."""

    def text_of(bench: BenchFile) -> str:
        rows = [
            [
                own.what,
                f"{'≤' if own.at_most else '≥'} {own.wanted:g}",
                "–" if own.measured is None else f"{own.measured:.3g}",
                {"yes": "reached", "NO": "**missed**"}.get(own.met, own.met),
            ]
            for own in huffman_targets.targets(bench.rows)
        ]
        if all(row[2] == "–" for row in rows):
            raise ValueError("it has nothing that a target asks for")
        table = tables.markdown(["target", "asked", "measured", ""], rows)
        about = "Ratios of medians of one run in which all implementations of a case take turns."
        return f"{table}\n\n{provenance(_timed(bench), about)}"

    return written(root, "huffman", text_of)


TABLES: dict[str, Callable[[Path], str]] = {"huffman": huffman, "huffman-targets": huffman_targets_table}
