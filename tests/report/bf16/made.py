"""Made-up benches and runs of paper 1 and what is drawn of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from tests.report.benches import row, write

from leandnn.report.bf16 import figures, frames


def benches(root: Path) -> None:
    rows = []
    for net, ours in (("A", 0.12), ("B", 0.26)):
        case = {"net": net, "batch": 8}
        rows += [row(case, impl, s, "images", work=8) for impl, s in (("leandnn", ours), ("torch.fp32", 0.1))]
        rows.append(row(case, "pychop", 0.3, "images", work=8))
    write(root, "train-step", rows)


def runs_of(fp32: int, bf16: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs of both arms with so many seeds: FP32 has 0.80, 0.81, …, BF16 one point more."""
    final = pd.DataFrame(
        [
            {
                "arm": arm,
                "seed": seed,
                "test_accuracy": 0.8 + 0.01 * seed + (0.01 if arm == "bf16" else 0.0),
                "train_loss@10": 2.0 + (0.1 if arm == "bf16" else 0.0),
                "train_loss@20": 1.0,
            }
            for arm, count in (("bf16", bf16), ("fp32", fp32))
            for seed in range(count)
        ]
    )
    history = pd.concat([final.assign(epoch=e) for e in (1, 2)], ignore_index=True)
    return final, history


def domain(fp32: int, bf16: int, scale: str = "laptop") -> frames.Domain:
    return frames.Domain(*frames.NETS["vision"], *runs_of(fp32, bf16), scale)


def drawings() -> dict[str, Figure]:
    found = [domain(4, 2)]
    return {"fixed steps": figures.at_fixed_steps(found, [0.05]), "curves": figures.curves(found)}
