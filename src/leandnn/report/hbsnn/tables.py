"""Markdown tables of hierarchical patterns' speed, from reference/<machine>/bench-hbsnn.json, and their targets.

Rates count the non-zeros' operations, of dense peers too: at equal sparsity a ratio of rates is one of times.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from leandnn.report import tables
from leandnn.report.benchfile import BenchFile
from leandnn.report.kernels.tables import provenance, shape, trimmed, written
from leandnn.report.rbgp.tables import Target, target_table

# What the project asked: shares of RBGP4's rate, times of CSR's, seconds of pruning; as in bench/hbsnn/patterns.py.
RBGP4_SHARE, OWN_CSR, TORCH_CSR, PRUNING = 0.9, 2.0, 5.0, 0.3
ROWS = 4  # of the smallest blocks that the targets ask for
_OTHERS = {"rbgp4": "RBGP4", "block4x4": "4×4 blocks", "unstructured": "single weights"}
_LAYERS = {
    "unstructured": "single weights",
    "block4x4": "4×4 blocks",
    "hbs16x12-4x1": "4×1 in 16×12",
    "hbs16x12-8x4": "8×4 in 16×12",
    "rbgp4": "RBGP4",
}


def words(pattern: str) -> str:
    """A pattern's name in words, the smallest blocks first: "hbs64-8-1x1" → "1×1 in 8 in 64"."""
    if not pattern.startswith("hbs"):
        return _OTHERS.get(pattern, pattern)
    return " in ".join(reversed(pattern.removeprefix("hbs").replace("x", "×").split("-")))


def smallest(pattern: str) -> tuple[int, int]:
    """(Rows, columns) of a hierarchical pattern's smallest blocks."""
    rows, _, columns = pattern.rpartition("-")[2].partition("x")
    return int(rows), int(columns)


def _products(bench: BenchFile) -> list[dict[str, Any]]:
    """What was multiplied: cases without their patterns, in the file's order; ValueError without any."""
    found: list[dict[str, Any]] = []
    for case in bench.cases(what="product"):
        own = {key: value for key, value in case.items() if key != "pattern"}
        if own not in found:
            found.append(own)
    if not found:
        raise ValueError("it has no product")
    return found


def _forms(bench: BenchFile) -> list[str]:
    """The hierarchical patterns that were multiplied."""
    cases = bench.cases(what="product")
    return list(dict.fromkeys(c["pattern"] for c in cases if c["pattern"].startswith("hbs")))


def _ratios(
    bench: BenchFile, product: str, pattern: str, impl: str = "leandnn", columns: int = 1, **only: float
) -> list[float]:
    """Rates of the patterns whose smallest blocks have ROWS rows or more, over those of another pattern.

    - columns: what the blocks have at least, too. only: what the case must hold.
    """
    found = []
    for case in _products(bench):
        if case["product"] != product or not only.items() <= case.items():
            continue
        peer = bench.rate(impl, **case, pattern=pattern)
        for form in _forms(bench):
            ours = bench.rate("leandnn", **case, pattern=form)
            fits = smallest(form)[0] >= ROWS and smallest(form)[1] >= columns
            if fits and ours is not None and peer is not None:
                found.append(ours / peer)
    return found


def hbsnn(root: Path) -> str:
    """The targets, and what was measured: what README.md shows."""

    def text_of(bench: BenchFile) -> str:
        pruning = [
            float(r["median_s"])
            for r in bench.rows
            if r["case"]["what"] == "prune" and r["impl"] == "leandnn"
        ]
        whose = f"smallest blocks of ≥ {ROWS} rows"
        rbgp4 = f"≥ {RBGP4_SHARE:g} × RBGP4's rate"
        targets = []
        for product in ("forward", "dX"):
            asked = f"{whose}, {product}: {rbgp4}"
            targets.append(Target(asked, _ratios(bench, product, "rbgp4"), RBGP4_SHARE))
            part = _ratios(bench, product, "rbgp4", columns=ROWS)
            targets.append(Target(f"the same, those of ≥ {ROWS} columns, too", part, RBGP4_SHARE))
        targets += [
            Target(
                f"{whose}, forward, 75 % zeros: ≥ {OWN_CSR:g} × our CSR",
                _ratios(bench, "forward", "unstructured", sparsity=75.0),
                OWN_CSR,
            ),
            Target(
                f"{whose}, forward, 75 % zeros: ≥ {TORCH_CSR:g} × `torch.csr`",
                _ratios(bench, "forward", "unstructured", "torch.csr", sparsity=75.0),
                TORCH_CSR,
            ),
            Target(f"pruning 4096 × 4096: ≤ {PRUNING:g} s", pruning, PRUNING, "s", at_most=True),
        ]
        about = f"{len(_forms(bench))} hierarchical patterns, FP32, one thread."
        return f"{target_table(targets)}\n\n{provenance(bench, about)}"

    return written(root, "hbsnn", text_of)


def hbsnn_products(root: Path) -> str:
    """Rates of the three products in every pattern, and of pruning."""

    def text_of(bench: BenchFile) -> str:
        patterns = [*_forms(bench), *_OTHERS]
        rows = []
        for case in _products(bench):
            rates = [bench.rate("leandnn", **case, pattern=pattern) for pattern in patterns]
            peers = [bench.rate(i, **case, pattern="unstructured") for i in ("torch.csr", "torch.mm")]
            cells = ["–" if rate is None else f"{rate:,.0f}" for rate in (*rates, *peers)]
            rows.append([shape(case), f"{case['sparsity']:g} %", case["product"], *cells])
        head = ["M × K × N", "zeros", "Gflop/s of", *map(words, patterns), "`torch.csr`", "`torch.mm`"]
        pruned = [
            [f"{r['case']['blocks']}", f"`{r['impl']}`", f"{r['median_s']:.3f} s"]
            for r in bench.rows
            if r["case"]["what"] == "prune"
        ]
        pruning = tables.markdown(["pruning 4096 × 4096 to", "by", "time"], pruned)
        about = "FP32, one thread; operations of the non-zeros, of `torch.mm`, too."
        return f"{trimmed(head, rows)}\n\n{pruning}\n\n{provenance(bench, about)}"

    return written(root, "hbsnn", text_of)


def hbsnn_layers(root: Path) -> str:
    """The convolutions of VGG19 and the study's net in every pattern, each in its faster layout."""

    def text_of(bench: BenchFile) -> str:
        rows = []
        seen: list[dict[str, Any]] = []
        for case in bench.cases(what="layer"):
            own = {key: value for key, value in case.items() if key != "pattern"}
            if own in seen:
                continue
            seen.append(own)
            times = {
                pattern: _faster(bench, "torch.dense" if pattern == "dense" else "leandnn", own, pattern)
                for pattern in ("dense", *_LAYERS)
            }
            names = [own["net"], str(own["batch"]), own["size"], f"{own['sparsity']:g} %"]
            rows.append([*names, *("–" if t is None else f"{1e3 * t:.2f}" for t in times.values())])
        if not rows:
            raise ValueError("it has no layer")
        head = ["layer, ms", "batch", "channels", "zeros", "dense, torch", *_LAYERS.values()]
        about = "One thread, FP32; every cell in the faster of two layouts, contiguous and channels last; our kernels."
        return f"{trimmed(head, rows)}\n\n{provenance(bench, about)}"

    return written(root, "hbsnn", text_of)


def _faster(bench: BenchFile, impl: str, case: dict[str, Any], pattern: str) -> float | None:
    """Seconds in the faster of two layouts."""
    found = [bench.row(f"{impl}{layout}", **case, pattern=pattern) for layout in ("", " (channels last)")]
    return min((float(row["median_s"]) for row in found if row is not None), default=None)


TABLES: dict[str, Callable[[Path], str]] = {
    "hbsnn": hbsnn,
    "hbsnn-products": hbsnn_products,
    "hbsnn-layers": hbsnn_layers,
}
