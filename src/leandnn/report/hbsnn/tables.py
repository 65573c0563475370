"""Hierarchical patterns beside RBGP4, blocks and single weights. Rates count the non-zeros' operations, of dense
peers too: at equal sparsity a ratio of rates is one of times."""

from __future__ import annotations

from typing import Any

from leandnn.bench.benchfile import BenchFile, Row
from leandnn.bench.hbsnn.targets import TARGETS
from leandnn.report import tables
from leandnn.report.kernels.tables import shape
from leandnn.report.tables import Column, each, of_bench, provenance, zeros

OTHERS = {"rbgp4": "RBGP4", "block4x4": "4×4 blocks", "unstructured": "single weights"}
LAYERS = {
    "dense": "dense, torch",
    "unstructured": "single weights",
    "block4x4": "4×4 blocks",
    "hbs16x12-4x1": "4×1 in 16×12",
    "hbs16x12-8x4": "8×4 in 16×12",
    "rbgp4": "RBGP4",
}
Case = dict[str, Any]
PRUNING: list[Column[Row]] = [
    ("pruning 4096 × 4096 to", lambda row: row["case"]["blocks"]),
    ("by", lambda row: f"`{row['impl']}`"),
    ("time", lambda row: f"{row['median_s']:.3f} s"),
]


def words(pattern: str) -> str:
    """A pattern's name in words, the smallest blocks first: "hbs64-8-1x1" → "1×1 in 8 in 64"."""
    if not pattern.startswith("hbs"):
        return OTHERS.get(pattern, pattern)
    return " in ".join(reversed(pattern.removeprefix("hbs").replace("x", "×").split("-")))


def _forms(bench: BenchFile) -> list[str]:
    """The hierarchical patterns that were multiplied."""
    names = (case["pattern"] for case in bench.cases(what="product"))
    return list(dict.fromkeys(name for name in names if name.startswith("hbs")))


def _without_patterns(bench: BenchFile, what: str) -> list[Case]:
    """What was measured in all patterns: cases without theirs, each once."""
    cases = [{k: v for k, v in case.items() if k != "pattern"} for case in bench.cases(what=what)]
    return [case for i, case in enumerate(cases) if case not in cases[:i]]


def met(bench: BenchFile) -> str:
    """The targets."""
    if not _forms(bench):
        raise ValueError("it has no product")
    about = f"{len(_forms(bench))} hierarchical patterns, FP32, one thread."
    return f"{provenance(bench, about)}\n\n{tables.targets(TARGETS['hbsnn'], bench)}"


def products(bench: BenchFile) -> str:
    """Rates of the three products in every pattern, and of pruning."""

    def gflops(case: Case, impl: str, pattern: str) -> str | None:
        rate = bench.rate(impl, **case, pattern=pattern)
        return None if rate is None else f"{rate:,.0f}"

    ours = {name: words(name) for name in (*_forms(bench), *OTHERS)}
    peers = {impl: f"`{impl}`" for impl in ("torch.csr", "torch.mm")}
    columns: list[Column[Case]] = [
        ("M × K × N", shape),
        ("zeros", zeros),
        ("Gflop/s of", lambda case: case["product"]),
        *each(ours, lambda case, name: gflops(case, "leandnn", name)),
        *each(peers, lambda case, impl: gflops(case, impl, "unstructured")),
    ]
    table = tables.table(columns, _without_patterns(bench, "product"), "product")
    pruning = tables.table(PRUNING, bench.of(what="prune"), "pruning")
    about = "FP32, one thread; operations of the non-zeros, of `torch.mm`, too."
    return f"{provenance(bench, about)}\n\n{table}\n\n{pruning}"


def layers(bench: BenchFile) -> str:
    """The convolutions of VGG19 and the study's net in every pattern, each in its faster layout."""

    def faster(case: Case, pattern: str) -> str | None:
        impl = "torch.dense" if pattern == "dense" else "leandnn"
        rows = [bench.row(f"{impl}{layout}", **case, pattern=pattern) for layout in ("", " (channels last)")]
        return tables.ms(min((row for row in rows if row), key=lambda row: row["median_s"], default=None))

    columns: list[Column[Case]] = [
        ("layer, ms", lambda case: case["net"]),
        ("batch", lambda case: str(case["batch"])),
        ("channels", lambda case: case["size"]),
        ("zeros", zeros),
        *each(LAYERS, faster),
    ]
    table = tables.table(columns, _without_patterns(bench, "layer"), "layer")
    about = "One thread, FP32; every cell in the faster of two layouts, contiguous and channels last; our kernels."
    return f"{provenance(bench, about)}\n\n{table}"


TABLES = tables.named(
    of_bench("hbsnn", "hbsnn", "Hierarchical patterns: targets", met),
    of_bench("hbsnn", "hbsnn-products", "Hierarchical patterns: products and pruning", products),
    of_bench("hbsnn", "hbsnn-layers", "Hierarchical patterns: layers", layers),
)
