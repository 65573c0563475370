"""Tables of RBGP4: times and ratios of the right rows, targets reached and missed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.report.benches import cells, row, shown, write

LAYER = {
    "VGG19": 3, "WRN-40-4": 0, "batch": 16, "channels": 512, "layer": "512→512 3×3 on 4×4", "sparsity": 87.5,
}  # fmt: skip
NET = {"net": "VGG19", "batch": 128, "sparsity": 87.5}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    layers = {
        "torch.conv2d": 0.010, "onednn (prepacked)": 0.008, "leandnn": 0.002, "leandnn.unstructured": 0.004,
    }  # fmt: skip
    narrow = {**LAYER, "channels": 64, "layer": "64→64 3×3 on 32×32"}
    nets = {"torch.dense": 0.4, "onednn (folded, prepacked)": 0.3, "leandnn": 0.1}
    rows = [row(LAYER, impl, s) for impl, s in layers.items()]
    rows += [row(narrow, impl, s) for impl, s in (("torch.conv2d", 0.001), ("leandnn", 0.002))]
    rows += [row(NET, impl, s, "images") for impl, s in nets.items()]
    rows += [row({**NET, "batch": 1}, impl, 0.1, "images") for impl in ("torch.dense", "leandnn")]
    for impl, peak in (("torch.dense", 177.04), ("leandnn", 89.6)):
        rows.append(row({**NET, "weights_mib": 9.6, "peak_mib": peak}, impl, 1.0, "MiB"))
    write(tmp_path, "rbgp", rows)
    return tmp_path


def test_nets_stand_beside_their_peers_with_peak_memory(root: Path):
    found = cells(shown(root, "rbgp"), "VGG19, batch 128")
    assert (found["dense, torch"], found["**RBGP4**"]) == ("400.00", "100.00")
    assert (found["× torch"], found["× oneDNN"], found["peak MiB"]) == ("4.00", "3.00", "177 → 90")
    assert cells(shown(root, "rbgp"), "VGG19, batch 1")["peak MiB"] == "–"
    assert "n ≥ 20" in shown(root, "rbgp")  # rows of memory, measured once, do not count
    memory = cells(shown(root, "rbgp-memory"), "87.5 %")
    assert (memory["**RBGP4**"], memory["dense, torch"]) == ("9.6, 89.6", "9.6, 177.0")


def test_targets_count_the_layers_and_nets_that_they_are_for(root: Path):
    text = shown(root, "rbgp")
    wide = cells(text, "layers of ≥ 128 channels, 87.5 % zeros: ≥ 5.5 × torch's dense layer")
    assert (wide["reached by"], wide["measured"], wide[""]) == ("0 of 1", "5.00 ×", "**missed**")
    none = cells(text, "layers of ≥ 128 channels, 75 % zeros: ≥ 3 × torch's dense layer")
    assert (none["reached by"], none[""]) == ("–", "not measured")
    net = cells(text, "VGG19, batch 128, 87.5 % zeros: ≥ 3 × torch's dense net")
    assert (net["measured"], net[""]) == ("4.00 ×", "reached")
    every = cells(text, "VGG19, every batch, from 75 % zeros on: ≥ 1 × torch's dense net")
    assert (every["reached by"], every["measured"]) == ("2 of 2", "1.00 to 4.00 ×")


def test_a_wide_layer_has_its_target(root: Path):
    wide = cells(shown(root, "rbgp-layers"), "512→512 3×3 on 4×4")
    assert (wide["torch"], wide["oneDNN, packed"], wide["single weights, ours"]) == ("10.00", "8.00", "4.00")
    assert (wide["× torch"], wide["target"]) == ("5.00", "5.5: **missed**")
    assert "4×4, ours" not in wide
    narrow = cells(shown(root, "rbgp-layers"), "64→64 3×3 on 32×32")
    assert (narrow["× torch"], narrow["target"]) == ("0.50", "")
