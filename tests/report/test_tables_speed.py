"""Speed tables: ratios the right way round, losses and gaps shown, other machines' and broken files handled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leandnn import paths
from leandnn.bench import timing
from leandnn.machine import card as machine
from leandnn.report.kernels import tables as tables_speed

CARD = {**machine.read(), "fma_peak_gflops": 200.0, "copy_gbytes": 50.0}
WIDE = {
    "M": 64,
    "K": 128,
    "N": 256,
    "sparsity": 75.0,
    "pattern": "rbgp4",
    "dtype": "fp32",
    "product": "forward",
}


def row(
    case: dict[str, Any], impl: str, seconds: float, threads: int = 1, work: float = 1.0
) -> dict[str, Any]:
    """A row as a bench writes it, 20 times the same seconds."""
    return dict(timing.row("b", case, impl, threads, [seconds] * 20, work, "Gflop"))


def panel_rows() -> list[dict[str, Any]]:
    rows = [row(WIDE, impl, s) for impl, s in (("leandnn", 0.01), ("torch.mm", 0.005), ("torch.csr", 0.2))]
    rows += [
        row({**WIDE, "dtype": "bf16"}, "leandnn", 0.005),
        row({**WIDE, "product": "dX"}, "leandnn", 0.02),
    ]
    rows += [row(WIDE, "leandnn", 0.006, 2), row(WIDE, "torch.mm", 0.003, 2)]
    rows += [row(WIDE, f"leandnn.{path}", s) for path, s in (("avx2", 0.02), ("avx512", 0.01))]
    rows += [
        row({**WIDE, "N": 1}, impl, s) for impl, s in (("leandnn", 0.002), ("torch.sum (reading)", 0.001))
    ]
    call = {**WIDE, "M": 4, "K": 4, "N": 1, "pattern": "block4x4"}
    return [*rows, {**row(call, "leandnn", 5e-6), "unit": "call"}]


def write(root: Path, name: str, rows: object, box: str = "box", card: object = CARD) -> None:
    path = root / "reference" / box / f"bench-{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(rows if isinstance(rows, str) else json.dumps({"machine": card, "rows": rows}))


def cells(text: str, holding: str) -> dict[str, str]:
    """The first row that holds a text, by the heads of its own table."""
    for table in text.split("\n\n"):
        lines = [
            [c.strip() for c in line.strip("|").split("|")] for line in table.splitlines() if line[0] == "|"
        ]
        for line in lines[2:]:
            if holding in line:
                return dict(zip(lines[0], line, strict=True))
    raise AssertionError(f"no row holds {holding!r}")


def test_the_products_table_has_ratios_above_one_where_ours_is_faster_and_keeps_losses(tmp_path: Path):
    write(tmp_path, "panels", panel_rows())
    text = tables_speed.panels(tmp_path)
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


def test_the_further_table_has_threads_paths_few_columns_patterns_and_overhead(tmp_path: Path):
    write(tmp_path, "panels", panel_rows())
    text = tables_speed.panels_further(tmp_path)
    threads, narrow, patterns, *_ = text.split("\n\n**")
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
    assert "FMA peak" not in tables_speed.panels(tmp_path)


def test_rounding_is_beside_a_copy_casts_and_the_libraries_that_were_there(tmp_path: Path):
    def case(output: str, mode: str = "nearest_even") -> dict[str, Any]:
        return {"mib": 1, "format": "bf16", "mode": mode, "output": output, "kernel": "avx2"}

    rows = [row(case("preallocated"), i, s) for i, s in (("leandnn", 0.5), ("torch.copy", 0.4))]
    rows += [row(case("new"), i, s) for i, s in (("leandnn", 0.5), ("torch.casts", 1.0), ("pychop", 20.0))]
    rows += [row(case("preallocated", "stochastic"), "leandnn", 2.0)]
    write(tmp_path, "rounding", rows)
    text = tables_speed.rounding(tmp_path)
    found = cells(text, "BF16, nearest even")
    assert (found["G values/s"], found["× a copy"], found["the same, new output"]) == ("2.0", "0.80", "2.00")
    assert found["× libraries, new output"] == "pychop 40.0"
    assert cells(text, "BF16, stochastic")["× a copy"] == "–"


def test_the_sparse_step_is_relative_to_the_dense_step_of_the_same_case(tmp_path: Path):
    rows = []
    for sparsity, ours in ((75.0, 0.5), (87.5, 2.0)):
        case = {"net": "VGG19", "batch": 32, "sparsity": sparsity, "pattern": "rbgp4"}
        rows += [row(case, "leandnn", ours, work=32), row(case, "torch.dense", 1.0, work=32)]
    write(tmp_path, "sparse-step", rows)
    text = tables_speed.sparse_step(tmp_path)
    faster, slower = cells(text, "500 ms (500 to 500)"), cells(text, "87.5 %, RBGP4")
    assert (faster[""], faster["images/s"], faster["speed to dense FP32"]) == ("**leandnn**", "64.0", "2.00")
    assert slower["speed to dense FP32"] == "0.50"


@pytest.mark.parametrize("name", tables_speed.TABLES)
def test_without_a_file_the_command_is_named_and_a_broken_one_is_refused(tmp_path: Path, name: str):
    table, file = tables_speed.TABLES[name], name.removesuffix("-further")
    assert table(tmp_path) == f"Not measured yet (`leandnn bench {file} --reference`)."
    broken = {"a": "{", "b": '{"machine": {}, "rows": [NaN]}', "c": "[]", "d": [], "e": [{"impl": "x"}]}
    broken["f"] = [row(WIDE, "leandnn", 0.1) | {"rate": 0.0}]
    for box, content in broken.items():
        write(tmp_path, file, content, box)
    text = table(tmp_path)
    assert text.startswith("Not measured yet")
    for box in broken:
        assert f"`reference/{box}/bench-{file}.json` is refused" in text


def test_two_machines_have_a_table_each_and_a_broken_third_is_named(tmp_path: Path):
    write(tmp_path, "panels", panel_rows(), "a")
    write(tmp_path, "panels", panel_rows(), "b", {**CARD, "cpu": "Another CPU"})
    write(tmp_path, "panels", "{", "c")
    text = tables_speed.panels(tmp_path)
    assert text.count("| M × K × N |") == 2 and "Another CPU" in text
    assert text.endswith(".") and "`reference/c/bench-panels.json` is refused" in text


def test_the_files_in_reference_are_all_used():
    for name, table in tables_speed.TABLES.items():
        text = table(paths.ROOT)
        assert "is refused" not in text, name
