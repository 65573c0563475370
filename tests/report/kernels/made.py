"""Made-up benches of the kernels and what is drawn of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tests.report.benches import CARD, row, write

from leandnn.bench.benchfile import BenchFile, parse
from leandnn.report.kernels import figures

WIDE = {
    "M": 64,
    "K": 128,
    "N": 256,
    "sparsity": 75.0,
    "pattern": "rbgp4",
    "dtype": "fp32",
    "product": "forward",
}


def panel_rows() -> list[dict[str, Any]]:
    rows = [row(WIDE, impl, s) for impl, s in (("leandnn", 0.01), ("torch.mm", 0.005), ("torch.csr", 0.2))]
    rows += [
        row({**WIDE, "dtype": "bf16"}, "leandnn", 0.005),
        row({**WIDE, "product": "dX"}, "leandnn", 0.02),
    ]
    rows += [row(WIDE, "leandnn", 0.006, threads=2), row(WIDE, "torch.mm", 0.003, threads=2)]
    rows += [row(WIDE, f"leandnn.{path}", s) for path, s in (("avx2", 0.02), ("avx512", 0.01))]
    rows += [
        row({**WIDE, "N": 1}, impl, s) for impl, s in (("leandnn", 0.002), ("torch.sum (reading)", 0.001))
    ]
    call = {**WIDE, "M": 4, "K": 4, "N": 1, "pattern": "block4x4"}
    return [*rows, {**row(call, "leandnn", 5e-6), "unit": "call"}]


def rounding_rows() -> list[dict[str, Any]]:
    def case(output: str, mode: str = "nearest_even") -> dict[str, Any]:
        return {"mib": 1, "format": "bf16", "mode": mode, "output": output, "kernel": "avx2"}

    rows = [row(case("preallocated"), i, s) for i, s in (("leandnn", 0.5), ("torch.copy", 0.4))]
    rows += [row(case("new"), i, s) for i, s in (("leandnn", 0.5), ("torch.casts", 1.0), ("pychop", 20.0))]
    return [*rows, row(case("preallocated", "stochastic"), "leandnn", 2.0)]


def step_rows() -> list[dict[str, Any]]:
    rows = []
    for sparsity, ours in ((75.0, 0.5), (87.5, 2.0)):
        case = {"net": "VGG19", "batch": 32, "sparsity": sparsity, "pattern": "rbgp4"}
        rows += [row(case, "leandnn", ours, work=32), row(case, "torch.dense", 1.0, work=32)]
    return rows


def benches(root: Path) -> None:
    write(root, "panels", panel_rows())
    write(root, "rounding", rounding_rows())
    write(root, "sparse-step", step_rows())


SHAPE = (1024, 1024, 256)


def case(sparsity: float, n: int = SHAPE[2], dtype: str = "fp32", product: str = "forward") -> dict[str, Any]:
    words = {"pattern": "rbgp4", "dtype": dtype, "product": product}
    return {"M": SHAPE[0], "K": SHAPE[1], "N": n, "sparsity": sparsity, **words}


def bench(card: dict[str, Any] = CARD) -> BenchFile:
    """Ours at 100 Gflop/s and peers that are all at 20, in every case."""
    cases = [(case(s), impl) for s in (50.0, 75.0, 93.75) for impl in figures.IMPLEMENTATIONS]
    cases += [(case(75.0, n), impl) for n in (1, 8) for impl in ("leandnn", "torch.mm")]
    cases += [(case(s, dtype="bf16"), "leandnn") for s in (50.0, 75.0, 93.75)]
    rows = [row(c, impl, 0.01 if impl == "leandnn" else 0.05) for c, impl in cases]
    return parse({"machine": card, "rows": rows})


def drawings() -> dict[str, Figure]:
    return {"roofline": figures.roofline(bench(), SHAPE), "rates": figures.rates(bench())}
