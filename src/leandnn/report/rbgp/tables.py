"""RBGP4 layers and nets beside dense and other sparse ones."""

from __future__ import annotations

from typing import Any

from leandnn.bench.benchfile import BenchFile, Row
from leandnn.bench.rbgp.targets import TARGETS, layer_target
from leandnn.report import tables
from leandnn.report.tables import Column, each, ms, of_bench, provenance, times, zeros

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
    "leandnn": "**RBGP4**",
}


def nets(bench: BenchFile) -> str:
    """Whole nets, their peak memory, and the targets."""

    def peaks(case: dict[str, Any]) -> str | None:
        rows = {row["impl"]: row["case"] for row in bench.of(**case) if "peak_mib" in row["case"]}
        own = [rows[impl] for impl in ("torch.dense", "leandnn") if impl in rows]
        return " → ".join(f"{one['peak_mib']:.0f}" for one in own) or None

    columns: list[Column[dict[str, Any]]] = [
        ("ms a pass", lambda case: f"{case['net']}, batch {case['batch']}"),
        ("zeros", zeros),
        *each(NETS, lambda case, impl: ms(bench.row(impl, **case))),
        ("× torch", lambda case: times(bench.times("torch.dense", **case))),
        ("× oneDNN", lambda case: times(bench.times("onednn (folded, prepacked)", **case))),
        ("peak MiB", peaks),
    ]
    cases = [case for case in bench.cases() if "net" in case and "peak_mib" not in case]
    table = tables.table(columns, cases, "whole net")
    about = (
        "FP32, one thread, 32×32 images; first convolution and classifier are dense; sparse layers by our kernels; "
        "norms folded in the sparse nets and oneDNN's. Memory: beyond the libraries, dense in torch → RBGP4."
    )
    return f"{provenance(bench, about)}\n\n{table}\n\n{tables.targets(TARGETS['rbgp'], bench)}"


def layers(bench: BenchFile) -> str:
    """Every convolution of the nets but the first, dense and sparse in libraries' and our kernels."""

    def target(case: dict[str, Any]) -> str:
        bound, reached = layer_target(case), bench.times("torch.conv2d", **case)
        if bound is None:
            return ""
        return f"{bound:g}: {'' if reached is None else 'reached' if reached >= bound else '**missed**'}"

    columns: list[Column[dict[str, Any]]] = [
        ("layer, ms", lambda case: case["layer"]),
        ("in VGG19", lambda case: str(case["VGG19"])),
        ("in WRN-40-4", lambda case: str(case["WRN-40-4"])),
        ("zeros", zeros),
        *each(DENSE_LAYERS | SPARSE_LAYERS, lambda case, impl: ms(bench.row(impl, **case))),
        ("**RBGP4**", lambda case: ms(bench.row("leandnn", **case))),
        ("× torch", lambda case: times(bench.times("torch.conv2d", **case))),
        ("target", target),
    ]
    table = tables.table(columns, (case for case in bench.cases() if "layer" in case), "layer")
    about = (
        "One thread, FP32, batch 16. The implementations of a layer take turns, in an order that changes from one "
        "round to the next."
    )
    return f"{provenance(bench, about)}\n\n{table}"


def memory(bench: BenchFile) -> str:
    """Weights and peak memory of VGG19's forward pass."""
    found: dict[tuple[int, float], dict[str, Row]] = {}
    for row in bench.rows:
        if "peak_mib" in row["case"]:
            found.setdefault((row["case"]["batch"], row["case"]["sparsity"]), {})[row["impl"]] = row

    def mib(own: dict[str, Row], impl: str) -> str | None:
        case = own[impl]["case"] if impl in own else None
        return None if case is None else f"{case['weights_mib']:.1f}, {case['peak_mib']:.1f}"

    columns: list[Column[dict[str, Row]]] = [
        ("batch", lambda own: str(next(iter(own.values()))["case"]["batch"])),
        ("zeros", lambda own: zeros(next(iter(own.values()))["case"])),
        *each(NETS, mib),
    ]
    about = (
        "MiB of numbers and indices, and resident at most during a pass beyond the libraries; a process each."
    )
    table = tables.table(columns, found.values(), "memory")
    return f"**{bench.where}.** VGG19. {about}\n\n{table}"


TABLES = tables.named(
    of_bench("rbgp", "rbgp", "RBGP4: whole nets, and targets", nets),
    of_bench("rbgp", "rbgp-layers", "RBGP4: layers of VGG19 and WRN-40-4", layers),
    of_bench("rbgp", "rbgp-memory", "RBGP4: memory of VGG19", memory),
)
