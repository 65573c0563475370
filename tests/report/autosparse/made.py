"""Made-up benches and runs of paper 2 and what is drawn of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from tests.report.benches import write

from leandnn.bench.benchfile import BenchFile
from leandnn.report.autosparse import figures

ARMS = ("dense", "autosparse", "str")


def row(impl: str, seconds: float, **case: object) -> dict[str, object]:
    return {"impl": impl, "case": case, "threads": 1, "median_s": seconds}


MEASURED = BenchFile({}, [
    row("leandnn", 0.11, what="step", net="VGG19", batch=32),
    row("torch.dense", 0.10, what="step", net="VGG19", batch=32),
    row("pquant-ml", 0.15, what="step", net="VGG19", batch=32),
    row("leandnn", 0.07, what="ledger", net="ResNet50"),
    row("torch.dense", 0.02, what="inference", net="VGG19", batch=1, macs=1.0, weight_bytes=8000),
    row("leandnn.csr", 0.04, what="inference", net="VGG19", batch=1, macs=0.25, weight_bytes=3000),
    row("leandnn", 0.005, what="inference", net="VGG19", batch=1, macs=0.25, weight_bytes=2000),
    row("torch.dense", 0.08, what="inference", net="VGG19", batch=32, macs=1.0, weight_bytes=8000),
])  # fmt: skip
LONE = MEASURED.rows[-1]["case"]  # of a batch that only the dense net was timed with


def benches(root: Path) -> None:
    spread = {"p25_s": 1.0, "p75_s": 1.0, "n": 20, "rate": 1.0}
    write(root, "autosparse", [{**row, **spread} for row in MEASURED.rows if row["case"] != LONE])


def final() -> pd.DataFrame:
    rows = []
    for arm, macs in zip(ARMS, (100.0, 50.0, 40.0), strict=True):
        for seed in (0, 1):
            rows.append({
                "arm": arm, "seed": seed, "steps": 40, "test_accuracy": 0.7 + 0.01 * seed, "train_macs": macs,
                "inference_macs": macs / 2, "sparsity": 0.8, "density:f.11": 0.1, "density:f.4": 0.3 + 0.1 * seed,
                "masked_gradient@10": 0.2, "masked_gradient@40": 0.1,
            })  # fmt: skip
    return pd.DataFrame(rows)


def history() -> pd.DataFrame:
    rows = [
        {"arm": arm, "seed": seed, "epoch": epoch, "sparsity": 0.4 * epoch, "returned": 0.05}
        for arm in ARMS[1:]
        for seed in (0, 1)
        for epoch in (1, 2)
    ]
    return pd.DataFrame(rows)


def requested() -> pd.DataFrame:
    other = final()[final().arm == "str"]
    shares = {"autosparse_50": 0.5, "autosparse_90": 0.9, "free": 0.66}
    return pd.concat([other.assign(arm=arm, sparsity=share) for arm, share in shares.items()])


def drawings() -> dict[str, Figure]:
    runs, two = final(), ("autosparse", "str")
    lost = runs[runs.arm == "str"].assign(arm="dst", test_accuracy=0.4)
    constant = runs[runs.arm == "str"].assign(arm="constant", test_accuracy=0.6)
    shapes = {"sigmoid_cosine": [1.0, 0.5, 0.0], "constant": [1.0, 1.0, 1.0]}
    return {
        "annealing": figures.annealing_over_time(runs, history(), two),
        "per layer": figures.per_layer(runs, two),
        "trade-off": figures.tradeoff(
            pd.concat([runs, lost]), {"train_macs": [(0.5, "paper", "autosparse")]}
        ),
        "schedules": figures.schedules(shapes, pd.concat([runs, constant])),
        "requested": figures.requested(requested(), runs[runs.arm == "dense"].test_accuracy),
    }
