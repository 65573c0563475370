"""Tables of coded layers: the right rows beside their peers, what is missed in a sentence."""

from __future__ import annotations

from pathlib import Path

from tests.report.test_tables_rbgp import cells, row, write

from leandnn.report.huffman import tables as tables_huffman


def test_layers_stand_beside_their_peers_and_what_is_missed_is_said(tmp_path: Path):
    case = {"what": "layer", "layer": "fc6", "batch": 4}
    seconds = {
        "torch.dense": 0.018,
        "torch.dense (feature-major)": 0.016,
        "torch.int8 (dynamic)": 0.0015,
        "decode → torch.csr": 0.012,
        "leandnn": 0.002,
    }
    memory = {"what": "memory", "layer": "fc6", "batch": 4, "compressed_bytes": 100, "measured_bytes": None}
    rows = [row(case, impl, s) for impl, s in seconds.items()]
    rows.append({**row(memory, "leandnn", 1.0, "bytes"), "n": 1, "work": 104.0})
    write(tmp_path, "huffman", rows)
    text = tables_huffman.huffman(tmp_path)
    found = cells(text, "fc6, 9216 → 4096")
    assert (found["dense, FP32"], found["**coded, fused**"]) == ("16.00", "2.00")
    assert (found["× dense"], found["× int8"], found["× decode, then CSR"]) == ("8.00", "0.75", "6.00")
    assert "BF16" not in text and "n ≥ 20" in text
    assert "Of 4 targets 4 are reached." in text
    write(tmp_path, "huffman", [r if r["impl"] != "leandnn" else {**r, "rate": r["rate"] / 2} for r in rows])
    assert "of 4 targets 1" in tables_huffman.huffman(tmp_path).lower()
    assert "fc6, batch 4, × dense FP32: 4 (≥ 6.5)" in tables_huffman.huffman(tmp_path)
    targets = tables_huffman.huffman_targets_table(tmp_path)
    assert "| fc6, batch 4, × dense FP32 | ≥ 6.5 | 4 | **missed** |" in targets
