"""Data frames of paper 2: exported nets' speed and memory, what a step costs, what a sparsity costs."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from leandnn.bench.benchfile import BenchFile
from leandnn.report.autosparse.figures import over_time

EXPORTS = {"torch.dense": "dense", "leandnn.csr": "CSR", "leandnn": "hierarchical"}


def first(
    final: pd.DataFrame, history: pd.DataFrame, arms: Sequence[str]
) -> tuple[float, dict[str, dict[str, float]]]:
    """The first point over training that is drawn: its share of the training, and column → arm → mean over seeds.

    Columns: masked_gradient and returned. All in percent.
    """
    found, share = {}, 0.0
    for column in ("masked_gradient", "returned"):
        data = over_time(final, history, column)
        share = float(data.share.min())
        early = data[data.share == share].groupby("arm").value.mean()
        found[column] = {arm: 100 * float(early[arm]) for arm in arms}
    return 100 * share, found


def runs_drawn(final: pd.DataFrame) -> pd.DataFrame:
    """A row a run: arm, seed, accuracy, share of zeros, multiply-adds of the whole training and of one inference."""
    names = ["test_accuracy", "sparsity", "train_macs", "inference_macs"]
    return final.sort_values(["arm", "seed"])[["arm", "seed", *names]]


def zeros_by_layer(final: pd.DataFrame) -> pd.DataFrame:
    """A row a run and sparse layer: arm, seed, layer, zeros (a share)."""
    columns = [name for name in final if str(name).startswith("density:")]
    long = final.melt(["arm", "seed"], columns, var_name="layer", value_name="density").dropna()
    return long.assign(layer=long.layer.str.removeprefix("density:"), zeros=1 - long.density).drop(
        columns="density"
    )


def cost_of_sparsity(final: pd.DataFrame, dense: pd.DataFrame) -> pd.Series[float]:
    """Points of accuracy against dense by requested percentage of zeros, ascending: means over the seeds of both.

    - final: runs whose arms include autosparse_<percent>; dense: runs of the dense net.
    """
    asked = final[final.arm.str.fullmatch(r"autosparse_\d+")]
    seeds = set(asked.seed) & set(dense.seed)
    control = dense[dense.seed.isin(seeds)].test_accuracy.mean()
    mean = asked[asked.seed.isin(seeds)].groupby("arm").test_accuracy.mean()
    mean.index = mean.index.str.partition("_").get_level_values(2).astype(int)
    return 100 * (mean.sort_index() - control)


def exported(measured: BenchFile) -> pd.DataFrame:
    """A row per net, batch and form: time, speed and bytes beside what the zeros save of the multiply-adds."""
    lines = []
    for row in measured.rows:
        case = row["case"]
        if case["what"] != "inference":
            continue
        dense = measured.row("torch.dense", **{k: case[k] for k in ("what", "net", "batch")})
        assert dense is not None, "the bench measures the dense net beside every other"
        lines.append({
            "net": case["net"], "batch": case["batch"], "as": EXPORTS[row["impl"]], "ms": 1000 * row["median_s"],
            "fewer MACs, times": 1 / case["macs"], "faster, times": dense["median_s"] / row["median_s"],
            "weights and indices, KB": case["weight_bytes"] / 1000,
            "of dense bytes": case["weight_bytes"] / dense["case"]["weight_bytes"],
        })  # fmt: skip
    return pd.DataFrame(lines)


def steps(measured: BenchFile) -> pd.DataFrame:
    """A row per net, a column per implementation: its step's time as a multiple of the dense net's."""
    lines = []
    for case in measured.cases(what="step"):
        times = {row["impl"]: row["median_s"] for row in measured.rows if row["case"] == case}
        dense = times["torch.dense"]
        others = {name: time / dense for name, time in times.items() if name != "torch.dense"}
        lines.append({"net": case["net"], "batch": case["batch"], "dense, ms": 1000 * dense, **others})
    return pd.DataFrame(lines)
