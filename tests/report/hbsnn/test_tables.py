"""Tables of hierarchical patterns: a column a pattern, the faster layout, targets of the blocks they are for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.report.benches import cells, row, shown, write

PRODUCT: dict[str, Any] = {
    "what": "product", "M": 64, "K": 128, "N": 256, "sparsity": 75.0, "dtype": "fp32", "product": "forward",
}  # fmt: skip
SECONDS = {
    "hbs64-4x4": 0.01,
    "hbs64-8-1x1": 0.1,
    "hbs64-16-8x1": 0.02,
    "rbgp4": 0.01,
    "unstructured": 0.05,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rows = [row({**PRODUCT, "pattern": name}, "leandnn", s) for name, s in SECONDS.items()]
    rows.append(row({**PRODUCT, "pattern": "unstructured"}, "torch.csr", 0.04))
    rows += [row({**PRODUCT, "product": "dX", "pattern": n}, "leandnn", 0.01) for n in ("hbs64-4x4", "rbgp4")]
    prune = {"what": "prune", "M": 4096, "K": 4096, "sparsity": 87.5}
    rows += [
        row({**prune, "blocks": "64, 4×4"}, "leandnn", 0.05),
        row({**prune, "blocks": "1×1"}, "torch", 2.0),
    ]
    layer = {"what": "layer", "net": "SmallVGG", "batch": 128, "size": "16→32 at 16×16", "sparsity": 75.0}
    for layout, seconds in (("", 2.0), (" (channels last)", 1.0)):
        rows.append(row({**layer, "pattern": "dense"}, f"torch.dense{layout}", seconds))
    rows.append(row({**layer, "pattern": "rbgp4"}, "leandnn", 0.5))
    write(tmp_path, "hbsnn", rows)
    return tmp_path


def test_targets_are_of_blocks_of_four_rows(root: Path):
    text = shown(root, "hbsnn")
    forward = cells(text, "smallest blocks of ≥ 4 rows, forward: ≥ 0.9 × RBGP4's rate")
    assert (forward["reached by"], forward["measured"]) == ("1 of 2", "0.50 to 1.00 ×")
    assert forward[""] == "**missed**"
    assert cells(text, "the same, those of ≥ 4 columns, too: ≥ 0.9")["reached by"] == "1 of 1"
    csr = cells(text, "smallest blocks of ≥ 4 rows, forward, 75 % zeros: ≥ 5 × `torch.csr`")
    assert (csr["reached by"], csr["measured"]) == ("0 of 2", "2.00 to 4.00 ×")
    assert cells(text, "pruning 4096 × 4096: ≤ 0.3 s")["measured"] == "0.05 s"


def test_products_have_a_column_a_pattern_and_pruning_its_peers(root: Path):
    text = shown(root, "hbsnn-products")
    found = cells(text, "forward")
    assert (found["4×4 in 64"], found["8×1 in 16 in 64"], found["1×1 in 8 in 64"]) == ("100", "50", "10")
    assert (found["RBGP4"], found["`torch.csr`"]) == ("100", "25") and "`torch.mm`" not in found
    assert cells(text, "dX")["single weights"] == "–"
    assert cells(text, "1×1")["time"] == "2.000 s"


def test_layers_have_the_faster_layout(root: Path):
    found = cells(shown(root, "hbsnn-layers"), "16→32 at 16×16")
    assert (found["dense, torch"], found["RBGP4"]) == ("1000.00", "500.00")
