"""Tables of coded layers: the right rows beside their peers, what is missed in a sentence."""

from __future__ import annotations

from pathlib import Path

from tests.report.benches import cells, row, shown, write


def test_layers_stand_beside_peers_and_what_is_missed_is_said(tmp_path: Path):
    case = {"what": "layer", "layer": "fc6", "batch": 4}
    seconds = {
        "torch.dense": 0.018, "torch.dense (feature-major)": 0.016, "torch.int8 (dynamic)": 0.0015,
        "decode → torch.csr": 0.012, "leandnn": 0.002,
    }  # fmt: skip
    memory = {"what": "memory", "layer": "fc6", "batch": 4, "compressed_bytes": 100, "measured_bytes": None}
    rows = [row(case, impl, s) for impl, s in seconds.items()]
    rows.append(row(memory, "leandnn", 1.0, "bytes", work=104.0))
    write(tmp_path, "huffman", rows)
    text = shown(tmp_path, "huffman")
    found = cells(text, "fc6, 9216 → 4096")
    assert (found["dense, FP32"], found["**coded, fused**"]) == ("16.00", "2.00")
    assert (found["× dense"], found["× int8"], found["× decode, then CSR"]) == ("8.00", "0.75", "6.00")
    assert "BF16" not in text and "n ≥ 20" in text
    assert "Of 4 targets 4 are reached." in text
    write(tmp_path, "huffman", [r if r["impl"] != "leandnn" else {**r, "rate": r["rate"] / 2} for r in rows])
    assert "Of 4 targets 1 are reached" in shown(tmp_path, "huffman")
    assert "fc6, batch 4: ≥ 6.5 × dense FP32 (4.00 ×)" in shown(tmp_path, "huffman")
    missed = cells(shown(tmp_path, "huffman-targets"), "fc6, batch 4: ≥ 6.5 × dense FP32")
    assert (missed["reached by"], missed["measured"], missed[""]) == ("0 of 1", "4.00 ×", "**missed**")
