"""A target is reached, missed or not measured, by what a bench file holds."""

from __future__ import annotations

from typing import Any

from leandnn.bench import targets
from leandnn.bench.benchfile import BenchFile
from leandnn.bench.huffman.targets import HUFF0, TARGETS
from leandnn.bench.targets import Target


def values(*found: float | None):
    return lambda bench: found


def test_a_bound_may_be_the_least_or_the_most():
    bench = BenchFile({}, [])
    most = Target("a: {} s", 0.3, values(0.1, None, 0.4), "s", at_most=True)
    assert most.cells(bench) == ["a: ≤ 0.3 s", "1 of 2", "0.10 to 0.40 s", "**missed**"]
    least = Target("{} × b", 2.0, values(2.0))
    assert least.cells(bench) == ["≥ 2 × b", "1 of 1", "2.00 ×", "reached"]
    assert Target("c {}", 1.0, values(None)).cells(bench) == ["c ≥ 1", "–", "–", "not measured"]
    lines = targets.text([most, least], bench).splitlines()
    assert lines == [
        "target: a: ≤ 0.3 s: missed (1 of 2; 0.10 to 0.40 s)",
        "target: ≥ 2 × b: reached (1 of 1; 2.00 ×)",
    ]


def row(impl: str, rate: float, threads: int = 1, **case: object) -> dict[str, Any]:
    return {"impl": impl, "rate": rate, "threads": threads, "case": case, "work": rate}


def test_huffmans_targets_take_the_right_rows():
    rows = [
        row("leandnn", 8.0, what="decode", case="fc6, 7 bits"),
        row(HUFF0, 2.0, what="decode", case="fc6, 7 bits"),
        row("leandnn.avx2.streams", 1.0, what="decode", case="fc6, 7 bits"),
        row("leandnn", 6.0, what="layer", layer="fc6", batch=4),
        row("torch.dense", 0.5, what="layer", layer="fc6", batch=4),
        row("torch.dense (feature-major)", 1.0, what="layer", layer="fc6", batch=4),
        row("leandnn", 120.0, what="memory", layer="fc6", batch=1, compressed_bytes=100, measured_bytes=104),
        row("leandnn", 1.0, what="threads", layer="fc6", batch=1),
        row("leandnn", 1.8, 2, what="threads", layer="fc6", batch=1),
        row("fused variable", 3.0, what="plan", cap_mb=16),
        row("slow variable", 2.0, what="plan", cap_mb=16),
    ]
    bench = BenchFile({}, rows)
    found = {own.asked: own.measured(bench) for own in TARGETS["huffman"]}
    assert {asked: values for asked, values in found.items() if values} == {
        "decode fc6, 7 bits: {} × huff0": [4.0],
        "decode fc6 by avx2, the better layout: {} × huff0": [0.5],
        "fc6, batch 4: {} × dense FP32": [6.0],
        "fc6 at every batch: two threads {} × one": [1.8],
        "linear layers at every batch: bytes {} × the compressed ones, accounted": [1.2],
        "the same, measured: {}": [1.04],
        "plans of batch sizes per layer under every cap: fused {} × slow decoder": [1.5],
    }
