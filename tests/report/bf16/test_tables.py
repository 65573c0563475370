"""The table of emulated training steps."""

from __future__ import annotations

from pathlib import Path

from tests.report.benches import cells, row, shown, write


def test_steps_are_relative_to_fp32_of_the_same_net(tmp_path: Path):
    rows = []
    for net, ours in (("A", 0.12), ("B", 0.26)):
        case = {"net": net, "batch": 8}
        rows += [row(case, impl, s, "images", work=8) for impl, s in (("leandnn", ours), ("torch.fp32", 0.1))]
        rows.append(row(case, "pychop", 0.3, "images", work=8))
    write(tmp_path, "train-step", rows)
    text = shown(tmp_path, "train-step")
    ours = cells(text, "120.0 ms (120.0 to 120.0)")
    assert (ours["one training step"], ours["to FP32"], ours["examples/s"]) == ("A, 8 images", "1.20", "66")
    assert cells(text, "the same, rounding by `pychop`")["to FP32"] == "3.00"
    target = cells(text, "an emulated training step: ≤ 1.25 × the FP32 step")
    assert (target["reached by"], target["measured"]) == ("1 of 2", "1.20 to 2.60 ×")
