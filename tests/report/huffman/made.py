"""Made-up benches and runs of paper 5 and what is drawn of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from tests.report.benches import row as timed
from tests.report.benches import write

from leandnn.bench.benchfile import BenchFile
from leandnn.report.huffman import figures, frames

LAYERS = {"a": 1000, "b": 3000}
DENSITY = dict.fromkeys(LAYERS, 0.1)
NAMES = {"a": "conv", "b": "linear"}


def benches(root: Path) -> None:
    case = {"what": "layer", "layer": "fc6", "batch": 4}
    seconds = {
        "torch.dense": 0.018, "torch.dense (feature-major)": 0.016, "torch.int8 (dynamic)": 0.0015,
        "decode → torch.csr": 0.012, "leandnn": 0.002,
    }  # fmt: skip
    memory = {"what": "memory", "layer": "fc6", "batch": 4, "compressed_bytes": 100, "measured_bytes": None}
    rows = [timed(case, impl, s) for impl, s in seconds.items()]
    rows.append(timed(memory, "leandnn", 1.0, "bytes", work=104.0))
    slower = {"torch.dense": 0.008, "leandnn": 0.002}
    rows += [timed({**case, "batch": 16}, impl, s) for impl, s in slower.items()]
    write(root, "huffman", rows)


def final(seeds: int = 2) -> pd.DataFrame:
    """Runs of a net of two layers: seed s is s points better than seed 0, and as much larger when coded."""
    rows = []
    for seed in range(seeds):
        row: dict[str, Any] = {"arm": "huffman", "seed": seed}
        for place, stage in enumerate((*frames.STAGES, "control")):
            row[f"{stage}_accuracy"] = 0.7 + place / 1000 + seed / 100
        for name, weights in LAYERS.items():
            sizes = (4 * weights, weights / 2, weights / 5, weights / 10 + seed)
            row |= {f"{name}.{stage}_bytes": size for stage, size in zip(frames.SIZES, sizes, strict=True)}
            row |= {f"{name}.nonzeros": weights / 10, f"{name}.entropy_bits": 0.5 * weights}
            bits = {"weight_code": 0.3, "advance_code": 0.3, "table": 0.1, "row": 0.05, "padding": 0.05}
            row |= {f"{name}.{part}_bits": share * weights for part, share in bits.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def measured(impl: str, rate: float, what: str, **case: Any) -> dict[str, Any]:
    seconds = 1 / rate
    spread = {"p25_s": seconds, "p75_s": seconds, "n": 25}
    return {
        "case": {"what": what, **case}, "impl": impl, "threads": 1, "median_s": seconds, "rate": rate, **spread,
    }  # fmt: skip


def planned(decoder: str, kind: str, cap: int, rate: float, chosen: float, **case: Any) -> dict[str, Any]:
    case = {"latency_ms": 1e3 * cap / rate, "memory_mb": cap - 0.5, "batches": [1, 2], **case}
    return measured(f"{decoder} {kind}", rate, "plan", cap_mb=cap, choosing_ms=1e3 / chosen, **case)


def rows() -> list[dict[str, Any]]:
    """What bench/huffman/inference.py writes, in small."""
    found = []
    for name, weights in LAYERS.items():
        parts = {f"{part}_bytes": weights / 100 for part in ("weight", "index", "padding")}
        case = {
            "layout": "smallest",
            "layer": name,
            "dense_bytes": 4 * weights,
            "entropy_bytes": weights / 60,
        }
        found.append(measured("leandnn", 1.0, "size", **case, **parts) | {"work": weights / 20})
    case = {"layout": "smallest", "layer": "all", "dense_bytes": 16_000}
    found.append(measured("leandnn", 1.0, "size", **case) | {"work": 200.0})
    for case in ("fc6, 7 bits", "conv3, 256 values"):
        rates = {"leandnn": 8000.0, "leandnn.avx2.lanes": 3000.0, "huff0 (zstandard)": 1500.0}
        found += [measured(impl, rate, "decode", case=case) for impl, rate in rates.items()]
    found.append(measured("dahuffman", 2.0, "decode", case="fc6, 7 bits"))
    for layer in ("fc6", "fc7"):
        for batch in (1, 4, 64):
            rates = {
                "torch.dense": 100.0,
                "torch.dense (feature-major)": 125.0,
                "leandnn": 500.0,
                "other": 1.0,
            }
            found += [measured(i, r * batch, "layer", layer=layer, batch=batch) for i, r in rates.items()]
    for cap, slow in ((16, 20.0), (32, 40.0)):
        found.append(planned("slow", "uniform", cap, slow, slow))
        found.append(planned("slow", "variable", cap, 1.2 * slow, 1.3 * slow))
        found.append(planned("fused", "uniform", cap, 1.5 * slow, 1.5 * slow))
        found.append(planned("fused", "variable", cap, 1.56 * slow, 1.6 * slow))
    return found


def bench() -> BenchFile:
    return BenchFile({"name": "m"}, rows())


def drawings() -> dict[str, Figure]:
    names, found = list(LAYERS), bench()
    bits = {
        "trained": (frames.bits(final(), names), NAMES),
        "full size": (frames.bench_bits(found, "smallest", DENSITY), NAMES),
    }
    return {
        "stages": figures.stages(frames.accuracies(final(3)), ""),
        "waterfall": figures.waterfall(frames.sizes(final(), names), NAMES),
        "bits": figures.bits(bits),
        "decoding": figures.decoding(frames.of_case(found, "decode", ("case",))),
        "layers": figures.layers(frames.against_dense(found)),
        "caps": figures.caps(frames.plans(found)),
        "surface": figures.surface(frames.plans(found)),
    }
