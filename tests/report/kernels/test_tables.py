"""Tables of the kernels: ratios the right way round, losses and gaps shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.report.benches import CARD, cells, row, shown, write

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


def test_a_ratio_is_above_one_where_ours_is_faster(tmp_path: Path):
    write(tmp_path, "panels", panel_rows())
    text = shown(tmp_path, "panels")
    assert cells(text, "64 × 128 × 256") == {
        "M × K × N": "64 × 128 × 256",
        "zeros": "75 %",
        "Gflop/s": "100",
        "of the FMA peak": "50 %",
        "× `torch.mm`": "0.50",  # a loss stays; columns without a number are left out
        "× `torch.csr`": "20.0",
        "BF16 × FP32": "2.00",
        "dX, of forward": "50 %",
    }
    assert "64 × 128 × 1" not in text.replace("64 × 128 × 256", "")
    assert "n ≥ 20" in text and "FMA peak 200 Gflop/s" in text and "copies 50 GB/s" in text


def test_further_products_by_threads_paths_and_patterns(tmp_path: Path):
    write(tmp_path, "panels", panel_rows())
    text = shown(tmp_path, "panels-further")
    _, threads, narrow, patterns, *_ = text.split("\n\n**")
    found = cells(threads, "64 × 128 × 256")
    assert (found["two threads"], found["two over one"], found["× `torch.mm` on two"]) == (
        "167",
        "1.67",
        "0.50",
    )
    assert (found["AVX2"], found["AVX-512"]) == ("50", "100") and "baseline" not in found
    assert cells(narrow, "64 × 128 × 1")["of the reading bound"] == "50 %"
    assert cells(patterns, "RBGP4")["dX"] == "50"
    assert "5.0 µs" in text


def test_a_machine_without_a_measured_peak_has_no_share_of_it(tmp_path: Path):
    write(tmp_path, "panels", panel_rows(), card={**CARD, "fma_peak_gflops": None})
    assert "FMA peak" not in shown(tmp_path, "panels")


def test_rounding_is_beside_a_copy_casts_and_libraries(tmp_path: Path):
    def case(output: str, mode: str = "nearest_even") -> dict[str, Any]:
        return {"mib": 1, "format": "bf16", "mode": mode, "output": output, "kernel": "avx2"}

    rows = [row(case("preallocated"), i, s) for i, s in (("leandnn", 0.5), ("torch.copy", 0.4))]
    rows += [row(case("new"), i, s) for i, s in (("leandnn", 0.5), ("torch.casts", 1.0), ("pychop", 20.0))]
    rows += [row(case("preallocated", "stochastic"), "leandnn", 2.0)]
    write(tmp_path, "rounding", rows)
    text = shown(tmp_path, "rounding")
    found = cells(text, "BF16, nearest even")
    assert (found["G values/s"], found["× a copy"], found["the same, new output"]) == ("2.0", "0.80", "2.00")
    assert found["× libraries, new output"] == "pychop 40.0"
    assert cells(text, "BF16, stochastic")["× a copy"] == "–"


def test_the_sparse_step_is_relative_to_the_dense_one(tmp_path: Path):
    rows = []
    for sparsity, ours in ((75.0, 0.5), (87.5, 2.0)):
        case = {"net": "VGG19", "batch": 32, "sparsity": sparsity, "pattern": "rbgp4"}
        rows += [row(case, "leandnn", ours, work=32), row(case, "torch.dense", 1.0, work=32)]
    write(tmp_path, "sparse-step", rows)
    text = shown(tmp_path, "sparse-step")
    faster, slower = cells(text, "500 ms (500 to 500)"), cells(text, "87.5 %, RBGP4")
    assert (faster[""], faster["images/s"], faster["speed to dense FP32"]) == ("**leandnn**", "64.0", "2.00")
    assert slower["speed to dense FP32"] == "0.50"
