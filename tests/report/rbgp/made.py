"""Made-up benches and runs of paper 3 and what is drawn of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from tests.report.benches import row, write

from leandnn.bench.benchfile import BenchFile
from leandnn.report.rbgp import figures

LAYER = {
    "VGG19": 3, "WRN-40-4": 0, "batch": 16, "channels": 512, "layer": "512→512 3×3 on 4×4", "sparsity": 87.5,
}  # fmt: skip
NET = {"net": "VGG19", "batch": 128, "sparsity": 87.5}


def benches(root: Path) -> None:
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
    write(root, "rbgp", rows)


def runs(arm: str, sparsity: float, accuracies: list[float]) -> pd.DataFrame:
    family = arm.rpartition("/")[2].partition("_")[0]
    facts = {"arm": arm, "family": family, "sparsity": sparsity, "test_accuracy": accuracies}
    return pd.DataFrame({**facts, "seed": range(len(accuracies))})


def swept() -> pd.DataFrame:
    """A family at two sparsities, the dense net, and RBGP4 at one."""
    sweep = [runs(f"rbgp/sparsities/random_{i}", s, [0.6, 0.7]) for i, s in enumerate((0.5, 0.75))]
    dense = runs("blocksparse/baselines/dense", 0, [0.8, 0.82])
    return pd.concat([dense, *sweep, runs("rbgp/patterns/rbgp4", 0.875, [0.7, 0.72])])


def graphs() -> pd.DataFrame:
    arms, accuracies = ["rbgp4", "rbgp4", "not-ramanujan"], [0.7, 0.72, 0.68]
    measured = {"spectral_gap": [0.3, 0.32, 0.01], "path_spread": [0.1, 0.1, 2.0]}
    return pd.DataFrame({"arm": arms, "test_accuracy": accuracies, **measured})


def kinds() -> pd.DataFrame:
    """Kinds of patterns at one sparsity, whose gap is measured."""
    gaps = {"rbgp4": 0.1, "random": 0.5, "random4x4": 0.4, "unstructured": 0.3}
    return pd.concat([
        runs(f"rbgp/sparsities/{name}_75", 0.75, [0.5 + gap, 0.52 + gap]).assign(spectral_gap=gap)
        for name, gap in gaps.items()
    ])  # fmt: skip


def bench_row(impl: str, unit: str, batch: int, seconds: float, sparsity: float = 87.5) -> dict:
    case = {"net": "VGG19", "batch": batch, "sparsity": sparsity}
    if unit == "MiB":
        case["peak_mib"] = 40.0 * batch
    return {"impl": impl, "threads": 1, "case": case, "median_s": seconds, "unit": unit}


def net_rows() -> list[dict]:
    return [
        bench_row("torch.dense", "images", 16, 0.16),
        bench_row("leandnn", "images", 16, 0.032),
        bench_row("leandnn", "images", 1, 0.003),
        bench_row("leandnn", "images", 16, 9.0, sparsity=75.0),
        bench_row("leandnn", "MiB", 16, 1.0),
        {**bench_row("leandnn", "Gflop", 16, 1.0), "case": {"layer": "a", "sparsity": 87.5, "batch": 16}},
    ]


def drawings() -> dict[str, Figure]:
    taught = runs("rbgp/distillation/distilled", 0.875, [0.72, 0.74])
    nets = {"SmallVGG": pd.concat([swept(), taught]), "WRN": runs("rbgp/wide_resnet/rbgp4_87", 0.875, [0.8])}
    return {
        "accuracy": figures.accuracy(nets),
        "gaps": figures.gaps({"87.5 % zeros": graphs()}),
        "connectivity": figures.connectivity({"a": kinds()}),
        "costs": figures.costs(BenchFile({}, net_rows()), 87.5),
    }
