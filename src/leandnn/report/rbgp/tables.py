"""Markdown tables of RBGP4 layers and nets, from reference/<machine>/bench-rbgp.json, and what reaches its target.

`× peer` is the peer's time over ours, so that below 1 the peer is faster; "–" was not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from leandnn.report import tables
from leandnn.report.benchfile import BenchFile, Row
from leandnn.report.kernels.tables import provenance, times_faster, trimmed, written

# What the project asked of its kernels, in times of torch's dense FP32 (contiguous); as in bench/rbgp/nets.py.
LAYER_TARGETS = {75.0: 3.0, 87.5: 5.5}
WIDE = 128  # channels on either side that the layers' targets ask for
NET_TARGET = 3.0  # VGG19, batch 128, 87.5 %
DENSE_LAYERS = {
    "torch.conv2d": "torch",
    "torch.conv2d (channels last)": "torch, channels last",
    "onednn (prepacked)": "oneDNN, packed",
}
SPARSE_LAYERS = {
    "torch.csr": "single weights, `torch.csr`",
    "leandnn.unstructured": "single weights, ours",
    "torch.bsr4x4": "4×4, `torch.bsr`",
    "leandnn.block4x4": "4×4, ours",
}
NETS = {
    "torch.dense": "dense, torch",
    "torch.dense (channels last)": "channels last",
    "onednn (folded, prepacked)": "dense, oneDNN",
    "leandnn.unstructured": "single weights",
    "leandnn.block4x4": "4×4 blocks",
}


class Target(NamedTuple):
    """What was asked, the values found, and how many of them have it."""

    asked: str
    values: Sequence[float]
    least: float
    unit: str = "×"
    at_most: bool = False

    def row(self) -> list[str]:
        """Cells: what was asked, how many reach it, the range of the values, the verdict."""
        if not self.values:
            return [self.asked, "–", "–", "not measured"]
        reached = [v for v in self.values if (v <= self.least if self.at_most else v >= self.least)]
        low, high = (f"{v:.2f}" for v in (min(self.values), max(self.values)))
        spread = f"{low} {self.unit}" if len(self.values) == 1 else f"{low} to {high} {self.unit}"
        verdict = "reached" if len(reached) == len(self.values) else "**missed**"
        return [self.asked, f"{len(reached)} of {len(self.values)}", spread, verdict]


def target_table(targets: Sequence[Target]) -> str:
    """The targets as a Markdown table."""
    return tables.markdown(["asked", "reached by", "measured", ""], [target.row() for target in targets])


def _ms(row: Row | None) -> str:
    return "–" if row is None else f"{1e3 * row['median_s']:.2f}"


def _layers(bench: BenchFile) -> Iterator[dict[str, Any]]:
    """The cases of layers; ValueError without any."""
    cases = [case for case in bench.cases() if "layer" in case]
    if not cases:
        raise ValueError("it has no layer")
    yield from cases


def _net_cases(bench: BenchFile) -> list[dict[str, Any]]:
    """The cases of whole nets' time, without those of memory."""
    return [case for case in bench.cases() if "net" in case and "peak_mib" not in case]


def _peak(bench: BenchFile, case: dict[str, Any], impl: str) -> dict[str, Any] | None:
    """The case that holds the peak memory of a net's implementation."""
    found = (r["case"] for r in bench.rows if r["impl"] == impl and "peak_mib" in r["case"])
    return next((own for own in found if case.items() <= own.items()), None)


def _against(bench: BenchFile, case: dict[str, Any], peer: str) -> float | None:
    """How many times faster ours is than a peer."""
    ours, theirs = bench.rate("leandnn", **case), bench.rate(peer, **case)
    return None if ours is None or theirs is None else ours / theirs


def rbgp(root: Path) -> str:
    """Whole nets, their peak memory, and the targets: what README.md shows."""

    def text_of(bench: BenchFile) -> str:
        rows = []
        for case in _net_cases(bench):
            ours = bench.rate("leandnn", **case)
            peaks = [_peak(bench, case, impl) for impl in ("torch.dense", "leandnn")]
            rows.append(
                [
                    f"{case['net']}, batch {case['batch']}",
                    f"{case['sparsity']:g} %",
                    *(_ms(bench.row(impl, **case)) for impl in NETS),
                    _ms(bench.row("leandnn", **case)),
                    times_faster(ours, bench.rate("torch.dense", **case)),
                    times_faster(ours, bench.rate("onednn (folded, prepacked)", **case)),
                    " → ".join(f"{peak['peak_mib']:.0f}" for peak in peaks if peak) or "–",
                ]
            )
        if not rows:
            raise ValueError("it has no whole net")
        head = ["ms a pass", "zeros", *NETS.values(), "**RBGP4**", "× torch", "× oneDNN"]
        about = (
            "FP32, one thread, 32×32 images; first convolution and classifier are dense; sparse layers by our kernels; "
            "norms folded in the sparse nets and oneDNN's. Memory: beyond the libraries, dense in torch → RBGP4."
        )
        table = trimmed([*head, "peak MiB"], rows)
        return f"{table}\n\n{provenance(bench, about)}\n\n{target_table(_targets(bench))}"

    return written(root, "rbgp", text_of)


def _targets(bench: BenchFile) -> list[Target]:
    found = []
    for sparsity, least in LAYER_TARGETS.items():
        wide = [c for c in _layers(bench) if c["sparsity"] == sparsity and c["channels"] >= WIDE]
        asked = f"layers of ≥ {WIDE} channels, {sparsity:g} % zeros: ≥ {least:g} × torch's dense layer"
        measured = [ratio for case in wide if (ratio := _against(bench, case, "torch.conv2d")) is not None]
        found.append(Target(asked, measured, least))
    nets = [case for case in _net_cases(bench) if case["net"] == "VGG19"]
    last = [case for case in nets if (case["batch"], case["sparsity"]) == (128, 87.5)]
    for asked, cases, least in (
        (f"VGG19, batch 128, 87.5 % zeros: ≥ {NET_TARGET:g} × torch's dense net", last, NET_TARGET),
        ("VGG19, every batch, from 75 % zeros on: faster than torch's dense net", nets, 1.0),
    ):
        ratios = [ratio for case in cases if (ratio := _against(bench, case, "torch.dense")) is not None]
        found.append(Target(asked, ratios, least))
    return found


def rbgp_layers(root: Path) -> str:
    """Every convolution of the nets but the first, dense and sparse in libraries' and our kernels."""

    def text_of(bench: BenchFile) -> str:
        rows = []
        for case in _layers(bench):
            ours, ratio = bench.rate("leandnn", **case), _against(bench, case, "torch.conv2d")
            least = LAYER_TARGETS.get(case["sparsity"]) if case["channels"] >= WIDE else None
            verdict = "" if least is None or ratio is None else "reached" if ratio >= least else "**missed**"
            rows.append(
                [
                    case["layer"],
                    *(str(case[net]) for net in ("VGG19", "WRN-40-4")),
                    f"{case['sparsity']:g} %",
                    *(_ms(bench.row(impl, **case)) for impl in (*DENSE_LAYERS, *SPARSE_LAYERS)),
                    _ms(bench.row("leandnn", **case)),
                    times_faster(ours, bench.rate("torch.conv2d", **case)),
                    "" if least is None else f"{least:g}: {verdict}",
                ]
            )
        head = [
            "layer, ms",
            "in VGG19",
            "in WRN-40-4",
            "zeros",
            *DENSE_LAYERS.values(),
            *SPARSE_LAYERS.values(),
        ]
        head += ["**RBGP4**", "× torch", "target"]
        about = (
            "One thread, FP32, batch 16. The implementations of a layer take turns, in an order that changes from one "
            "round to the next."
        )
        return f"{trimmed(head, rows)}\n\n{provenance(bench, about)}"

    return written(root, "rbgp", text_of)


def rbgp_memory(root: Path) -> str:
    """Weights and peak memory of VGG19's forward pass."""

    def text_of(bench: BenchFile) -> str:
        names = {**NETS, "leandnn": "**RBGP4**"}
        found: dict[tuple[int, float], dict[str, dict[str, Any]]] = {}
        for row in bench.rows:
            case = row["case"]
            if "peak_mib" in case:
                found.setdefault((case["batch"], case["sparsity"]), {})[row["impl"]] = case
        rows = [
            [
                f"{batch}",
                f"{sparsity:g} %",
                *(
                    f"{own[impl]['weights_mib']:.1f}, {own[impl]['peak_mib']:.1f}" if impl in own else "–"
                    for impl in names
                ),
            ]
            for (batch, sparsity), own in found.items()
        ]
        if not rows:
            raise ValueError("it has no memory")
        about = "MiB of numbers and indices, and resident at most during a pass beyond the libraries; a process each."
        table = trimmed(["batch", "zeros", *names.values()], rows)
        return f"{table}\n\nVGG19. {about} {tables.machine(bench.machine)}."

    return written(root, "rbgp", text_of)


TABLES: dict[str, Callable[[Path], str]] = {
    "rbgp": rbgp,
    "rbgp-layers": rbgp_layers,
    "rbgp-memory": rbgp_memory,
}
