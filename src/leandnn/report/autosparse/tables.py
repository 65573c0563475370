"""What thresholds cost a training step, and what exported nets save."""

from __future__ import annotations

from typing import Any

from leandnn.bench.autosparse.targets import TARGETS
from leandnn.bench.benchfile import BenchFile
from leandnn.report import tables
from leandnn.report.autosparse import frames
from leandnn.report.tables import Column, each, of_bench, provenance

PEERS = {
    "leandnn": "**thresholds**",
    "torch.autograd": "torch's operators",
    "pquant-ml": "`pquant-ml`",
}
STEPS: list[Column[Any]] = [
    ("a training step", lambda net: f"{net.net}, batch {net.batch}"),
    ("dense, ms", lambda net: f"{net['dense, ms']:.1f}"),
    *each(PEERS, lambda net, peer: f"{net[peer]:.2f} ×" if peer in net and net[peer] > 0 else None),
]
FORMS = {"dense": "dense", "CSR": "CSR", "hierarchical": "**hierarchical**"}
EXPORTS: list[Column[Any]] = [
    ("ms a pass", lambda own: f"{own.net.iloc[0]}, batch {own.batch.iloc[0]}"),
    *each(FORMS, lambda own, form: f"{own.ms[form]:.2f}"),
    ("fewer FLOPs", lambda own: f"{own.loc['hierarchical', 'fewer MACs, times']:.2f} ×"),
    ("faster", lambda own: f"{own.loc['hierarchical', 'faster, times']:.2f} ×"),
    ("of the dense bytes", lambda own: tables.share(own.loc["hierarchical", "of dense bytes"])),
]


def autosparse(bench: BenchFile) -> str:
    """The targets, steps beside their peers', and exported nets' speed beside the FLOPs that they save."""
    steps = [net for _, net in frames.steps(bench).iterrows()]
    nets = frames.exported(bench).groupby(["net", "batch"], sort=False)
    about = "FP32, one thread; exported nets have 80 % zeros and folded norms, and their bytes count indices."
    return "\n\n".join((
        provenance(bench, about),
        tables.targets(TARGETS["autosparse"], bench),
        tables.table(STEPS, steps, "training step"),
        tables.table(EXPORTS, [own.set_index("as") for _, own in nets], "exported net"),
    ))  # fmt: skip


TABLES = tables.named(
    of_bench("autosparse", "autosparse", "AutoSparse: steps and exported nets", autosparse),
)
