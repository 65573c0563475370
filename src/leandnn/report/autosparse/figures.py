"""Figures of paper 2: what annealing does over time, sparsity by layer, accuracy against FLOPs, schedules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Arm → words, colour (Okabe and Ito), marker. An arm that is not here is grey.
ARMS = {
    "dense": ("dense", "#555555", "s"),
    "autosparse": ("AutoSparse", "#D55E00", "D"),
    "str": ("STR (no annealing)", "#0072B2", "o"),
    "mest-uniform": ("MEST EM&S, uniform", "#009E73", "^"),
    "gmp": ("gradual pruning", "#999999", "v"),
    "rigl-erk": ("RigL, ERK", "#CC79A7", "P"),
    "rigl-uniform": ("RigL, uniform", "#CC79A7", "X"),
    "topkast": ("Top-KAST", "#56B4E9", "<"),
    "topk": ("Top-K", "#56B4E9", "s"),
    "topk-annealed": ("Top-K, annealed", "#E69F00", ">"),
    "topk-zero": ("Top-K, α = 0", "#56B4E9", "v"),
    "topk-straight": ("Top-K, α = 1", "#56B4E9", "^"),
    "dst": ("DST", "#8C6D31", "p"),
    "dst-annealed": ("DST, annealed", "#8C6D31", "h"),
    "hierarchical": ("AutoSparse, cut to blocks", "#D55E00", "*"),
    "free": ("AutoSparse, left free", "#D55E00", "o"),
    "free_zero": ("α = 0, left free", "#0072B2", "o"),
}
FAR = 15  # points of accuracy
SCHEDULES = {"autosparse": "sigmoid_cosine"}  # arms whose schedule has another name than theirs
# Schedule → colour, line. The paper's lies on the sigmoid and then on the cosine, so it is broad and below them.
SHAPES = {
    "sigmoid_cosine": ("#F0B38A", "-"),
    "cosine": ("#0072B2", "--"),
    "sigmoid": ("#009E73", "-."),
    "linear": ("#CC79A7", "-"),
    "constant": ("#333333", "-"),
    "zero": ("#333333", ":"),
}
Marks = Mapping[str, Sequence[tuple[float, str, str]]]


def style(arm: str) -> tuple[str, str, str]:
    """Words, colour and marker of an arm."""
    return ARMS.get(arm, (arm.replace("_", " "), "#999999", "."))


def over_time(final: pd.DataFrame, history: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column over training: arm, seed, share of the training, value.

    From the runs' trace where they have it (metrics named <column>@<step>), else one value an epoch.
    """
    points = [name for name in final.columns if name.startswith(f"{column}@")]
    if points:
        long = final.melt(["arm", "seed", "steps"], points, var_name="step", value_name="value").dropna()
        return long.assign(share=long.step.str.rpartition("@")[2].astype(float) / long.steps)
    if column not in history.columns:
        return pd.DataFrame(columns=["arm", "seed", "share", "value"])
    rows = history.dropna(subset=[column])
    return rows.assign(share=rows.epoch / rows.epoch.max(), value=rows[column])


def annealing_over_time(final: pd.DataFrame, history: pd.DataFrame, arms: Sequence[str]) -> Figure:
    """Three panels over training: gradient on masked weights, weights that return, sparsity.

    - arms: the first has a full line, the others dashed ones, so that equal curves show both.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(10.6, 3.5))
    panels = (
        ("masked_gradient", "share of its norm, %", "Gradient on masked weights"),
        ("returned", "share of all weights, %", "Weights that come back"),
        ("sparsity_seen", "zeros, %", "Sparsity"),
    )
    for ax, (column, label, title) in zip(axes, panels, strict=True):
        data = over_time(final, history, column)
        if data.empty and column == "sparsity_seen":
            data = over_time(final, history, "sparsity")
        for arm in arms:
            _lines(ax, data[data.arm == arm], arm, "-" if arm == arms[0] else (0, (3, 2)))
        ax.set(xlabel="share of the training", ylabel=label)
        ax.set_title(title, fontsize=11)
        ax.set_xlim(0, 1.02)
        ax.set_ylim(bottom=0, top=100 if column == "sparsity_seen" else None)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _lines(ax: Axes, data: pd.DataFrame, arm: str, dashes: Any) -> None:
    """Thin lines per seed and their mean, in percent."""
    words, colour, marker = style(arm)
    for _, run in data.groupby("seed"):
        ordered = run.sort_values("share")
        ax.plot(ordered.share, 100 * ordered.value, color=colour, lw=0.8, alpha=0.4)
    mean = data.groupby("share").value.mean()
    size = 7 if dashes == "-" else 4
    ax.plot(mean.index, 100 * mean, color=colour, lw=2.2, ls=dashes, marker=marker, ms=size, label=words)


def per_layer(final: pd.DataFrame, arms: Sequence[str]) -> Figure:
    """The share of zeros in every layer, arm beside arm: dots are seeds, bars their means."""
    import matplotlib.pyplot as plt

    columns = sorted((name for name in final.columns if name.startswith("density:")), key=_natural)
    figure, ax = plt.subplots(figsize=(7.6, 3.6))
    width = 0.8 / len(arms)
    for i, arm in enumerate(arms):
        words, colour, _ = style(arm)
        zeros = 100 * (1 - final[final.arm == arm][columns])
        places = np.arange(len(columns)) + (i - (len(arms) - 1) / 2) * width
        ax.bar(places, zeros.mean(), width, color=colour, alpha=0.75, label=words)
        for _, seed in zeros.iterrows():
            ax.plot(places, seed, ".", color="black", ms=3)
    names = [name.removeprefix("density:") for name in columns]
    ax.set_xticks(np.arange(len(columns)), names, fontsize=9)
    ax.set(ylabel="zeros, %", ylim=(0, 100), xlabel="layer, from the input to the output")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(arms), fontsize=9)
    return figure


def _natural(name: str) -> list[tuple[int, str]]:
    """A sort key in which features.4 comes before features.11."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def tradeoff(final: pd.DataFrame, marks: Marks) -> Figure:
    """Accuracy against training and inference MACs as shares of dense.

    - final: runs with an arm "dense" (see runs.load); the columns test_accuracy, train_macs, inference_macs.
    - marks: published shares: column → (share of dense, words, the arm whose colour it has), drawn as lines.

    Arms FAR points below dense stand at the lower edge, with their accuracy: they would flatten all the others.
    """
    import matplotlib.pyplot as plt

    dense = final[final.arm == "dense"]
    means = 100 * final.groupby("arm").test_accuracy.mean()
    far = means[means < means["dense"] - FAR]
    near = 100 * final[~final.arm.isin(far.index)].test_accuracy
    low = near.min() - 0.12 * (near.max() - near.min())
    order = sorted(final.arm.unique(), key=lambda arm: list(ARMS).index(arm) if arm in ARMS else len(ARMS))
    figure, axes = plt.subplots(1, 2, figsize=(10.2, 4.2), sharey=True)
    for ax, column in zip(axes, ("train_macs", "inference_macs"), strict=True):
        for arm in order:
            own = final[final.arm == arm]
            label, colour, marker = style(arm)
            x, y = own[column] / dense[column].mean(), 100 * own.test_accuracy
            if arm in far:
                ax.plot(
                    [x.mean()], [low], marker, color=colour, ms=9, label=label, mec="white", clip_on=False
                )
                ax.annotate(
                    f"↓ {far[arm]:.0f} %",
                    (x.mean(), low),
                    (6, 5),
                    textcoords="offset points",
                    fontsize=8,
                    color=colour,
                )
                continue
            ax.plot(x, y, marker, color=colour, ms=4, alpha=0.45)
            ax.plot([x.mean()], [y.mean()], marker, color=colour, ms=9, label=label, mec="white")
        for place, text, arm in marks.get(column, ()):
            colour = style(arm)[1]
            ax.axvline(place, color=colour, lw=1.2, ls="--")
            where = ax.get_xaxis_transform()
            ax.text(
                place,
                0.08,
                text,
                transform=where,
                rotation=90,
                va="bottom",
                ha="right",
                fontsize=8,
                color=colour,
            )
    if len(far):
        axes[0].set_ylim(bottom=low)
    axes[0].set(xlabel="training MACs, share of dense", xlim=(0, 1.08), ylabel="test accuracy, %")
    axes[1].set(xlabel="inference MACs, share of dense", xlim=(0, 1.08))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=9)
    return figure


def schedules(shapes: Mapping[str, Sequence[float]], final: pd.DataFrame | None) -> Figure:
    """The shapes of α over training; beside them the accuracies, where they were measured.

    - shapes: schedule (of SHAPES) → α / α0 at evenly spaced shares of the training, the paper's first.
    - final: runs whose arms are schedules, "autosparse" for the paper's; None for the shapes alone.
    """
    import matplotlib.pyplot as plt

    wide = final is not None
    figure, axes = plt.subplots(1, 1 + wide, figsize=(9.6 if wide else 6.6, 4.0), squeeze=False)
    for i, (name, shape) in enumerate(shapes.items()):
        colour, line = SHAPES[name]
        label = name.replace("_", "-") + (" (the paper's)" if i == 0 else "")
        progress = np.linspace(0, 1, len(shape))
        axes[0][0].plot(progress, shape, color=colour, ls=line, lw=1.8 if i else 7, label=label)
    axes[0][0].set(xlabel="share of the training", ylabel="α / α0", ylim=(-0.04, 1.06))
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    if final is not None:
        found = [
            (SCHEDULES.get(str(arm), str(arm)), 100 * own.test_accuracy) for arm, own in final.groupby("arm")
        ]
        order = sorted((item for item in found if item[0] in shapes), key=lambda item: item[1].mean())
        for i, (name, values) in enumerate(order):
            colour = SHAPES[name][0]
            axes[0][1].plot(values, [i] * len(values), "o", color=colour, ms=4, alpha=0.6)
            axes[0][1].plot([values.mean()], [i], "D", color=colour, ms=9, mec="white")
        axes[0][1].set_yticks(range(len(order)), [name.replace("_", "-") for name, _ in order])
        axes[0][1].set(xlabel="test accuracy, %")
    return figure


def requested(final: pd.DataFrame, dense: pd.Series[float]) -> Figure:
    """What a requested sparsity costs: accuracy against the share of zeros; runs left free beside them.

    - final: runs of the arms autosparse_<percent> and free…; dense: accuracies of dense runs, drawn as a band.
    """
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7.2, 3.8))
    low, high = 100 * dense.min(), 100 * dense.max()
    ax.axhspan(low, high, color="#D9E2EC", lw=0, label="dense, range of the seeds")
    for arm, own in final.groupby("arm"):
        free = str(arm).startswith("free")
        words, colour, marker = style(str(arm) if free else "autosparse")
        x, y = 100 * own.sparsity, 100 * own.test_accuracy
        face = "white" if free else colour
        ax.plot(x, y, marker, color=colour, ms=5, alpha=0.7, mfc=face, label=words if free else None)
    asked = final[~final.arm.str.startswith("free")].groupby("arm")[["sparsity", "test_accuracy"]].mean()
    line = 100 * asked.sort_values("sparsity")
    colour = ARMS["autosparse"][1]
    ax.plot(line.sparsity, line.test_accuracy, color=colour, lw=1.8, label="AutoSparse, asked for")
    ax.set(xlabel="zeros at the end, %", ylabel="test accuracy, %")
    ax.legend(loc="lower left", fontsize=9)
    return figure
