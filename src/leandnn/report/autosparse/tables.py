"""Markdown tables of what thresholds cost and exported nets save, from reference/<machine>/bench-autosparse.json."""

from __future__ import annotations

from pathlib import Path

from leandnn.report import tables
from leandnn.report.autosparse.numbers import exported, steps
from leandnn.report.benchfile import BenchFile
from leandnn.report.kernels.tables import provenance, trimmed, written
from leandnn.report.rbgp.tables import Target, target_table

# What the project asked: times the dense step; seconds. As in bench/autosparse/speed.py.
STEP, LEDGER = 1.10, 1.0


def autosparse(root: Path) -> str:
    """The targets, steps beside their peers', and exported nets' speed beside the FLOPs that they save."""

    def text_of(bench: BenchFile) -> str:
        ledger = bench.row("leandnn", what="ledger")
        counting = [] if ledger is None else [float(ledger["median_s"])]
        targets = [
            Target(
                f"a step with thresholds: ≤ {STEP:.2f} × dense", [*steps(bench).leandnn], STEP, at_most=True
            ),
            Target(f"the ledger of ResNet50: ≤ {LEDGER:g} s", counting, LEDGER, "s", at_most=True),
        ]
        about = (
            "FP32, one thread; exported nets have 80 % zeros and folded norms, and their bytes count indices."
        )
        parts = target_table(targets), _steps(bench), _exports(bench), provenance(bench, about)
        return "\n\n".join(parts)

    return written(root, "autosparse", text_of)


def _steps(bench: BenchFile) -> str:
    """A row per net: its step with thresholds, ours and the peers', as multiples of the dense one."""
    found = steps(bench)
    peers = {"torch.autograd": "torch's operators", "pquant-ml": "`pquant-ml`"}
    rows = [
        [f"{net.net}, batch {net.batch}", f"{net['dense, ms']:.1f}", f"{net.leandnn:.2f} ×"]
        + [f"{net[peer]:.2f} ×" if peer in net and net[peer] > 0 else "–" for peer in peers]
        for _, net in found.iterrows()
    ]
    return trimmed(["a training step", "dense, ms", "**thresholds**", *peers.values()], rows)


def _exports(bench: BenchFile) -> str:
    """A row per net and batch: times as dense, CSR and hierarchical net."""
    rows = []
    for (net, batch), forms in exported(bench).groupby(["net", "batch"], sort=False):
        own = forms.set_index("as")
        ours = own.loc["hierarchical"]
        rows.append([
            f"{net}, batch {batch}", *(f"{own.ms[form]:.2f}" for form in ("dense", "CSR", "hierarchical")),
            f"{ours['fewer MACs, times']:.2f} ×", f"{ours['faster, times']:.2f} ×",
            f"{100 * ours['of dense bytes']:.0f} %",
        ])  # fmt: skip
    head = ["ms a pass", "dense", "CSR", "**hierarchical**", "fewer FLOPs", "faster", "of the dense bytes"]
    return tables.markdown(head, rows)
