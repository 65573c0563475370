"""Tables of RBGP4 and hierarchical patterns: times and ratios of the right rows, targets reached and missed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from leandnn import paths
from leandnn.bench import timing
from leandnn.bench.hbsnn import patterns as hbsnn_bench
from leandnn.bench.rbgp import nets as rbgp_bench
from leandnn.machine import card as machine
from leandnn.report import tables
from leandnn.report.hbsnn import tables as tables_hbsnn
from leandnn.report.huffman import tables as tables_huffman
from leandnn.report.rbgp import tables as tables_rbgp
from leandnn.report.rbgp.tables import Target

TABLES = {**tables_rbgp.TABLES, **tables_hbsnn.TABLES, **tables_huffman.TABLES}
LAYER = {
    "VGG19": 3,
    "WRN-40-4": 0,
    "batch": 16,
    "channels": 512,
    "layer": "512→512 3×3 on 4×4",
    "sparsity": 87.5,
}
NET = {"net": "VGG19", "batch": 128, "sparsity": 87.5}
PRODUCT = {
    "what": "product",
    "M": 64,
    "K": 128,
    "N": 256,
    "sparsity": 75.0,
    "dtype": "fp32",
    "product": "forward",
}


def row(case: dict[str, Any], impl: str, seconds: float, unit: str = "Gflop") -> dict[str, Any]:
    n = 1 if unit == "MiB" else 20
    return dict(timing.row("b", case, impl, 1, [seconds] * n, 1.0, unit))


def write(root: Path, name: str, rows: list[dict[str, Any]]) -> None:
    card = {**machine.read(), "name": "box"}
    path = root / "reference" / "box" / f"bench-{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": card, "rows": rows}))


def cells(text: str, holding: str) -> dict[str, str]:
    """The first row that holds a text, by the heads of its own table."""
    for table in text.split("\n\n"):
        lines = [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()]
        for line in lines[2:]:
            if holding in line:
                return dict(zip(lines[0], line, strict=True))
    raise AssertionError(f"no row holds {holding!r}")


def rbgp_rows() -> list[dict[str, Any]]:
    layers = {
        "torch.conv2d": 0.010,
        "onednn (prepacked)": 0.008,
        "leandnn": 0.002,
        "leandnn.unstructured": 0.004,
    }
    narrow = {**LAYER, "channels": 64, "layer": "64→64 3×3 on 32×32"}
    nets = {"torch.dense": 0.4, "onednn (folded, prepacked)": 0.3, "leandnn": 0.1}
    found = [row(LAYER, impl, s) for impl, s in layers.items()]
    found += [row(narrow, impl, s) for impl, s in (("torch.conv2d", 0.001), ("leandnn", 0.002))]
    found += [row(NET, impl, s, "images") for impl, s in nets.items()]
    found += [row({**NET, "batch": 1}, impl, 0.1, "images") for impl in ("torch.dense", "leandnn")]
    for impl, peak in (("torch.dense", 177.04), ("leandnn", 89.6)):
        found.append(row({**NET, "weights_mib": 9.6, "peak_mib": peak}, impl, 1.0, "MiB"))
    return found


def test_nets_stand_beside_their_peers_with_peak_memory(tmp_path: Path):
    write(tmp_path, "rbgp", rbgp_rows())
    text = tables_rbgp.rbgp(tmp_path)
    found = cells(text, "VGG19, batch 128")
    assert (found["dense, torch"], found["**RBGP4**"]) == ("400.00", "100.00")
    assert (found["× torch"], found["× oneDNN"], found["peak MiB"]) == ("4.00", "3.00", "177 → 90")
    assert cells(text, "VGG19, batch 1")["peak MiB"] == "–"
    assert "n ≥ 20" in text  # rows of memory, measured once, do not count
    assert "64→64" not in text and "4×4 blocks" not in text.split("\n")[0]
    text = tables_rbgp.rbgp_memory(tmp_path)
    memory = cells(text, "87.5 %")
    assert tables.machine(machine.read()) in text
    assert (memory["**RBGP4**"], memory["dense, torch"]) == ("9.6, 89.6", "9.6, 177.0")


def test_targets_count_the_layers_and_nets_that_they_are_for(tmp_path: Path):
    write(tmp_path, "rbgp", rbgp_rows())
    text = tables_rbgp.rbgp(tmp_path)
    wide = cells(text, "layers of ≥ 128 channels, 87.5 % zeros: ≥ 5.5 × torch's dense layer")
    assert (wide["reached by"], wide["measured"], wide[""]) == ("0 of 1", "5.00 ×", "**missed**")
    none = cells(text, "layers of ≥ 128 channels, 75 % zeros: ≥ 3 × torch's dense layer")
    assert (none["reached by"], none[""]) == ("–", "not measured")
    net = cells(text, "VGG19, batch 128, 87.5 % zeros: ≥ 3 × torch's dense net")
    assert (net["measured"], net[""]) == ("4.00 ×", "reached")
    every = cells(text, "VGG19, every batch, from 75 % zeros on: faster than torch's dense net")
    assert (every["reached by"], every["measured"]) == ("2 of 2", "1.00 to 4.00 ×")


def test_a_layer_has_its_target(tmp_path: Path):
    write(tmp_path, "rbgp", rbgp_rows())
    found = cells(tables_rbgp.rbgp_layers(tmp_path), "512→512 3×3 on 4×4")
    assert (found["torch"], found["oneDNN, packed"], found["single weights, ours"]) == (
        "10.00",
        "8.00",
        "4.00",
    )
    assert (found["× torch"], found["target"]) == ("5.00", "5.5: **missed**")
    assert "4×4, ours" not in found
    narrow = cells(tables_rbgp.rbgp_layers(tmp_path), "64→64 3×3 on 32×32")
    assert (narrow["× torch"], narrow["target"]) == ("0.50", "")


def test_a_target_may_be_a_limit():
    assert Target("a", [0.1, 0.4], 0.3, "s", at_most=True).row()[1:] == [
        "1 of 2",
        "0.10 to 0.40 s",
        "**missed**",
    ]
    assert Target("a", [0.3], 0.3, "s", at_most=True).row()[1:] == ["1 of 1", "0.30 s", "reached"]


def hbsnn_rows() -> list[dict[str, Any]]:
    seconds = {
        "hbs64-4x4": 0.01,
        "hbs64-8-1x1": 0.1,
        "hbs64-16-8x1": 0.02,
        "rbgp4": 0.01,
        "unstructured": 0.05,
    }
    found = [row({**PRODUCT, "pattern": name}, "leandnn", s) for name, s in seconds.items()]
    found.append(row({**PRODUCT, "pattern": "unstructured"}, "torch.csr", 0.04))
    found += [
        row({**PRODUCT, "product": "dX", "pattern": n}, "leandnn", 0.01) for n in ("hbs64-4x4", "rbgp4")
    ]
    prune = {"what": "prune", "M": 4096, "K": 4096, "sparsity": 87.5}
    found += [
        row({**prune, "blocks": "64, 4×4"}, "leandnn", 0.05),
        row({**prune, "blocks": "1×1"}, "torch", 2.0),
    ]
    return found


def test_hierarchical_targets_are_those_of_blocks_of_four_rows(tmp_path: Path):
    write(tmp_path, "hbsnn", hbsnn_rows())
    text = tables_hbsnn.hbsnn(tmp_path)
    forward = cells(text, "smallest blocks of ≥ 4 rows, forward: ≥ 0.9 × RBGP4's rate")
    assert (forward["reached by"], forward["measured"], forward[""]) == (
        "1 of 2",
        "0.50 to 1.00 ×",
        "**missed**",
    )
    assert cells(text, "the same, those of ≥ 4 columns, too")["reached by"] == "1 of 1"
    csr = cells(text, "smallest blocks of ≥ 4 rows, forward, 75 % zeros: ≥ 5 × `torch.csr`")
    assert (csr["reached by"], csr["measured"]) == ("0 of 2", "2.00 to 4.00 ×")
    assert cells(text, "pruning 4096 × 4096: ≤ 0.3 s")["measured"] == "0.05 s"


def test_products_have_a_column_for_every_pattern_and_pruning_its_peers(tmp_path: Path):
    write(tmp_path, "hbsnn", hbsnn_rows())
    text = tables_hbsnn.hbsnn_products(tmp_path)
    found = cells(text, "forward")
    assert (found["4×4 in 64"], found["8×1 in 16 in 64"], found["1×1 in 8 in 64"]) == ("100", "50", "10")
    assert (found["RBGP4"], found["`torch.csr`"]) == ("100", "25") and "`torch.mm`" not in found
    assert cells(text, "dX")["single weights"] == "–"
    assert cells(text, "1×1")["time"] == "2.000 s"


def test_hierarchical_layers_have_the_faster_layout(tmp_path: Path):
    case = {"what": "layer", "net": "SmallVGG", "batch": 128, "size": "16→32 at 16×16", "sparsity": 75.0}
    rows = [
        row({**case, "pattern": "dense"}, f"torch.dense{x}", s)
        for x, s in (("", 2.0), (" (channels last)", 1.0))
    ]
    rows += [row({**case, "pattern": "rbgp4"}, "leandnn", 0.5)]
    write(tmp_path, "hbsnn", rows)
    found = cells(tables_hbsnn.hbsnn_layers(tmp_path), "16→32 at 16×16")
    assert (found["dense, torch"], found["RBGP4"]) == ("1000.00", "500.00")


@pytest.mark.parametrize("name", TABLES)
def test_without_a_file_the_command_is_named_and_what_is_no_bench_is_refused(tmp_path: Path, name: str):
    file = name.partition("-")[0]
    assert TABLES[name](tmp_path) == f"Not measured yet (`leandnn bench {file} --reference`)."
    write(tmp_path, file, [])
    assert f"`reference/box/bench-{file}.json` is refused" in TABLES[name](tmp_path)


def test_targets_are_those_of_the_benches():
    assert tables_rbgp.LAYER_TARGETS == rbgp_bench.LAYER_TARGETS
    assert tables_rbgp.NET_TARGET == rbgp_bench.NET_TARGET
    numbers = [float(n) for n in re.findall(r"[≤≥] ([\d.]+)", hbsnn_bench.summary([]))]
    wanted = [tables_hbsnn.PRUNING, tables_hbsnn.RBGP4_SHARE, tables_hbsnn.OWN_CSR, tables_hbsnn.TORCH_CSR]
    assert numbers == wanted


def test_the_files_in_reference_are_used_and_results_holds_every_table():
    published = (paths.ROOT / "reports" / "RESULTS.md").read_text()
    for name, table in TABLES.items():
        text = table(paths.ROOT)
        assert "is refused" not in text, name
        assert text in published, f"{name}: run dvc repro"
